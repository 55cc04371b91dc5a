"""Behaviours that the field studies, as generators of prompts with a seed."""
