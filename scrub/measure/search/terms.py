"""What components write on x and on y alone: it is the same at every list of cells, so a search computes it once."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cached_property

from jaxtyping import Float
from torch import Tensor

from scrub.graph.node import Node, fold
from scrub.measure.search.cells import Cells
from scrub.measure.search.parts import BY_MASK, IN_MASKS
from scrub.paths.splits import in_masks
from scrub.paths.taps import exchanged, given, on_other, on_others
from scrub.plan.plan import compile_plan
from scrub.plan.runner import Runner
from scrub.study.binding import Members, bind
from scrub.study.draws import Pairing
from scrub.study.settings import Settings

BYTES_AT_ONCE = 1 << 28  # of a batch
BYTES_KEPT = 3 << 29  # of all examples, over all pairings

Stream = Float[Tensor, "batch position d_model"]


class Terms:
    """The terms of the cells of a search for the examples of one of so many pairings; kept, if there is room.

    `but_known(graph)` has leaves in the place of terms that are `known`; `of(number, members)` are their values for one
    of the `batches`.
    """

    def __init__(
        self, cells: Cells, pairing: Pairing, settings: Settings, pairings: int = 1, kept: bool = True
    ) -> None:
        self.cells, self.pairing = cells, pairing
        self._settings, self._pairings, self._kept = settings, pairings, kept
        self._values: dict[int, dict[Node, Tensor]] = {}

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
        model, context = self.cells.model, self.pairing.examples.context
        return int(context * model.params["embed.weight"].shape[1] * model.dtype.itemsize * 2 * len(self.ends))

    @cached_property
    def batches(self) -> list[Members]:
        """Cut the examples into batches for which there is room."""
        at_once = self._settings.at_once(self.pairing.examples.context)
        return list(self.pairing.batches(max(1, min(at_once, BYTES_AT_ONCE // self._bytes))))

    @cached_property
    def known(self) -> Mapping[Node, Node]:
        """The leaf that stands for each term, where they are kept."""
        keeps = self._kept and self._bytes * len(self.pairing.order) * self._pairings <= BYTES_KEPT
        nodes = dict.fromkeys(each for pair in self.ends.values() for each in pair) if keeps else ()
        return {each: given(f"term {number}") for number, each in enumerate(nodes)}

    def but_known(self, root: Node) -> Node:
        """Put leaves in the place of what is known."""
        return fold(root, lambda at: at.inputs, lambda at, inputs: at.with_inputs(tuple(inputs)), dict(self.known))

    @cached_property
    def _runner(self) -> Runner:
        return self.runner({str(leaf.arguments["name"]): each for each, leaf in self.known.items()})

    def runner(self, outputs: Mapping[str, Node], grad: bool = False, selected: bool = False) -> Runner:
        """Make a plan of nodes ready to run, at all positions or at those that are scored."""
        model, plan = self.cells.model, compile_plan(outputs, selected=selected)
        return Runner(plan, model.params, self.pairing.examples.context, model.device, grad=grad)

    def of(self, number: int) -> Mapping[Node, Tensor]:
        """Give what the leaves of one of the batches stand for."""
        if number not in self._values:
            bound, _ = bind(self._runner.leaves, self.pairing, self.batches[number], self.cells.model.device)
            found = self._runner(bound) if self.known else {}
            self._values[number] = {leaf: found[str(leaf.arguments["name"])].clone() for leaf in self.known.values()}
        return self._values[number]
