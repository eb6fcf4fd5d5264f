"""The plan: from a graph to the steps of a program, for every target."""
