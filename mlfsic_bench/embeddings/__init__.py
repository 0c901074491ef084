"""Label embeddings: a vector for every label."""
