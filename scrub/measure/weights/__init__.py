"""Measurements of weights alone: composition, and what heads read of each other."""
