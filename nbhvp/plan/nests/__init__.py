"""Loop nests: their axes, the elements that they read, and their texts."""
