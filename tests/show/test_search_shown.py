"""Tables and charts of a search say its numbers, whatever its size, and names in the chart lie apart."""

from __future__ import annotations

from dataclasses import replace
from itertools import combinations

import numpy as np
import pytest
from charted import said, texts, tips

from scrub.measure.search.cells import Cell
from scrub.measure.search.found import REPORT, SEARCH, STOP, Beside, Found, Point
from scrub.show.charts.search import found_chart
from scrub.study.gates import Gates
from scrub.study.hypothesis import Hypothesis
from scrub.text.looks import WIDTH
from scrub.text.numbers import Interval

WRITTEN = {"naive": (3, 17.0), "refined_1": (26, 66.0), "refined_2": (59, 72.0), "refined_3": (71, 88.4)}
WRITTEN |= {"refined_4": (99, 86.9), "refined_5": (99, 88.0)}


def about(value: float) -> Interval:
    return Interval(value, value - 7.3, value + 8.1)


def found(size: int, below: float = 0.0) -> Found:
    """A search with a cell a step."""
    kinds = "current", "previous", "lag 2", "rest"
    cells = [Cell(f"a1.ind/{'qkv'[n % 3]}", f"a0.{n % 7}", kinds[n % 4]) for n in range(size)]
    points = []
    for n in range(1, size + 1):
        value = 78 * (1 - np.exp(-n / 7)) + below
        on = {SEARCH: about(value + 3.3), STOP: about(value - 1.1), REPORT: about(value)}
        points.append(
            Point(tuple(cells[:n]), (cells[n - 1],), (), 9.7, 5.5, Interval(4.1, 1.2, 8.3), on, 100 - n, 1.3, 0.7)
        )
    rng = np.random.default_rng(size)
    sizes = [*sorted({1, size}) * 8, *[size] * 12]
    return Found(
        "induction", "attn2l", "stdlib", "loss", "nats", ("masks",), 1, 99, points,
        Hypothesis("q  a1.ind/q/** -> y", name="found", study="induction"), about(79.0),
        random=[Beside(f"random {at}", of, about(4 + rng.normal())) for at, of in enumerate(sizes)],
        hypotheses=[Beside(name, of, about(value)) for name, (of, value) in WRITTEN.items()],
        overlaps=(0.25, 0.75),
        rival=Beside("rival", size, about(21.0), Interval(30.0, 20.0, 40.0)),
        sizes=dict.fromkeys((SEARCH, STOP, REPORT), "8 sequences"),
        exact=1234, screens=17, command="scrub run found.py --fold report",
        gates=Gates({"float64": 1e-6}, ()),
    )  # fmt: skip


@pytest.mark.parametrize("size", [1, 3, 32])
def test_the_tables_say_every_number(size: int) -> None:
    of = found(size)
    lines = repr(of).splitlines()
    assert max(map(len, lines)) <= WIDTH
    text = " ".join(" ".join(lines).split())
    best, last = of.best.recovered, of.points[-1]
    row = f"{size} + {last.added[0].place}/{last.added[0].label} +9.7 +5.5 {best[SEARCH].estimate:.1f} "
    row += f"{best[STOP].estimate:.1f} {best[REPORT].estimate:.1f} [{best[REPORT].low:.1f}, {best[REPORT].high:.1f}]"
    assert f"{row} {last.scrubs:.1f}" in text
    for what in (
        "naive 3 17.0 [9.7, 25.1]" + " no list of that size",
        f"rival {size} 21.0 [13.7, 29.1] +30.0 [+20.0, +40.0]",
        "all cells 99 79.0 [71.7, 87.1]",
        "among 99 cells (masks, depth 1), by loss, nats",
        "shares 50 % of the cells with this list on average (Jaccard; each: 25, 75)",
        "1,234 lists of cells were measured on the fold search, and 17 times all in reach scored",
    ):
        assert what in text
    same = [each.recovered.estimate for each in of.random if each.size == size]
    mean, least, most = np.mean(same), min(same), max(same)
    assert f"{len(same)} random lists, mean {size} {mean:.1f} ({least:.1f} to {most:.1f})" in text


def test_a_long_start_is_cut_and_counted() -> None:
    of = found(19)
    start = replace(of.best, added=of.best.cells, gain=float("nan"), expected=float("nan"))
    text = " ".join(repr(replace(of, points=[start])).split())
    assert "19 + a1.ind/q/a0.0[current] - -" in text
    assert "and 13 more" in text
    step = replace(of, points=[start]).json()["steps"][0]
    assert (step["gain"], step["expected"], len(step["added"])) == (None, None, 19), "JSON has all, and no NaN"


@pytest.mark.parametrize(("size", "below"), [(1, 0.0), (3, 0.0), (12, -150.0), (32, 0.0)])
def test_the_chart_draws_every_number(size: int, below: float) -> None:
    of = found(size, below)
    chart = found_chart(of)
    rows = chart.values
    report = rows[(rows["what"] == "found") & (rows["fold"] == REPORT)]
    wanted = [point.recovered[REPORT].estimate for point in of.points]
    assert list(report["recovered"]) == wanted
    assert len(rows) == 3 * size + len(of.hypotheses) + len(of.random) + 2
    figure = chart.figure()
    axes = figure.axes[0]
    curve = next(line for line in axes.lines if line.get_label() == "found, on report (not seen)")
    assert np.allclose(
        curve.get_xydata(), [(point.size, value) for point, value in zip(of.points, wanted, strict=True)]
    )
    low, high = axes.get_ylim()
    left, right = axes.get_xlim()
    every = [*wanted, 79.0, 0.0, 21.0, *(value for _, value in WRITTEN.values())]
    assert low < min(every) <= max(every) < high
    assert left < 1
    assert right > 99
    by_tip = {tip.split(":")[0]: said(tip) for tip in tips(chart) if not tip.startswith("random")}
    assert by_tip[f"{size} cell{'s' * (size > 1)}, report"] == pytest.approx(wanted[-1], abs=0.051)
    assert by_tip["refined_1, 26 cells"] == 66.0
    assert f"rival, {size} cell{'s' * (size > 1)}" in by_tip
    assert sum(tip.startswith("random") for tip in tips(chart)) == len(of.random)
    assert {*WRITTEN} <= {*texts(chart)}
    for suffix in (".png", ".svg", ".pdf", ".html", ".csv"):
        assert chart.content(suffix)


@pytest.mark.parametrize("size", [3, 12, 32])
def test_names_lie_apart_and_on_no_point(size: int) -> None:
    figure = found_chart(found(size)).figure()
    figure.draw_without_rendering()
    axes = figure.axes[0]
    boxes = {text.get_text(): text.get_window_extent() for text in axes.texts}
    assert {*boxes} == {*WRITTEN}
    assert not any(a.overlaps(b) for a, b in combinations(boxes.values(), 2))
    for each, value in WRITTEN.values():
        x, y = axes.transData.transform((each, value))
        assert not any(box.contains(x, y) for box in boxes.values())
    assert all(axes.bbox.padded(4).contains(*corner) for box in boxes.values() for corner in (box.min, box.max))


def test_what_keeps_nothing_has_no_place() -> None:
    of = replace(found(3), hypotheses=[Beside("nothing_kept", 0, about(0.0))], rival=None, random=())
    chart = found_chart(of)
    assert "Not drawn, since they keep nothing of any cell: nothing_kept." in chart.caption
    assert not chart.figure().axes[0].texts


def test_warnings_are_in_the_prose() -> None:
    assert "Warning: it is too much." in replace(found(3), warnings=("it is too much",)).module
    assert "Warning" not in found(3).module
