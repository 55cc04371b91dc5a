"""Tokens in their context: as much as fits, whatever characters are in it."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st
from rich.cells import cell_len

from scrub.text.tokens import in_context, marked, start, visible

TEXTS = st.text(st.sampled_from("ab 漢\n\té\x1b["), max_size=30)


@given(TEXTS, TEXTS, TEXTS, st.integers(0, 50))
def test_a_token_stands_whole_among_what_fits(before: str, target: str, after: str, width: int) -> None:
    shown = in_context(before, target, after, width).plain
    assert marked(target) in shown
    assert cell_len(shown) <= max(width, cell_len(marked(target)))
    whole = visible(before) + marked(target) + visible(after)
    if cell_len(whole) <= width:
        assert shown == whole


@given(TEXTS, st.integers(0, 50))
def test_the_start_of_a_text_fits(text: str, width: int) -> None:
    shown = start(text, width)
    assert cell_len(shown) <= width
    assert visible(text).startswith(shown.removesuffix("…"))


def test_blanks_are_signs() -> None:
    assert visible("a b\n\t") == "a b↵⇥"
    assert marked(" a") == "«·a»"
