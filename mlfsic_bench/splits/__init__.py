"""Splits: a rule and its outcome, three disjoint label lists and image lists in a hashed file."""
