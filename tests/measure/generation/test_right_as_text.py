"""What is typed as right is tokenized as it stands behind its prompt, whatever a tokenizer begins texts with."""

from __future__ import annotations

from dataclasses import replace

import pytest
from small import small_gpt2
from tokenizers import Tokenizer, decoders, normalizers
from tokenizers.models import BPE

import scrub
from scrub.models.model import make_model
from scrub.study.settings import Settings

QUICK = Settings(device="cpu", progress=False)
WORDS = ["<unk>", "▁", "▁a", "▁b", "a", "b", "c", "▁c", "bc"]


def as_sentence_piece() -> Tokenizer:
    """A tokenizer that begins every text with a sign for a blank, which merges with the letter behind it."""
    merges = [("b", "c"), ("▁", "a"), ("▁", "b"), ("▁", "c")]
    found = Tokenizer(BPE({word: at for at, word in enumerate(WORDS)}, merges, unk_token="<unk>"))
    found.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
    found.decoder = decoders.Sequence([decoders.Replace("▁", " "), decoders.Strip(" ", 1, 0)])
    return found


OURS = small_gpt2(1, seed=2, n_heads=2, d_head=3, d_model=6, n_ctx=31, vocab_size=len(WORDS))
MODEL = replace(make_model("random", OURS.config, OURS.params), tokenizer=as_sentence_piece())
ACROSS = "of 1 of 1 {}s a token stands across the prompt's end"
CASES = [("a b", " c a", ["▁c", "▁a"], True), ("a b", "a", ["a"], True), ("a b", "c", ["▁c"], False)]


@pytest.mark.parametrize(("prompt", "right", "wanted", "exact"), CASES)
def test_what_is_right_is_tokenized_behind_its_prompt(prompt: str, right: str, wanted: list[str], exact: bool) -> None:
    """Typed, or in a column of completions; where a token stands across, by itself, which is said."""
    rows = [{"clean": prompt, "completion": right}]
    for what, found in (
        ("prompt", scrub.generate(MODEL, prompt, right=right, bos=False, settings=QUICK)),
        ("row", scrub.generate(MODEL, rows, settings=QUICK)),
    ):
        assert [WORDS[token] for token in found.right[0]] == wanted
        assert any(ACROSS.format(what) in note for note in found.notes) is not exact
    assert scrub.read_prompts(MODEL, rows).expected.tolist() == [WORDS.index(wanted[0])]
