"""Circuits of edges: those of other tools in their files, and their scores, sizes and submissions."""
