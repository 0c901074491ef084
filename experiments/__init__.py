"""Experiment files and profiles (package data)."""
