"""What interventions do: one plan for all of them, and at every scored position the loss, and the logits if asked."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch
from jaxtyping import Float, Int

from scrub.errors import ScrubError
from scrub.graph.node import Node, node
from scrub.interventions.intervention import Intervention, unchanged
from scrub.interventions.values import Arrays, Tokens, held_values
from scrub.measure.places import Places
from scrub.model import Model
from scrub.paths.rules import OTHER, REFERENCE, held
from scrub.plan.running import Running
from scrub.show.progress import batches_bar
from scrub.study.binding import Draw, bind
from scrub.study.experiments import Experiment, losses
from scrub.study.gates import Gates, check_gates
from scrub.study.measuring import enough_memory
from scrub.study.pairing import pair
from scrub.study.run import DTYPES, Settings
from scrub.study.statistics import Bootstrap

LOSS, LOGIT, MEAN_LOGIT = "loss", "logit", "mean logit"


@dataclass(frozen=True)
class Effects:
    """The losses in nats and logits of every experiment at every scored position, those of one sequence after another.

    `values` holds for each measure an array [experiment, scored], the experiments in the order of `names`: the
    unchanged model is the first. `positions` are the places' own.
    """

    places: Places
    names: Sequence[str]
    values: dict[str, Float[np.ndarray, "experiment scored"]]
    gates: Gates
    seed: int = 0

    @cached_property
    def counts(self) -> Int[np.ndarray, " sequence"]:
        """The scored positions of each sequence."""
        return np.asarray(self.places.scored.sum(1))

    @property
    def probability(self) -> Float[np.ndarray, "experiment scored"]:
        """The probability of the target."""
        return np.exp(-self.values[LOSS])

    def sums(self, values: Float[np.ndarray, "some scored"]) -> Float[np.ndarray, "some sequence"]:
        """The sum over the scored positions of each sequence; 0 where it has none."""
        ends = np.concatenate([[0], self.counts.cumsum()])
        running = np.concatenate([np.zeros((len(values), 1)), values.cumsum(1)], axis=1)
        return np.asarray(running[:, ends[1:]] - running[:, ends[:-1]])

    def resampled(self, values: Float[np.ndarray, "some scored"]) -> Float[np.ndarray, "some one_plus_resample"]:
        """Means over all positions, and those of the bootstrap's resamples of sequences."""
        means: np.ndarray = Bootstrap(self.counts, self.seed).means(self.sums(values))
        return means

    def above_unchanged(self, values: Float[np.ndarray, "experiment scored"]) -> Float[np.ndarray, "experiment scored"]:
        """Each experiment less the unchanged model."""
        return np.asarray(values - values[:1])


def measure_effects(
    model: Model,
    interventions: Iterable[Intervention],
    places: Places,
    *,
    other: Tokens | None = None,
    reference: Tokens | None = None,
    arrays: Arrays | None = None,
    logits: bool = False,
    settings: Settings | None = None,
) -> Effects:
    """Run interventions on sequences, with the unchanged model beside them, once they have passed the gates.

    `other` are the sequences that `y` takes, one for each; without them each sequence's is another one of `places`, by
    the seed. `reference` are those that means are over, by default `places` themselves. With `logits`, the target's
    logit and the mean logit are measured too.
    Raises ScrubError for what doesn't fit, and GateError if a gate fails.
    """
    asked = settings or Settings()
    model = model.to(DTYPES[asked.dtype], asked.where)
    places.check(model)
    experiments = [unchanged(model.graph), *(each.experiment(model.graph, model.roles) for each in interventions)]
    _check_names(experiments)
    draw = _draw(places, other, any(OTHER in each.sources for each in experiments), asked.seed)
    leaves = held(each.graph for each in experiments)
    rows = places.tokens if reference is None else _fitting(reference, places, "reference")
    values = held_values(leaves, model, rows, arrays, asked.batch)
    dtypes = list(dict.fromkeys([torch.float64, torch.float32, DTYPES[asked.dtype]]))
    gates = check_gates(experiments, model.graph, model.params, draw, dtypes, values)
    outputs = _outputs(experiments, logits)
    running = Running(outputs, model.params, places.scored.shape[1], model.device, values)
    found = _run(running, draw, experiments, places, asked)
    return Effects(places, [each.name for each in experiments], found, gates, asked.seed)


def _check_names(experiments: Sequence[Experiment]) -> None:
    names = [each.name for each in experiments]
    if twice := [name for name in names if names.count(name) > 1]:
        raise ScrubError(f"the intervention {twice[0]!r} is named twice: results are told apart by name")


def _fitting(rows: Tokens, places: Places, what: str) -> Tokens:
    if rows.shape[1] != places.tokens.shape[1]:
        raise ScrubError(
            f"the {what} sequences have {rows.shape[1] - 1} positions, but those that are scored have "
            f"{places.tokens.shape[1] - 1}: they must be of one length"
        )
    return rows


def _draw(places: Places, other: Tokens | None, wanted: bool, seed: int) -> Draw:
    """The sequences, and behind them the others if there are some that `y` takes."""
    count = len(places.tokens)
    tokens, selected = places.tokens, places.scored
    partners = {REFERENCE: np.arange(count)}
    if other is not None:
        if len(other) != count:
            raise ScrubError(f"there are {len(other)} other sequences for {count}: give one for each")
        tokens = np.concatenate([tokens, _fitting(other, places, "other")])
        selected = np.concatenate([selected, np.zeros_like(selected)])
        partners = {
            REFERENCE: np.arange(2 * count),
            OTHER: np.concatenate([np.arange(count) + count, np.arange(count)]),
        }
    elif wanted:
        if count < 2:
            raise ScrubError("one sequence has no other to resample from: give more, or ablate by zero")
        partners[OTHER] = pair(count, seed, 0)
    order = np.argsort(places.scored.sum(1), kind="stable")  # sequences with about as many positions: little padding
    return Draw(tokens, selected, partners, order)


def _outputs(experiments: Sequence[Experiment], logits: bool) -> dict[str, Node]:
    outputs = {}
    for each in experiments:
        outputs[f"{LOSS}:{each.name}"] = losses(each.graph)
        if logits:
            outputs[f"{LOGIT}:{each.name}"] = node("pick", each.graph, node("target"))
            outputs[f"{MEAN_LOGIT}:{each.name}"] = node("mean_logit", each.graph)
    return outputs


def _run(
    running: Running, draw: Draw, experiments: Sequence[Experiment], places: Places, settings: Settings
) -> dict[str, Float[np.ndarray, "experiment scored"]]:
    """Each measure [experiment, scored], batch by batch."""
    counts = places.scored.sum(1)
    starts = np.concatenate([[0], counts.cumsum()])
    measures = dict.fromkeys(name.partition(":")[0] for name in running.plan.outputs)
    found = {measure: np.empty((len(experiments), int(counts.sum()))) for measure in measures}
    batches = list(draw.batches(settings.batch))
    with batches_bar(settings.progress) as bar:
        for members in bar.track(batches, description=f"{len(experiments) - 1} interventions on {places.on}"):
            at = np.concatenate([np.arange(starts[each], starts[each + 1]) for each in members])
            with enough_memory(len(members)):
                bound, real = bind(running.leaves, draw, members, running.device)
                values = running(bound)
            for row, each in enumerate(experiments):
                for measure in measures:
                    found[measure][row, at] = values[f"{measure}:{each.name}"][..., 0].double()[real].cpu().numpy()
    return found
