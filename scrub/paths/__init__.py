"""Paths through the graph: patterns, rules that resample them, splits along them."""
