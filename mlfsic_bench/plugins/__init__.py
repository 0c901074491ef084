"""Plug-ins: finding the classes of others by name or in a file, and calls into their code."""
