"""The pool: what a model gives on the sequences that draws of a hypothesis read row by row, once for each of them.

Thousands of examples with a draw for each position read few sequences many times: of all that are alike one is
computed, when it is first asked for, and kept for all experiments and pairings of a run.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

import numpy as np
from jaxtyping import Float, Int
from torch import Tensor

from scrub.graph.node import Node
from scrub.models.model import Model
from scrub.plan.plan import compile_plan
from scrub.plan.pooled import computed, source_of, with_pool
from scrub.plan.runner import Runner, on_its_way
from scrub.study.binding import Members, bind
from scrub.study.draws import Pairing
from scrub.study.looks import off_by
from scrub.study.read import read
from scrub.text.errors import GateError
from scrub.text.progress import bar_of

MOST_BYTES = 8 << 30  # of all that is kept: what needs more is computed for each batch
LOOKED_AT = 2  # examples whose rows are computed both ways
MEBI = 1 << 20


class Pool:
    """Rows of the values that leaves stand for, on a model in the type in which it computes.

    Made for the rows of a pairing: those of any other pairing of the same examples are the same ones. `bytes` are what
    everything takes once every row was asked for.
    """

    def __init__(self, model: Model, pairing: Pairing, leaves: Sequence[Node], progress: bool = False) -> None:
        self.model, self.leaves, self._progress, self.bytes = model, leaves, progress, 0
        if not leaves:
            return
        self._tokens, self._number = np.unique(pairing.pool[:, :-1], axis=0, return_inverse=True)
        self._known = np.zeros(len(self._tokens), dtype=bool)
        of = {leaf.arguments["of"]: None for leaf in leaves}
        self._named = {str(at): each for at, each in enumerate(of) if isinstance(each, Node)}
        shapes = {name: value[0].movedim(-2, 0) for name, value in self._on(np.arange(1))}
        self.bytes = sum(value.nbytes for value in shapes.values()) * len(self._tokens)
        self._values = {
            name: value.new_empty((len(self._tokens), *value.shape)) if self.fits else value
            for name, value in shapes.items()
        }

    def read_by(self, outputs: Mapping[str, Node]) -> Mapping[str, Node]:
        """Let graphs read it, where it is kept."""
        return with_pool(outputs) if self.leaves and self.fits else outputs

    @property
    def fits(self) -> bool:
        """Whether it is small enough to be kept."""
        return self.bytes <= MOST_BYTES

    def __str__(self) -> str:
        """Say how large it is."""
        rows, distinct = len(self._number), len(self._tokens)
        return f"pool of {distinct:,} different sequences, of {rows:,}: {self.bytes / MEBI:,.0f} MiB"

    def _on(self, rows: Int[np.ndarray, " row"]) -> Iterable[tuple[str, Float[Tensor, "row ..."]]]:
        tokens = self._tokens[rows]
        for _, values in read(self.model, self._named, np.concatenate([tokens, tokens[:, :1]], axis=1)):
            yield from values.items()

    def prepare(self, pairing: Pairing, members: Members) -> None:
        """Compute what the draws of some examples read and no others did before."""
        if not self.leaves or not self.fits:
            return
        drawn = [np.unique(pairing.partners[source_of(leaf)][members]) for leaf in self.leaves]
        wanted = np.unique(self._number[np.concatenate(drawn)])
        missing = wanted[~self._known[wanted]]
        if not len(missing):
            return
        with bar_of("sequences", self._progress) as bar:
            task, at = bar.add_task(str(self), total=len(missing)), dict.fromkeys(self._named, 0)
            for name, value in self._on(missing):
                rows = missing[at[name] : at[name] + len(value)]
                self._values[name][on_its_way(rows, value.device)] = value.movedim(-2, 1)
                at[name] += len(value)
                bar.update(task, completed=min(at.values()))
        self._known[missing] = True

    def __call__(self, leaf: Node, pairing: Pairing, members: Members) -> Float[Tensor, "member *head position width"]:
        """Gather for each position of some examples the row of the sequence that was drawn for it."""
        wanted = self._number[pairing.partners[source_of(leaf)][members]]
        assert self._known[wanted].all(), "what is read was prepared"
        (name,) = (name for name, of in self._named.items() if of is leaf.arguments["of"])
        values = self._values[name]
        row, at = (on_its_way(each, values.device) for each in (wanted, pairing.at(source_of(leaf))[members]))
        return values[row, at].movedim(1, -2)

    def check(self, pairing: Pairing, tolerance: float) -> float:
        """Measure how far rows are at most from what they are computed anew, relative to their size where it is over 1.

        Raises GateError above the tolerance.
        """
        members, worst = pairing.order[:LOOKED_AT], 0.0
        self.prepare(pairing, members)
        plan = compile_plan({str(at): computed(leaf) for at, leaf in enumerate(self.leaves)}, selected=False)
        runner = Runner(plan, self.model.params, pairing.examples.context, self.model.device)
        anew = runner(bind(runner.leaves, pairing, members, self.model.device)[0])
        for at, leaf in enumerate(self.leaves):
            found, wanted = self(leaf, pairing, members), anew[str(at)]
            deviation = off_by(found, wanted)
            worst = max(worst, deviation)
            if not deviation <= tolerance:
                raise GateError(
                    f"what '{source_of(leaf)}' reads of the pool is off by {deviation:.2e} from what is computed of it "
                    f"anew, where {tolerance:.0e} is allowed; no number of this run can be trusted"
                )
        return worst
