"""Loops over time on tapes: periods of records become the steps of recurrences."""
