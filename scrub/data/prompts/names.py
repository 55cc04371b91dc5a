"""The names of the columns of a table of prompts, and what a row of one is. Nothing here imports pandas."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, TypeAlias

CLEAN, CORRUPTED, ANSWER, WRONG = "clean", "corrupted", "answer", "wrong"
TEMPLATE, POSITIONS, LABEL, RIGHT_ID, WRONG_ID = "template", "positions", "label", "correct_idx", "incorrect_idx"
COMPLETION = "completion"  # what is right behind a prompt, of as many tokens as it has

Row: TypeAlias = Mapping[str, Any]
