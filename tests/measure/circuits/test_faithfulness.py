"""Faithfulness at MIB's ten sizes, against transformers' models with hooks, reader by reader, and areas written out."""

from __future__ import annotations

from dataclasses import replace
from functools import cache
from typing import Any

import networkx as nx
import numpy as np
import pytest
import torch
from circuited import unequal_pairs
from private import EMB, OUT, Private, Run, with_own_keys
from scipy import stats
from torch import Tensor
from twins import GROUPED, VOCAB, Shape, exact, made, made_gpt2

from scrub.data.examples import Examples
from scrub.data.repeated import NOWHERE
from scrub.measure.circuits.circuit import Circuit
from scrub.measure.circuits.faithfulness import Faithfulness, faithfulness
from scrub.models.model import Model, load_model
from scrub.paths.edges import Edge
from scrub.paths.sources import X, Y
from scrub.study.draws import pair_up
from scrub.study.settings import Settings
from scrub.text.errors import ScrubError
from scrub.text.numbers import Interval

ROWS, POSITIONS = 5, 7
SHARES = [0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1]
HERE = Settings(dtype="float64", device="cpu", progress=False)
ALONE = Shape(kv_heads=GROUPED.heads)
KINDS = ("gpt2", "llama", "gemma2", "phi")
TIGHT = 1e-8


class Patched(Private):
    """A model in which every reader reads of each sender what that writes there, or what it wrote in another run."""

    kept: frozenset[str]
    other: Run

    def read(self, run: Run, reader: str) -> Tensor:
        stream = run.streams[OUT if reader == OUT else reader.partition(".")[0]]
        for writer in self.writers(run, reader):
            by = torch.zeros_like(stream)
            for sender, written in run.senders.items():
                if sender.partition(".")[0] == writer and f"{reader}/{sender}" not in self.kept:
                    by = by + self.other.senders[sender] - written
            stream = stream + self.moved(run, writer, by)
        return self.made(reader, stream)

    def logits(self, x: Tensor, y: Tensor, kept: frozenset[str]) -> Tensor:
        """The logits where these edges are kept, and all others on the run of y."""
        with torch.no_grad():
            self.kept, self.other = kept, Private(self.theirs, self.heads).run(y)
            return self.run(x).logits


@cache
def twins(kind: str) -> tuple[Model, Patched]:
    """A random model of three layers, and the same in transformers with keys and values for every query head."""
    with exact():
        if kind == "gpt2":
            theirs = made_gpt2(3, 5, 35)
            return load_model(theirs, dtype=torch.float64), Patched(theirs, 5)
        theirs, twin = made(kind, GROUPED), made(kind, ALONE)
        patched = Patched(with_own_keys(theirs, twin, GROUPED.heads, GROUPED.kv_heads), GROUPED.heads)
        return load_model(theirs, dtype=torch.float64), patched


def edges_of_model(layers: int, heads: int, parallel: bool) -> list[str]:
    """Every edge of such a model."""
    found, written = list[str](), [EMB]
    for at in range(layers):
        own = [f"a{at}.{head}" for head in range(heads)]
        found += [f"{head}/{slot}/{sender}" for head in own for slot in "qkv" for sender in written]
        found += [f"m{at}/{sender}" for sender in (written if parallel else written + own)]
        written += [*own, f"m{at}"]
    return [*found, *(f"{OUT}/{sender}" for sender in written)]


def scored(kind: str) -> dict[str, float]:
    """Scores of the edges of a model, of which the highest and the lowest make paths."""
    heads = 5 if kind == "gpt2" else GROUPED.heads
    rng = np.random.default_rng(7)
    names = edges_of_model(3, heads, kind == "phi")
    scores = dict(zip(names, rng.normal(size=len(names)).tolist(), strict=True))
    for name in names:
        scores[name] += rng.choice([2, -3]) * (name.startswith(f"{OUT}/") or name.endswith(f"/{EMB}"))
    best = ("out/m1", "m1/a0.2", "a0.2/v/emb", "out/a2.1", "a2.1/k/m0", "m0/emb", "a2.1/v/a0.3", "a0.3/q/emb")
    return scores | {name: 30.0 - at for at, name in enumerate(best)} | {"out/emb": -40.0}


def chosen(scores: dict[str, float], n: int, absolute: bool) -> frozenset[str]:
    """The best n, of which those stay that lie on a path from the embedding to the output."""
    best = sorted(scores, key=lambda name: -abs(scores[name]) if absolute else -scores[name])[:n]
    ends = {name: (name.rpartition("/")[2], name.partition("/")[0]) for name in best}
    graph = nx.DiGraph([*ends.values()])
    graph.add_nodes_from([EMB, OUT])
    alive = (nx.descendants(graph, EMB) | {EMB}) & (nx.ancestors(graph, OUT) | {OUT})
    return frozenset(name for name, (sender, reader) in ends.items() if sender in alive and reader in alive)


def prompts() -> Examples:
    return unequal_pairs(ROWS, POSITIONS, VOCAB)


def logit_diff(examples: Examples, logits: Tensor) -> np.ndarray:
    """The mean logit of the answers, less that of the wrong ones, at the last position of each prompt."""
    assert examples.lengths is not None
    assert examples.answers is not None
    assert examples.wrong is not None
    found = []
    for row, length in enumerate(examples.lengths):
        last = logits[row, length - 1]
        right, wrong = ([int(t) for t in of[row] if t != NOWHERE] for of in (examples.answers, examples.wrong))
        found.append(float(last[right].mean() - last[wrong].mean()))
    return np.array(found)


def areas(faithful: list[float]) -> tuple[float, float]:
    """CPR and CMD: of trapezoids between neighbouring sizes."""
    cpr = cmd = 0.0
    for at in range(9):
        width = SHARES[at + 1] - SHARES[at]
        cpr += width * (faithful[at] + faithful[at + 1]) / 2
        cmd += width * (abs(1 - faithful[at]) + abs(1 - faithful[at + 1])) / 2
    return cpr, cmd


def ends(found: Interval) -> tuple[float, float, float]:
    return found.estimate, found.low, found.high


def circuit(model: Model, scores: dict[str, float]) -> Circuit:
    return Circuit.of(model, {Edge.parse(name): score for name, score in scores.items()})


@cache
def measured(kind: str) -> tuple[Faithfulness, np.ndarray]:
    """The faithfulness of a model's circuits, and by hooks its metric: of the model, the empty circuit, and each.

    First of the circuits of the highest scores, then of those of the largest.
    """
    model, patched = twins(kind)
    examples, scores = prompts(), scored(kind)
    found = faithfulness(circuit(model, scores), model, examples, settings=HERE)
    assert examples.other is not None
    x, y = torch.from_numpy(examples.inputs), torch.from_numpy(examples.other[:, :-1])
    circuits = [chosen(scores, int(share * len(scores)), absolute) for absolute in (False, True) for share in SHARES]
    assert [len(kept) for kept in circuits] == [*found.connected, *(len(size.kept) for size in found.sizes_by_size)]
    assert len({*map(len, circuits[:6])}) > 2
    with exact():
        plain, corrupted = patched.theirs(x).logits, patched.theirs(y).logits
        rows = [plain, corrupted, *(patched.logits(x, y, kept) for kept in circuits)]
    return found, np.stack([logit_diff(examples, logits) for logits in rows])


@pytest.mark.parametrize("kind", KINDS)
def test_every_size_is_what_hooks_give(kind: str) -> None:
    """CPR is of the highest scores, CMD of the largest whatever their sign."""
    found, expected = measured(kind)
    np.testing.assert_allclose(found.sums, expected, rtol=0, atol=TIGHT)
    whole, empty, *circuits = expected.mean(1)
    faithful = [(each - empty) / (whole - empty) for each in circuits]
    assert len({round(each, 6) for each in faithful}) > 6
    faithful, by_size = faithful[: len(SHARES)], faithful[len(SHARES) :]
    cpr, cmd = areas(faithful)[0], areas(by_size)[1]
    assert abs(cmd - areas(faithful)[1]) > 1e-3
    assert [each.estimate for each in found.values] == pytest.approx(faithful, abs=TIGHT)
    assert [each.estimate for each in found.values_by_size] == pytest.approx(by_size, abs=TIGHT)
    assert found.frame()["faithfulness by size"].tolist() == pytest.approx(by_size, abs=TIGHT)
    assert found.cpr.estimate == pytest.approx(cpr, abs=TIGHT)
    assert found.cmd.estimate == pytest.approx(cmd, abs=TIGHT)
    assert ends(found.values[-1]) == (1, 1, 1)
    assert (found.whole.estimate, found.empty.estimate) == pytest.approx((whole, empty), abs=TIGHT)
    assert found.frame()["faithfulness"].tolist() == pytest.approx(faithful, abs=TIGHT)
    assert found.frame()["share"].tolist() == SHARES
    assert found.frame()["logit_diff"].tolist() == pytest.approx(circuits[: len(SHARES)], abs=TIGHT)


def test_intervals_are_of_resampled_rows() -> None:
    """Each resample by itself: rows drawn, their means, their ratio, its areas. Percentiles as wide as Student's."""
    found, expected = measured("gpt2")
    times = np.random.default_rng([HERE.seed, *b"bootstrap"]).multinomial(ROWS, np.full(ROWS, 1 / ROWS), 2000)
    curves, means = [], []
    for each in times:
        rows = np.repeat(np.arange(ROWS), each)
        whole, empty, *circuits = (np.mean([of[row] for row in rows]) for of in expected)
        means.append((whole, empty, circuits[3]))
        curves.append([(of - empty) / (whole - empty) for of in circuits])
    freedom = ROWS - 1
    tail = 100 * stats.norm.cdf(stats.t.ppf(0.025, freedom) * np.sqrt(1 + 1 / freedom))

    def interval(values: Any) -> Any:
        return pytest.approx(np.percentile(values, [tail, 100 - tail]).tolist(), rel=1e-9)

    for at in (1, 3, 6, 8):
        assert [found.values[at].low, found.values[at].high] == interval([curve[at] for curve in curves])
    cprs, cmds = (
        [areas(curve[: len(SHARES)])[0] for curve in curves],
        [areas(curve[len(SHARES) :])[1] for curve in curves],
    )
    assert [found.cpr.low, found.cpr.high] == interval(cprs)
    assert [found.cmd.low, found.cmd.high] == interval(cmds)
    for shown, values in zip((found.whole, found.empty, found.measured[3]), zip(*means, strict=True), strict=True):
        assert [shown.low, shown.high] == interval(values)


@pytest.mark.parametrize("kind", ["gpt2", "gemma2"])
def test_an_unscored_circuit_of_text(kind: str) -> None:
    """It is of one size, itself, of which what leads nowhere is told; the loss is of sequences with another drawn."""
    model, patched = twins(kind)
    rng = np.random.default_rng(1)
    mask = rng.random((ROWS, POSITIONS)) < 0.6
    examples = Examples(rng.integers(VOCAB, size=(ROWS, POSITIONS + 1)), mask, documents=np.array([0, 0, 1, 2, 2]))
    names = edges_of_model(3, 5 if kind == "gpt2" else 6, parallel=False)
    kept = {name for name in names if rng.random() < 0.5} - {"out/a0.1"} - {n for n in names if n.startswith("m1/")}
    own = Circuit.of(model, None, {Edge.parse(name) for name in kept})
    found = faithfulness(own, model, examples, settings=HERE)
    alive = chosen(dict.fromkeys(kept, 1.0), len(kept), absolute=False)
    assert (found.asked, found.connected, found.curve) == ([len(kept)], [len(alive)], False)
    assert len(alive) < len(kept)
    assert found.shares == [len(kept) / len(names)]
    pairing = pair_up(examples, {X, Y})
    x, y = torch.from_numpy(examples.inputs), torch.from_numpy(pairing.pool[pairing.partners[Y]][:, :-1])
    with exact():
        rows = [patched.theirs(x).logits, patched.theirs(y).logits, patched.logits(x, y, alive)]
        everything = patched.logits(x, y, frozenset(kept))
    targets = torch.from_numpy(examples.tokens[:, 1:, None])
    losses = [-logits.log_softmax(-1).gather(-1, targets)[..., 0].numpy() * mask for logits in (*rows, everything)]
    np.testing.assert_allclose(found.sums, [loss.sum(1) for loss in losses[:3]], rtol=0, atol=TIGHT)
    np.testing.assert_allclose(losses[3], losses[2], rtol=0, atol=TIGHT)
    whole, empty, circuit = (loss.sum() / mask.sum() for loss in losses[:3])
    assert found.values[0].estimate == pytest.approx((circuit - empty) / (whole - empty), abs=TIGHT)


def test_nothing_connected_is_nothing_kept() -> None:
    """Exactly, whatever else is among the edges; and all of it is exactly the model."""
    model, _ = twins("phi")
    broken = {Edge("a2.1/v", "emb"), Edge("out", "a1.3"), Edge("m2", "a0.2")}
    found = faithfulness(Circuit.of(model, None, broken), model, prompts(), settings=HERE)
    assert (found.connected, ends(found.values[0])) == ([0], (0, 0, 0))
    whole = frozenset(map(Edge.parse, edges_of_model(3, 6, parallel=True)))
    found = faithfulness(Circuit.of(model, None, whole), model, prompts(), settings=HERE)
    assert (found.connected, ends(found.values[0])) == ([len(whole)], (1, 1, 1))


def test_settings_are_obeyed_and_mistakes_told() -> None:
    """Another seed draws other sequences; a model that doesn't see what is other keeps a share of nothing."""
    (model, _), (other, _) = twins("phi"), twins("llama")
    rng = np.random.default_rng(4)
    tokens = rng.integers(VOCAB, size=(31, 5))
    text = Examples(tokens, np.ones((31, 4), bool))
    own = Circuit.of(model, None, {Edge("out", "a1.3"), Edge("a1.3/v", "emb")})
    first, second = (faithfulness(own, model, text, settings=replace(HERE, seed=seed)) for seed in (0, 1))
    np.testing.assert_allclose(first.sums[0], second.sums[0], rtol=0, atol=TIGHT)
    assert np.abs(first.sums[1] - second.sums[1]).max() > 0.01
    assert not np.array_equal(first.whole, second.whole)
    alike = Examples(tokens, text.scored, other=tokens)
    (warned,) = faithfulness(own, model, alike, settings=HERE).warnings
    assert "the model and the empty circuit give the same loss" in warned
    with pytest.raises(ScrubError, match="take the circuit of this model"):
        faithfulness(own, other, text, settings=HERE)
    with pytest.raises(ScrubError, match=f"ids are 0 to {VOCAB - 1}"):
        faithfulness(own, model, Examples(tokens + VOCAB, text.scored), settings=HERE)


def test_a_difference_that_may_be_none_is_told() -> None:
    """The interval of what the model does better than the empty circuit decides, and that it is more than rounding."""
    found, expected = measured("llama")

    def warned(gap: np.ndarray) -> bool:
        sums = np.stack([gap, 0 * gap, *expected[2:]])
        few, *others = replace(found, sums=sums).warnings
        assert "of fewer than 16" in few
        return bool(others)

    assert not warned(np.array([1.0, 1.1, 0.9, 1.05, 0.95]))
    assert warned(np.array([1.0, -1.1, 0.9, -1.05, 0.95]))
    assert warned(np.array([1.0, 1.1, 0.9, 1.05, 0.95]) * 1e-5)
