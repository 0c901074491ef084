"""Fetching data sets, label embeddings and weights: only when asked, and checked."""
