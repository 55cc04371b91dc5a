"""Studies and hypotheses: declaring them, running them, gates, statistics and results."""
