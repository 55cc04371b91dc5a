"""Measurements of heads: what they look at, write and read, how far scores agree, and the roles that follow."""
