"""Compiling graphs into a plan, printing it, and running it."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial

from torch import Tensor

from scrub.graph.node import Node, walk
from scrub.graph.ops import OPS, Op
from scrub.plan.estimates import as_leaves
from scrub.plan.first import fed_by_x, share_first
from scrub.plan.fuse import fuse_attention
from scrub.plan.grouped import group_queries
from scrub.plan.heads import merge_heads, part_layers, share_heads
from scrub.plan.lowrank import share_maps
from scrub.plan.order import in_order
from scrub.plan.rows import fill, select_rows
from scrub.plan.simplify import LOGITS, simplify
from scrub.plan.sums import add_together
from scrub.plan.together import multiply_together
from scrub.text.collecting import uncollected

Pass = Callable[[Sequence[Node]], dict[Node, Node]]
Way = Callable[[Op], Callable[..., Tensor]]  # of computing operations, which a place chooses
PER_RUN = frozenset({"param", "position", "held", "few_rows", "unit", "directions"})  # the same in every batch


@dataclass(frozen=True)
class Step:
    """One value: where it is put, what it is, where its inputs are, and what it is the last to use."""

    node: Node
    inputs: tuple[int, ...]
    frees: tuple[int, ...]
    per_run: bool  # computed once a run, not once a batch


@dataclass(frozen=True)
class Plan:
    """Every distinct value that the outputs need, inputs first. Printing it shows what runs."""

    steps: tuple[Step, ...]
    outputs: Mapping[str, int]
    labels: Mapping[int, str]

    def __str__(self) -> str:
        return "\n".join(self.lines())

    def lines(self) -> list[str]:
        """Write one line a step: number, operation, arguments, the steps of paths it stands for, what is freed."""
        names: dict[int, list[str]] = {}
        for name, at in self.outputs.items():
            names.setdefault(at, []).append(name)
        lines = []
        for at, step in enumerate(self.steps):
            static = [f"{key}={value}" for key, value in step.node.static]
            call = f"%{at} = {step.node.op}({', '.join([*(f'%{i}' for i in step.inputs), *static])})"
            notes = [self.labels.get(at, ""), "once a run" if step.per_run else ""]
            notes += [f"output {', '.join(names[at])}" if at in names else ""]
            notes += ["frees " + " ".join(f"%{i}" for i in step.frees) if step.frees else ""]
            lines.append(f"{call:<60} # {'; '.join(n for n in notes if n)}".rstrip(" #"))
        return lines

    def once(self, leaves: Mapping[Node, Tensor], way: Way = Op.function) -> dict[int, Tensor]:
        """Compute the values that are the same in every batch."""
        kept: dict[int, Tensor] = {}
        for at, step in enumerate(self.steps):
            if step.per_run:
                kept[at] = compute(step, kept, leaves, way)
        return kept

    def run(
        self, once: Mapping[int, Tensor], leaves: Mapping[Node, Tensor], way: Way = Op.function
    ) -> dict[str, Tensor]:
        """Compute the outputs for one batch.

        `once` is what :meth:`once` gave; `leaves` binds the other leaves: tokens [batch, position] of each
        source, donor, selected, rows, target; `way` gives the function that computes an operation. The values that
        aren't needed any more are freed on the way.
        """
        values = dict(once)
        for at, step in enumerate(self.steps):
            if not step.per_run:
                values[at] = compute(step, values, leaves, way)
                for each in step.frees:
                    del values[each]
        return {name: values[at] for name, at in self.outputs.items()}


def compile_plan(
    outputs: Mapping[str, Node],
    selected: bool = True,
    simplified: bool = True,
    first: int = 0,
    together: int = 1,
    kept: bool = True,
) -> Plan:
    """Make the plan of all outputs together. With `selected`, only selected positions reach them.

    Without `simplified`, splits are computed as they are written, also where nothing tells their terms apart. At so
    many `first` positions the tokens of every source are those of x, so that values there are the unscrubbed model's.
    So many products with the same weights are computed `together`, where batches are small. Without `kept`, weights of
    some heads and the like are made with every batch, where they are needed, and freed.
    """
    return compile_plans([(outputs, first)], selected, simplified, together, kept)[0]


@uncollected()
def compile_plans(
    groups: Sequence[tuple[Mapping[str, Node], int]],
    selected: bool = True,
    simplified: bool = True,
    together: int = 1,
    kept: bool = True,
) -> list[Plan]:
    """Make a plan of each group of outputs, with as many first positions, as :func:`compile_plan` does.

    It is less work where they are of the same graphs. None is computed from what only another group asks for.
    """
    values = list(dict.fromkeys(output.value for outputs, _ in groups for output in outputs.values()))
    merged = _in_turn(values, [simplify, add_together, merge_heads] if simplified else [])
    whole = [merged[value] for value in values]
    forms = fed_by_x(whole, _merged) if simplified and any(first for _, first in groups) else {}
    parted = _in_turn(whole, [part_layers, share_heads, group_queries] if simplified else [], also=merged.values())
    simpler = {each: parted[now] for each, now in merged.items()}
    rows = select_rows([simpler[value] for value in values]) if selected else {}
    known = {parted[each]: parted[form] for each, form in forms.items() if each in parted and form in parted}
    less: list[Pass] = [partial(simplify, identities=LOGITS), fuse_attention] if simplified else []
    at_once: list[Pass] = [partial(multiply_together, most=together)] if together > 1 else []
    plans = []
    for outputs, first in groups:
        sharing: list[Pass] = [partial(share_first, forms=known, first=first)] if known and first else []
        plans.append(_ordered(outputs, simpler, rows, [*sharing, share_maps, *less, *at_once, as_leaves], kept))
    return plans


def _ordered(
    outputs: Mapping[str, Node],
    simpler: Mapping[Node, Node],
    rows: Mapping[Node, Node],
    passes: Sequence[Pass],
    kept: bool,
) -> Plan:
    """Make the plan of some outputs of simpler graphs, or of their selected rows, behind further passes."""
    stand = [simpler[output.value] for output in outputs.values()]
    wanted = [fill(rows[value]) if rows else value for value in stand]
    final = _in_turn(wanted, passes)
    computed = {name: final[value] for name, value in zip(outputs, wanted, strict=True)}
    per_run: set[Node] = set()
    for each in walk(computed.values()):
        if (kept and per_run.issuperset(each.inputs)) if each.inputs else each.op in PER_RUN:
            per_run.add(each)
    order = in_order(list(computed.values()), per_run)
    at = {each: number for number, each in enumerate(order)}
    stay = per_run.union(computed.values())
    last = {i: number for number, each in enumerate(order) for i in each.inputs}
    frees: dict[int, list[int]] = {}
    for value, user in last.items():
        if value not in stay:
            frees.setdefault(user, []).append(at[value])
    steps = [
        Step(each, tuple(at[i] for i in each.inputs), tuple(sorted(frees.get(number, ()))), each in per_run)
        for number, each in enumerate(order)
    ]
    labels: dict[int, dict[str, None]] = {}
    for each in walk(outputs.values()):
        in_full = simpler[each.value]
        for stands in (in_full, rows.get(in_full, in_full)):
            computes = final.get(stands, stands)
            if each.label is not None and computes in at:
                labels.setdefault(at[computes], {})[each.label] = None
    named = {number: " ".join(found) for number, found in labels.items()}
    return Plan(tuple(steps), {name: at[each] for name, each in computed.items()}, named)


def canonical(graphs: Sequence[Node]) -> list[Node]:
    """Give the form in which equal experiments are one graph, however their layers are cut and split."""
    values = [graph.value for graph in graphs]
    forms = _merged(values)
    return [forms[value] for value in values]


def _merged(values: Sequence[Node]) -> dict[Node, Node]:
    return _in_turn(values, [simplify, merge_heads])  # which look at what is below a node alone: others change nothing


def _in_turn(roots: Sequence[Node], passes: Sequence[Pass], also: Iterable[Node] = ()) -> dict[Node, Node]:
    """Map each node to what is left of it after some passes, one after the other.

    What `also` is to be known may come into the graphs with one of the passes.
    """
    stands = {each: each for each in (*walk(roots), *also)}
    for rebuild in passes:
        rebuilt = rebuild([stands[root] for root in roots])
        stands = {each: rebuilt.get(now, now) for each, now in stands.items()}
    return stands


def compute(step: Step, values: Mapping[int, Tensor], leaves: Mapping[Node, Tensor], way: Way = Op.function) -> Tensor:
    """Compute one step from the values of its inputs, or take what is bound to it if it is a leaf."""
    op = OPS[step.node.op]
    if op.run is None:
        return leaves[step.node]
    return way(op)(*(values[i] for i in step.inputs), **step.node.arguments)
