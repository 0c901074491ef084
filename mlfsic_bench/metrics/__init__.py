"""Metrics: vectorised over all episodes, exact with ties, against scikit-learn."""
