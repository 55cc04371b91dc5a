"""What patching recovers: as a table of layers by heads or positions, and as bars between clean and corrupted."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd

from scrub.show.charts.bars import Bars, bars_figure
from scrub.show.charts.chart import Chart, token_labels
from scrub.show.charts.heatmap import Side, heat_map
from scrub.show.figure import Plot, Theme
from scrub.text.errors import ScrubError
from scrub.text.numbers import Interval

WHOLE = 100.0  # percent recovered where the clean input is
_SAYS = "Recovered is (patched - corrupted) / (clean - corrupted): 0 % is the corrupted prompt, 100 % the clean one."


def recovery_map(grid: pd.DataFrame, tokens: Sequence[str] | None = None, title: str = "", caption: str = "") -> Chart:
    """Percent recovered as a table with named axes, such as :meth:`Patching.grid` gives: layer by head, or site by
    position, whose `tokens` may be given. Raises ScrubError unless there is a token for each column.
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
        limit=max(WHOLE, largest),
        names=None if tokens is None else [_places(row, columns) for row in rows],
        title=title or "recovered by patching",
        caption=caption or _SAYS,
    )


def recovery_bars(names: Sequence[str], recovered: Sequence[Interval], title: str = "", caption: str = "") -> Chart:
    """Percent recovered by each patch of a sweep, with 95 % intervals, between lines for corrupted and clean.

    Raises ScrubError unless there is a name for each, and at least one.
    """
    if len(names) != len(recovered) or not names:
        raise ScrubError(f"{len(recovered)} results of patching can't have {len(names)} names: give one for each")
    bars = Bars(list(names), list(recovered), "percent", lines=((0.0, "corrupted"), (WHOLE, "clean")))

    def draw(theme: Theme) -> Plot:
        return bars_figure(theme, [bars])

    frame = pd.DataFrame({"patched": list(names), **dict(zip(("estimate", "low", "high"), bars.ends.T, strict=True))})
    return Chart(title or "recovered by patching", caption or f"{_SAYS}{bars.says}", frame, draw)


def _places(site: str, labels: Sequence[str]) -> list[str]:
    return [f"{site}, position {at} {label}" for at, label in enumerate(labels)]
