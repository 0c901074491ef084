"""The feature store: features of every image once, on disk."""
