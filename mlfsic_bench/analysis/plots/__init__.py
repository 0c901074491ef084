"""Plots of results; matplotlib is imported here and nowhere else, attention apart."""
