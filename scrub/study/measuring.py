"""Measuring experiments: one plan for all of them, batch by batch, in nats at every scored position."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int
from torch import Tensor

from scrub.plan.runner import Runner
from scrub.study.binding import Draw, bind
from scrub.study.experiments import UNSCRUBBED, Experiment, measured
from scrub.text.errors import ScrubError

MEASURES = ("loss", "change", "kl")  # the loss, its absolute change from the unscrubbed one, and the KL from that


@dataclass(frozen=True)
class Batch:
    """What was measured of some sequences, in nats.

    `sums` holds, for each (measure, experiment), the sum over each sequence's scored positions. `losses` holds for
    each experiment the loss of every scored position, those of one sequence after those of another.
    """

    sums: Mapping[tuple[str, str], Float[np.ndarray, " member"]]
    losses: Mapping[str, Float[np.ndarray, " scored"]]


class Measuring:
    """The plan of some experiments with what is computed once for all batches of it.

    The first experiment is the unscrubbed model. `positions` is the number of positions of a sequence.
    """

    def __init__(
        self, experiments: Sequence[Experiment], params: Mapping[str, Tensor], positions: int, device: str
    ) -> None:
        self.names = [each.name for each in experiments]
        self.device = device
        self.running = Runner(measured(experiments), params, positions, device)

    def measure(self, draw: Draw, members: Int[np.ndarray, " member"]) -> Batch:
        """Measure a batch of sequences. Raises ScrubError if that needs more memory than there is."""
        with enough_memory(len(members)):
            return self._batch(draw, members)

    def _batch(self, draw: Draw, members: Int[np.ndarray, " member"]) -> Batch:
        bound, real = bind(self.running.leaves, draw, members, self.device)
        found = self.running(bound)
        unscrubbed = found[f"loss:{UNSCRUBBED}"]
        sums: dict[tuple[str, str], np.ndarray] = {}
        losses: dict[str, np.ndarray] = {}
        for name in self.names:
            loss = found[f"loss:{name}"]
            values = {"loss": loss, "change": (loss - unscrubbed).abs(), "kl": found[f"kl:{name}"]}
            for measure in MEASURES:
                total = (values[measure][..., 0].double() * real).sum(1)
                sums[measure, name] = np.asarray(total.cpu())
            losses[name] = np.asarray(loss[..., 0].double()[real].cpu())
        return Batch(sums, losses)


@contextmanager
def enough_memory(batch: int) -> Iterator[None]:
    """Turns running out of memory into a ScrubError."""
    try:
        yield
    except (RuntimeError, MemoryError) as error:
        if isinstance(error, RuntimeError) and not re.search("out of memory|can't allocate memory", str(error)):
            raise
        raise ScrubError(
            f"a batch of {batch} sequences needs more memory than there is: take a smaller batch"
        ) from error
