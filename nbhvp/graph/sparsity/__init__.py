"""Where the entries of a linear map's matrix are, and what they are, from its graph."""
