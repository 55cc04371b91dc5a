"""Published rows of token ids: taken as they are, with their mask; whatever is wrong with a file is one line."""

from __future__ import annotations

import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import redwood
import torch
from redwood import MASK, N_CTX, POSITIONS, ROWS, TOKENS, VOCABULARY, tokens_and_mask, write_data
from torch import Tensor

from scrub.data.examples import Examples
from scrub.data.fixed import read_fixed
from scrub.data.load import load_examples
from scrub.data.windows import order_of_content
from scrub.text.errors import ScrubError


@pytest.fixture(autouse=True)
def empty_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def load(spec: str | Path, **options: Any) -> Examples:
    return load_examples(spec, **{"n_ctx": N_CTX, "bos_token_id": 0, "vocab_size": VOCABULARY} | options)


def by_row(
    tokens: np.ndarray | Tensor, scored: np.ndarray | Tensor, context: int = POSITIONS
) -> dict[tuple[int, ...], list[bool]]:
    """The scored positions of each row, which tells the row."""
    pairs = zip(tokens.tolist(), np.asarray(scored).tolist(), strict=True)
    return {tuple(row[: context + 1]): mask[:context] for row, mask in pairs}


@pytest.mark.parametrize("mask", ["a column for each token", "a column for each position", "a parameter"])
@pytest.mark.parametrize("dtype", [torch.int64, torch.int32, torch.uint8])
def test_rows_are_taken_as_they_are(mask: str, dtype: torch.dtype) -> None:
    tokens, scored = tokens_and_mask()
    kept = {
        "a column for each token": scored,
        "a column for each position": scored[:, :-1],
        "a parameter": torch.nn.Parameter(scored, requires_grad=False),
    }
    found = load(write_data(Path("rows"), tokens.to(dtype), kept[mask]))
    assert found.tokens.dtype == np.int64
    assert found.tokens.shape == (ROWS, POSITIONS + 1), "neither cut to n_ctx nor behind another begin token"
    assert found.origin is not None
    assert found.origin.masked
    assert found.scored.shape == (ROWS, POSITIONS)
    assert by_row(found.tokens, found.scored) == by_row(tokens, scored)
    assert found.tokens.tolist() == tokens[order_of_content(tokens.numpy())].tolist(), "in the order of other data"
    assert found.documents.tolist() == order_of_content(tokens.numpy()), "each row is one"


def test_old_files_of_torch() -> None:
    tokens, mask = tokens_and_mask()
    write_data(Path("rows"), tokens, mask)
    torch.save(mask, Path("rows") / MASK, _use_new_zipfile_serialization=False)
    assert np.array_equal(read_fixed(Path("rows"))[1], mask[:, :-1].numpy())


def test_repetitions_are_dropped_with_their_masks() -> None:
    tokens, mask = tokens_and_mask(rows=17)
    found = load(write_data(Path("rows"), tokens.repeat(3, 1), mask.repeat(3, 1)))
    assert by_row(found.tokens, found.scored) == by_row(tokens, mask)
    assert len(found.tokens) == 17


def test_fewer_and_shorter() -> None:
    tokens, mask = tokens_and_mask()
    folder = write_data(Path("rows"), tokens, mask)
    whole, some = load(folder), load(folder, count=7)
    assert np.array_equal(some.tokens, whole.tokens[:7])
    assert np.array_equal(some.scored, whole.scored[:7])
    short = load(folder, context=5)
    assert short.tokens.shape == (ROWS, 6)
    assert by_row(short.tokens, short.scored, 5) == by_row(tokens, mask, 5)
    assert len(load(folder, count=ROWS + 1, fewer=True).tokens) == ROWS
    with pytest.raises(ScrubError, match=f" {ROWS} .* {POSITIONS} tokens.* {ROWS + 1} "):
        load(folder, count=ROWS + 1)


def test_without_a_mask() -> None:
    origin = load(write_data(Path("rows"), tokens_and_mask()[0], None)).origin
    assert origin is not None
    assert not origin.masked


def test_a_bigram_of_the_other_half_is_the_anchor() -> None:
    found = load(write_data(Path("rows"), *tokens_and_mask()))
    assert found.origin is not None
    assert found.origin.background is None
    assert found.bigram_losses(found.origin.vocab_size).shape == (ROWS, POSITIONS)


def test_a_folder_by_name_and_the_folder_of_a_model() -> None:
    """A card that names a repository: its rows lie in its own folder, beside the model's weights, or on the hub."""
    write_data(Path("data/mine"), *tokens_and_mask())
    assert load("mine").tokens.shape == (ROWS, POSITIONS + 1)
    Path("data/carded").mkdir()
    Path("data/carded/README.md").write_text("---\nscrub:\n  source: fixed\n  hub: some-one/rows\n---\n# Rows\n")
    found = load("carded", beside=Path("data/mine"))
    assert (found.name, found.tokens.shape) == ("carded", (ROWS, POSITIONS + 1))
    assert load("some-one/rows", beside=Path("data/mine")).tokens.shape == (ROWS, POSITIONS + 1)
    for hub in ("", "\n  hub: nothing", "\n  hub: 3"):
        Path("data/carded/README.md").write_text(f"---\nscrub:\n  source: fixed{hub}\n---\n# Rows\n")
        with pytest.raises(ScrubError, match=r"carded/README\.md .*`hub`"):
            load("carded")


class Canary:
    """Leaves a file behind where it is unpickled."""

    def __reduce__(self) -> tuple[Any, ...]:
        return (Path.touch, (Path("canary").absolute(),))


def pickled(path: Path) -> None:
    path.write_bytes(pickle.dumps(Canary()))


def saved(value: object) -> Callable[[Path], None]:
    return lambda path: torch.save(value, path)


def written(content: bytes) -> Callable[[Path], None]:
    return lambda path: path.write_bytes(content) and None


IDS, SCORED = tokens_and_mask()
BAD: dict[str, tuple[str, Callable[[Path], None], str]] = {
    "ids that are no whole numbers": (TOKENS, saved(IDS.float()), r"float32 \[43, 14\]"),
    "ids that are true or false": (TOKENS, saved(IDS > 3), r"bool \[43, 14\]"),
    "an id outside": (TOKENS, saved(IDS.where(IDS != 3, VOCABULARY)), "token id 37"),
    "an id below 0": (TOKENS, saved(IDS.where(IDS != 3, -1)), "token id -1"),
    "rows of one token": (TOKENS, saved(IDS[:, :1]), r"int64 \[43, 1\].* 2 tokens"),
    "one row without an axis": (TOKENS, saved(IDS[0]), r"int64 \[14\]"),
    "no rows": (TOKENS, saved(IDS[:0]), r"int64 \[0, 14\]"),
    "an empty file": (TOKENS, written(b""), r"torch.save .*empty"),
    "a cut file": (TOKENS, written(b"PK\x03\x04 no"), "torch.save"),
    "a web page": (TOKENS, written(b"<!doctype html>"), "torch.save"),
    "a pickle": (TOKENS, pickled, "torch.save .*unpickles"),
    "a pickle in a torch file": (TOKENS, saved({"tokens": Canary()}), "torch.save"),
    "a dictionary": (TOKENS, saved({"tokens": IDS}), " dict"),
    "a mask of other rows": (MASK, saved(SCORED[1:]), r"bool \[42, 14\].* bool \[43, 14\]"),
    "a mask of other positions": (MASK, saved(SCORED[:, 2:]), r"bool \[43, 12\].* bool \[43, 14\]"),
    "a mask on its side": (MASK, saved(SCORED.T), r"bool \[14, 43\]"),
    "a mask of one axis": (MASK, saved(SCORED[0]), r"bool \[14\]"),
    "a mask of numbers": (MASK, saved(SCORED.float()), r"float32 \[43, 14\].* bool"),
    "an empty mask": (MASK, written(b""), r"torch.save .*empty"),
    "a pickle for a mask": (MASK, pickled, "torch.save"),
    "a folder for a mask": (MASK, lambda path: path.mkdir(), "torch.save"),
}


@pytest.mark.parametrize(("name", "write", "message"), BAD.values(), ids=list(BAD))
def test_mistakes_are_one_line_and_nothing_runs(name: str, write: Callable[[Path], None], message: str) -> None:
    folder = write_data(Path("rows"), IDS, SCORED)
    (folder / name).unlink()
    write(folder / name)
    with pytest.raises(ScrubError, match=message) as caught:
        load(folder)
    assert len(str(caught.value).splitlines()) == 1
    assert "rows" in str(caught.value)
    assert not Path("canary").exists()


def test_the_canary_is_alive() -> None:
    pickle.loads(pickle.dumps(Canary()))
    assert Path("canary").exists()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"context": 30}, "context .*30 .* 1 to 29"),
        ({"context": 0}, "context .* 0 "),
        ({"context": 14}, " 13 .* 29.* --context at most 13"),
        ({"n_ctx": 12}, " 13 .* 12.* --context at most 12"),
        ({"column": "x"}, "--column"),
        ({"split": "train"}, "--split"),
    ],
)
def test_options_that_do_not_fit(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ScrubError, match=message):
        load(write_data(Path("rows"), IDS, SCORED), **options)


def test_a_context_of_other_data(tmp_path: Path) -> None:
    (tmp_path / "ids.jsonl").write_text("".join(f'{{"ids": {list(range(at, at + 9))}}}\n' for at in range(1, 8)))
    found = load("ids.jsonl", context=4)
    assert found.tokens.shape[1] == 5
    assert sorted(found.tokens.tolist())[0] == [0, 1, 2, 3, 4]
    with pytest.raises(ScrubError, match=r" 7 .* 63 tokens.* 70.* --context"):
        load("ids.jsonl", n_ctx=70)
    one = tmp_path / "one.jsonl"
    one.write_text(f'{{"ids": {list(range(1, 10))}}}\n')
    with pytest.raises(ScrubError, match=r" 1 .* 9 tokens.* 2 "):
        load(one, context=9, count=512, fewer=True)


def test_the_shipped_card() -> None:
    from scrub.data.card import FIXED, declared_source
    from scrub.models.find import shipped

    folder = shipped("data")
    assert folder is not None
    source = declared_source(folder / "redwood_attn_2l")
    assert source is not None
    assert (source.kind, source.hub) == (FIXED, "ArthurConmy/redwood_attn_2l")
    assert redwood.TOKENS in (folder / "redwood_attn_2l" / "README.md").read_text()
