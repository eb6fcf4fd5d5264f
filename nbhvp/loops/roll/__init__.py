"""The roll: from a tape of loops to a graph of array operations."""
