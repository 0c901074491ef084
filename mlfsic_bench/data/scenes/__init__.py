"""The synthetic data set scenes: drawn when asked for, nothing to download."""
