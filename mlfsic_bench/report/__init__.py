"""Reports: every figure recomputed from scores."""
