"""Published numbers as data, measured records, and the generated board."""
