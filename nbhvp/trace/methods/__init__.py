"""The methods of traced arrays: each module completes the classes of `trace.arrays`."""
