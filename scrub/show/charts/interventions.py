"""Charts of what interventions did: of ablations and of patches."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd

from scrub.data.examples import PROMPTS, Examples
from scrub.data.prompts.prompts import GIVEN, position_texts, prompts_called
from scrub.measure.interventions.ablation import COSTS, EFFECT, Ablation
from scrub.measure.interventions.patching import INTO_CLEAN, Patching, named
from scrub.paths.sites import STREAM, heads
from scrub.show.charts.bars import Bars, bars_chart
from scrub.show.charts.chart import Chart, stacked, token_labels
from scrub.show.charts.heatmap import Side, head_map, heat_map
from scrub.study.metric import LOSS, Metric
from scrub.text.fields import check_arguments
from scrub.text.frames import interval_columns
from scrub.text.numbers import Interval

LONGEST_BARS = 40  # of a chart, the largest on top
_LOST = "Lost is (clean - patched) / (clean - corrupted): 0 % is the clean prompt, 100 % the corrupted one."
WHOLE_PERCENT = 100.0  # recovered where the clean input is
_RECOVERED = (
    "Recovered is (patched - corrupted) / (clean - corrupted): 0 % is the corrupted prompt, 100 % the clean one."
)


@check_arguments
def ablation_chart(found: Ablation, kind: str | None = None) -> Chart:
    """Draw a score of every head if each was ablated, or a metric before and after each ablation, worst on top.

    The score is one of ABLATIONS or a metric that was asked for, by default all of these below each other, else the
    effect on the probability. Without metrics, bars are of the loss.
    """
    if set(heads(found.model.graph)) <= set(found.names):
        names = [kind] if kind else [metric.name for metric in found.metrics] or [EFFECT]
        maps = {name: head_map(found.head_score(name)) for name in names}
        units = {name: found.head_score(name).unit for name in names}
        return _of_metrics(maps, units, f"{' and '.join(names)}: how much worse without each head ({found.how})")
    metrics = [each for each in found.metrics if kind in {None, each.name}] or [LOSS]
    bars = {metric.name: _ablation_bars(found, metric) for metric in metrics}
    title = f"{' and '.join(bars)} before and after ablation ({found.how}), {_on(found.effects.examples)}"
    return _of_metrics(bars, {metric.name: metric.unit for metric in metrics}, title)


def _ablation_bars(found: Ablation, metric: Metric) -> Chart:
    before, *after = found.effects.interval(found.effects.values[metric.name])
    falls = -1 if metric.name in COSTS else 1
    order = sorted(range(len(after)), key=lambda at: falls * after[at].estimate)[:LONGEST_BARS]
    title = f"{metric.name} before and after ablation ({found.how}), {_on(found.effects.examples)}"
    return loss_bars([found.names[at] for at in order], [after[at] for at in order], before, title, metric)


@check_arguments
def patching_chart(found: Patching, measure: str | None = None, tokens: Sequence[str] | None = None) -> Chart:
    """Draw percent recovered as a table where it is one (see :meth:`Patching.grid`), else as bars, the largest on top.

    Of what is patched back, it is the percent lost: what the corrupted run takes away. `measure` is the metric, by
    default all of them below each other. `tokens` are the texts of the positions, where every position was
    patched: by default those of a single prompt, and the names of positions that all have in one place.
    """
    measures = [measure] if measure else list(found.measures)
    said = _change(found)
    charts = {f"{each} {said}": _patching_panel(found, each, tokens) for each in measures}
    title = f"{_what(found)}, {found.direction}: {' and '.join(measures)} {said}, {_pairs(found.pairs)}"
    values = [chart.values.assign(metric=each) for each, chart in zip(measures, charts.values(), strict=True)]
    return replace(stacked(charts, title), title=title, values=pd.concat(values).assign(unit=f"percent {said}"))


def _patching_panel(found: Patching, measure: str, tokens: Sequence[str] | None) -> Chart:
    """Draw one metric."""
    every_position = all(position is not None for _, position in found.sites)
    back, changed = found.direction == INTO_CLEAN, found.recovered(measure)
    if back:  # so that what is taken away is seen
        changed = [Interval(*(WHOLE_PERCENT - end for end in (e.estimate, e.high, e.low))) for e in changed]
    if not every_position and [site for site, _ in found.sites] != heads(found.model.graph):
        order = sorted(range(len(changed)), key=lambda at: -changed[at].estimate)[:LONGEST_BARS]
        return recovery_bars([found.names[at] for at in order], [changed[at] for at in order], back=back)
    grid = found.laid_out([each.estimate for each in changed])
    if every_position and tokens is None:
        texts = position_texts(found.pairs, found.model.tokenizer)
        at_each: list[Any] = list(grid.columns)
        tokens = [at if isinstance(at, str) else texts[at] for at in at_each]
    drawn = recovery_map(grid, tokens if every_position else None, back=back)
    ends = interval_columns(_change(found), changed, "low", "high")
    return replace(drawn, values=found.frame()[["site", *["position"] * every_position]].assign(**ends))


def _change(found: Patching) -> str:
    """Say what a percentage of a patch is of."""
    return "lost" if found.direction == INTO_CLEAN else "recovered"


def _of_metrics(charts: Mapping[str, Chart], units: Mapping[str, str], title: str) -> Chart:
    """Put charts of metrics below each other, if there are several; their values name the metric and its unit."""
    values = [chart.values.assign(metric=name, unit=units[name]) for name, chart in charts.items()]
    return replace(stacked(charts, title), values=pd.concat(values))


def loss_bars(
    names: Sequence[str], after: Sequence[Interval], before: Interval, title: str = "", metric: Metric = LOSS
) -> Chart:
    """Draw the loss, or another metric, after each ablation, with 95 % intervals, as bars that begin at that before.

    Raises ScrubError unless there is a name for each, and at least one.
    """
    lines, band = ((before.estimate, "before"),), (before.low, before.high)
    bars = Bars(list(names), list(after), metric.unit, start=before.estimate, lines=lines, band=band)
    ends = interval_columns("estimate", [before, *after], "low", "high")
    said = f"The {metric.name} after each ablation; bars begin at that before"
    said += "." if before.exact else ", the band around which is its 95 % interval."
    frame = pd.DataFrame({"ablated": ["(nothing)", *names], **ends})
    return bars_chart(bars, "ablated", title or f"{metric.name} before and after ablation", said, frame)


def recovery_map(grid: pd.DataFrame, tokens: Sequence[str] | None = None, title: str = "", back: bool = False) -> Chart:
    """Draw percent recovered as a table with named axes, such as :meth:`Patching.grid` gives: layer by head, or site by
    position, whose `tokens` may be given; patched `back`, percent lost, on a scale of its own size.

    Raises ScrubError unless there is a token for each column.
    """
    values = grid.to_numpy(dtype=np.float64)
    columns = [str(each) for each in grid.columns] if tokens is None else token_labels(tokens)
    rows, down, across = [str(each) for each in grid.index], str(grid.index.name), str(grid.columns.name)
    largest = float(np.nanmax(np.abs(values), initial=0.0)) if np.isfinite(values).any() else 0.0
    return heat_map(
        values,
        Side(down, rows),
        Side(across, columns, upright=tokens is not None),
        unit="percent",
        diverging=True,
        limit=largest if back else max(WHOLE_PERCENT, largest),
        names=None if tokens is None else [_places(row, list(grid.columns), columns) for row in rows],
        title=title or f"{'lost' if back else 'recovered'} by patching",
        caption=_LOST if back else _RECOVERED,
    )


def recovery_bars(names: Sequence[str], recovered: Sequence[Interval], title: str = "", back: bool = False) -> Chart:
    """Draw percent recovered by each patch, or lost if patched `back`, with 95 % intervals, between lines for corrupted
    and clean.

    Raises ScrubError unless there is a name for each, and at least one.
    """
    first, last = ("clean", "corrupted") if back else ("corrupted", "clean")
    bars = Bars(list(names), list(recovered), "percent", lines=((0.0, first), (WHOLE_PERCENT, last)))
    title = title or f"{'lost' if back else 'recovered'} by patching"
    return bars_chart(bars, "patched", title, _LOST if back else _RECOVERED)


def _on(examples: Examples) -> str:
    """Say how many of what the losses are of."""
    count, kind = len(examples), examples.kind
    return _counted(count, "prompt") if kind == PROMPTS else f"{_counted(count, 'sequence')} of {kind}"


def _what(found: Patching) -> str:
    """Say what was patched, in a word if it is all of a kind."""
    sites = list(dict.fromkeys(site for site, _ in found.sites))
    at = found.sites[0][1]
    every = "" if at is None else ", position by position" if isinstance(at, int) else " at positions with a name"
    if sites == heads(found.model.graph):
        return f"heads patched{every}"
    if all(site.startswith(STREAM) for site in sites):
        return f"residual stream patched{every}"
    return f"{sites[0] if len(sites) == 1 else f'{len(sites)} sites'} patched{every}"


def _pairs(pairs: Examples) -> str:
    """Say how many pairs of what there are."""
    if pairs.kind == PROMPTS:
        return f"{_counted(len(pairs), 'pair')} of {'prompts' if pairs.name == GIVEN else prompts_called(pairs)}"
    return _counted(len(pairs), "pair")


def _counted(count: int, what: str) -> str:
    return f"{count:,} {what}{'' if count == 1 else 's'}"


def _places(site: str, positions: Iterable[Any], labels: Sequence[str]) -> list[str]:
    """Name cells: by the name of their position, or by its number and what stands there."""
    return [
        named(site, at) if isinstance(at, str) else f"{site}, position {at} {label}"
        for at, label in zip(positions, labels, strict=True)
    ]
