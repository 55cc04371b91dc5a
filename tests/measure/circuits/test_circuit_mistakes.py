"""Mistakes in scores and in sets of edges that the gates must see, and what is said of numbers that mean little."""

from __future__ import annotations

import pickle
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from circuited import unequal_pairs
from jaxtyping import Float
from small import small_decoder
from torch import Tensor

from scrub.data.examples import Examples
from scrub.measure.circuits.attribution import attribute
from scrub.measure.circuits.circuit import Circuit
from scrub.measure.circuits.faithfulness import faithfulness
from scrub.measure.circuits.first_order import FirstOrder, _dot
from scrub.paths.edges import Edge, anywhere, by_head, drop, edges_of
from scrub.study import experiments
from scrub.study.metric import LOSS, METRICS, Metric
from scrub.study.settings import Settings
from scrub.text.errors import GateError, ScrubError

HERE = Settings(dtype="float64", progress=False)


def text(rows: int = 5) -> Examples:
    tokens, other = np.random.default_rng(0).integers(0, 13, (2, rows, 8))
    scored = np.broadcast_to(np.arange(7) > 2, (rows, 7))
    return Examples(tokens, scored, other=other)


written, inward = FirstOrder._written, FirstOrder._inward
IN_SCORES: dict[str, tuple[str, str, Callable[..., Any]]] = {
    "a post-norm is left out": ("gemma2", "_written", lambda self, part, _, *more: written(self, part, None, *more)),
    "signs are turned": ("llama", "_written", lambda *given: -written(*given)),
    "heads are reversed": ("llama", "_inward", lambda *given: inward(*given).flip(0)),
    "a norm is a wire": ("llama", "_by_gradient", lambda _, __, ___, changes, back: _dot(changes, back)),
}


@pytest.mark.parametrize("mistake", IN_SCORES)
def test_wrong_scores_are_no_scores(mistake: str, monkeypatch: pytest.MonkeyPatch) -> None:
    kind, method, wrong = IN_SCORES[mistake]
    monkeypatch.setattr(FirstOrder, method, wrong)
    with pytest.raises(GateError, match=r"with y near x, scores of 'loss' are"):
        attribute(model=small_decoder(kind), data=text(), metric="loss", settings=HERE, top=1)


def turned(reader: str) -> str:
    return reader.translate(str.maketrans("qkv", "kvq"))


IN_KEEPING: dict[str, Callable[..., Any]] = {
    "nothing is dropped": lambda root, _: root,
    "slots are mixed up": lambda root, kept: drop(root, lambda reader, sender: (turned(reader), sender) not in kept),
    "the output reads all": lambda root, kept: drop(
        root, lambda reader, sender: reader != "out" and (reader, sender) not in kept
    ),
    "a sender is forgotten": lambda root, kept: drop(
        root, lambda reader, sender: sender == "m0" or (reader, sender) not in kept, anywhere
    ),
}


@pytest.mark.parametrize("mistake", IN_KEEPING)
def test_another_set_of_edges_is_none(mistake: str, monkeypatch: pytest.MonkeyPatch) -> None:
    model = small_decoder("llama")
    edges = edges_of(by_head(model.graph).graph)
    kept = {edge for at, edge in enumerate(edges) if at % 3 or edge.sender in {"emb", "m0"}}
    circuit = Circuit.of(model, None, kept)
    assert faithfulness(circuit, model, text(), settings=HERE).values
    monkeypatch.setattr(experiments, "keep", IN_KEEPING[mistake])
    with pytest.raises(GateError, match="fed by x, unlike the set of edges says"):
        faithfulness(circuit, model, text(), settings=HERE)


def nll(logits: Float[Tensor, "row vocab"], targets: Float[Tensor, " row"]) -> Float[Tensor, " row"]:
    return -logits.log_softmax(-1).gather(1, targets[:, None])[:, 0]


def test_what_is_better_of_a_metric_of_ones_own() -> None:
    """Its scores are the loss's if it says that less is better, and else turned, which is told."""
    model, examples = small_decoder("llama"), text()
    of = {"model": model, "data": examples, "settings": HERE, "top": 1}
    loss = attribute(**of, metric="loss")
    said = attribute(**of, metric=Metric.of(nll, less_is_better=True))
    unsaid = attribute(**of, metric=nll)
    np.testing.assert_allclose(said.sums, loss.sums, atol=1e-12)
    np.testing.assert_allclose(unsaid.sums, -loss.sums, atol=1e-12)
    assert [("taken to be better" in " ".join(each.notes)) for each in (loss, said, unsaid)] == [False, False, True]
    assert Metric.of(nll) != Metric.of(nll, less_is_better=True)


def test_scores_of_nothing_and_of_few_rows_are_told() -> None:
    model = small_decoder("llama")
    same = text(17)
    same = Examples(same.tokens, same.scored, other=same.tokens)
    nothing = attribute(model=model, data=same, metric="loss", settings=HERE, top=1)
    assert [("every score is 0" in text) for text in nothing.warnings] == [True]
    (few,) = attribute(model=model, data=text(), metric="loss", settings=HERE, top=1).warnings
    assert "of fewer than 16 no interval is known to hold" in few
    found = faithfulness(Circuit.of(model, None, {Edge("out", "emb")}), model, same, settings=HERE)
    assert np.isnan(found.values[0].estimate)
    assert "nothing to keep a share of" in found.warnings[-1]


def test_prompts_as_wholes_have_no_first_order() -> None:
    whole = Metric.of(nll, name="whole", of_all=True)
    examples = unequal_pairs(5, 7, 13)
    assert attribute(model=small_decoder("llama"), data=examples, metric=whole, settings=HERE, top=1).edges
    several = examples.scored.copy()
    several[:, 1] = True
    with pytest.raises(ScrubError, match="counts a prompt as a whole"):
        attribute(
            model=small_decoder("llama"), metric=whole, settings=HERE, top=1,
            data=Examples(examples.tokens, several, examples.kind, other=examples.other, lengths=examples.lengths),
        )  # fmt: skip


@pytest.mark.parametrize("kind", ["neox", "gptneo"])
def test_layers_of_one_head(kind: str) -> None:
    model = small_decoder(kind, n_heads=1, n_kv_heads=1)
    found = attribute(model=model, data=text(), metric="loss", settings=HERE, check_all=True)
    assert len(found.edges) == len(edges_of(by_head(model.graph).graph))
    assert found.rank_correlation["all"].estimate > 0.3


@pytest.mark.parametrize("metric", METRICS.values(), ids=METRICS)
def test_metrics_are_pickled_by_name(metric: Metric) -> None:
    assert pickle.loads(pickle.dumps(metric)) is metric
    assert LOSS.less_is_better
