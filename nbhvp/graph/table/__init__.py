"""Primitives beyond the elementary ones, each part of the table by its field."""
