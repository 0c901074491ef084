"""Words: a vector for every label."""
