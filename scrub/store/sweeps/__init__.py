"""Sweeps: a grid of studies, models, data, seeds and draws, run in blocks by several workers."""
