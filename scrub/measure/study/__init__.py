"""The study of a model's heads: every score, and how far the metrics agree."""
