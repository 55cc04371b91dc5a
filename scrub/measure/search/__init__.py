"""Searching for hypotheses: cells, what each would change, and lists of them that are checked exactly."""
