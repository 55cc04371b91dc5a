"""All scores of a study's heads: on its prompts, on repeated tokens and on text, each with intervals."""

from __future__ import annotations

import numpy as np
import pytest
from doubles import HEADS, POSITIONS, Double

from scrub.data.examples import PROMPTS, REPEATED, TEXT
from scrub.measure.heads.definitions import ABLATIONS, CONTEXT, DEFINITIONS
from scrub.measure.heads.reading import READINGS
from scrub.measure.heads.score import HeadScore
from scrub.measure.heads.scores import score_heads
from scrub.measure.interventions.ablation import ablate
from scrub.measure.study.heads import HeadStudy, study_heads
from scrub.measure.study.scores import causal_scores, check_lags, context_sensitivity, read_scores
from scrub.models.model import Model
from scrub.study.settings import Settings
from scrub.text.errors import ScrubError

Flat = tuple[Model, Double]


@pytest.fixture(scope="module")
def flat_study(flat: Flat, exact: Settings) -> HeadStudy:
    return study_heads(flat[0], count=3, settings=exact)


def text(sequences: int = 4, positions: int = POSITIONS) -> np.ndarray:
    """Random letters behind a begin token."""
    drawn = np.random.default_rng(6).integers(2, 54, (sequences, positions + 1))
    drawn[:, 0] = 0
    return drawn


def check_intervals(found: HeadScore) -> None:
    for head in found.heads:
        value = found.interval(head)
        assert value.low <= value.estimate <= value.high, (found.name, found.on, head)


def test_what_is_read_on_prompts_repeated_tokens_and_text(flat_study: HeadStudy, exact: Settings) -> None:
    tokens = text()
    found = read_scores(flat_study, tokens, [5], exact)
    by_place: dict[str, dict[str, HeadScore]] = {}
    for score in found:
        assert score.name not in by_place.setdefault(score.on, {})
        by_place[score.on][score.name] = score
        check_intervals(score)
    assert list(by_place) == ["3 prompts of letters", REPEATED, TEXT]
    for on, scores in zip((PROMPTS, REPEATED, TEXT), by_place.values(), strict=True):
        wanted = [name for name in READINGS if on in DEFINITIONS[name].on]
        assert list(scores) == [*wanted, *(ABLATIONS if on == PROMPTS else ["lag 5"])]
        assert {len(score.sums) for score in scores.values()} == {3 if on == PROMPTS else 4}
    on_text = score_heads(flat_study.model, tokens, [*by_place[TEXT]], exact.seed)
    for name, score in on_text.items():
        np.testing.assert_array_equal(by_place[TEXT][name].sums, score.sums)
    on_prompts = score_heads(flat_study.model, flat_study.many.prompts, ["copying"], exact.seed)["copying"]
    np.testing.assert_array_equal(by_place["3 prompts of letters"]["copying"].sums, on_prompts.sums)
    assert by_place["3 prompts of letters"]["uniform shift"] is flat_study.many.scores["uniform shift"]


def test_what_is_intervened_on_in_text(flat: Flat, exact: Settings) -> None:
    tokens, (model, _) = text(3), flat
    found = {score.name: score for score in causal_scores(model, tokens, near=4, settings=exact)}
    assert list(found) == [*ABLATIONS, CONTEXT]
    ablation = ablate(model, tokens, "heads", settings=exact)
    for name in ABLATIONS:
        np.testing.assert_array_equal(found[name].sums, ablation.head_score(name).sums)
        check_intervals(found[name])
    np.testing.assert_array_equal(found[CONTEXT].sums, context_sensitivity(model, tokens, 4, settings=exact).sums)
    assert found[CONTEXT].sums.shape == (3, 1, HEADS)
    short = causal_scores(model, text(3, 9), how="mean", settings=exact)  # with as much near context as there can be
    assert (short[-1].counts == 9 - 9 // 2 - 9 // 4).all()


@pytest.mark.parametrize(("lag", "positions"), [(30, 31), (31, 31), (30, 30), (2, 2)])
def test_lags_that_nothing_reaches(lag: int, positions: int) -> None:
    with pytest.raises(ScrubError, match=f" {lag} .* {positions}"):
        check_lags([0, lag], positions)
    check_lags([0, lag // 2], positions)
    check_lags([], positions)
