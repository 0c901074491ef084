"""The harness: run, resume, record, provenance, scores."""
