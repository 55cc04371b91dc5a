"""Charts as one page of HTML that needs nothing else."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from markupsafe import Markup

from scrub.show.figure import DARK, LIGHT
from scrub.show.rendering import html_page
from scrub.text.numbers import PAGE

if TYPE_CHECKING:
    from scrub.show.charts.chart import Chart  # which can write itself as a page

ROWS = 400  # of a table in a page, at most


@dataclass(frozen=True)
class Entry:
    """A chart of a page: drawn on light and on dark ground, its values as text, and the files beside it."""

    name: str
    chart: Chart
    light: Markup
    dark: Markup
    files: tuple[str, ...] = ()

    @property
    def rows(self) -> list[list[str]]:
        """The values as text, the first of them."""
        return [[_text(value) for value in row] for row in self.chart.values.head(ROWS).itertuples(index=False)]

    @property
    def numeric(self) -> list[bool]:
        """Which columns hold numbers."""
        return [kind.kind in "fiu" for kind in self.chart.values.dtypes]

    @property
    def left_out(self) -> int:
        """How many rows aren't there."""
        return max(0, len(self.chart.values) - ROWS)


def page(
    charts: Mapping[str, Chart], title: str, files: Mapping[str, Sequence[str]] | None = None, lead: str = ""
) -> str:
    """Charts as one page of HTML that needs nothing else, light or dark as the reader prefers."""
    entries = [
        Entry(
            name,
            chart,
            # what matplotlib writes is escaped, and its tips by the writer of XML
            Markup(chart.svg(LIGHT, f"{name}-light")),
            Markup(chart.svg(DARK, f"{name}-dark")),
            tuple((files or {}).get(name, ())),
        )
        for name, chart in charts.items()
    ]
    return html_page("charts.html", title=title, lead=lead, entries=entries)


def _text(value: object) -> str:
    if isinstance(value, float):
        return PAGE.number(value, 4, kind="g")
    return str(value)
