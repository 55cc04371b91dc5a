"""What components write on x and on y alone: it is the same at every list of cells, so a search computes it once."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cached_property

import numpy as np
from jaxtyping import Float
from torch import Tensor

from scrub.graph.node import Node, fold
from scrub.measure.search.cells import Cells
from scrub.measure.search.parts import BY_MASK, IN_MASKS
from scrub.paths.splits import in_masks
from scrub.paths.taps import exchanged, given, on_other, on_others
from scrub.plan.plan import compile_plan
from scrub.plan.runner import Runner, on_its_way
from scrub.study.binding import Members, bind
from scrub.study.draws import Pairing
from scrub.study.settings import Settings

BYTES_AT_ONCE = 1 << 28  # of a batch
BYTES_KEPT = 3 << 29  # of all examples, over all pairings

Stream = Float[Tensor, "batch position d_model"]


class Terms:
    """The terms of the cells of a search for the examples of its pairings; kept, if there is room.

    `read_by(outputs)` puts leaves in the place of terms that are `known`; `of(pairing, members)` are their values.
    """

    def __init__(self, cells: Cells, pairings: Sequence[Pairing], settings: Settings, kept: bool = True) -> None:
        self.cells, self._pairings, self._settings, self._kept = cells, tuple(pairings), settings, kept
        self._values: dict[int, Mapping[Node, Tensor]] = {}  # of each pairing
        self._places: dict[int, Members] = {}

    @cached_property
    def ends(self) -> dict[str, tuple[Node, Node]]:
        """What stands for each component, or part of its attention, by its label: where it is kept, and where not."""
        components, apart = self.cells.components, self.cells.apart
        found, others = {}, on_others(components.values())
        for component, here in components.items():
            found[component] = here, others[here]
            if apart.by == BY_MASK and len(apart.of(component)) > 1:
                pattern = here.inputs[0].inputs[0]  # where it looks stays resampled
                for each in in_masks(here, IN_MASKS).values():
                    found[str(each.label)] = exchanged(each, pattern, on_other(pattern)), on_other(each)
        return found

    @cached_property
    def _bytes(self) -> int:
        """How many bytes all of them take for an example."""
        model, context = self.cells.model, self._pairings[0].examples.context
        return int(context * model.params["embed.weight"].shape[1] * model.dtype.itemsize * 2 * len(self.ends))

    def batches(self, pairing: Pairing) -> list[Members]:
        """Cut the examples into batches for which there is room."""
        at_once = self._settings.at_once(pairing.examples.context)
        return list(pairing.batches(max(1, min(at_once, BYTES_AT_ONCE // self._bytes))))

    @cached_property
    def known(self) -> Mapping[Node, Node]:
        """The leaf that stands for each term, where they are kept."""
        keeps = self._kept and self._bytes * sum(len(each.order) for each in self._pairings) <= BYTES_KEPT
        nodes = dict.fromkeys(each for pair in self.ends.values() for each in pair) if keeps else ()
        return {each: given(f"term {number}") for number, each in enumerate(nodes)}

    def but_known(self, root: Node) -> Node:
        """Put leaves in the place of what is known."""
        return fold(root, lambda at: at.inputs, lambda at, inputs: at.with_inputs(tuple(inputs)), dict(self.known))

    def read_by(self, outputs: Mapping[str, Node]) -> Mapping[str, Node]:
        """Put leaves in the place of what is known of all outputs of a plan."""
        return {name: self.but_known(output) for name, output in outputs.items()}

    def runner(self, outputs: Mapping[str, Node], grad: bool = False, selected: bool = False) -> Runner:
        """Make a plan of nodes ready to run, at all positions or at those that are scored."""
        model, plan = self.cells.model, compile_plan(outputs, selected=selected)
        return Runner(plan, model.params, self._pairings[0].examples.context, model.device, grad=grad)

    @cached_property
    def _runner(self) -> Runner:
        return self.runner({str(leaf.arguments["name"]): each for each, leaf in self.known.items()})

    def _all(self, pairing: Pairing) -> Mapping[Node, Tensor]:
        """Compute what leaves stand for on all examples of a pairing, in its order, once."""
        assert any(pairing is each for each in self._pairings), "terms are of pairings that stay"
        if id(pairing) not in self._values:
            values: dict[Node, Tensor] = {}
            done = 0
            for members in self.batches(pairing):
                found = self._runner(bind(self._runner.leaves, pairing, members, self.cells.model.device)[0])
                for leaf in self.known.values():
                    value = found[str(leaf.arguments["name"])]
                    every = values.setdefault(leaf, value.new_empty((len(pairing.order), *value.shape[1:])))
                    every[done : done + len(members)] = value
                done += len(members)
            self._values[id(pairing)] = values
        return self._values[id(pairing)]

    def _place(self, pairing: Pairing) -> Members:
        """Find where in the order each example stands."""
        if id(pairing) not in self._places:
            self._places[id(pairing)] = np.argsort(pairing.order)
        return self._places[id(pairing)]

    def __call__(self, leaf: Node, pairing: Pairing, members: Members) -> Stream:
        """Give what a leaf stands for on some examples; without a copy where these follow one another in the order."""
        rows = self._place(pairing)[members]
        follow = np.array_equal(rows, np.arange(rows[0], rows[0] + len(rows)))
        values = self._all(pairing)[leaf]
        return values[rows[0] : rows[0] + len(rows)] if follow else values[on_its_way(rows, values.device)]

    def of(self, pairing: Pairing, members: Members) -> Mapping[Node, Tensor]:
        """Give what all leaves stand for on some examples."""
        return {leaf: self(leaf, pairing, members) for leaf in self.known.values()}
