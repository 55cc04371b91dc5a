"""What the heads that have a role attend to: in the mean, and as patterns on a sequence of the data."""

from __future__ import annotations

from dataclasses import dataclass
from html import escape

import numpy as np
from jaxtyping import Float

from scrub.data.examples import Examples
from scrub.measure.heads.attention import attention_patterns
from scrub.measure.heads.roles import measure_targets
from scrub.measure.heads.score import head_name
from scrub.models.model import Model
from scrub.show.layout import text_width
from scrub.show.reports.tokens import Tokens
from scrub.study.selection import repeats
from scrub.text.numbers import Interval

POSITIONS = 36  # of the sequence that is shown
SEQUENCES = 32  # over which the means are
HEADS = 8  # of each role that are drawn, at most
LEAST = 0.02  # attention, below which a cell stays blank
STRONGEST = 3  # keys of each query in the table
CELL, LABEL, CUT = 13.0, 0.82, 10  # a cell's width; the text's size, of the drawings' text; characters of a label
STYLE = (
    '.scrub-pattern text{font:10px ui-monospace,SFMono-Regular,Menlo,Consolas,"DejaVu Sans Mono",monospace}'
    ".scrub-pattern text{fill:#1d2330}"
    ".scrub-pattern .ground{fill:#fff}.scrub-pattern .reach{fill:#eef1f5}.scrub-pattern .weight{fill:#0b5cad}"
    "@media(prefers-color-scheme:dark){.scrub-pattern text{fill:#e9edf3}.scrub-pattern .ground{fill:#10151c}"
    ".scrub-pattern .reach{fill:#1b222c}.scrub-pattern .weight{fill:#6bbcff}}"
)


@dataclass(frozen=True)
class Query:
    """One position of a pattern: its token, and the keys that it attends to most, as (position, token, attention)."""

    position: int
    token: str
    keys: tuple[tuple[int, str, float], ...]


@dataclass(frozen=True)
class HeadPattern:
    """A head's pattern on the sequence that is shown."""

    layer: int
    head: int
    weights: Float[np.ndarray, "query key"]
    labels: tuple[str, ...]

    @property
    def name(self) -> str:
        """LAYER.HEAD."""
        return f"{self.layer}.{self.head}"

    @property
    def queries(self) -> list[Query]:
        """What each position attends to most."""
        found = []
        for at, row in enumerate(self.weights):
            keys = [int(key) for key in np.argsort(-row, kind="stable")[:STRONGEST] if row[key] >= LEAST]
            found.append(Query(at, self.labels[at], tuple((key, self.labels[key], float(row[key])) for key in keys)))
        return found

    def svg(self, says: str, style: bool = True) -> str:
        """The pattern as a drawing: queries down, keys across. `says` is the text that stands for it."""
        count = len(self.labels)
        labels = [each if len(each) <= CUT else each[: CUT - 1] + "…" for each in self.labels]
        margin = max(text_width(each) for each in labels) * LABEL + 10
        size = margin + CELL * count + 6
        lines = [
            f'<svg xmlns="http://www.w3.org/2000/svg" class="scrub-pattern" width="{size:.0f}" height="{size:.0f}" '
            f'viewBox="0 0 {size:.0f} {size:.0f}" role="img" aria-label="{escape(says)}">',
            *([f"<style>{STYLE}</style>"] if style else []),
            f'<rect class="ground" width="{size:.0f}" height="{size:.0f}"/>',
        ]
        for at, label in enumerate(labels):
            middle = margin + CELL * (at + 0.5)
            lines.append(f'<text x="{margin - 5:.1f}" y="{middle + 3.5:.1f}" text-anchor="end">{escape(label)}</text>')
            turn = f'transform="translate({middle + 3.5:.1f} {margin - 5:.1f}) rotate(-90)"'
            lines.append(f"<text {turn}>{escape(label)}</text>")
            width = CELL * (at + 1)
            lines.append(
                f'<rect class="reach" x="{margin:.1f}" y="{margin + CELL * at:.1f}" width="{width:.1f}" height="12"/>'
            )
        for query, key in np.argwhere(self.weights >= LEAST):
            weight = float(self.weights[query, key])
            said = f"{self.labels[query]} to {self.labels[key]}: {weight:.2f}"
            lines.append(
                f'<rect class="weight" x="{margin + CELL * key:.1f}" y="{margin + CELL * query:.1f}" width="12" '
                f'height="12" fill-opacity="{weight:.2f}"><title>{escape(said)}</title></rect>'
            )
        return "\n".join([*lines, "</svg>"])


@dataclass(frozen=True)
class HeadMeans:
    """The mean attention of a head to each target, as fractions."""

    name: str
    role: str
    means: dict[str, Interval]


@dataclass(frozen=True)
class Patterns:
    """What the heads with a role attend to: in the mean over `sequences`, and on one sequence, by role."""

    sequence: int
    sequences: int
    positions: int
    by_role: dict[str, tuple[HeadPattern, ...]]
    means: tuple[HeadMeans, ...]
    left_out: int  # heads that aren't drawn


def measure_patterns(model: Model, examples: Examples, tokens: Tokens, seed: int) -> Patterns | None:
    """Measure the heads with a role, or None where the model has no roles."""
    roles = {role: heads for role, heads in model.roles.items() if heads}
    if not roles:
        return None
    drawn = {role: heads[:HEADS] for role, heads in roles.items()}
    positions = min(POSITIONS, examples.scored.shape[1])
    chosen = _most_repeating(examples, positions)
    line = examples.tokens[chosen : chosen + 1, : positions + 1]
    found = attention_patterns(model, line, dict.fromkeys(head for heads in drawn.values() for head in heads))
    labels = tuple(tokens.labels([int(token) for token in line[0, :-1]]))
    by_role = {role: tuple(HeadPattern(*h, found[h][0], labels) for h in heads) for role, heads in drawn.items()}
    some = examples.tokens[:SEQUENCES]
    attention = measure_targets(model, Examples.of(some), seed)
    means = tuple(
        HeadMeans(head_name(head), role, {target: score.interval(head) for target, score in attention.items()})
        for role, heads in roles.items()
        for head in heads
    )
    every = sum(len(heads) for heads in roles.values())
    return Patterns(chosen, len(some), positions, by_role, means, every - sum(map(len, drawn.values())))


def _most_repeating(examples: Examples, positions: int) -> int:
    """The sequence that has most to induct from: scored positions in its beginning whose token was there before."""
    repeated = repeats(examples.tokens[:256, :positions])
    return int(np.argmax((repeated & examples.scored[:256, :positions]).sum(1)))
