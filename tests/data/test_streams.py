"""Rows are read no further than they are asked for, and those before a damaged one are read."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any

import pytest

from scrub.data.opening import Files, guarded
from scrub.data.rows import rows
from scrub.data.streams import ROWS_AT_ONCE, _silently
from scrub.text.errors import ScrubError


@pytest.mark.parametrize("through", [_silently, partial(guarded, where="mine")])
@pytest.mark.parametrize("before", [0, 1, ROWS_AT_ONCE - 1, ROWS_AT_ONCE, 3 * ROWS_AT_ONCE + 2])
def test_rows_before_a_damaged_one_are_read(before: int, through: Callable[[Iterable[Any]], Iterator[Any]]) -> None:
    """And who needs no more than these isn't told of it."""

    def damaged() -> Iterator[int]:
        yield from range(before)
        raise ValueError("it is damaged")

    found: list[int] = []
    with pytest.raises((ScrubError, ValueError), match="it is damaged"):  # noqa: PT012
        for each in through(damaged()):
            found.append(each)
    assert found == list(range(before))
    assert list(islice(through(damaged()), before)) == found
    assert list(through(range(before))) == found


def test_what_is_read_is_no_further_than_asked_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Rows and files behind the last that is needed are neither read nor told of."""
    for number in range(5):
        (tmp_path / f"{number}.txt").write_text("text")
    seen: list[str] = []
    texts = Files.texts

    def watched(files: Files) -> Iterator[tuple[int, str]]:
        for number, text in texts(files):
            seen.append(text)
            yield number, text

    monkeypatch.setattr(Files, "texts", watched)
    stream = rows(tmp_path).numbered
    next(iter(stream))
    assert len(seen) == 1
