"""What of a product is computed once per point, and what of that is kept."""
