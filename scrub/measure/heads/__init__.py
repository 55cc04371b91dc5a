"""The study of a model's heads: what they look at and write, what depends on them, and how the answers disagree."""
