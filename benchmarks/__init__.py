"""Benchmarks of nbhvp, and the problems that they share with the tests."""
