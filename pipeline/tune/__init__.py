"""Searches for a better recipe: ``python -m pipeline.tune``."""
