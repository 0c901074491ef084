"""Datasets: image ids, where each image lies, which labels it shows."""
