"""The attention of the heads that have a role: in the mean, and as patterns on a sequence of the data."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

import numpy as np
import pandas as pd
from jaxtyping import Float

from scrub.data.examples import Examples
from scrub.measure.heads.attention import attention_patterns
from scrub.measure.heads.roles import measure_targets
from scrub.measure.heads.score import Head, head_name
from scrub.models.model import Model
from scrub.show.charts.attention import SHOWN_FROM, attention_map
from scrub.show.page import Abreast, Block, Fold, Grid, Prose
from scrub.show.rendering import Line, Span
from scrub.show.reports.tokens import label
from scrub.store.results.read import StudyResults
from scrub.study.selection import repeats
from scrub.text.frames import with_cells
from scrub.text.numbers import PAGE
from scrub.text.tables import Column, FrameTable

SHOWN_POSITIONS = 36  # of the sequence that is shown
MEAN_SEQUENCES = 32  # over which the means are
SHOWN_HEADS = 8  # of each role that are drawn, at most
SHOWN_KEYS = 3  # of each query in the table, those that it attends to most
CHOSEN_SEQUENCES = 256  # among which the one that is shown is chosen
_TARGETS = {
    "previous": "previous token",
    "current": "copies of the current token",
    "induction": "after earlier copies",
}


def pattern_blocks(model: Model, stored: StudyResults) -> list[Block]:
    """Measure the heads with a role, and tell of them."""
    examples, roles = stored.examples, {role: heads for role, heads in model.roles.items() if heads}
    if not roles:
        if model.given_roles is not None:
            return [Prose(["The study gives this model's heads no roles."])]
        said = " measures them."
        return [Prose(["This model's heads have no roles yet; ", Span("scrub roles MODEL --write", "code"), said])]
    drawn = {role: heads[:SHOWN_HEADS] for role, heads in roles.items()}
    positions = min(SHOWN_POSITIONS, examples.scored.shape[1])
    chosen = _most_repeating(examples, positions)
    positions = min(positions, int(examples.ends[chosen]) + 1)  # but for pads
    line = examples.tokens[chosen : chosen + 1, : positions + 1]
    patterns = attention_patterns(model, line, dict.fromkeys(head for heads in drawn.values() for head in heads))
    texts = [*map(stored.text, line[0, :-1])]
    left_out = sum(map(len, roles.values())) - sum(map(len, drawn.values()))
    some = Examples.of(examples.tokens[:MEAN_SEQUENCES])
    some = some.scored_at(some.scored & examples.real[:MEAN_SEQUENCES])
    caption = (
        f"Below: the first {positions} positions of sequence {chosen}, the one that has most to induct from there. "
        "Each row is a position that attends, each column one that is attended to; the fuller the colour, the more "
        f"attention (full is 1, below {SHOWN_FROM} is blank)."
    )
    blocks: list[Block] = [
        Prose(
            "What the heads with a role attend to on the unscrubbed model, in the mean over "
            f"{len(some)} sequences, as fractions of their attention."
        ),
        _means(model, roles, some, stored.result.seed),
        Prose(caption + (f" {left_out} more heads are only in the table." if left_out else ""), "caption"),
        Prose("Hover for a number.", "caption", only="html"),
    ]
    for role, heads in drawn.items():
        shown = [list(_pattern(role, head, patterns[head][0], texts)) for head in heads]
        blocks.append(Fold(f"{role} ({len(heads)})", [Abreast(shown)], role == next(iter(drawn)), titled=True))
    return blocks


def _means(model: Model, roles: Mapping[str, Sequence[Head]], examples: Examples, seed: int) -> Grid:
    """List the mean attention of each head to each target, as fractions."""
    attention = measure_targets(model, examples, seed)
    heads = [(head, role) for role, some in roles.items() for head in some]
    frame = pd.DataFrame(
        {"head": [head_name(head) for head, _ in heads], "role": [role for _, role in heads]}, dtype=object
    )
    cells = {target: [score.interval(head) for head, _ in heads] for target, score in attention.items()}
    columns = [Column("head"), Column("role"), *(Column(target, title, 2) for target, title in _TARGETS.items())]
    return Grid(FrameTable(with_cells(frame, cells), columns), "Mean attention of the heads")


def _pattern(role: str, head: Head, weights: Float[np.ndarray, "query key"], texts: Sequence[str]) -> Iterator[Block]:
    """Show a head's pattern on the sequence that is shown, drawn and as numbers."""
    name = head_name(head)
    query = int(weights.max(1).argmax())
    key = int(weights[query].argmax())
    says = (
        f"Attention of head {name} over {len(texts)} positions: strongest from position {query} to position {key}, "
        f"{PAGE.number(float(weights[query, key]), 2)}. The table below it has the numbers."
    )
    plain = "".join(c if c.isascii() and c.isalnum() else "-" for c in role)
    chart = attention_map({head: weights}, texts, title=f"attention of head {name}")
    labels = [label(text) for text in texts]
    frame = pd.DataFrame({"position": range(len(texts)), "token": labels})
    most = Column("keys", "attends most to (position, token, attention)", cell=lambda row: _keys(row["keys"], labels))
    columns = [Column("position", digits=0), Column("token", cell=lambda row: Span(row["token"], "token")), most]
    table = FrameTable(with_cells(frame, {"keys": weights}), columns)
    yield Prose(f"Head {name}, {role}", "caption")
    yield chart.image(f"attention-{plain}-{name}", file=f"attention-{plain}-{name}.svg", says=says)
    yield Fold("Its numbers", [Grid(table, f"Numbers of head {name}", named=False)])


def _keys(row: Float[np.ndarray, " key"], labels: Sequence[str]) -> Line:
    """Write the keys that a query attends to most: of each the position, the token, and how much."""
    keys = [int(key) for key in np.argsort(-row, kind="stable")[:SHOWN_KEYS] if row[key] >= SHOWN_FROM]
    pieces: list[str | Span] = []
    for key in keys:
        end = "" if key == keys[-1] else ", "
        pieces += [f"{key} ", Span(labels[key], "token"), f" {PAGE.number(float(row[key]), 2)}{end}"]
    return pieces


def _most_repeating(examples: Examples, positions: int) -> int:
    """Choose the sequence with most to induct from: scored positions in its beginning whose token was there before."""
    repeated = repeats(examples.tokens[:CHOSEN_SEQUENCES, :positions])
    return int(np.argmax((repeated & examples.scored[:CHOSEN_SEQUENCES, :positions]).sum(1)))
