"""What a trace depends on beside its arguments, and what it does there."""
