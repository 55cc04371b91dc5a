"""Prompts whose next token an earlier part of them tells: their texts, tokens, and where what stands."""
