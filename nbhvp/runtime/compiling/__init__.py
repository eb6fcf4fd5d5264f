"""Programs of a trace: where they run, when they are compiled, and what is told of it."""
