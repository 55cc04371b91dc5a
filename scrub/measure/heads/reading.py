"""Read scores from one run of the unchanged model: what each head attends to, and what it writes.

A score is read row by row, a row being one query of one sequence, and layer by layer. Whatever a head writes is its own
term of the residual stream, z W_O: the biases of attention's output belong to no head.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch
from einops import einsum
from jaxtyping import Bool, Float, Int
from torch import Tensor

from scrub.graph.node import Node, node, walk
from scrub.graph.ops import centre
from scrub.measure.heads.attention import pattern_nodes
from scrub.measure.heads.definitions import lag_of, place_of
from scrub.models.model import Model
from scrub.text.errors import ScrubError

PATTERN, Z, SCALE, PREDICTION = "pattern", "z", "scale", "prediction"  # what a score may need of a run


@dataclass(frozen=True)
class LayerRun:
    """Run of a layer at the rows of a batch, as far as it is needed, and its W_O."""

    pattern: Float[Tensor, "batch head row key"] | None
    z: Float[Tensor, "batch head row d_head"] | None
    weight: Float[Tensor, "head d_model d_head"]

    def along(self, directions: Float[Tensor, "batch some d_model"]) -> Float[Tensor, "batch head some d_head"]:
        """Map directions of the residual stream to those of each head's z: z times these is z W_O times those."""
        return einsum(directions, self.weight, "batch some d_model, head d_model d_head -> batch head some d_head")


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
    ending: Ending
    scale: Float[Tensor, "batch row 1"] | None  # what the final LayerNorm multiplies by
    prediction: Float[Tensor, "batch row d_model"] | None  # the mean of the unembedding under the predicted tokens

    @property
    def token(self) -> Int[Tensor, "batch row"]:
        """The query's token."""
        return self.inputs.gather(1, self.query)

    @property
    def key(self) -> Int[Tensor, " key"]:
        """The positions of the keys."""
        return torch.arange(self.inputs.shape[1], device=self.inputs.device)


@dataclass(frozen=True)
class Ending:
    """A model's final LayerNorm and unembedding."""

    table: Float[Tensor, "vocab d_model"]
    gain: Float[Tensor, " d_model"]

    def before(self, directions: Float[Tensor, "batch some d_model"]) -> Float[Tensor, "batch some d_model"]:
        """Map directions behind the LayerNorm to directions in front of it, its division left out.

        LayerNorm subtracts the mean, divides and multiplies by the gain, all of which are symmetric.
        """
        return centre(directions * self.gain)


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
    table = rows.ending.table
    raised = (table[rows.inputs] - table.mean(0)) * (len(table) / (len(table) - 1))
    directions = rows.ending.before(raised)  # [batch, key, d_model]

    def read(layer: LayerRun) -> Float[Tensor, "batch head row"]:
        assert layer.z is not None
        assert layer.pattern is not None
        assert rows.scale is not None
        logits = layer.z @ layer.along(directions).transpose(-1, -2)  # of each row, for the token of each key
        return (layer.pattern * logits).sum(-1) * rows.scale[:, None, :, 0]

    return torch.ones_like(rows.query, dtype=torch.bool), read


def direct_effect(rows: Rows) -> tuple[Counted, Reader]:
    """Read the direct logit attribution along the gradient of log P(target), one-hot less probabilities."""
    assert rows.prediction is not None
    assert rows.scale is not None
    directions = rows.ending.before(rows.ending.table[rows.following] - rows.prediction) * rows.scale

    def read(layer: LayerRun) -> Float[Tensor, "batch head row"]:
        assert layer.z is not None
        return (layer.z * layer.along(directions)).sum(-1)

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
    unembedding: Node  # unembed(layer_norm(stream, gain, bias), table)
    logits: Node

    @classmethod
    def of(cls, graph: Node) -> Anatomy:
        """Find those of a model. Raises ScrubError unless its last norm is a LayerNorm."""
        nodes = list(walk([graph]))
        (unembedding,) = (n for n in nodes if n.op == "unembed")
        if (last := unembedding.inputs[0].op) != "layer_norm":
            raise ScrubError(
                f"scores of heads are read through a LayerNorm in front of the unembedding, but there the model has "
                f"{last!r}: take a model that has one"
            )
        return cls(tuple(n for n in nodes if n.op == "output"), unembedding, graph)

    @property
    def streams(self) -> tuple[Node, ...]:
        """The residual stream in front of each layer, as its values read it before their LayerNorm, and the final one.

        Raises ScrubError unless layers read it through a LayerNorm.
        """
        found = []
        for layer in self.layers:
            read = layer.inputs[0].inputs[1].inputs[0]  # what the projection to v reads
            if read.op != "layer_norm":
                raise ScrubError(
                    f"a layer of the model reads the residual stream through {read.op!r}, and no LayerNorm"
                )
            found.append(read.inputs[0])
        return (*found, self.unembedding.inputs[0].inputs[0])

    def terms(self) -> tuple[dict[str, Node], list[Node]]:
        """List what the final residual stream is the sum of: the components by label, and what belongs to none."""
        components: dict[str, Node] = {}
        rest: list[Node] = []
        stack = [self.streams[-1]]
        while stack:
            term = stack.pop()
            if term.label is not None:
                components[term.label] = term
            elif term.op in {"add", "add_bias"}:
                stack += term.inputs
            else:
                rest.append(term)
        return components, rest

    def lens(self, stream: Node) -> Node:
        """Make the logits that a residual stream would give: through the final LayerNorm, the unembedding, its bias."""
        normed, table = self.unembedding.inputs
        through = node("unembed", normed.with_inputs((stream, *normed.inputs[1:])), table)
        if self.logits.op == "add_bias":
            return self.logits.with_inputs((through, *self.logits.inputs[1:])).labelled(None)
        return through

    def outputs(self, needs: frozenset[str]) -> dict[str, Node]:
        """Name what a plan has to compute: `pattern L` and `z L` of every layer, scale, prediction."""
        outputs: dict[str, Node] = {}
        for at, (layer, pattern) in enumerate(zip(self.layers, pattern_nodes(self.logits), strict=True)):
            outputs |= {f"{PATTERN} {at}": pattern} if PATTERN in needs else {}
            outputs |= {f"{Z} {at}": layer.inputs[0]} if Z in needs else {}
        normed, table = self.unembedding.inputs
        if SCALE in needs:
            outputs[SCALE] = node("inverse_deviation", normed.inputs[0], eps=normed.arguments["eps"])
        if PREDICTION in needs:
            outputs[PREDICTION] = node("mean_embedding", node("probabilities", self.logits), table)
        return outputs

    def weights(self, model: Model) -> list[Float[Tensor, "head d_model d_head"]]:
        """Look up W_O of every layer."""
        return [model.params[str(layer.inputs[1].arguments["name"])] for layer in self.layers]

    def ending(self, model: Model) -> Ending:
        """Look up the final LayerNorm and unembedding."""
        normed, table = self.unembedding.inputs
        gain = normed.inputs[1]
        return Ending(*(model.params[str(leaf.arguments["name"])] for leaf in (table, gain)))
