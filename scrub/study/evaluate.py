"""The one evaluator: everything that is measured of experiments goes through here, behind the gates.

A study, a block of a sweep, an ablation, a patch and a score are callers. Experiments share plans, batches bound the
memory, and no number comes out of experiments that have not passed the gates on these weights, examples, dtype and
device: either here, or before, which a receipt shows.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Protocol, runtime_checkable

import numpy as np
import torch
from jaxtyping import Bool, Float
from torch import Tensor

from scrub.data.examples import PROMPTS, Examples, Tokens
from scrub.data.for_model import check_on
from scrub.graph.node import Node
from scrub.models.model import Model
from scrub.paths.hashes import hash_of
from scrub.paths.rules import held
from scrub.paths.sources import Drawn
from scrub.plan.memory import fitting
from scrub.plan.plan import Plan, compile_plan
from scrub.plan.pooled import pooled, with_pool
from scrub.plan.runner import Place, Runner, on_its_way_back
from scrub.plan.together import worth_together
from scrub.study.binding import Batches, Known, Members, Sizes, bind, summed
from scrub.study.draws import BLOCK_SEQUENCES, Pairing, check_named, pair_up
from scrub.study.experiments import Experiments, Name
from scrub.study.gates import TOLERANCE_NATS, Gates, check_gates
from scrub.study.held import Arrays, averaged, held_values
from scrub.study.metric import Metric
from scrub.study.pool import Pool
from scrub.study.settings import AS_USUAL, TF32, Computed, Settings, obeyed
from scrub.text.errors import ScrubError
from scrub.text.progress import bar_of

PLAN_EXPERIMENTS = 256  # at most in one plan


@dataclass(frozen=True)
class Receipt:
    """Proof that experiments, by the hash of their graphs, passed the gates on weights, examples, dtype and device."""

    gates: Gates
    basis: str
    experiments: frozenset[str]


@dataclass(frozen=True)
class Evaluation:
    """Measurements of experiments, the unscrubbed model's first, and what the gates saw.

    `sums` holds for each (metric, experiment) the sum over each example's scored positions, in the metric's unit;
    `values`, of the metrics that were asked for, every scored position, those of one example after those of another.
    """

    names: Sequence[Name]
    sums: Mapping[tuple[str, Name], Float[np.ndarray, " example"]]
    values: Mapping[tuple[str, Name], Float[np.ndarray, " scored"]]
    gates: Gates
    computed: Computed = AS_USUAL

    def rows(self, metric: str) -> Float[np.ndarray, "experiment scored"]:
        """Stack every scored position of every experiment. Raises KeyError unless the metric's values were kept."""
        return np.stack([self.values[metric, name] for name in self.names])


@runtime_checkable
class Given(Protocol):
    """Values that whoever asks has computed before: leaves in plans, and what these stand for on some examples."""

    def read_by(self, outputs: Mapping[str, Node]) -> Mapping[str, Node]:
        """Put leaves in the place of what is known."""

    def __call__(self, leaf: Node, pairing: Pairing, members: Members, /) -> Tensor:
        """Give what a leaf stands for."""


class Evaluator:
    """Experiments with their metrics on a model, whose plans are compiled once for all that is measured with them.

    `reference` are the sequences that means are over, `arrays` what components are held at by name. If `quiet`, the
    gates warn of no rule that changes nothing: in a sweep over sites many do, which its numbers show. With a `receipt`
    that covers them, the gates are not passed anew; nor where these have `passed` them on other examples, or others of
    their kind have, which is for choosing among experiments whose numbers nobody sees; plans read what is
    `given` instead of computing it.
    """

    def __init__(
        self,
        model: Model,
        experiments: Experiments,
        metrics: Sequence[Metric],
        settings: Settings,
        *,
        reference: Tokens | None = None,
        arrays: Arrays | None = None,
        quiet: bool = False,
        receipt: Receipt | None = None,
        passed: Gates | None = None,
        given: Given | None = None,
    ) -> None:
        self.model = model.to(settings.torch_dtype, settings.where)
        self.experiments, self.metrics, self.settings = experiments, tuple(metrics), settings
        self._reference, self._arrays, self._quiet, self._receipt = reference, arrays, quiet, receipt
        assert given is None or passed is not None, "what is given passes no gate: it is to choose by"
        self._gates, self._given = passed, given
        self._held: dict[int, dict[Node, Tensor]] = {}
        self._runners: dict[tuple[int, int], Runner] = {}
        self._room: dict[int, int] = {}
        self._sizes: dict[int, Sizes] = {}
        self._pool: Pool | None = None

    @cached_property
    def _chunks(self) -> list[Experiments]:
        """The experiments of each plan, all of which have the unscrubbed model."""
        every, size = self.experiments.scrubbed, PLAN_EXPERIMENTS
        chunks = [every[start : start + size] for start in range(0, max(1, len(every)), size)]
        return [replace(self.experiments, scrubbed=chunk) for chunk in chunks]

    def _values(self, chunk: int, pairing: Pairing) -> dict[Node, Tensor]:
        """Make the values that the components of a plan's experiments are held at, once."""
        if chunk not in self._held:
            leaves = held(experiment.graph for experiment in self._chunks[chunk])
            over = averaged(pairing, self._reference)
            self._held[chunk] = held_values(leaves, self.model, over, self._arrays)
        return self._held[chunk]

    def held(self, pairing: Pairing) -> dict[Node, Tensor]:
        """Give the value of each leaf at which a component of any of the experiments is held."""
        return {
            leaf: value for chunk in range(len(self._chunks)) for leaf, value in self._values(chunk, pairing).items()
        }

    def _runner(self, chunk: int, pairing: Pairing) -> Runner:
        """Compile the plan of some of the experiments, once for pairings that share as many first positions."""
        key = chunk, pairing.first
        if key not in self._runners:
            plan = self.plan(self._chunks[chunk], pairing)
            positions, device, values = pairing.examples.context, self.model.device, self._values(chunk, pairing)
            tf32 = self.settings.dtype == TF32
            self._runners[key] = Runner(plan, self.model.params, positions, device, values, tf32=tf32)
        return self._runners[key]

    def plan(self, some: Experiments, pairing: Pairing) -> Plan:
        """Compile the plan of some of the experiments for a pairing."""
        outputs = self._pool_of(pairing).read_by(some.outputs(self.metrics))
        if self._given is not None:  # at all positions, the first ones too
            return compile_plan(self._given.read_by(outputs))
        return compile_plan(outputs, first=pairing.first, together=self._together(pairing))

    def _pool_of(self, pairing: Pairing) -> Pool:
        """Make the pool that all plans read, once: of the rows that draws of hypotheses read at each position."""
        if self._pool is None:
            by_row = any(isinstance(draw, Drawn) and draw.by_row for draw in self.experiments.draws)
            every = with_pool(self.experiments.outputs(self.metrics)) if by_row else {}
            self._pool = Pool(self.model, pairing, pooled(every), self.settings.progress)
        return self._pool

    def _known(self, leaf: Node, pairing: Pairing, members: Members) -> Tensor:
        """Give what a leaf stands for: a row of the pool, or what is given."""
        known = self._pool_of(pairing) if leaf.op == "pooled" else self._given
        assert known is not None, "nobody else puts such leaves into plans"
        return known(leaf, pairing, members)

    def _together(self, pairing: Pairing) -> int:
        """Count the experiments whose products are one: a core waits for the weights where late rows are few.

        It depends on no block of a sweep. A card's batches are as large as its memory, and bfloat16 rounds.
        """
        if not pairing.first or self.model.device.type != "cpu" or self.settings.torch_dtype == torch.bfloat16:
            return 1
        context, first = pairing.examples.context, pairing.first
        rows = min(self.settings.at_once(context), len(pairing.order)) * (context - first)
        return worth_together(rows)

    def basis(self, examples: Examples) -> str:
        """Hash what the gates are passed on: weights, examples, dtype and device."""
        drawn = any(isinstance(draw, Drawn) for draw in self.experiments.draws)
        digest = (examples.digest, examples.pool_hash) if drawn else examples.digest
        return hash_of(self.model.weights_hash, digest, self.settings.dtype, self.settings.where)

    def check(self, pairing: Pairing) -> Gates:
        """Pass the gates, unless that was done, here or by a receipt. Raises GateError if one fails."""
        if self._gates is None:
            covered = self._receipt is not None and self._covered(self._receipt, pairing.examples)
            self._gates = self._receipt.gates if covered and self._receipt else self._passed(pairing)
        return self._gates

    def receipt(self, pairing: Pairing) -> Receipt:
        """Pass the gates, and say what has passed them."""
        gates = self.check(pairing)
        return Receipt(gates, self.basis(pairing.examples), frozenset(self.experiments.hashes({})))

    def _covered(self, receipt: Receipt, examples: Examples) -> bool:
        graphs = self.experiments.hashes({})
        return receipt.experiments.issuperset(graphs) and receipt.basis == self.basis(examples)

    def _passed(self, pairing: Pairing) -> Gates:
        dtype = self.settings.dtype
        with bar_of("batches", self.settings.progress) as bar:
            bar.add_task(f"gates of {len(self.experiments)} experiments", total=None)
            gates = [
                check_gates(of, self.model, pairing, dtype, self._values(chunk, pairing), self._quiet)
                for chunk, of in enumerate(self._chunks)
            ]
        joined, pool = Gates.joined(gates), self._pool_of(pairing)
        if not (pool.leaves and pool.fits):
            return joined
        deviation = pool.check(pairing, TOLERANCE_NATS[dtype])
        return replace(joined, deviations={**joined.deviations, f"pool and computed anew, {dtype}": deviation})

    def __call__(
        self,
        pairing: Pairing,
        members: Members | None = None,
        values_of: Collection[str] = (),
        on: str = "",
        among: Callable[[], Iterable[Pairing]] | None = None,
    ) -> Evaluation:
        """Measure every experiment on the examples of a pairing, or on some, in the order in which they are given.

        `members` are of a block of a sweep, at most BLOCK_SEQUENCES at once; `values_of` are the metrics of which every
        position is kept, and not only sums; `on` says for the progress bar what is measured. `among` makes all pairings
        that are measured one after the other, of which a card fills the batches up to one shape.
        Raises GateError if a gate fails, ScrubError if a batch needs more memory than there is.
        """
        gates = self.check(pairing)
        order = pairing.order if members is None else members
        fits = min(self._fits(chunk, pairing) for chunk in range(len(self._chunks))) if self._open else None
        size = fits or self.settings.at_once(pairing.examples.context)
        size = size if members is None else min(size, BLOCK_SEQUENCES)
        # of which a sweep's worker may have some: that doesn't depend on what it had before, nor do the last bits
        calls = -(-len(pairing.order) // size) * self.settings.draws
        batches = [order[start : start + size] for start in range(0, len(order), size)]
        sums: dict[tuple[str, Name], np.ndarray] = {}
        values: dict[tuple[str, Name], np.ndarray] = {}
        self._pool_of(pairing).prepare(pairing, order)
        with bar_of("batches", self.settings.progress) as bar:
            what = f"{len(self.experiments)} experiments{on}"
            task = bar.add_task(what, total=len(batches) * len(self._chunks))
            for chunk, of in enumerate(self._chunks):
                runner = self._runner(chunk, pairing)
                totals = _Totals(
                    pairing.examples, order if members is not None else None, of.names, self.metrics, values_of
                )
                runner.expect(calls)
                sizes = self._shape(chunk, pairing, size, batches, among) if runner.place.on_card else None
                for batch, measured, real in self._measured(runner, pairing, batches, totals.keys, sizes, self._known):
                    with enough_memory(len(batch)):
                        totals.add(batch, measured, real)
                    bar.advance(task)
                sums |= totals.sums
                values |= totals.values
        computed = Computed(fits and min(size, len(pairing.order)), self.settings.dtype)
        return Evaluation(self.experiments.names, sums, values, gates, computed)

    @property
    def _open(self) -> bool:
        """Whether a card's memory decides how many examples are computed together: nobody said how many."""
        return self.settings.batch is None and Place(self.settings.where, grad=False).bytes_for_a_batch is not None

    def _fits(self, chunk: int, pairing: Pairing) -> int:
        """Find how many examples a card has room for with one of the plans, each of which keeps its share; once."""
        if chunk not in self._room:
            runner = self._runner(chunk, pairing)

            def leaves(count: int) -> dict[Node, Tensor]:
                members = pairing.order[:count]
                self._pool_of(pairing).prepare(pairing, members)
                return bind(runner.leaves, pairing, members, "cpu", known=self._known)[0]

            share = (runner.place.bytes_for_a_batch or 0) // len(self._chunks)
            self._room[chunk] = fitting(runner, leaves, len(pairing.order), share)
        return self._room[chunk]

    def _shape(
        self,
        chunk: int,
        pairing: Pairing,
        size: int,
        batches: Batches,
        among: Callable[[], Iterable[Pairing]] | None,
    ) -> Sizes:
        """Find what all batches of one of the plans are filled up to, those of all blocks of a sweep, too."""
        leaves = self._runner(chunk, pairing).leaves
        if among is None:
            return Sizes.over(leaves, pairing, [*batches, *pairing.batches(size)])
        if chunk not in self._sizes:
            every = (Sizes.over(leaves, each, list(each.batches(size))) for each in among())
            self._sizes[chunk] = Sizes.joined(every)
        return self._sizes[chunk]

    @staticmethod
    def _measured(
        runner: Runner,
        pairing: Pairing,
        batches: Batches,
        keys: Sequence[tuple[str, Name]],
        sizes: Sizes | None,
        known: Known,
    ) -> Iterator[tuple[Members, Float[Tensor, "key batch some"], Bool[Tensor, "batch some"]]]:
        """Measure batch after batch: a card computes one while the next is bound and the last is looked at."""
        before = None
        for batch in batches:
            with runner.place.current(), enough_memory(len(batch)):
                bound, real = bind(runner.leaves, pairing, batch, runner.place.device, sizes, known=known)
                outputs = runner(bound)
                measured = torch.stack([_a_number(outputs[":".join(key)]).expand(real.shape) for key in keys]).double()
                now = batch, on_its_way_back(measured), real
            if before:
                yield before[0], before[1](), before[2]
            before = now
        if before:
            yield before[0], before[1](), before[2]


def _a_number(measured: Float[Tensor, "batch some numbers"]) -> Float[Tensor, "batch some"]:
    if measured.shape[-1] != 1:
        raise ScrubError(f"the metric gives {measured.shape[-1]} numbers a position: give one, as `pick` does")
    return measured[..., 0]


class _Totals:
    """Sums by example over all batches, and every scored position of some metrics."""

    def __init__(
        self,
        examples: Examples,
        members: Members | None,
        names: Sequence[Name],
        metrics: Sequence[Metric],
        values_of: Collection[str],
    ) -> None:
        there = np.arange(len(examples)) if members is None else members
        counts = examples.counts[there]
        ends = counts.cumsum()
        self._row = np.zeros(len(examples), dtype=np.int64)
        self._row[there] = np.arange(len(there))
        self._start, self._count = ends - counts, counts
        self.keys = [(metric.name, name) for name in names for metric in metrics]
        wholes = examples.kind == PROMPTS and any(metric.of_all for metric in metrics)
        self._wholes = [metric.name for metric in metrics if metric.of_all] if wholes else []
        self._changes = {metric.name: metric.change_of for metric in metrics if wholes and metric.change_of}
        self._unscrubbed = names[0]
        self.sums = {key: np.zeros(len(there)) for key in self.keys}
        self.values = {key: np.empty(int(counts.sum())) for key in self.keys if key[0] in values_of}

    def add(self, batch: Members, measured: Float[Tensor, "key batch some"], real: Bool[Tensor, "batch some"]) -> None:
        """Add what was measured of a batch, by key; rows that aren't real are padding."""
        if self._wholes:
            measured = self._of_wholes(measured, real)
        rows = self._row[batch]
        at = np.concatenate([np.arange(self._start[row], self._start[row] + self._count[row]) for row in rows])
        totals = summed(measured, real)[:, : len(batch)].numpy()
        for key, total, values in zip(self.keys, totals, measured, strict=True):
            self.sums[key][rows] = total
            if key in self.values:
                self.values[key][at] = values[real].numpy()

    def _of_wholes(
        self, measured: Float[Tensor, "key batch some"], real: Bool[Tensor, "batch some"]
    ) -> Float[Tensor, "key batch some"]:
        """Let a prompt count as a whole where a metric says so: the least of its scored positions stands at each."""
        found = dict(zip(self.keys, measured, strict=True))
        for metric, name in self.keys:
            if metric in self._wholes:
                least = found[metric, name].masked_fill(~real, torch.inf).amin(-1, keepdim=True)
                found[metric, name] = least.expand(real.shape)
        for metric, name in self.keys:
            if of := self._changes.get(metric):
                found[metric, name] = (found[of, name] - found[of, self._unscrubbed]).abs()
        return torch.stack(list(found.values()))


def evaluate(
    model: Model,
    experiments: Experiments,
    examples: Examples,
    metrics: Sequence[Metric],
    settings: Settings | None = None,
    *,
    values_of: Collection[str] = (),
    reference: Tokens | None = None,
    arrays: Arrays | None = None,
    quiet: bool = False,
    receipt: Receipt | None = None,
    on: str = "",
) -> Evaluation:
    """Measure experiments on examples with one pairing, once they have passed the gates.

    `evaluate(model, experiments(study, hypotheses, model.graph, model.roles), examples, [LOSS])`. See
    :class:`Evaluator`, which measures several pairings with one plan. Raises ScrubError for what doesn't fit, and
    GateError if a gate fails.
    """
    asked = obeyed(settings, "evaluate")
    check_named(examples, [each.graph for each in experiments])
    check_on(examples, model)
    pairing = pair_up(examples, experiments.drawn, seed=asked.seed)
    made = Evaluator(
        model, experiments, metrics, asked, reference=reference, arrays=arrays, quiet=quiet, receipt=receipt
    )
    return made(pairing, values_of=values_of, on=on)


@contextmanager
def enough_memory(batch: int) -> Iterator[None]:
    """Turn running out of memory into a ScrubError."""
    try:
        yield
    except (RuntimeError, MemoryError) as error:
        if isinstance(error, RuntimeError) and not re.search("out of memory|can't allocate memory", str(error)):
            raise
        raise ScrubError(
            f"a batch of {batch} sequences needs more memory than there is: take a smaller batch"
        ) from error
