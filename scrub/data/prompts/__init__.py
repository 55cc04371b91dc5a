"""Prompts whose next token an earlier part of them tells: drawn or typed, alone or in pairs."""
