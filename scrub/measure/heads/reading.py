"""Read scores from one run of the unchanged model: what each head attends to, and what it writes.

A score is read row by row, a row being one query of one sequence, and layer by layer. Whatever a head writes is its own
term of the residual stream, z W_O: the biases of attention's output belong to no head.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

import torch
from einops import einsum
from jaxtyping import Bool, Float, Int
from torch import Tensor

from scrub.graph.node import Node, node, walk
from scrub.graph.stream import Term, norm_of, streams_of, terms_of, unembedding_of, value_of
from scrub.measure.heads.attention import pattern_nodes
from scrub.measure.heads.definitions import lag_of, place_of
from scrub.models.model import Model

PATTERN, Z, SCALE, PREDICTION = "pattern", "z", "scale", "prediction"  # what a score may need of a run
SLOPE = "slope"  # and what comes with the prediction where logits are capped


@dataclass(frozen=True)
class LayerRun:
    """Run of a layer at the rows of a batch, as far as it is needed.

    `weight` is its W_O, through the norms between it and the unembedding (one behind the layer, where there is one, and
    the final one), but for what those multiply by at each row, which is `scale`.
    """

    pattern: Float[Tensor, "batch head row key"] | None
    z: Float[Tensor, "batch head row d_head"] | None
    weight: Float[Tensor, "head d_model d_head"]
    scale: Float[Tensor, "#batch #row 1"] | None

    def along(self, directions: Float[Tensor, "batch some d_model"]) -> Float[Tensor, "batch head some d_head"]:
        """Map directions that the unembedding reads to those of each head's z, `scale` left out."""
        return einsum(directions, self.weight, "batch some d_model, head d_model d_head -> batch head some d_head")

    def scaled(self, by_head: Float[Tensor, "batch head row"]) -> Float[Tensor, "batch head row"]:
        """Multiply by what the norms multiply by."""
        assert self.scale is not None
        return by_head * self.scale[:, None, :, 0]


@dataclass(frozen=True)
class Rows:
    """The rows of a batch, and what is known of the run there.

    `query` is the position of each row, `following` the token to predict there, `target` the earlier position of that
    (NOWHERE where there is none). Rows may be padded: whoever reads them knows which are real.
    """

    inputs: Int[Tensor, "batch key"]
    query: Int[Tensor, "batch row"]
    following: Int[Tensor, "batch row"]
    target: Int[Tensor, "batch row"]
    places: Mapping[str, Int[Tensor, " batch"]]  # the positions that prompts give names
    table: Float[Tensor, "vocab d_model"]  # the unembedding
    prediction: Float[Tensor, "batch row d_model"] | None  # the mean of the unembedding under the predicted tokens
    slope: Float[Tensor, "batch row 1"] | None = None  # of the cap, if there is one, on that token's logit

    @property
    def token(self) -> Int[Tensor, "batch row"]:
        """The query's token."""
        return self.inputs.gather(1, self.query)

    @property
    def key(self) -> Int[Tensor, " key"]:
        """The positions of the keys."""
        return torch.arange(self.inputs.shape[1], device=self.inputs.device)


Counted = Bool[Tensor, "batch row"]  # the rows that a score counts
Reader = Callable[[LayerRun], Float[Tensor, "batch head row"]]


@dataclass(frozen=True)
class Reading:
    """Recipe for a score: what it needs of a run, and of a batch's rows those that count and a reader of layers."""

    needs: frozenset[str]
    prepare: Callable[[Rows], tuple[Counted, Reader]]


def attention_to(keys: Callable[[Rows], Bool[Tensor, "batch row key"]]) -> Reading:
    """Read the attention to some keys of each row; rows that have none don't count."""

    def prepare(rows: Rows) -> tuple[Counted, Reader]:
        wanted = keys(rows)

        def read(layer: LayerRun) -> Float[Tensor, "batch head row"]:
            assert layer.pattern is not None
            return einsum(
                layer.pattern, wanted.to(layer.pattern), "batch head row key, batch row key -> batch head row"
            )

        return wanted.any(-1), read

    return Reading(frozenset({PATTERN}), prepare)


def same_token(rows: Rows) -> Bool[Tensor, "batch row key"]:
    """Mark the copies of the query's token so far, its own position included."""
    return (rows.inputs[:, None] == rows.token[..., None]) & (rows.key <= rows.query[..., None])


def prefix_matching(rows: Rows) -> Bool[Tensor, "batch row key"]:
    """Mark the positions after the earlier copies of the query's token."""
    before = rows.inputs.roll(1, 1)[:, None]  # the token before each key; there is none before key 0
    return (before == rows.token[..., None]) & (rows.key > 0) & (rows.key <= rows.query[..., None])


def lag(count: int) -> Callable[[Rows], Bool[Tensor, "batch row key"]]:
    """Mark the position so many before the query."""
    return lambda rows: rows.key == rows.query[..., None] - count


def first_position(rows: Rows) -> Bool[Tensor, "batch row key"]:
    """Mark position 0, from later ones."""
    return (rows.key == 0) & (rows.query[..., None] > 0)


def target(rows: Rows) -> Bool[Tensor, "batch row key"]:
    """Mark the position behind the first occurrence; NOWHERE is no key."""
    return rows.key == rows.target[..., None]


def named(name: str) -> Callable[[Rows], Bool[Tensor, "batch row key"]]:
    """Mark the position of a name, where it isn't behind the query."""
    return lambda rows: (rows.key == rows.places[name][:, None, None]) & (rows.key <= rows.query[..., None])


def copying(rows: Rows) -> tuple[Counted, Reader]:
    """Read what the head's own output adds to the logit of the attended token above all others: see DEFINITIONS.

    The mean over others is left over from the mean over all V tokens: l - (V m - l) / (V - 1) = (l - m) V / (V - 1).
    """
    table = rows.table
    raised = (table[rows.inputs] - table.mean(0)) * (len(table) / (len(table) - 1))  # [batch, key, d_model]

    def read(layer: LayerRun) -> Float[Tensor, "batch head row"]:
        assert layer.z is not None
        assert layer.pattern is not None
        logits = layer.z @ layer.along(raised).transpose(-1, -2)  # of each row, for the token of each key
        return layer.scaled((layer.pattern * logits).sum(-1))

    return torch.ones_like(rows.query, dtype=torch.bool), read


def direct_effect(rows: Rows) -> tuple[Counted, Reader]:
    """Read the direct logit attribution along the gradient of log P(target), one-hot less probabilities.

    Each times the slope of the cap on that logit, where logits are capped.
    """
    assert rows.prediction is not None
    target = rows.table[rows.following]
    directions = (target if rows.slope is None else target * rows.slope) - rows.prediction

    def read(layer: LayerRun) -> Float[Tensor, "batch head row"]:
        assert layer.z is not None
        return layer.scaled((layer.z * layer.along(directions)).sum(-1))

    return torch.ones_like(rows.query, dtype=torch.bool), read


READINGS: Mapping[str, Reading] = {
    "prefix matching": attention_to(prefix_matching),
    "copying": Reading(frozenset({PATTERN, Z, SCALE}), copying),
    "previous token": attention_to(lag(1)),
    "current token": attention_to(lag(0)),
    "same token": attention_to(same_token),
    "first position": attention_to(first_position),
    "attention to target": attention_to(target),
    "direct effect": Reading(frozenset({Z, SCALE, PREDICTION}), direct_effect),
}


def reading(name: str) -> Reading:
    """Look up how the score of that name is read."""
    count, place = lag_of(name), place_of(name)
    if place is not None:
        return attention_to(named(place))
    return READINGS[name] if count is None else attention_to(lag(count))


@dataclass(frozen=True)
class Anatomy:
    """The nodes of an unsplit model's graph that scores are read from."""

    layers: tuple[Node, ...]  # output(attend(pattern, v), weight) of every layer, in order
    unembedding: Node  # unembed(read, table), where read is the final residual stream, through a norm or not
    logits: Node

    @classmethod
    def of(cls, graph: Node) -> Anatomy:
        """Find those of a model."""
        return cls(tuple(n for n in walk([graph]) if n.op == "output"), unembedding_of(graph), graph)

    @property
    def streams(self) -> tuple[Node, ...]:
        """The residual stream in front of each layer, before any norm, and the final one."""
        return streams_of(self.logits)

    @cached_property
    def terms(self) -> tuple[Term, ...]:
        """What adds up to what the unembedding reads: components, biases and the embedding of positions."""
        return tuple(terms_of(self.unembedding.inputs[0]))

    @property
    def of_layers(self) -> list[Term]:
        """The terms that are layers of heads, in order."""
        found = {term.node: term for term in self.terms}
        return [found[layer] for layer in self.layers]

    @property
    def cap(self) -> float | None:
        """Where logits are capped, None if they aren't."""
        cap = self.logits.arguments["cap"] if self.logits.op == "soft_cap" else None
        assert cap is None or isinstance(cap, float)
        return cap

    @property
    def uncapped(self) -> Node:
        """The logits before a cap: the unembedding, and its bias if it has one."""
        return self.logits if self.cap is None else self.logits.inputs[0]

    def lens(self, stream: Node) -> Node:
        """Make the logits that a residual stream would give: through the final norm, unembedding, its bias and cap."""
        behind, here = [], self.logits
        while here is not self.unembedding:
            behind.append(here)
            here = here.inputs[0]
        read, table = here.inputs
        norm, final = norm_of(read)
        assert final is self.streams[-1]
        through = node("unembed", stream if norm is None else read.with_inputs((stream, *read.inputs[1:])), table)
        for each in reversed(behind):
            through = each.with_inputs((through, *each.inputs[1:]))
        return through.labelled(None)

    def outputs(self, needs: frozenset[str]) -> dict[str, Node]:
        """Name what a plan has to compute: `pattern L` and `z L` of every layer, `scale NORM`, prediction and slope."""
        outputs: dict[str, Node] = {}
        for at, (layer, pattern) in enumerate(zip(self.layers, pattern_nodes(self.logits), strict=True)):
            outputs |= {f"{PATTERN} {at}": pattern} if PATTERN in needs else {}
            outputs |= {f"{Z} {at}": layer.inputs[0]} if Z in needs else {}
        if SCALE in needs:
            outputs |= {f"{SCALE} {norm.name}": norm.scale for term in self.terms for norm in term.norms}
        if PREDICTION in needs:
            chances = node("probabilities", self.logits)
            if self.cap is not None:
                slope = node("cap_slope", self.logits, cap=self.cap)
                chances = node("multiply", chances, slope)
                outputs[SLOPE] = node("pick", slope, node("target"))
            outputs[PREDICTION] = node("mean_embedding", chances, self.unembedding.inputs[1])
        return outputs

    def runs(self, values: Mapping[str, Tensor], weights: Sequence[Tensor]) -> list[LayerRun]:
        """Give the run of every layer, from the values of :meth:`outputs` and :meth:`weights`."""
        scales = scales_of(values)
        return [
            LayerRun(
                values.get(f"{PATTERN} {at}"),
                values.get(f"{Z} {at}"),
                weight,
                term.scale(scales, weight) if scales.keys() >= {norm.name for norm in term.norms} else None,
            )
            for at, (term, weight) in enumerate(zip(self.of_layers, weights, strict=True))
        ]

    def weights(self, model: Model) -> list[Float[Tensor, "head d_model d_head"]]:
        """Look up W_O of every layer, through the norms between it and the unembedding: see :class:`LayerRun`."""
        return [
            term.through(value_of(term.node.inputs[1], model.params).mT, model.params).mT for term in self.of_layers
        ]

    def table(self, model: Model) -> Float[Tensor, "vocab d_model"]:
        """Look up the unembedding."""
        return value_of(self.unembedding.inputs[1], model.params)


def scales_of(values: Mapping[str, Tensor]) -> dict[str, Float[Tensor, "batch row 1"]]:
    """Find what norms multiply by, by their names, in the values of :meth:`Anatomy.outputs`."""
    return {name.removeprefix(f"{SCALE} "): value for name, value in values.items() if name.startswith(f"{SCALE} ")}
