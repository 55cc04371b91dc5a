"""The tables of circuits: the edges of the largest scores beside their effects, and faithfulness by size."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from math import floor, log10

import pandas as pd
from rich.console import Console, ConsoleOptions, RenderableType
from rich.text import Text

from scrub.data.prompts.prompts import documents_called
from scrub.measure.circuits.attribution import NEAR_X, Attribution
from scrub.measure.circuits.faithfulness import Faithfulness
from scrub.show.scored import Faithful, curves_of
from scrub.show.tables.stream import on
from scrub.text.frames import interval_columns
from scrub.text.numbers import PLAIN, Interval, unit_name
from scrub.text.tables import Column, FrameTable
from scrub.text.wording import gates_line, with_unit

Top = tuple[object, Interval, Interval | None]  # an edge, its score, and its exact effect where it is known
DIGITS, MOST_DIGITS = 3, 7


def shown_attribution(of: Attribution, _console: Console, _options: ConsoleOptions) -> Iterator[RenderableType]:
    """Say what was scored and how, over the edges of the largest scores and the rank correlations."""
    yield Text(f"{of.model.called}: what leaving out each of {of.called} costs, {of.method}; {on(of.examples)}")
    yield Text(
        f"in {of.metric.name}, to first order, and exactly where it was measured; above 0 it makes the metric worse; "
        "sorted by absolute score"
    )
    yield Text(_gates(of))
    ranks = {of.over(some): each for some, each in of.rank_correlation.items()}
    yield from edge_tables(of.top(), of.metric.unit, len(of.edges), ranks, of.unit)


def shown_faithfulness(of: Faithfulness, _console: Console, _options: ConsoleOptions) -> Iterator[RenderableType]:
    """Say which circuit was measured on what, over its sizes, CPR and CMD."""
    yield Text(f"{of.model.called}: {of.name}, {of.edges:,} edges; {on(of.examples)}")
    unit = of.metric.unit
    ends = f"{PLAIN.with_interval(of.whole, DIGITS)} and {PLAIN.with_interval(of.empty, DIGITS)} {unit}"
    yield Text(f"{of.metric.name} of the whole model and of the empty circuit: {ends}")
    yield Text(_gates(of))
    curves = curves_of(of) if of.curve else {}
    yield from faithfulness_tables(curves.get("highest scores", of), of.metric.name, curves.get("largest, any sign"))
    if of.own is not None and of.value_of_own is not None:
        value = PLAIN.with_interval(of.value_of_own, DIGITS)
        yield Text(f"the {of.own.n:,} edges that are in the file's graph ({len(of.own.kept):,} connected): {value}")


def _gates(of: Attribution | Faithfulness) -> str:
    """Say how far the gates saw numbers apart; scores near x, which are compared as shares, have one of their own."""
    nats = {name: apart for name, apart in of.gates.deviations.items() if name != NEAR_X}
    return gates_line(nats, documents_called(of.examples) if len(of.examples) > 1 else None)


def edge_tables(
    top: Sequence[Top],
    unit: str,
    every: int,
    correlations: Mapping[str, Interval] | None = None,
    between: str = "edges",
) -> Iterator[RenderableType]:
    """List the top edges with their scores, and the effects of those where they are known, over the correlations.

    `edge_tables([(edge, score, effect)], "logits", 32491, {"all 32,491 edges": correlation})`: `every` is how many were
    scored, and `correlations` are those of the ranks of scores and effects, by what they are over.
    """
    frame = pd.DataFrame(
        {
            "rank": range(1, len(top) + 1),
            "edge": [str(edge) for edge, _, _ in top],
            **interval_columns("score", [score for _, score, _ in top]),
            **interval_columns("effect", [effect for _, _, effect in top]),
        }
    )
    shown = [("score", "score")]
    if any(effect is not None for _, _, effect in top):
        shown.append(("effect", "exact effect"))
    smallest = min((abs(score.estimate) for _, score, _ in top if score.estimate), default=1.0)
    digits = min(MOST_DIGITS, max(DIGITS, 1 - floor(log10(smallest))))  # two that count, of each score
    columns = [
        Column("rank", digits=0),
        Column("edge", between.removesuffix("s"), left=True),
        *(_interval(name, with_unit(title, unit_name(unit)), digits, sign=True) for name, title in shown),
    ]
    left = every - len(top)
    yield FrameTable(frame, columns, caption=f"and {left:,} more {between}, of smaller scores" if left > 0 else "")
    for what, correlation in (correlations or {}).items():
        said = PLAIN.with_interval(correlation, 2, sign=True)
        yield Text(f"rank correlation of score and exact effect over {what}: {said}")


def faithfulness_tables(of: Faithful, metric: str, by_size: Faithful | None = None) -> Iterator[RenderableType]:
    """List how faithful the circuits of each size are, over CPR and CMD: `faithfulness_tables(found, "logit_diff")`.

    Beside those of the highest scores stand those of the largest ones, `by_size`.
    """
    frame = pd.DataFrame(
        {
            "share": [100 * share for share in of.shares],
            "asked": list(of.asked),
            "connected": list(of.connected),
            **interval_columns("faithfulness", of.values),
        }
    )
    columns = [
        Column("share", "% of edges", 3, kind="g"),
        Column("asked", "edges", 0),
        Column("connected", "connected", 0),
        _interval("faithfulness", f"faithfulness, {metric}", DIGITS),
    ]
    if by_size is not None:
        frame = frame.assign(also=list(by_size.connected), **interval_columns("by size", by_size.values))
        columns += [Column("also", "connected", 0), _interval("by size", "of the largest |score|", DIGITS)]
    yield FrameTable(frame, columns)
    cpr, cmd = of.cpr, of.cmd if by_size is None else by_size.cmd
    if len(of.shares) < 2 or cpr is None or cmd is None:
        return
    largest = "" if by_size is None else " of the largest scores, whatever their sign,"
    yield Text(f"CPR {PLAIN.with_interval(cpr, DIGITS)}: the area below the faithfulness of the highest scores")
    yield Text(
        f"CMD {PLAIN.with_interval(cmd, DIGITS)}: the area between the faithfulness{largest} and 1, less is better"
    )


def _interval(name: str, title: str, digits: int, sign: bool = False) -> Column:
    return Column(name, title, digits, sign, ends=(f"{name}, low", f"{name}, high"), lone=True)
