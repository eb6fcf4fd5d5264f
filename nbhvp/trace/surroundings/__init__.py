"""The surroundings of a trace: the objects outside a function that it reads, and its side effects."""
