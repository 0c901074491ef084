"""Shipped split and episode files (package data)."""
