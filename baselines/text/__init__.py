"""Methods that read the labels as texts or label embeddings, beside the support or without it."""
