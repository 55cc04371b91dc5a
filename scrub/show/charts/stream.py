"""Charts of what stands in the residual stream: direct attribution by layer, and the logit lens by position."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pandas as pd

from scrub.measure.stream.direct import REST, DirectAttribution
from scrub.measure.stream.lens import LogitLens
from scrub.paths.splits import attention_heads
from scrub.show.charts.chart import Chart, stacked, token_labels
from scrub.show.charts.heatmap import Side, heat_map
from scrub.show.tables.stream import on
from scrub.study.metric import Metric
from scrub.text.fields import check_arguments
from scrub.text.frames import interval_columns
from scrub.text.numbers import PAGE


@check_arguments
def direct_chart(found: DirectAttribution) -> Chart:
    """Draw what each head and MLP adds directly: layer by head, and the MLPs behind; what isn't in a layer is said."""
    added, layers = found.contributions(), attention_heads(found.model.graph)
    most = max(map(len, layers.values()))
    mlps = any(name.startswith("m") for name in added)
    values = np.full((len(layers), most + mlps), np.nan)
    names = [[""] * values.shape[1] for _ in layers]
    ends = np.full((*values.shape, 2), np.nan)
    for row, (layer, heads) in enumerate(sorted(layers.items())):
        sites = [f"a{layer}.{head}" for head in heads] + ([f"m{layer}"] if mlps else [])
        for column, site in enumerate(sites):
            names[row][column], cell = site, added.get(site)
            if cell is not None:
                values[row, column], ends[row, column] = cell.estimate, (cell.low, cell.high)
    outside = ", ".join(f"{name} {PAGE.with_interval(added[name], 2)}" for name in ("emb", REST) if name in added)
    drawn = heat_map(
        values,
        Side("layer", [str(layer) for layer in sorted(layers)]),
        Side("head" + ", and the MLP" * mlps, [*map(str, range(most)), *(["MLP"] if mlps else [])]),
        unit="logits",
        diverging=True,
        ends=ends,
        names=names,
        title=f"added directly to {_metric(found)}, {on(found.examples)}; besides: {outside} logits",
        caption=f"Through the final norm with its scale as it is{_before(found)}. Besides: {outside}; in all "
        f"{PAGE.with_interval(found.whole, 2)} logits.",
    )
    return replace(drawn, values=found.frame().assign(metric=found.of, unit="logits"))


@check_arguments
def lens_chart(found: LogitLens, metric: str | None = None) -> Chart:
    """Draw metrics, all or one, of the residual stream in front of each layer, by position, below each other."""
    asked = [each for each in found.metrics if metric in {None, each.name}]
    if not asked:
        found.intervals(metric)  # which says what was measured
    charts = {each.name: _lens_panel(found, each) for each in asked}
    title = f"logit lens: {' and '.join(charts)} by layer, {on(found.examples)}"
    return stacked(charts, title)


def _lens_panel(found: LogitLens, of: Metric) -> Chart:
    """Draw one metric."""
    intervals = found.intervals(of.name)
    labels = token_labels(found.labels)
    tops = found.top or [[""] * len(labels)] * len(found.sites)
    names = [
        [f"{site}, {label}{f', top token {top!r}' * bool(top)}" for label, top in zip(labels, row, strict=True)]
        for site, row in zip(found.sites, tops, strict=True)
    ]
    drawn = heat_map(
        [[each.estimate for each in row] for row in intervals],
        Side("site", list(found.sites)),
        Side("position", labels, upright=True),
        unit=of.unit,
        ends=np.array([[(each.low, each.high) for each in row] for row in intervals]),
        names=names,
        title=f"logit lens: {of.name} by layer, {on(found.examples)}",
        caption=f"{of.name} of what the residual stream in front of each layer predicts, through the final norm "
        "and the unembedding; the last is the model's own prediction.",
    )
    values = found.frame()
    ends = interval_columns("estimate", [each for row in intervals for each in row], "low", "high")
    about = {name: values[name] for name in ("site", "position", "top") if name in values}
    return replace(drawn, values=pd.DataFrame({"metric": of.name, "unit": of.unit, **about, **ends}))


def _before(found: DirectAttribution) -> str:
    return "" if found.cap is None else f", before the cap on logits at {found.cap:g}"


def _metric(found: DirectAttribution) -> str:
    return "the answer's logit" if found.of == "logit" else found.of
