"""Branches that depend on values: exceptions, failures, comparisons that hold by equality."""
