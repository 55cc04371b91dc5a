"""What interventions do: one plan for all of them, and at every scored position the loss, and the logits if asked."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
import torch
from jaxtyping import Float, Int

from scrub.graph.masks import spans
from scrub.graph.node import Node, node, walk
from scrub.measure.heads.places import Places, Tokens
from scrub.measure.interventions.intervention import Intervention, unchanged
from scrub.measure.interventions.values import Arrays, held_values
from scrub.models.model import Model
from scrub.paths.rules import OTHER, REFERENCE, held
from scrub.plan.running import Running
from scrub.study.binding import Draw, bind
from scrub.study.experiments import Experiment, losses
from scrub.study.gates import Gates, check_gates
from scrub.study.measuring import enough_memory
from scrub.study.pairing import pair
from scrub.study.run import DTYPES, Settings
from scrub.study.statistics import Bootstrap
from scrub.text.errors import ScrubError
from scrub.text.numbers import Interval
from scrub.text.progress import batches_bar

LOSS, LOGIT, MEAN_LOGIT = "loss", "logit", "mean logit"
AT_ONCE = 256  # experiments in one plan
USUAL = (
    300  # positions of the sequences that a batch counts: of shorter ones, such as prompts, more are computed at once
)


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
        return np.asarray(np.exp(-self.values[LOSS]))

    def sums(self, values: Float[np.ndarray, "some scored"]) -> Float[np.ndarray, "some sequence"]:
        """The sum over the scored positions of each sequence; 0 where it has none."""
        ends = np.concatenate([[0], self.counts.cumsum()])
        running = np.concatenate([np.zeros((len(values), 1)), values.cumsum(1)], axis=1)
        return np.asarray(running[:, ends[1:]] - running[:, ends[:-1]])

    def resampled(self, values: Float[np.ndarray, "some scored"]) -> Float[np.ndarray, "some one_plus_resample"]:
        """Means over all positions, and those of the bootstrap's resamples of sequences."""
        means: np.ndarray = Bootstrap(self.counts, self.seed).means(self.sums(values))
        return means

    def interval(self, values: Float[np.ndarray, "some scored"]) -> list[Interval]:
        """The mean of each over all positions, with its 95 % interval over sequences. One sequence has none: both of
        its ends are the mean."""
        return [Bootstrap.interval(each) for each in self.resampled(values)]

    def of(self, members: Int[np.ndarray, " member"]) -> Effects:
        """The same effects on some of the sequences, by their numbers in ascending order."""
        kept = np.repeat(np.isin(np.arange(len(self.counts)), members), self.counts)
        values = {measure: found[:, kept] for measure, found in self.values.items()}
        return replace(self, places=self.places.of_sequences(members), values=values)

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
    The experiments are in one plan, AT_ONCE of them if there are more.
    Raises ScrubError for what doesn't fit, and GateError if a gate fails.
    """
    asked = settings or Settings()
    model = model.to(DTYPES[asked.dtype], asked.where)
    places.check(model)
    experiments = [each.experiment(model.graph, model.roles) for each in interventions]
    _check_names([unchanged(model.graph), *experiments])
    _check_positions(experiments, places)
    draw = _draw(places, other, any(OTHER in each.sources for each in experiments), asked.seed)
    rows = places.tokens if reference is None else _fitting(reference, places, "reference")
    chunks = [experiments[start : start + AT_ONCE] for start in range(0, len(experiments), AT_ONCE)]
    found = [
        _measure([unchanged(model.graph), *each], model, draw, places, rows, arrays, logits, asked) for each in chunks
    ]
    return _joined(found)


def _measure(
    experiments: Sequence[Experiment],
    model: Model,
    draw: Draw,
    places: Places,
    reference: Tokens,
    arrays: Arrays | None,
    logits: bool,
    settings: Settings,
) -> Effects:
    """The effects of experiments in one plan, the first of them the unchanged model."""
    leaves = held(each.graph for each in experiments)
    values = held_values(leaves, model, reference, arrays, settings.batch)
    dtypes = list(dict.fromkeys([torch.float64, torch.float32, DTYPES[settings.dtype]]))
    with batches_bar(settings.progress) as bar:
        bar.add_task(f"gates of {len(experiments) - 1} interventions", total=None)
        gates = check_gates(experiments, model.graph, model.params, draw, dtypes, values, quiet=True)
    outputs = _outputs(experiments, logits)
    running = Running(outputs, model.params, places.scored.shape[1], model.device, values)
    found = _run(running, draw, experiments, places, settings)
    return Effects(places, [each.name for each in experiments], found, gates, settings.seed)


def _joined(parts: Sequence[Effects]) -> Effects:
    """The effects of several plans, all of which begin with the unchanged model."""
    first, *others = parts
    values = {
        measure: np.concatenate([found, *(each.values[measure][1:] for each in others)])
        for measure, found in first.values.items()
    }
    deviations = {name: max(each.gates.deviations[name] for each in parts) for name in first.gates.deviations}
    warnings = dict.fromkeys(text for each in parts for text in each.gates.warnings)
    names = [*first.names, *(name for each in others for name in each.names[1:])]
    return replace(first, names=names, values=values, gates=Gates(deviations, tuple(warnings)))


def _check_names(experiments: Sequence[Experiment]) -> None:
    names = [each.name for each in experiments]
    if len(names) < 2:  # nothing but the unchanged model
        raise ScrubError("there is no intervention to measure: name a site, as in a1.3")
    if twice := [name for name in names if names.count(name) > 1]:
        raise ScrubError(f"the intervention {twice[0]!r} is named twice: results are told apart by name")


def _check_positions(experiments: Sequence[Experiment], places: Places) -> None:
    positions = places.scored.shape[1]
    named = {str(n.arguments["positions"]) for n in walk(e.graph for e in experiments) if n.op == "at_positions"}
    for text in sorted(named):
        if max(last for _, last in spans(text)) >= positions:
            raise ScrubError(f"there are no positions {text} here: the {places.on} have 0 to {positions - 1}")


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
    batches = list(draw.batches(settings.batch * max(1, USUAL // places.scored.shape[1])))
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
