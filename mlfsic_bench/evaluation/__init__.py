"""Evaluation: plan, run, resume, record, audit; from a plan to scores on disk."""
