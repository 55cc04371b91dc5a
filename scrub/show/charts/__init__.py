"""Charts of what heads do: scores, attention patterns, ablation, patching, agreement and composition."""
