"""What a Function keeps: traces with their programs, and the remembered point."""
