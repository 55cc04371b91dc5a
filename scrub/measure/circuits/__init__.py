"""Circuits as sets of edges: scores of first order, what sets of edges keep, and the files of other tools."""
