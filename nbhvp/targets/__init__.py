"""Targets: each makes a program from a graph, and runs the steps of its plan."""
