"""Sequences of a standard library: both sides, cached, and none the worse for a broken cache."""

from pathlib import Path

import numpy as np
import pytest
from tokenizers import Tokenizer

from scrub.data import stdlib
from scrub.data.bigram import Bigram
from scrub.data.load import load_examples
from scrub.data.stdlib import hash_fraction
from scrub.text.errors import ScrubError
from scrub.training.corpus import train_tokenizer

N_CTX = 13


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A library of sixty modules, in which nothing but the module's own words occurs."""
    root = tmp_path / "lib"
    root.mkdir()
    for number in range(60):
        word = "".join(chr(97 + int(digit)) for digit in f"{number:03d}") * 3
        (root / f"{word}.py").write_text("".join(f"{word}_{'x' * line} = {word}\n" for line in range(4)))
    monkeypatch.setattr(stdlib, "_library", lambda: root)
    return root


@pytest.fixture
def tokenizer() -> Tokenizer:
    return train_tokenizer([], vocab_size=257)


def test_sides_are_disjoint_and_by_path(root: Path, tokenizer: Tokenizer, tmp_path: Path) -> None:
    sides = {
        side: stdlib.stdlib_windows(tokenizer, N_CTX, 0, side, tmp_path / "cache").tokens
        for side in ("train", "validation")
    }
    for path in root.iterdir():
        side = "validation" if hash_fraction(path.name) < 0.1 else "train"
        ids = tokenizer.encode(path.read_text()).ids
        wanted = [[0, *ids[at : at + N_CTX]] for at in range(0, len(ids) - N_CTX + 1, N_CTX)]
        for name, windows in sides.items():
            assert all((row in windows.tolist()) == (name == side) for row in wanted)
    assert len(sides["validation"]) > 10


def test_second_use_reads_the_cache(
    root: Path, tokenizer: Tokenizer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = stdlib.stdlib_windows(tokenizer, N_CTX, 0, cache=tmp_path).tokens
    with monkeypatch.context() as patch:
        patch.setattr(stdlib, "stdlib_split", None)
        assert (stdlib.stdlib_windows(tokenizer, N_CTX, 0, cache=tmp_path).tokens == first).all()
        shorter = stdlib.stdlib_windows(tokenizer, 5, None, cache=tmp_path)  # the files are encoded once
    assert (shorter.tokens == stdlib.stdlib_windows(tokenizer, 5, None, cache=tmp_path / "new").tokens).all()
    assert (shorter.documents == stdlib.stdlib_windows(tokenizer, 5, None, cache=tmp_path / "new").documents).all()
    (root / "aaa.py").write_text("new = 1\n" * 9)  # another library, another context, another tokenizer: not this cache
    for options in ({}, {"n_ctx": 7}):
        monkeypatch.setattr(stdlib, "stdlib_split", lambda _: ([], []))
        assert len(stdlib.stdlib_windows(tokenizer, options.get("n_ctx", N_CTX), 0, cache=tmp_path)) == 0


def test_bigrams_are_counted_once(
    root: Path, tokenizer: Tokenizer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On the training side, for each context, begin token and vocabulary, and anew where the library is another."""
    train = stdlib.stdlib_windows(tokenizer, N_CTX, 0, "train", tmp_path).tokens
    wanted = Bigram.fit(train, 257)
    probes = np.random.default_rng(0).integers(0, 257, size=(5, 31))
    counted = Bigram.fit
    for _ in range(2):
        found = stdlib.stdlib_bigram(tokenizer, N_CTX, 0, 257, tmp_path)
        assert np.array_equal(found.probabilities(probes), wanted.probabilities(probes))
        assert np.array_equal(found.probabilities(train), wanted.probabilities(train))
        monkeypatch.setattr(Bigram, "fit", lambda *_: pytest.fail("counted again"))
    monkeypatch.setattr(Bigram, "fit", counted)
    for context, begin, vocabulary in ((5, 0, 257), (N_CTX, None, 257), (N_CTX, 0, 301)):
        own = stdlib.stdlib_windows(tokenizer, context, begin, "train", tmp_path).tokens
        found = stdlib.stdlib_bigram(tokenizer, context, begin, vocabulary, tmp_path)
        assert np.array_equal(found.probabilities(probes), Bigram.fit(own, vocabulary).probabilities(probes))
    with pytest.raises(ScrubError, match="0 to 100"):
        stdlib.stdlib_bigram(tokenizer, N_CTX, 0, 101, tmp_path)
    (root / "aaa.py").write_text("new = 1\n" * 9)
    again = stdlib.stdlib_bigram(tokenizer, N_CTX, 0, 257, tmp_path)
    assert not np.array_equal(again.probabilities(train), wanted.probabilities(train))


@pytest.mark.usefixtures("root")
def test_a_broken_cache_is_made_again(tokenizer: Tokenizer, tmp_path: Path) -> None:
    first = stdlib.stdlib_windows(tokenizer, N_CTX, 0, cache=tmp_path / "cache").tokens
    for broken in range(1, 4):  # the sequences, what they are cut from, both
        for number, file in enumerate(sorted((tmp_path / "cache").iterdir())):
            if broken >> number & 1:
                file.write_bytes(file.read_bytes()[:100])
        assert (stdlib.stdlib_windows(tokenizer, N_CTX, 0, cache=tmp_path / "cache").tokens == first).all()
    assert (stdlib.stdlib_windows(tokenizer, N_CTX, 0, cache=tmp_path / "cache").tokens == first).all()
    (tmp_path / "file").write_text("")
    assert (stdlib.stdlib_windows(tokenizer, N_CTX, 0, cache=tmp_path / "file").tokens == first).all()


@pytest.mark.usefixtures("root")
def test_loading_by_the_name_of_a_card(tokenizer: Tokenizer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("data/mine").mkdir(parents=True)
    Path("data/mine/README.md").write_text("---\nscrub:\n  source: stdlib\n---\n")
    options = {"n_ctx": N_CTX, "bos_token_id": 0, "vocab_size": 257, "cache": tmp_path / "cache"}
    found = load_examples("mine", tokenizer=tokenizer, count=10, **options)
    assert found.tokens.shape == (10, N_CTX + 1)
    assert found.origin is not None
    assert found.origin.background is not None
    assert found.bigram_losses(257).shape == (10, N_CTX)
    with pytest.raises(ScrubError, match="9999"):
        load_examples("mine", tokenizer=tokenizer, count=9999, **options)
    with pytest.raises(ScrubError, match="tokenizer"):
        load_examples("mine", **options)
    with pytest.raises(ScrubError, match=r"stdlib .*'dev'.* train, validation"):
        load_examples("mine", tokenizer=tokenizer, split="dev", **options)
