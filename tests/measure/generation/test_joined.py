"""What is right behind rows of text ends where their document does, though rows are filled with others."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from small import small_gpt2

import scrub
from scrub.data.examples import TEXT, Examples
from scrub.data.for_model import examples_for
from scrub.data.repeated import NOWHERE
from scrub.models.model import make_model
from scrub.study.settings import Settings
from scrub.text.errors import ScrubError

BEGIN, VOCAB, AFTER = 0, 23, 5
QUICK = Settings(device="cpu", progress=False)
OURS = small_gpt2(1, seed=2, n_heads=2, d_head=3, d_model=6, n_ctx=31, vocab_size=VOCAB)
MODEL = make_model("random", OURS.config, OURS.params)


def rows_of(folder: Path, lengths: list[int], context: int | None = None) -> Examples:
    """Rows of ids in a file, read as a command reads them: those too short for the context are joined."""
    rng = np.random.default_rng(7)
    documents = [rng.integers(1, VOCAB, size=length).tolist() for length in lengths]
    file = folder / "ids.jsonl"
    file.write_text("".join(json.dumps({"input_ids": ids}) + "\n" for ids in documents))
    found = examples_for(MODEL, file, None, context=context, fewer=True)
    assert found.kind == TEXT
    return found


def test_nothing_of_another_document_is_right(tmp_path: Path) -> None:
    """By hand: whatever stands behind the first token that joins, and rows that join too early are left out."""
    examples = rows_of(tmp_path, [11, 7, 13, 4, 9, 12, 17, 6, 8, 10, 14, 5] * 2)
    found = scrub.generate(MODEL, examples, 20, after=AFTER, stop=False, settings=QUICK)
    wanted = []
    for row in examples.tokens.tolist():
        end = row.index(BEGIN, 1) if BEGIN in row[1:] else len(row)
        if end > AFTER:
            wanted.append((row[:AFTER], row[AFTER : min(end, AFTER + 20)]))
    assert 0 < len(wanted) < len(examples)
    assert found.prompts.inputs[:, :AFTER].tolist() == [prompt for prompt, _ in wanted]
    assert [[t for t in row if t != NOWHERE] for row in found.right.tolist()] == [right for _, right in wanted]
    assert (found.compared == (found.right != NOWHERE)).all()
    left = f"{len(examples) - len(wanted)} of {len(examples)} rows hold another document within 6 tokens: left out"
    assert any(left in note and "--context" in note for note in found.notes)
    cut = sum(len(right) < 20 for _, right in wanted)
    assert any(f"of {cut} rows what is right ends" in note for note in found.notes)


def test_rows_of_one_length_are_told_their_context(tmp_path: Path) -> None:
    """The advice is one that helps: nothing is joined then, and each row is right to its end."""
    examples = rows_of(tmp_path, [11] * 12)
    found = scrub.generate(MODEL, examples, 3, after=AFTER, stop=False, settings=QUICK)
    assert any("--context 11," in note for note in found.notes)
    alone = scrub.generate(MODEL, rows_of(tmp_path, [11] * 12, 11), 7, after=AFTER, stop=False, settings=QUICK)
    assert (alone.right != NOWHERE).all()
    assert not any("--context" in note for note in alone.notes)


def test_rows_that_all_join_too_early_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ScrubError, match=r"goes on with another document within 16 tokens.*--context 7"):
        scrub.generate(MODEL, rows_of(tmp_path, [7] * 12), 3, after=15, settings=QUICK)
