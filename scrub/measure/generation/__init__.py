"""Generation: what a model writes, unchanged and under interventions, and whether that is right."""
