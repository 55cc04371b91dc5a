"""Direct logit attribution: a difference of logits as the sum of what every component adds to it.

The final residual stream is a sum of what components write, and the final norm is linear but for its scale. With the
scale as it is in the unchanged run, each term goes through norm and unembedding by itself, and the terms add up to the
model's own logits (Elhage et al. 2021, A Mathematical Framework for Transformer Circuits; Nanda et al. 2022,
TransformerLens). Where a norm stands behind a layer, what its heads or MLP write goes through that one first, with its
scale too. A cap on the logits is no sum: where there is one, it is the logits before the cap that are attributed. It
says what is written towards the answer, and nothing of what depends on it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import pandas as pd
import torch
from einops import einsum
from jaxtyping import Float, Int
from torch import Tensor

from scrub.data.choices import ANSWERS, EITHER
from scrub.data.examples import Examples
from scrub.data.for_model import check_on, examples_of
from scrub.graph.node import Node
from scrub.graph.stream import Term, value_of
from scrub.measure.heads.reading import SCALE, Anatomy, Z, scales_of
from scrub.models.model import Model, Spec, as_model
from scrub.paths.splits import attention_heads
from scrub.study.binding import summed
from scrub.study.gates import TOLERANCE_NATS
from scrub.study.read import read
from scrub.study.settings import Settings, obeyed
from scrub.study.statistics import Bootstrap
from scrub.text.errors import GateError
from scrub.text.fields import check_arguments
from scrub.text.frames import interval_columns
from scrub.text.looks import TabularResult
from scrub.text.numbers import Interval

REST = "positions and biases"  # what no component adds: position embeddings, and the biases of the wires
LOGITS, _WRITTEN = "logits", "written "  # what is read of the run: all logits, and what each component but heads writes


@dataclass(frozen=True, repr=False)
class DirectAttribution(TabularResult):
    """What each component adds directly to a difference of logits, or to the answer's logit, in logits.

    `direct_attribution(model, pairs).frame()`. `sums` are over the scored positions of each example, a row for each of
    `names`: emb, every head and MLP, and REST. They add up to `total`, the model's own, before its `cap` on logits if
    it has one. Intervals are 95 % bootstraps over rows, or over templates; one prompt has none: its ends are the
    estimate.
    """

    model: Model
    examples: Examples
    names: Sequence[str]
    sums: Float[np.ndarray, "component example"]
    total: Float[np.ndarray, " example"]
    of: str  # logit_diff, or logit
    deviation: float  # of the sum of all from the total, the largest of any example, in logits
    seed: int = 0
    cap: float | None = None  # on the model's logits, in logits

    @property
    def notes(self) -> tuple[str, ...]:
        """What is to be known of the numbers: that logits are taken before a cap on them."""
        if self.cap is None:
            return ()
        return (f"{self.model.name} caps its logits at {self.cap:g}: what is attributed are the logits before that",)

    @cached_property
    def _bootstrap(self) -> Bootstrap:
        return Bootstrap(self.examples.counts, self.seed, self.examples.documents)

    @property
    def whole(self) -> Interval:
        """The model's own difference of logits, or logit."""
        return self._bootstrap.interval(self._bootstrap.means(self.total[None])[0])

    def contributions(self) -> dict[str, Interval]:
        """Estimate what each component adds, in the order of `names`."""
        means = self._bootstrap.means(self.sums)
        return {name: self._bootstrap.interval(each) for name, each in zip(self.names, means, strict=True)}

    def frame(self) -> pd.DataFrame:
        """List each component with what it adds and the ends of the interval, and its percent of the whole."""
        found = self.contributions()
        whole = self.whole.estimate
        share = [100 * each.estimate / whole if whole else np.nan for each in found.values()]
        return pd.DataFrame(
            {"component": list(found), **interval_columns("contribution", found.values()), "percent of all": share}
        )


@check_arguments
def direct_attribution(model: Spec, on: Examples | Any, settings: Settings | None = None) -> DirectAttribution:
    """Attribute the difference of logits of right and wrong answers to every component, directly.

    `direct_attribution(model, pairs).frame()`. Without wrong answers it is the answer's logit, or the next token's at
    scored positions of text. Each term goes through the final norm with the scale of the unchanged run, its gain and
    the unembedding; before that through the norm behind its layer, where there is one. Logits are those before a cap on
    them.
    Raises ScrubError for what the model can't read, and GateError if the terms don't add up to the model's logits.
    """
    asked = obeyed(settings, "direct_attribution")
    model = as_model(model, asked.torch_dtype).to(asked.torch_dtype, asked.where)
    examples = examples_of(on)
    check_on(examples, model)
    of = ANSWERS if examples.wrong is None else EITHER
    reader = _Reader.of(model, examples, of)
    parts, totals, start = [], [], 0
    for query, values in read(model, reader.outputs, examples.tokens, examples.scored):
        here = slice(start, start + len(query))
        start += len(query)
        terms, whole = reader.terms(here, query, values)
        real = torch.from_numpy(np.arange(query.shape[1])[None] < examples.counts[here][:, None])
        parts.append(summed(terms, real).cpu().numpy())
        totals.append(summed(whole, real).cpu().numpy())
    sums, total = np.concatenate(parts, axis=1), np.concatenate(totals)
    counts = np.maximum(examples.counts, 1)
    deviation = float(np.max(np.abs(sums.sum(0) - total) / counts, initial=0.0))
    size = max(1.0, float(np.max(np.abs(sums) / counts, initial=0.0)))  # of what is added up, which float32 rounds
    if not deviation <= TOLERANCE_NATS[asked.dtype] * size:
        raise GateError(
            f"what the components of {model.name} add to the logits is {deviation:.2g} from the model's own, where "
            f"{TOLERANCE_NATS[asked.dtype] * size:.0e} is allowed: no number of this can be trusted"
        )
    called = "logit" if of == ANSWERS else "logit_diff"
    return DirectAttribution(
        model, examples, reader.names, sums, total, called, deviation, asked.seed, reader.anatomy.cap
    )


@dataclass(frozen=True)
class _Reader:
    """What turns values of a run into contributions."""

    model: Model
    anatomy: Anatomy
    components: dict[str, Term]  # what isn't attention
    tokens: Int[np.ndarray, "example position some"]
    weights: Float[np.ndarray, "example position some"]

    @classmethod
    def of(cls, model: Model, examples: Examples, of: str) -> _Reader:
        anatomy = Anatomy.of(model.graph)
        plain = {t.node.label: t for t in anatomy.terms if t.node.label is not None and t.node not in anatomy.layers}
        return cls(model, anatomy, plain, *examples.choices(of, "a difference of logits"))

    @property
    def names(self) -> list[str]:
        """The components as they are written, and what belongs to none."""
        heads = attention_heads(self.model.graph)
        found = [["emb"]]
        for layer in range(len(heads)):
            found += [[f"a{layer}.{head}" for head in heads[layer]], [f"m{layer}"]]
        named = [name for some in found for name in some if name.startswith("a") or name in self.components]
        return [*named, REST]

    @cached_property
    def written(self) -> list[Float[Tensor, "head d_model d_head"]]:
        """W_O of every layer, through the norms up to the unembedding."""
        return self.anatomy.weights(self.model)

    @property
    def outputs(self) -> dict[str, Node]:
        """What a plan has to compute."""
        written = {f"{_WRITTEN}{label}": term.node for label, term in self.components.items()}
        return self.anatomy.outputs(frozenset({Z, SCALE})) | written | {LOGITS: self.anatomy.uncapped}

    def terms(
        self, here: slice, query: Int[Tensor, "batch row"], values: dict[str, Tensor]
    ) -> tuple[Float[Tensor, "component batch row"], Float[Tensor, "batch row"]]:
        """Compute what each component adds at the rows of a batch, in the order of `names`, and the model's own."""
        device = query.device
        tokens, weights = (torch.from_numpy(each[here]).to(device) for each in (self.tokens, self.weights))
        at = query[..., None].expand(-1, -1, tokens.shape[-1])
        tokens, weights = tokens.gather(1, at), weights.gather(1, at).to(self.model.dtype)
        table, scales = self.anatomy.table(self.model), scales_of(values)
        wanted = einsum(table[tokens], weights, "batch row some width, batch row some -> batch row width")

        def added(term: Term, written: Tensor) -> Float[Tensor, "batch row"]:
            return (term.through(written, self.model.params) * wanted * term.scale(scales, written)).sum(-1)

        found: dict[str, Tensor] = {}
        for layer, run in enumerate(self.anatomy.runs(values, self.written)):
            by_head = run.scaled((values[f"{Z} {layer}"] * run.along(wanted)).sum(-1))
            found |= {f"a{layer}.{head}": by_head[:, head] for head in range(by_head.shape[1])}
        for label, term in self.components.items():
            found[label] = added(term, values[f"{_WRITTEN}{label}"])
        found[REST] = (self._bias(tokens) * weights).sum(-1)
        for term in self.anatomy.terms:
            if term.node.label is None:
                found[REST] = found[REST] + added(term, self._constant(term.node, query))
        total = (values[LOGITS].gather(-1, tokens) * weights).sum(-1)
        return torch.stack([found[name].double() for name in self.names]), total.double()

    def _bias(self, tokens: Int[Tensor, "batch row some"]) -> Float[Tensor, "batch row some"]:
        """Look up the bias of the unembedding, if it has one."""
        logits = self.anatomy.uncapped
        if logits is self.anatomy.unembedding:
            return torch.zeros_like(tokens, dtype=self.model.dtype)
        return value_of(logits.inputs[1], self.model.params)[tokens]

    def _constant(self, term: Node, query: Int[Tensor, "batch row"]) -> Float[Tensor, "batch row d_model"]:
        """Look up a bias, or the embedding of positions."""
        params = self.model.params
        if term.op == "param":
            return value_of(term, params).expand(*query.shape, -1)
        return value_of(term.inputs[1], params)[query]
