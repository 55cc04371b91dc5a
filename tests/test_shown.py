"""What a prompt or a notebook shows of every result: itself, in few lines, and nothing of how it is stored."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from project import tiny_model

import scrub
from scrub import Hypothesis, ScrubError, Settings, Study
from scrub.show.charts.chart import Charts

CUT = Hypothesis("v a1.ind/v/a0 -> y", name="cut", claim="Values need layer 0.")
STUDY = Study(baseline="a1.ind/** -> y", positions="all", hypotheses=(CUT,), name="mine")
TOKENS = np.random.default_rng(0).integers(1, 20, (6, 9))
QUIET = Settings(progress=False)


def results() -> dict[str, object]:
    model = tiny_model()
    trial = scrub.prepare(STUDY, model, TOKENS, QUIET)
    pairs = scrub.prompt_pairs(model, kind="random tokens", count=2, length=3)
    return {
        "hypothesis": CUT,
        "study": STUDY,
        "trial": trial,
        "result": trial.run(),
        "ablation": scrub.ablate(model, TOKENS, ["a1.3", "a0.prev+3"], settings=QUIET),
        "patching": scrub.patch(model, pairs, ["a1.3"], settings=QUIET),
        "picture": trial.show("cut", "v"),
        "scores": scrub.score_heads(model, pairs, ["direct effect", "previous token"]),
        "score": scrub.score_heads(model, pairs, ["direct effect"])["direct effect"],
        "examples": pairs,
    }


@pytest.fixture(scope="module")
def made() -> dict[str, object]:
    return results()


NAMED = {
    "hypothesis": ["cut", "Values need layer 0.", "v a1.ind/v/a0 -> y"],
    "study": ["mine", "attn2l", "a1.ind/** -> y", "cut"],
    "trial": ["mine", "6 sequences", "cut: v, all"],
    "result": ["gates passed", "unscrubbed", "cut", "recovered, %"],
    "ablation": ["zero", "a0.prev+3", "6 sequences", "before: loss"],
    "patching": ["clean into corrupted", "a1.3", "2 pairs"],
    "picture": ["cut: v", "├── a1.ind", "y = other"],
    "scores": ["scores on prompts", "direct", "previous", "1.4"],
    "score": ["direct effect in nats, prompts: 1."],
    "examples": ["2 of prompts, random tokens, with others", "positions each, 2 scored"],
}


@pytest.mark.parametrize("name", sorted(NAMED))
def test_a_result_shows_itself(name: str, made: dict[str, object]) -> None:
    text = repr(made[name])
    assert str(made[name]) == text
    assert len(text) < 4000
    assert "array(" not in text
    assert "0x" not in text
    for each in NAMED[name]:
        assert each in text
    html = getattr(made[name], "_repr_html_", None)
    if name in {"result", "ablation", "patching"}:
        assert html is not None
        assert NAMED[name][1] in html()


def test_a_study_made_in_python_runs(made: dict[str, object]) -> None:
    result = made["result"]
    assert isinstance(result, scrub.Result)
    assert result.study == "mine"
    assert result.rows == [("cut", "v"), ("cut", "all")]
    with pytest.raises(ScrubError, match="name"):
        scrub.prepare(
            Study(baseline="a1.ind/** -> y", hypotheses=(Hypothesis("v a1.ind/v -> y"),)), tiny_model(), TOKENS
        )
    shipped = Study(baseline="a1.ind/** -> y", positions="all", hypotheses=("induction/naive",))
    assert [h.name for h in scrub.prepare(shipped, tiny_model(), TOKENS, QUIET).hypotheses] == ["naive"]
    with pytest.raises(ScrubError, match="'induction/naive'"):
        scrub.prepare(Study(baseline="a1.ind/** -> y", hypotheses=("induction",)), tiny_model(), TOKENS)


def test_names_that_are_none_are_mistakes_that_list_what_there_is(made: dict[str, object]) -> None:
    result = made["result"]
    assert isinstance(result, scrub.Result)
    for ask in (lambda: result.recovered("cut/q"), lambda: result.interval("loss", "cut/q")):
        with pytest.raises(ScrubError, match=r"'cut/q'.*cut/v"):
            ask()
    with pytest.raises(ScrubError, match=r"'los'.*loss, change, kl"):
        result.interval("los", "cut/v")
    with pytest.raises(ScrubError, match="'x'"):
        Charts()["x"]


def test_tensors_go_wherever_arrays_go() -> None:
    """Also those with a gradient, and of other kinds of numbers."""
    model = tiny_model()
    rng = np.random.default_rng(3)
    tokens, other = rng.integers(1, 20, (2, 4, 9))
    mask, mine = np.ones((4, 8), dtype=bool), rng.random((3, 8, 8)).astype(np.float32)[:1] * 0 + np.tri(8) / 8
    other[:, -1] = tokens[:, -1]
    scored = np.zeros((4, 8), dtype=bool)
    scored[:, -1] = True

    def tensor(of: np.ndarray) -> torch.Tensor:
        made = torch.from_numpy(of)
        if made.is_floating_point():
            return made.requires_grad_()
        return made if made.dtype == torch.bool else made.to(torch.int32)

    def every(convert: Callable[[np.ndarray], Any]) -> list[Any]:
        on, with_other, masked = convert(tokens), convert(other), (convert(tokens), convert(mask))
        forced = {"attend": {"a1.3": "array mine"}, "arrays": {"mine": convert(mine)}}
        return [
            scrub.ablate(model, masked, ["a1.3"], how="resample", other=with_other, settings=QUIET).frame(),
            scrub.ablate(model, on, ["a1.3"], how="mean", reference=with_other, settings=QUIET).frame(),
            scrub.ablate(model, on, **forced, settings=QUIET).frame(),
            scrub.patch(model, (on, with_other, convert(scored)), ["a1.3"], settings=QUIET).frame(),
            scrub.score_heads(model, on, ["previous token"])["previous token"].frame(),
            scrub.prepare(STUDY, model, masked, QUIET).run().frame(),
        ]

    for ours, theirs in zip(every(np.asarray), every(tensor), strict=True):
        assert ours.equals(theirs)
