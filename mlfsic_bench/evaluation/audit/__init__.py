"""The audit of a run: a few episodes are scored again in a fresh process."""
