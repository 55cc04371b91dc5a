"""The plan: the union of all experiments, every distinct value computed once and freed after its last use."""
