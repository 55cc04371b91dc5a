"""Tables of what was measured of a model's components: ablation, patching, composition, single paths and roles."""

from __future__ import annotations

from collections.abc import Sequence

import pandas as pd

from scrub.measure.heads.mechanism import Mechanism
from scrub.measure.heads.roles import RoleEvidence
from scrub.measure.interventions.ablation import DIFFERENTIAL, EFFECT, LOG_EFFECT, SHIFT, Ablation
from scrub.measure.interventions.patching import LOG_PROBABILITY, MEASURES, Patching
from scrub.measure.weights.links import Links
from scrub.text.tables import Column, FrameTable
from scrub.text.tokens import marked, visible

SHOWN_TOKENS = 10  # of each experiment, those whose loss changes most
SHOWN_POSITIONS = 24  # columns of a table of percentages


def ablation_table(ablation: Ablation) -> FrameTable:
    """List the experiments, the largest rise of the loss first."""
    frame = ablation.frame().sort_values(LOG_EFFECT, ascending=False, kind="stable")
    titles = {
        "loss after": "loss after",
        LOG_EFFECT: "rise",
        "probability after": "P(target) after",
        EFFECT: "P before - after",
        SHIFT: "uniform shift",
        DIFFERENTIAL: "differential effect",
    }
    return FrameTable(frame, [Column("ablated"), *(_interval(name, title, 3) for name, title in titles.items())])


def ablated_tokens(ablation: Ablation) -> FrameTable:
    """List the tokens whose loss changes most in each experiment."""
    found = []
    for name in ablation.names:
        frame = ablation.tokens(name)
        most = frame["rise"].abs().sort_values(ascending=False, kind="stable").index[:SHOWN_TOKENS]
        found.append(frame.loc[most].assign(ablated=name))
    columns = [
        Column("ablated"),
        Column("sequence", digits=0),
        Column("position", digits=0),
        Column("token", cell=lambda row: marked(row["token"])),
        Column("target", cell=lambda row: marked(row["target"])),
        *(Column(name, digits=3) for name in ("loss before", "loss after", "rise")),
    ]
    return FrameTable(pd.concat(found), columns)


def patching_table(patching: Patching, back: bool) -> FrameTable:
    """List the patches, first what the clean run brings back most, or the corrupted run takes away most."""
    frame = patching.frame().assign(patched=patching.names)
    recovered = f"{MEASURES[0]} recovered"
    by = LOG_PROBABILITY if frame[recovered].isna()[:1].any() else recovered
    columns = [Column("patched")]
    for measure in MEASURES:
        title = "P(answer)" if measure != LOG_PROBABILITY else "log P(answer)"
        columns += [_interval(measure, title, 3), _interval(f"{measure} recovered", "recovered, %", 1)]
    return FrameTable(frame.sort_values(by, ascending=back, kind="stable"), columns)


def patching_grid(patching: Patching, texts: Sequence[str]) -> FrameTable:
    """Put percent recovered into a table, site by position, whose texts are given."""
    grid = patching.grid()
    columns = [Column("site", "recovered, %")]
    for position in map(int, grid.columns[:SHOWN_POSITIONS]):
        text = visible(texts[position])
        title = text if text.startswith(str(position)) else f"{position} {text}"
        columns.append(Column(str(position), title, 0))
    more = len(grid.columns) - SHOWN_POSITIONS
    return FrameTable(grid.reset_index(), columns, caption=f"and {more:,} more positions" if more > 0 else "")


def links_table(links: Links, top: int) -> FrameTable:
    """List the largest scores of what reads what, beside those of random matrices."""
    columns = [
        *(Column(name) for name in ("from", "to", "slot")),
        Column("score", digits=4),
        Column("baseline", "random [95 %]", 4, ends=("low", "high")),
        Column("above", "above random", 4, sign=True),
        Column("draws_below", "draws below", left=False, cell=lambda row: f"{row['draws_below']:.1%}"),
    ]
    return FrameTable(links.frame().head(top), columns)


def mechanism_table(mechanism: Mechanism, top: int) -> FrameTable:
    """List the best paths into each slot of a head."""
    best = mechanism.frame().groupby("slots", sort=False).head(top)
    columns = [
        Column("slots", "slot"),
        Column("path", "path that is real"),
        Column("recovered", "recovered, %", 1, ends=("low", "high")),
        Column("loss", digits=3),
    ]
    return FrameTable(best, columns, by="slots")


def roles_table(measured: RoleEvidence) -> FrameTable:
    """List what every head attends to, and its role."""
    frame = measured.frame()
    columns = [
        Column(name, digits=None if name in {"head", "role"} else 2, left=True, lone=True) for name in frame.columns
    ]
    return FrameTable(frame, columns)


def _interval(name: str, title: str, digits: int) -> Column:
    """Make a column with the ends of its interval as frames name them (see interval_columns)."""
    return Column(name, title, digits, ends=(f"{name}, low", f"{name}, high"), lone=True)
