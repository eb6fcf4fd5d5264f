"""From a graph to the steps of a program, for every target."""
