"""Rows that look at no image: what a score is worth by chance."""
