"""Repositories on the Hugging Face hub: brought whole, checked against their listing, kept in the hub's cache."""
