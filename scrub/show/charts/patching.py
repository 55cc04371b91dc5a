"""What patching recovers: as a table of layers by heads or positions, and as bars between clean and corrupted."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd
from jaxtyping import Float

from scrub.errors import ScrubError
from scrub.measure.score import Head
from scrub.show.charts.bars import Bars, bars_figure
from scrub.show.charts.chart import Chart, token_labels
from scrub.show.charts.heatmap import Side, heat_map
from scrub.show.figure import Plot, Theme
from scrub.study.statistics import Interval

WHOLE = 100.0  # percent recovered where the clean input is
_SAYS = "Recovered is (patched - corrupted) / (clean - corrupted): 0 % is the corrupted prompt, 100 % the clean one."


def recovery_map(
    recovered: Float[np.ndarray, "layer place"],
    tokens: Sequence[str] | None = None,
    place: str = "",
    marked: Sequence[Head] = (),
    title: str = "",
    caption: str = "",
) -> Chart:
    """Percent recovered by patching each layer at each position, or each head of it where no tokens are given.

    `place` is what the columns are called. Raises ScrubError unless there is a token for each column.
    """
    recovered = np.asarray(recovered, dtype=np.float64)
    layers, places = recovered.shape
    labels = [str(at) for at in range(places)] if tokens is None else token_labels(tokens)
    return heat_map(
        recovered,
        Side("layer", [str(layer) for layer in range(layers)]),
        Side(place or ("head" if tokens is None else "position"), labels, upright=tokens is not None),
        unit="percent",
        diverging=True,
        limit=max(WHOLE, float(np.nanmax(np.abs(recovered), initial=0.0))),
        marked=marked,
        names=None if tokens is None else [_places(layer, labels) for layer in range(layers)],
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


def _places(layer: int, labels: Sequence[str]) -> list[str]:
    return [f"layer {layer}, position {at} {label}" for at, label in enumerate(labels)]
