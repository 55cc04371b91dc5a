"""Hypotheses side by side: what changed between them, whether it is an improvement, and where the loss moved."""
