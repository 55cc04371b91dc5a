"""Charts of what interventions did: of ablations and of patches."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from scrub.interventions.ablation import EFFECT, Ablation
from scrub.interventions.effects import LOSS
from scrub.interventions.patching import PROBABILITY, Patching
from scrub.interventions.sites import heads
from scrub.show.charts.ablation import loss_bars
from scrub.show.charts.chart import Chart, token_labels
from scrub.show.charts.heatmap import Side, head_map, heat_map
from scrub.show.charts.patching import WHOLE, recovery_bars

LONGEST = 40  # bars, the largest on top


def ablation_chart(found: Ablation, kind: str = EFFECT) -> Chart:
    """A score of every head if each was ablated, or the loss before and after each ablation, the largest on top."""
    if set(heads(found.model.graph)) <= set(found.names):
        return head_map(found.head_score(kind))
    after = found.effects.interval(found.effects.values[LOSS][1:])
    order = sorted(range(len(after)), key=lambda at: -after[at].estimate)[:LONGEST]
    title = f"loss before and after ablation ({found.how}), {found.effects.places.on}"
    return loss_bars([found.names[at] for at in order], [after[at] for at in order], found.before["loss"], title)


def patching_chart(found: Patching, measure: str = PROBABILITY, tokens: Sequence[str] | None = None) -> Chart:
    """Percent recovered as a table where it is one (see :meth:`Patching.grid`), else as bars, the largest on top.

    `tokens` are the texts of the positions, where every position was patched.
    """
    title = f"recovered in {measure}, {found.direction}"
    every_position = all(position is not None for _, position in found.sites)
    if not every_position and [site for site, _ in found.sites] != heads(found.model.graph):
        recovered = found.recovered(measure)
        order = sorted(range(len(recovered)), key=lambda at: -recovered[at].estimate)[:LONGEST]
        return recovery_bars([found.names[at] for at in order], [recovered[at] for at in order], title)
    grid = found.grid(measure)
    values = grid.to_numpy()
    columns = token_labels(tokens) if tokens is not None and every_position else [str(each) for each in grid.columns]
    largest = float(np.nanmax(np.abs(values), initial=0.0)) if np.isfinite(values).any() else 0.0
    return heat_map(
        values,
        Side(str(grid.index.name), [str(each) for each in grid.index]),
        Side(str(grid.columns.name), columns, upright=tokens is not None and every_position),
        unit="percent",
        diverging=True,
        limit=max(WHOLE, largest),
        title=title,
        caption="Recovered is (patched - corrupted) / (clean - corrupted): 0 % is corrupted, 100 % clean.",
    )
