"""COCO 2014: annotations, labels and object masks."""
