"""Classifiers fitted to the support's global vectors, each solved in closed form or to its end."""
