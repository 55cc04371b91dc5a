"""Strings of parens with a label, whether they are balanced: drawing them, reading them, and features of them."""
