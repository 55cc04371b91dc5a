"""The study of heads against plain torch on the same model in transformers, head by head, prompt by prompt."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import combinations

import numpy as np
import pytest
import torch
from doubles import HEADS, LAYERS, POSITIONS, Change, Double, Point, put
from published_numbers import TEXT, apart, published

import scrub
from scrub.data.examples import QUERY, TARGET, Examples
from scrub.measure.study.heads import ABLATION, ATTENTION, DIRECT, METRICS, PUBLISHED, HeadStudy, Metrics, study_heads
from scrub.measure.study.scores import context_sensitivity
from scrub.models.model import Model
from scrub.study.draws import pair
from scrub.study.settings import Settings
from scrub.text.errors import ScrubError

EVERY = [(layer, head) for layer in range(LAYERS) for head in range(HEADS)]
NAMES = (
    *("attention to target", "direct effect", "ablation effect", "ablation effect, log probability"),
    *("uniform shift", "differential effect", "first position", "previous token"),
)


def instead(theirs: Double, head: tuple[int, int], values: list[torch.Tensor] | None = None) -> dict[Point, Change]:
    """A head has read something else, by layer; or nothing at all."""
    other = torch.zeros(1, dtype=torch.float64) if values is None else values[head[0]]
    return {("z", head[0]): put(other, theirs.columns(head[1]))}


def metrics(
    theirs: Double, prompts: Examples, values: list[torch.Tensor] | None = None
) -> tuple[np.ndarray, dict[str, np.ndarray]]:
    """P(expected) [prompt], and every metric [prompt, layer, head]; ablated heads have read `values`, or nothing."""
    tokens, every = torch.from_numpy(prompts.inputs), np.arange(len(prompts))
    whole = theirs.run(tokens)
    places = (prompts.positions[QUERY], prompts.positions[TARGET])
    expected, query, target = (torch.from_numpy(each) for each in (prompts.expected, *places))
    here = whole.logits[every, query]
    gradient = torch.nn.functional.one_hot(expected, here.shape[-1]) - here.softmax(-1)
    stream, norm = whole.at["stream", theirs.layers][every, query], theirs.theirs.transformer.ln_f
    scale = norm.weight / (stream.var(-1, unbiased=False, keepdim=True) + norm.eps).sqrt()
    found = {name: np.zeros((len(prompts), theirs.layers, HEADS)) for name in NAMES}
    for at, head in np.ndindex(theirs.layers, HEADS):
        cell = (slice(None), at, head)
        written = theirs.written(whole, at, head)[every, query]
        centred = written - written.mean(-1, keepdim=True)
        found["attention to target"][cell] = whole.patterns[at][every, head, query, target]
        found["first position"][cell] = whole.patterns[at][every, head, query, 0]
        found["previous token"][cell] = whole.patterns[at][every, head, query, query - 1]
        found["direct effect"][cell] = ((centred * scale) @ theirs.theirs.lm_head.weight.T * gradient).sum(-1)
        after = theirs.run(tokens, instead(theirs, (at, head), values)).logits[every, query]
        p, q = here.softmax(-1)[every, expected], after.softmax(-1)[every, expected]
        shift = (after - here).mean(-1)
        found["ablation effect"][cell] = p - q
        found["ablation effect, log probability"][cell] = p.log() - q.log()
        found["uniform shift"][cell] = shift
        found["differential effect"][cell] = (after - here)[every, expected] - shift
    return here.softmax(-1)[every, expected].numpy(), found


def check(found: Metrics, model: Double, values: list[torch.Tensor] | None = None) -> None:
    """Every metric of every head on every prompt, and how probable the expected tokens are."""
    chances, wanted = metrics(model, found.prompts, values)
    assert found.probability.estimate == pytest.approx(chances.mean(), abs=1e-9)
    assert set(found.scores) == set(wanted)
    for name, score in found.scores.items():
        assert wanted[name].any()
        np.testing.assert_allclose(score.sums, wanted[name], rtol=0, atol=1e-9, err_msg=name)


def test_parity_head_by_head(study: HeadStudy, theirs: Double) -> None:
    assert study.one is not None
    assert study.one.prompts.texts == (PUBLISHED,)
    assert (study.expected, study.model.config.bos_before_prompts) == (" X", False)
    assert (study.one.prompts.positions["second"][0], study.one.prompts.positions["target"][0]) == (10, 5)
    check(study.one, theirs)
    check(study.many, theirs)
    assert study.many.prompts.inputs.shape == (7, 11)
    assert (study.many.prompts.positions["second"] == 10).all()
    assert (study.many.prompts.positions["target"] == 5).all()
    assert study.many.probability.low < study.many.probability.estimate < study.many.probability.high


@pytest.mark.parametrize("how", ["mean", "resample"])
def test_parity_of_means_and_resamples(flat: tuple[Model, Double], exact: Settings, how: str) -> None:
    model, theirs = flat
    found = study_heads(model, "X A Y X A", expected=" B", count=5, how=how, bos=True, settings=exact)
    drawn = found.many.prompts
    assert drawn.inputs.shape == (5, 6)
    assert (drawn.inputs[:, 0] == 0).all()
    assert found.one is not None
    assert found.one.prompts.inputs[0, 0] == 0
    z = theirs.run(torch.from_numpy(drawn.inputs)).z()
    if how == "mean":
        one = many = [each.mean(0, keepdim=True) for each in z]
    else:
        one, many = [each[:1] for each in z], [each[pair(5, exact.seed, 0)] for each in z]
    check(found.one, theirs, one)
    check(found.many, theirs, many)


def written(chances: np.ndarray, found: dict[str, np.ndarray]) -> str:
    """The numbers of one prompt in the form of the published study."""
    means = {name: each.mean(0) for name, each in found.items()}
    titles = {ATTENTION: "Attention", DIRECT: "Direct", ABLATION: "Ablation"}
    lines, tops = [f"P(X) = {100 * chances[0]:.1f}%"], []
    for by in METRICS:
        order = [by, *(other for other in METRICS if other != by)]
        lines.append("| Head | " + " | ".join(titles[name] for name in order) + " |")
        tops.append(sorted(EVERY, key=lambda head: -means[by][head])[:10])
        for head in tops[-1]:
            forms = {ATTENTION: f"{100 * means[ATTENTION][head]:.1f}%", DIRECT: f"{means[DIRECT][head]:+.2f}"}
            cells = (forms.get(name, f"{means[name][head]:+.3f}") for name in order)
            lines.append(f"| L{head[0]}H{head[1]} | " + " | ".join(cells) + " |")
    counts = [len(set(a) & set(b)) for a, b in combinations(tops, 2)] + [
        len(set(tops[0]) & set(tops[1]) & set(tops[2]))
    ]
    return "\n".join([*lines, f"overlaps: {', '.join(map(str, counts))}"])


def test_tables_of_the_published_form(study: HeadStudy, theirs: Double) -> None:
    """What `pytest -m hub` does with GPT-2 and the published tables, with this model and tables from plain torch."""
    assert study.one is not None
    text = written(*metrics(theirs, study.one.prompts))
    assert apart(study, published(text)) == []
    assert apart(study, published(text.replace("overlaps: ", "overlaps: 1"))) != []
    head, *cells = text.splitlines()[2].strip("| ").split(" | ")
    spare = next(each for each in EVERY if each not in study.first.agreement.sets[ATTENTION])
    assert apart(study, published(text.replace(head, f"L{spare[0]}H{spare[1]}"))) != []
    for cell in cells:
        off = f"{float(cell.rstrip('%')) + (0.1 if '%' in cell else 0.01):+.3f}" + "%" * cell.endswith("%")
        assert len(apart(study, published(text.replace(cell, off)))) >= 1


def test_the_published_tables_are_read_whole() -> None:
    said = published(TEXT)
    assert [len(rows) for rows in said.tables.values()] == [10, 10, 10]
    assert said.tables[ATTENTION][5, 5] == {ATTENTION: pytest.approx(0.962), DIRECT: 0.03, ABLATION: 0.037}
    assert said.tables[DIRECT][9, 9] == {ATTENTION: pytest.approx(0.58), DIRECT: 4.23, ABLATION: -0.036}
    assert said.tables[ABLATION][1, 3] == {ATTENTION: pytest.approx(0.045), DIRECT: 0.09, ABLATION: 0.461}
    tops = [set(said.tables[name]) for name in METRICS]
    assert said.overlaps == [*(len(a & b) for a, b in combinations(tops, 2)), len(tops[0] & tops[1] & tops[2])]


def test_frame_and_heading(study: HeadStudy) -> None:
    frame = study.frame()
    assert list(zip(frame["layer"], frame["head"], strict=True)) == EVERY
    for name in NAMES:
        assert (frame[f"{name}, low"] <= frame[name]).all()
        assert (frame[name] <= frame[f"{name}, high"]).all()
        assert study.one is not None
        np.testing.assert_array_equal(frame[f"{name}, one prompt"], study.one.scores[name].means.ravel())
    assert study.heading.startswith(f"small on '{PUBLISHED}': P(X) ")
    assert "beside it 7 prompts of letters: P(expected)" in study.heading
    assert study.gates.deviations == {
        name: max(each.ablation.effects.gates.deviations[name] for each in study.both)
        for name in study.gates.deviations
    }


@pytest.mark.parametrize(
    ("prompt", "kind", "shape", "query"),
    [
        ("B A C D A", None, 5, 4),
        ("A B C D E F X Y X", None, 11, 10),  # X stands too late for a draw of two: the published layout
        ("B C X Y X", None, 11, 10),
        ("X A B C D E F G H I X A", "random tokens", 12, 11),
    ],
)
def test_prompts_are_drawn_of_the_given_layout(
    flat: tuple[Model, Double], exact: Settings, prompt: str, kind: str | None, shape: int, query: int
) -> None:
    model, _ = flat
    found = study_heads(model, prompt, kind=kind, count=2, settings=exact)
    assert found.one is not None
    assert found.many.prompts.inputs.shape[1] == shape
    assert (found.many.prompts.positions["second"] == query).all()
    if shape == found.one.prompts.inputs.shape[1]:
        assert (found.many.prompts.positions["first"] == found.one.prompts.positions["first"]).all()
    pairs = found.pairs(3, 0)
    np.testing.assert_array_equal(pairs.inputs[:2], found.many.prompts.inputs)


def test_context_sensitivity_in_two_passes(model: Model, theirs: Double, exact: Settings) -> None:
    """A head alone reads, from a first pass, the sequence whose far part is another's."""
    text, near, cut = np.random.default_rng(4).integers(0, 54, (5, POSITIONS + 1)), 3, POSITIONS // 2
    text[:, 0] = 0
    other = text.copy()
    other[:, 1:cut] = text[pair(5, exact.seed, 0)][:, 1:cut]
    inputs, following = torch.from_numpy(text[:, :-1]), torch.from_numpy(text[:, 1:])
    first = theirs.run(torch.from_numpy(other[:, :-1])).z()

    def losses(logits: torch.Tensor) -> np.ndarray:
        lost = torch.nn.functional.cross_entropy(logits.mT, following, reduction="none")
        return lost[:, cut + near :].sum(1).numpy()

    whole = losses(theirs.run(inputs).logits)
    found = context_sensitivity(model, text, near, settings=exact)
    assert (found.counts == POSITIONS - cut - near).all()
    wanted = np.zeros_like(found.sums)
    for layer, head in EVERY:
        wanted[:, layer, head] = losses(theirs.run(inputs, instead(theirs, (layer, head), first)).logits) - whole
    np.testing.assert_allclose(found.sums, wanted, rtol=0, atol=1e-9)
    assert np.abs(wanted).max() > 1e-2


@pytest.mark.parametrize(
    ("tokens", "near", "says"),
    [
        ((5, 9), 4, " 4 "),
        ((5, 9), -1, " -1"),
        ((1, 9), 1, "one sequence"),
    ],
)
def test_text_without_far_context(model: Model, exact: Settings, tokens: tuple[int, int], near: int, says: str) -> None:
    with pytest.raises(ScrubError, match=says) as raised:
        context_sensitivity(model, np.zeros(tokens, dtype=np.int64), near, settings=exact)
    assert "\n" not in str(raised.value)


def test_a_notebook_shows_a_study(study: HeadStudy) -> None:
    html = study._repr_html_()
    assert html.count("top 10 by") == 3
    for name, heads in study.first.agreement.sets.items():
        assert f"top 10 by {name}" in html
        assert all(f"\n {layer}.{head} " in html for layer, head in heads)
    assert "rank correlation over all heads" in html


def test_at_the_top_level() -> None:
    names: Sequence[str] = (
        *("study_heads", "score_heads", "HeadStudy"),
        *("given_prompt", "repeated_prompts", "prompt_pairs"),
    )
    for name in names:
        assert name in scrub.__all__
        assert getattr(scrub, name).__name__ == name
