"""The tables of edges and of circuits say every number with its interval."""

from __future__ import annotations

import re
from collections.abc import Iterable

import charted
from rich.console import Console, RenderableType

from scrub.paths.edges import Edge
from scrub.show.tables.circuits import edge_tables, faithfulness_tables
from scrub.text.numbers import Interval


def lines(parts: Iterable[RenderableType]) -> list[list[str]]:
    """What a terminal shows, in cells."""
    console = Console(width=120, color_system=None, highlight=False)
    with console.capture() as shown:
        for part in parts:
            console.print(part)
    return [re.split(r"\s{2,}", line.strip()) for line in shown.get().splitlines() if line.strip(" ─")]


def test_edges_by_rank_with_scores_effects_and_correlations() -> None:
    top = [
        (Edge("a1.3/k", "a0.1"), Interval(-0.5, -0.61, -0.4), Interval(0.45, 0.4, 0.5)),
        (Edge("out", "m0"), Interval(0.00031, 0.0001, 0.0005), None),
    ]
    head, first, second, more, under = lines(edge_tables(top, "logits", 257, {"all 257 edges": Interval(0.9, 0.8, 1)}))
    assert head == ["rank", "edge", "score, logits", "exact effect, logits"]
    assert first == ["1", "a1.3/k/a0.1", "-0.50000 [-0.61000, -0.40000]", "+0.45000 [+0.40000, +0.50000]"]
    assert second == ["2", "out/m0", "+0.00031 [+0.00010, +0.00050]", "-"]
    assert more == ["and 255 more edges, of smaller scores"]
    assert under == ["rank correlation of score and exact effect over all 257 edges: +0.90 [+0.80, +1.00]"]


def test_without_effects_there_is_no_column_of_them() -> None:
    head, *_ = lines(edge_tables([(Edge("out", "m0"), Interval(1.0, 1.0, 1.0), None)], "", 1, between="steps"))
    assert head == ["rank", "step", "score"]


def test_faithfulness_of_every_size() -> None:
    of = charted.circuits()
    head, *rows, cpr, cmd = lines(faithfulness_tables(of, "logit_diff"))
    assert head == ["% of edges", "edges", "connected", "faithfulness, logit_diff"]
    assert " ".join(row[0] for row in rows) == "0.1 0.2 0.5 1 2 5 10 20 50 100"
    assert [row[1:3] for row in rows] == [[str(a), str(c)] for a, c in zip(of.asked, of.connected, strict=True)]
    assert [row[3] for row in rows] == [f"{v.estimate:.3f} [{v.low:.3f}, {v.high:.3f}]" for v in of.values]
    assert cpr[0].startswith(f"CPR {of.cpr.estimate:.3f} [{of.cpr.low:.3f}, {of.cpr.high:.3f}]")
    assert cmd[0].startswith(f"CMD {of.cmd.estimate:.3f} [")
