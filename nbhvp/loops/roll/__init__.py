"""The roll: from a tape of loops to the graph that array operations would have made."""
