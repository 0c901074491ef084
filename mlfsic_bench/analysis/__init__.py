"""Analysis: scores, comparisons, learning curves and claims, all computed from results."""
