"""Tokens in memory, wherever data go in a study: arrays, tensors, a mask beside them, examples; or one clear line."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

import scrub
from scrub.data.examples import Examples
from scrub.data.for_model import check_scored
from scrub.models.model import load_model
from scrub.study.result import Result
from scrub.study.run import Trial, prepare
from scrub.study.settings import Settings
from scrub.text.errors import ScrubError

SETTINGS = Settings(dtype="float64", progress=False, parts=("k",))
EVERY = replace(SETTINGS, positions="all")


@pytest.fixture(scope="module")
def named(project: object) -> Trial:
    """The study on data by name, with its whitelist."""
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(str(project))
        return prepare("induction/naive", settings=replace(SETTINGS, sequences=19))


def same(one: Result, other: Result) -> None:
    """All numbers, the bigram's too."""
    for of in ("loss", "change", "kl"):
        first, second = getattr(one, of), getattr(other, of)
        assert first.keys() == second.keys()
        assert all(np.array_equal(first[name], second[name]) for name in first)
    assert np.array_equal(one.positions, other.positions)


DOORS: dict[str, Callable[[Examples], Any]] = {
    "arrays": lambda of: (of.tokens, of.scored),
    "tensors": lambda of: (torch.from_numpy(of.tokens), torch.from_numpy(of.scored)),
    "small numbers": lambda of: (of.tokens.astype(np.uint8), torch.from_numpy(of.scored)),
    "lists": lambda of: (of.tokens.tolist(), of.scored.tolist()),
    "examples": lambda of: Examples(of.tokens, of.scored),
}


@pytest.mark.parametrize("door", DOORS)
def test_tokens_and_a_mask_are_the_same_as_data_by_name(named: Trial, door: str) -> None:
    found = scrub.run("induction/naive", data=DOORS[door](named.examples), settings=SETTINGS)
    same(found, named.run())
    assert found.data == "tokens"


@pytest.mark.parametrize("make", [np.asarray, torch.as_tensor, list])
def test_tokens_alone_are_scored_where_the_settings_say(named: Trial, make: Callable[[Any], Any]) -> None:
    on_all = replace(named, examples=replace(named.examples, scored=np.ones_like(named.examples.scored)))
    same(scrub.run("induction/naive", data=make(named.examples.tokens), settings=EVERY), on_all.run())


def test_settings_say_more_than_a_mask_and_how_many(named: Trial) -> None:
    given = (named.examples.tokens, named.examples.scored)
    every = prepare("induction/naive", data=given, settings=replace(EVERY, sequences=7)).examples
    assert every.scored.all()
    assert np.array_equal(every.tokens, named.examples.tokens[:7])


def test_sequences_may_be_shorter_than_the_model_reads(named: Trial) -> None:
    found = scrub.run("induction/naive", data=named.examples.tokens[:, :8], settings=EVERY)
    assert (found.context, int(found.positions.sum())) == (7, 19 * 7)
    model = load_model("tiny", torch.float64)
    tokens = torch.from_numpy(named.examples.tokens[:, :8])
    wanted = -model(tokens[:, :-1]).log_softmax(-1).gather(-1, tokens[:, 1:, None])[..., 0].sum(1)
    assert np.allclose(found.loss["unscrubbed"], wanted, rtol=0, atol=1e-9)


def test_pairs_are_scrubbed_with_their_others(named: Trial) -> None:
    """What a user pairs stays paired, and is no reference itself."""
    tokens = named.examples.tokens
    pairs = Examples(tokens[:9], named.examples.scored[:9], other=tokens[9:18])
    found = scrub.run("induction/naive", data=pairs, settings=SETTINGS)
    assert len(found.positions) == 9
    model = load_model("tiny", torch.float64)
    x, y = torch.from_numpy(tokens[:9]), torch.from_numpy(tokens[9:18])
    losses = -model(y[:, :-1]).log_softmax(-1).gather(-1, x[:, 1:, None])[..., 0].numpy()
    assert np.allclose(found.loss["all_scrubbed"], (losses * pairs.scored).sum(1), rtol=0, atol=1e-9)


def wrong_mask(of: np.ndarray) -> Any:
    return of, np.ones_like(of, dtype=bool)


MISTAKES: list[tuple[Callable[[np.ndarray], Any], str]] = [
    (lambda of: of / 2, "tokens in memory are float64 .*: give whole numbers"),
    (lambda of: of[0], r"tokens in memory are int64 \[12\]"),
    (lambda of: of[:, :1], r"tokens in memory are int64 \[19, 1\]"),
    (lambda of: of[:0], r"tokens in memory are int64 \[0, 12\]"),
    (lambda of: of > 3, "tokens in memory are bool"),
    (lambda _: {"input_ids": [[1, 2, 3]]}, "no column 'clean'.* input_ids.*: give that, or tokens"),
    (lambda of: [*of.tolist(), [1, 2]], "tokens in memory are no array .*: give all rows one length"),
    (lambda of: of + 31, r"a token of the text is none of tiny's: its ids are 0 to 30"),
    (lambda of: of - 9, r"a token of the text is none of tiny's"),
    (lambda of: np.concatenate([of, of], 1), "have 23 positions, but tiny reads at most 11"),
    (wrong_mask, r"the mask is bool \[19, 12\]: give bool \[19, 11\]"),
    (lambda of: (of, of[:, 1:]), "the mask is int64"),
    (lambda of: (of, np.zeros((19, 11), bool)), "no position of the text is scored"),
    (lambda of: (of, of > 3, "text"), "no tuple of 3"),
    (lambda of: of[:1], "one sequence has no other"),
    (lambda _: "nowhere", "nowhere"),
]


@pytest.mark.parametrize(("given", "message"), MISTAKES)
def test_what_is_no_data_is_one_clear_line(named: Trial, given: Callable[[np.ndarray], Any], message: str) -> None:
    settings = replace(SETTINGS, positions=None if isinstance(given(named.examples.tokens), tuple) else "all")
    with pytest.raises(ScrubError, match=message) as caught:
        scrub.run("induction/naive", data=given(named.examples.tokens), settings=settings)
    assert "\n" not in str(caught.value)


def test_more_than_there_are(named: Trial) -> None:
    with pytest.raises(ScrubError, match="20 sequences were asked for, but there are 19"):
        prepare("induction/naive", data=named.examples.tokens, settings=replace(EVERY, sequences=20))


def test_tokens_in_memory_have_no_whitelist(named: Trial) -> None:
    with pytest.raises(ScrubError, match="tokens in memory have no whitelist"):
        prepare("induction/naive", data=named.examples.tokens, settings=SETTINGS)


def test_others_that_do_not_fit() -> None:
    tokens = np.random.default_rng(5).integers(0, 11, (5, 8))
    for other, named in ((tokens[:, 1:], r"\[5, 7\]"), (tokens + 90, "0 to"), (tokens - 90, "0 to")):
        examples = Examples.of(tokens)
        object.__setattr__(examples, "other", other)  # as it is where shapes aren't checked
        with pytest.raises(ScrubError, match=named):
            check_scored(examples, 11, 23, "tiny")
    with pytest.raises(ScrubError, match="tokens of examples are Tensor"):
        Examples.__post_init__(SimpleNamespace(tokens=torch.from_numpy(tokens), scored=None, other=None))  # type: ignore[arg-type]


def test_what_is_scored_is_checked_of_what_is_left(named: Trial) -> None:
    """A mask that scores only later rows; and rows so short that by themselves nothing of them would be scored."""
    tokens, mask = named.examples.tokens, np.zeros_like(named.examples.scored)
    mask[7:] = True
    with pytest.raises(ScrubError, match="no position"):
        prepare("induction/naive", named.model, (tokens, mask), replace(SETTINGS, sequences=3))
    short = prepare("induction/naive", named.model, tokens[:, :3], replace(SETTINGS, positions="all", sequences=None))
    assert short.examples.scored.all()
