"""Episodes: support ids and query ids, drawn by a protocol from a part of a split."""
