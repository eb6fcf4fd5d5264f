"""Answers to functions that make, reshape, join, pad and select arrays."""
