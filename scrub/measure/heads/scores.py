"""Scores of every head that are read from the unchanged model, all that are asked for in one pass.

Nothing is intervened on: they say what heads look at and write, not what depends on them.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from jaxtyping import Bool, Float
from torch import Tensor

from scrub.data.examples import TARGET, Examples
from scrub.data.for_model import check_on, examples_of
from scrub.data.repeated import NOWHERE
from scrub.graph.node import Node
from scrub.measure.heads.definitions import DEFINITIONS, Definition, definition, lag_of, place_of
from scrub.measure.heads.reading import PREDICTION, READINGS, SLOPE, Anatomy, LayerRun, Rows, reading
from scrub.measure.heads.score import Scores
from scrub.models.model import Model, Spec, as_model
from scrub.study.metric import losses
from scrub.study.read import read
from scrub.text.errors import ScrubError
from scrub.text.fields import check_arguments
from scrub.text.progress import bar_of

LOSS = "loss"


@check_arguments
def score_heads(
    model: Spec,
    on: Examples | Any,
    names: Sequence[str] | None = None,
    seed: int = 0,
    progress: bool = False,
) -> Scores:
    """Score every head of an unsplit model by name, keeping what each score was in every sequence.

    `score_heads(model, prompts, ["direct effect"])["direct effect"].top(5)`. `on` are examples: prompts (scored at
    their query), text, or tokens of text (scored from position 2 on). `names` are of READINGS, or `lag 100`; by default
    all of READINGS that can be measured there. `seed` is that of the intervals' resamples.
    Raises ScrubError for a name that is none or isn't measured there, and for sequences that the model can't read.
    """
    model, examples = as_model(model), examples_of(on)
    check_on(examples, model)
    asked = _asked(examples, names)
    return _scored(model, examples, asked, seed, progress, {})[0] if asked else Scores()


def scores_and_losses(
    model: Model, examples: Examples, names: Sequence[str], seed: int = 0, progress: bool = False
) -> tuple[Scores, Float[np.ndarray, "sequence position"]]:
    """Score every head as :func:`score_heads` does, and measure the loss in nats at every position, in one pass."""
    found, beside = _scored(model, examples, _asked(examples, names), seed, progress, {LOSS: losses(model.graph)})
    return found, np.concatenate(beside[LOSS])


def _scored(
    model: Model,
    examples: Examples,
    asked: Sequence[Definition],
    seed: int,
    progress: bool,
    beside: Mapping[str, Node],
) -> tuple[Scores, dict[str, list[np.ndarray]]]:
    """Score every head, and read nodes of one number a position beside that: of those give each batch's, everywhere."""
    needs = frozenset[str]().union(*(reading(each.name).needs for each in asked))
    sums: dict[str, list[np.ndarray]] = {each.name: [] for each in asked}
    counts: dict[str, list[np.ndarray]] = {each.name: [] for each in asked}
    read_beside: dict[str, list[np.ndarray]] = {name: [] for name in beside}
    with bar_of("sequences", progress) as bar:
        task = bar.add_task(f"scores on {examples.kind}", total=len(examples))
        for rows, layers, real, values in _rows(model, examples, needs, beside):
            for each in asked:
                inside, counted = _sums(each.name, rows, layers, real)
                sums[each.name].append(inside)
                counts[each.name].append(counted)
            for name, parts in read_beside.items():
                parts.append(values[name][..., 0].double().cpu().numpy())
            bar.advance(task, len(real))
    found = Scores()
    for of in asked:
        inside, counted = np.concatenate(sums[of.name]), np.concatenate(counts[of.name])
        found[of.name] = of.score(examples.kind, inside, counted, seed, examples.documents)
    return found, read_beside


def _asked(examples: Examples, names: Iterable[str] | None) -> list[Definition]:
    if examples.labels is not None:
        raise ScrubError(
            "scores of heads are about the tokens that are predicted, and these examples have labels: look at their "
            "attention patterns, or ablate the heads"
        )
    if names is None:
        return [DEFINITIONS[n] for n in READINGS if examples.kind in DEFINITIONS[n].on and _has_target(n, examples)]
    asked = [definition(name) for name in dict.fromkeys(names)]
    positions = examples.context
    for score in asked:
        if (place := place_of(score.name)) is not None:
            examples.check_names([place])
        elif score.name not in READINGS and lag_of(score.name) is None:
            raise ScrubError(f"{score.name!r} isn't read from the unchanged model: read are {', '.join(READINGS)}")
        if examples.kind not in score.on:
            raise ScrubError(
                f"{score.name!r} is measured on {' and '.join(score.on)}, not on {examples.kind}: leave it out"
            )
        if (lag_of(score.name) or 0) >= positions:
            raise ScrubError(f"{score.name!r} looks further back than the {positions} positions of the {examples.kind}")
    return asked


def _has_target(name: str, examples: Examples) -> bool:
    """Tell whether it is known where a score's target is: prompts need not repeat anything."""
    return name != "attention to target" or examples.copied is not None or TARGET in examples.positions


def _rows(
    model: Model, examples: Examples, needs: frozenset[str], beside: Mapping[str, Node]
) -> Iterator[tuple[Rows, list[LayerRun], Bool[Tensor, "batch row"], Mapping[str, Tensor]]]:
    """Read each batch's scored rows, what every layer did there, and which rows are real, not padding.

    With nodes that are read `beside`, rows are all positions, of which the scored ones are real. What was read is last.
    """
    anatomy = Anatomy.of(model.graph)
    table, weights = anatomy.table(model), anatomy.weights(model)
    copied = examples.copied
    if copied is None:
        target = examples.positions.get(TARGET, np.full(len(examples), NOWHERE))
        copied = np.repeat(target[:, None], examples.context, axis=1)
    in_order = np.arange(int(examples.counts.max()))[None] < examples.counts[:, None]  # in front of the padding
    start, (chosen, scored) = 0, (None, examples.scored) if beside else (examples.scored, in_order)
    for query, values in read(model, {**anatomy.outputs(needs), **beside}, examples.tokens, chosen):
        here = slice(start, start + len(query))
        start += len(query)
        tokens, to = (
            torch.from_numpy(np.ascontiguousarray(array[here])).long().to(model.device)
            for array in (examples.tokens, copied)
        )
        real = torch.from_numpy(np.ascontiguousarray(scored[here])).to(model.device)
        following, to = tokens[:, 1:].gather(1, query), to.gather(1, query)
        places = {
            name: torch.from_numpy(np.ascontiguousarray(at[here])).to(model.device)
            for name, at in examples.positions.items()
        }
        rows = Rows(tokens[:, :-1], query, following, to, places, table, values.get(PREDICTION), values.get(SLOPE))
        yield rows, anatomy.runs(values, weights), real, values


@torch.inference_mode()
def _sums(
    name: str, rows: Rows, layers: Sequence[LayerRun], real: Bool[Tensor, "batch row"]
) -> tuple[np.ndarray, np.ndarray]:
    counted, read = reading(name).prepare(rows)
    counted = counted & real
    inside = [(read(layer).double() * counted[:, None]).sum(-1) for layer in layers]
    return torch.stack(inside, 1).cpu().numpy(), counted.sum(1).cpu().numpy()
