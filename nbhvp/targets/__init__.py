"""What runs the steps of a plan."""
