"""Ablation, forced attention and patching: rules on the graph, run together in one plan."""
