"""The state of a Function between calls: traces with their programs, and the remembered point."""
