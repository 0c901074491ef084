"""Baselines: one file per method, each a plug-in like anybody's."""
