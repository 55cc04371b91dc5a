"""What can only be fed by the reference itself isn't resampled, and the run says so."""

from __future__ import annotations

import numpy as np
import pytest

import scrub
from scrub.data.examples import Examples
from scrub.paths.sources import Like
from scrub.study.draws import Feature, pair_up
from scrub.study.gates import own_draws


@pytest.mark.parametrize(
    ("rule", "feature", "share"),
    [
        ("a1.ind/k/** -> like f", lambda tokens, _: np.arange(len(tokens)), "100%"),
        ("a1.ind/k/** -> like f", lambda tokens, _: np.arange(len(tokens)) // 3, None),
        (
            "a1.ind/k/a0.prev/{q,k}/** -> rows like f",
            lambda tokens, _: np.arange(tokens.size).reshape(tokens.shape),
            "100%",
        ),
        ("a1.ind/k/a0.prev/{q,k}/** -> rows like f", lambda tokens, _: 0 * tokens, None),
    ],
)
def test_a_feature_with_which_no_other_agrees_is_warned_of(rule: str, feature: Feature, share: str | None) -> None:
    mine = scrub.Hypothesis(f"k  {rule}", name="mine", features={"f": feature}, study="induction")
    settings = scrub.Settings(sequences=12, dtype="float64", progress=False)
    found = [text for text in scrub.prepare(mine, settings=settings).gates().warnings if "itself" in text]
    assert len(found) == (share is not None)
    assert all(f"in {share} of places" in text for text in found)


@pytest.mark.parametrize(
    ("rule", "feature", "vague"),
    [
        ("a1.ind/k/** -> like f", lambda tokens, _: np.arange(len(tokens)) // 3, False),
        ("a1.ind/k/** -> like f", lambda tokens, _: np.full(len(tokens), 7), True),
        ("a1.ind/k/a0.prev/{q,k}/** -> rows like f", scrub.TokenFeature(current=["e"]), False),
        ("a1.ind/k/a0.prev/{q,k}/** -> rows like f", scrub.TokenFeature(current=["\n"]), True),
    ],
)
def test_a_feature_of_one_class_is_warned_of(rule: str, feature: Feature, vague: bool) -> None:
    mine = scrub.Hypothesis(f"k  {rule}", name="mine", features={"f": feature}, study="induction")
    settings = scrub.Settings(sequences=12, dtype="float64", progress=False)
    warnings = scrub.prepare(mine, settings=settings).gates().warnings
    assert sum("the feature 'f' has one class" in text for text in warnings) == vague


def test_a_feature_s_tokens_are_of_the_model_s_vocabulary() -> None:
    mine = scrub.Hypothesis("k a1.ind/k -> like f", features={"f": scrub.TokenFeature([31])}, study="induction")
    with pytest.raises(scrub.ScrubError, match="the token 31 of a feature is outside the vocabulary, 0 to 30"):
        scrub.prepare(mine)


@pytest.mark.parametrize("alone", [1, 2])
def test_one_place_in_a_hundred_goes_unsaid(alone: int) -> None:
    examples = Examples(np.zeros((100, 8), dtype=np.int64), np.ones((100, 7), dtype=bool))
    pairing = pair_up(examples, {Like("f")}, {"f": lambda ids, _: np.arange(len(ids)).clip(max=alone)})
    assert len(own_draws(pairing)) == alone - 1
