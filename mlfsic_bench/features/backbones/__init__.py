"""Backbones: networks from images to local feature maps."""
