"""What the gates look at: a few late positions of two examples, or one, in any type, with whatever is poisoned.

Of the embedding only the rows of those examples' tokens are converted: a model's own parameters are copied once, to
float64, and not where it is float64 already.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence, Set
from dataclasses import replace
from functools import cached_property
from typing import Any

import numpy as np
import torch
from torch import Tensor

from scrub.graph.node import Node, node, rewrite, walk
from scrub.graph.stream import value_of
from scrub.models.model import Model
from scrub.paths.rules import held, held_by
from scrub.paths.sources import Draw, Source
from scrub.paths.sources import Held as HeldSource
from scrub.plan.leaves import leaves_of
from scrub.plan.plan import Plan, compile_plan, compile_plans
from scrub.plan.runner import Runner
from scrub.plan.together import worth_together
from scrub.study.binding import bind
from scrub.study.draws import Pairing
from scrub.study.held import stands_for
from scrub.study.settings import TF32, type_of

SOURCES_AT_ONCE = 4  # that are poisoned together, in a batch that has an example for each
CANDIDATES = 64  # examples with most scored positions, of which the first few that differ are looked at
EXAMPLES, POSITIONS, DONORS = 2, 16, 4  # that the gates look at: positions late in a sequence have most context
MORE_EXAMPLES = 8  # where in a few of them what is drawn may say the same by chance
Graphs = Mapping[Any, Node]  # by name
Held = Mapping[Node, Tensor]  # the values of leaves at which a component is held


def off_by(found: Tensor, wanted: Tensor) -> float:
    """Measure how far numbers are off at most, relative to their size where that is over 1."""
    return float((found - wanted).abs().max() / max(1.0, float(wanted.abs().max())))


def few_of(pairing: Pairing, examples: int = EXAMPLES) -> Pairing:
    """Narrow a pairing to the examples with most scored positions, of those to the last few, and to few donors of rows.

    Examples differ in what they read, or a mix-up would go unseen. Where another donor was drawn for a row, the example
    itself stands in.
    """
    scored = pairing.examples.scored
    most = np.argsort(-scored.sum(1), kind="stable")[:CANDIDATES]
    _, distinct = np.unique(pairing.examples.inputs[most], axis=0, return_index=True)
    most = most[np.sort(distinct)[:examples]]
    from_the_end = scored[:, ::-1].cumsum(1)[:, ::-1]
    late = replace(pairing.examples, scored=scored & (from_the_end <= POSITIONS))
    if late.labels is not None:  # a classifier's own loss may be nothing, whatever is wrong
        late = replace(late, labels=(late.labels + 1) % (late.labels.max(initial=0) + 1))
    partners, places = dict(pairing.partners), dict(pairing.places)
    for source, donors in partners.items():
        if donors.ndim == 2:  # every one of which would be computed in full
            drawn, count = np.unique(donors[most], return_counts=True)
            if pairing.examples.labels is not None:  # a class is read at one position, whose own rows are looked at
                count = count + donors[most].size * np.isin(drawn, donors[most][late.scored[most]])
            few = drawn[np.argsort(-count, kind="stable")[:DONORS]]
            kept = np.isin(donors, few)
            partners[source] = np.where(kept, donors, pairing.itself(source))
            if source in places:
                places[source] = np.where(kept, places[source], np.arange(kept.shape[1]))
    return replace(pairing, examples=late, partners=partners, places=places, order=most)


class Basis:
    """A model in one type, of whose embeddings only the rows of the tokens that the gates look at are there.

    One more row of them is NaN: a pool row of that token alone poisons whatever it feeds, a mask of pads too, which is
    made of tokens like an embedding. It can't be predicted.
    """

    def __init__(self, model: Model, few: Pairing, dtype: str) -> None:
        self.model, self.dtype, self._type = model, dtype, type_of(dtype)
        rows = {row for partners in few.partners.values() for row in np.unique(partners[few.order])}
        self.ids = np.unique(few.pool[sorted({*rows, *few.order.tolist()})])
        self._converted: dict[str, Tensor] = {}
        self._rows: dict[Node, Tensor] = {}

    def __str__(self) -> str:
        return self.dtype

    def runner(self, plan: Plan, positions: int, values: Held) -> Runner:
        """Make a plan ready to run in this type, with components held at values."""
        device = self.model.device
        leaves = leaves_of(plan)
        cast = {leaf: value.to(device, self._type) for leaf, value in values.items()}
        cast |= {leaf: self._few_rows(stands_for(leaf)) for leaf in leaves if leaf.op == "few_rows"}
        return Runner(plan, self._params(leaves), positions, device, cast, tf32=self.dtype == TF32)

    def _params(self, leaves: Iterable[Node]) -> Mapping[str, Tensor]:
        """Convert the parameters among some leaves, once each."""
        names = {str(leaf.arguments["name"]) for leaf in leaves if leaf.op == "param"}
        for name in names - self._converted.keys():
            self._converted[name] = self.model.params[name].to(self._type)
        return self._converted

    def _few_rows(self, of: Node) -> Tensor:
        """Convert the rows of the few tokens in a table, once each, and put one that is NaN behind them."""
        if of not in self._rows:
            table = value_of(of, self.model.params)
            rows = table[torch.from_numpy(self.ids).to(table.device)].to(self._type)
            self._rows[of] = torch.cat([rows, rows.new_full((1, *rows.shape[1:]), torch.nan)])
        return self._rows[of]


class Look:
    """Outputs of graphs at the scored positions of a few examples, by one plan for any type and any poison."""

    def __init__(self, outputs: Graphs, simplified: bool = True, plan: Plan | None = None) -> None:
        self._outputs = outputs
        # every split as written has weights of its own, once each: of 270 heads more than the model has
        self._plan = plan or compile_plan(_by_few_tokens(outputs), simplified=simplified, kept=simplified)

    @cached_property
    def _leaves(self) -> Mapping[Node, Node]:
        """What stands for a component, and what the component gives by itself."""
        return {leaf: stands_for(leaf) for leaf in held(self._outputs.values())}

    def __call__(
        self, basis: Basis, pairing: Pairing, values: Held | None = None, poisoned: HeldSource | None = None
    ) -> dict[Any, Tensor]:
        """Compute them, [position]; without `values`, held components give what they give by themselves.

        What a poisoned source holds is NaN.
        """
        seen = _seen(pairing, basis.ids)
        given = self._own(basis, seen) if values is None else {leaf: values[leaf] for leaf in self._leaves}
        given = {
            leaf: torch.full_like(value, torch.nan) if held_by(leaf) == poisoned else value
            for leaf, value in given.items()
        }
        runner = basis.runner(self._plan, pairing.examples.context, given)
        bound, real = bind(runner.leaves, seen, seen.order, runner.place.device, own=values is None)
        return {name: value[..., 0][real] for name, value in runner(bound).items()}

    def carrying(
        self, basis: Basis, pairing: Pairing, sources: Iterable[Source], values: Held
    ) -> dict[Source, Set[Any]]:
        """Find for each source the outputs that are NaN when what it feeds, or holds, is. Look at the first example."""
        first = replace(pairing, order=pairing.order[:1])
        found: dict[Source, Set[Any]] = {}
        drawn = [source for source in sources if isinstance(source, Draw)]
        # products in bfloat16 read a little of the next row, times zero, where a width is odd: NaN would come of it
        at_once = 1 if basis.dtype == "bfloat16" else SOURCES_AT_ONCE
        for start in range(0, len(drawn), at_once):
            here = drawn[start : start + at_once]
            of = {
                name: value.reshape(len(here), -1).isnan().any(1).tolist()
                for name, value in self(basis, _poisoned(first, here), values).items()
            }
            found |= {source: {name for name, nan in of.items() if nan[at]} for at, source in enumerate(here)}
        for source in sources:
            if isinstance(source, HeldSource):
                outputs = self(basis, first, values, source).items()
                found[source] = {name for name, value in outputs if bool(value.isnan().any())}
        return found

    def _own(self, basis: Basis, seen: Pairing) -> Held:
        """Compute what the components that leaves stand for give by themselves."""
        if not self._leaves:
            return {}
        outputs = _by_few_tokens({str(number): of for number, of in enumerate(self._leaves.values())})
        runner = basis.runner(compile_plan(outputs, selected=False), seen.examples.context, {})
        values = runner(bind(runner.leaves, seen, seen.order, runner.place.device)[0])
        return {leaf: values[str(number)] for number, leaf in enumerate(self._leaves)}


def looks(bound: Graphs, carried: Graphs, pairing: Pairing, dtype: str) -> tuple[Look, Look]:
    """Look at two groups of outputs of the same graphs: those that are measured, and those in which poison comes out.

    Only the first are computed as a run of the pairing computes them, from the first rows that all share: attention
    doesn't keep NaN from the rows before it.
    """
    # whose products read a little of the next row, times zero, where a width is odd: NaN would come of it
    together = 1 if dtype == "bfloat16" else worth_together(pairing.examples.context)
    groups = [(_by_few_tokens(bound), pairing.first), (_by_few_tokens(carried), 0)]
    one, other = compile_plans(groups, together=together)
    return Look(bound, plan=one), Look(carried, plan=other)


def in_the_mean(model: Node, others: Iterable[Node]) -> list[Node]:
    """Make models, parts of which stand as the mean of what some graphs of the same have in their place.

    Each graph is gone through beside the model, up to where it has something else. What one has lies below what another
    has, at times, and would be hidden by it: then it stands in a further model.
    """
    made, left = [], [found for other in dict.fromkeys(others) if (found := _instead(model, other))]
    while left:
        parts = {own for each in left for own in each}
        shown: set[Node] = set()
        stack = [model]
        while stack:
            current = stack.pop()
            if current not in shown:
                shown.add(current)
                stack.extend(() if current in parts else current.inputs)
        here = [each for each in left if each.keys() <= shown]
        # the topmost part of all is never hidden, but one graph may have it, and another part below
        here, left = here or left[:1], [each for each in left if each not in here] if here else left[1:]
        made.append(_mean_of(model, here))
    return made


def _instead(model: Node, other: Node) -> dict[Node, dict[Node, None]]:
    """Find what a graph has in place of parts of the model, along any path."""
    found: dict[Node, dict[Node, None]] = {}
    seen: set[tuple[Node, Node]] = set()
    stack = [(model, other)]
    while stack:
        own, its = stack.pop()
        if own is its or (own, its) in seen:
            continue
        seen.add((own, its))
        if (own.op, own.static, len(own.inputs)) == (its.op, its.static, len(its.inputs)):
            stack.extend(zip(own.inputs, its.inputs, strict=True))
        else:
            found.setdefault(own, {})[its] = None
    return found


def _mean_of(model: Node, each: Sequence[Mapping[Node, Mapping[Node, None]]]) -> Node:
    rebuilt: dict[Node, Node] = {}
    for current in walk([model]):
        found = list(dict.fromkeys(its for parts in each for its in parts.get(current, {})))
        here = current.with_inputs(tuple(rebuilt[i] for i in current.inputs))
        rebuilt[current] = node("scale", node("add", *found), by=1 / len(found)) if found else here
    return rebuilt[model]


def _by_few_tokens(outputs: Graphs) -> Graphs:
    """Make graphs embed by the rows of a few tokens; a tied unembedding stays, or NaN would enter every softmax."""

    def build(current: Node) -> Node:
        if current.op != "embed" or current.inputs[0].op != "tokens":
            return current
        tokens, table = current.inputs
        return current.with_inputs((tokens, node("few_rows", of=table)))

    rebuilt = rewrite(
        [graph.value for graph in outputs.values()], build
    )  # without labels, which tell equal values apart
    return {name: rebuilt[graph.value] for name, graph in outputs.items()}


def _seen(pairing: Pairing, ids: np.ndarray) -> Pairing:
    """Renumber a pairing's tokens as rows of a few, and put a row that is NaN behind the pool."""
    numbers = np.searchsorted(ids, np.clip(pairing.pool, ids[0], ids[-1]))
    lengths = None if pairing.lengths is None else np.append(pairing.lengths, pairing.examples.context)
    pool = np.concatenate([numbers, np.full_like(numbers[:1], len(ids))])
    return replace(pairing, pool=pool, lengths=lengths, ids=ids)


def _poisoned(pairing: Pairing, sources: Sequence[Draw]) -> Pairing:
    """Repeat a pairing's one example for each source, whose every sequence there is the row behind the pool."""
    rows = np.repeat(pairing.order, len(sources))
    partners = {source: donors[rows] for source, donors in pairing.partners.items()}
    for at, source in enumerate(sources):
        partners[source][at] = len(pairing.pool)
    places = {source: at[rows] for source, at in pairing.places.items()}
    some, order = pairing.examples.some(rows), np.arange(len(rows))
    return replace(pairing, examples=some, partners=partners, places=places, order=order)
