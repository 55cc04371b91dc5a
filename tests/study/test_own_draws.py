"""What can only be fed by the reference itself isn't resampled, and the run says so."""

from __future__ import annotations

import numpy as np
import pytest

import scrub
from scrub.study.draws import Feature


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
