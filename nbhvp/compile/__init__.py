"""From graphs to programs: split, schedule, emit, run."""
