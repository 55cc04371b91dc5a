"""Token by token: what a scrubbed model loses on each scored token, against the model itself."""

from __future__ import annotations

import math
from bisect import bisect_right
from collections.abc import Sequence

import numpy as np
import pandas as pd
from jaxtyping import Float
from markupsafe import Markup

from scrub.show.page import Block, Fold, Grid, Heading, Passage, Prose
from scrub.show.rendering import Span
from scrub.store.results.read import StudyResults
from scrub.study.experiments import UNSCRUBBED, Name
from scrub.text.numbers import MINUS, PAGE
from scrub.text.tables import Column, FrameTable
from scrub.text.tokens import visible

SHOWN_SEQUENCES, SHOWN_POSITIONS = 3, 300  # of each hypothesis, at most
SHOWN_TOKENS = 10_000  # in all, at most: what keeps the page of many hypotheses small
STEPS = (0.1, 0.5, 2.0)  # that a loss changes by in nats, or another metric in its unit, where a colour begins
MOST_CHANGED = 8  # tokens in the table of those that changed most, in either direction
CONTEXT_TOKENS = 12  # before each of them
LONGEST_CHARACTERS = 60  # of a token or of its context in a table
_NUMBERS = {"change": "change", "unscrubbed": "unscrubbed", "loss": "scrubbed"}


class Tokens:
    """The sequences of a study, and what is said of them in every chapter: the same sequences in each."""

    def __init__(self, stored: StudyResults, chapters: int) -> None:
        self._stored = stored
        self._unscrubbed = stored.token_losses(UNSCRUBBED)
        scored = np.isfinite(self._unscrubbed)
        having = np.flatnonzero(scored.any(1))
        self._positions = min(SHOWN_POSITIONS, scored.shape[1])
        count = max(1, min(SHOWN_SEQUENCES, SHOWN_TOKENS // max(1, chapters * self._positions)))
        order = np.random.default_rng([stored.result.seed, *b"report"]).permutation(having)
        self.shown = tuple(sorted(int(at) for at in order[:count]))

    def blocks(self, experiment: Name, name: str) -> list[Block]:
        """Tell of one experiment: the scored tokens that changed most, and some sequences with their colours."""
        losses, result = self._stored.token_losses(experiment), self._stored.result
        in_unit = f" in {result.unit}" if result.unit else ""
        most = Grid(FrameTable(self._most(losses), _changed_columns(), by="side"), "Tokens that changed most")
        count = f"{len(self.shown)} sequence{'s' if len(self.shown) > 1 else ''}"
        blocks: list[Block] = [
            Prose(
                f"{experiment.part} of {name} against the unscrubbed model. The scored tokens that changed most, in "
                f"all sequences; {result.metric}{in_unit}, means over the pairings.",
                "caption",
            ),
            most,
            Prose(
                f"{count} drawn by chance, the same for every hypothesis. A coloured token is one that is scored when "
                f"it is predicted; hover for its numbers. Its colour is the change of its {result.metric}"
                f"{',' * bool(in_unit)}{in_unit}:",
                "caption",
                only="html",
            ),
            Prose(_colours(result.worse), "key", only="html"),
        ]
        return blocks + [block for sequence in self.shown for block in self._passage(sequence, losses)]

    def _passage(self, sequence: int, losses: Float[np.ndarray, "sequence position"]) -> list[Block]:
        """Show a sequence, or its first part, as running text and as numbers."""
        line = self._stored.line(sequence)
        texts = [*map(self._stored.text, line[: self._positions + 1])]
        frame = pd.DataFrame(
            {
                "position": range(len(texts) - 1),
                "token": [label(text) for text in texts[1:]],
                "loss": losses[sequence, : len(texts) - 1],
                "unscrubbed": self._unscrubbed[sequence, : len(texts) - 1],
            }
        ).assign(change=lambda rows: rows["loss"] - rows["unscrubbed"])
        running = [Span(flowing(texts[0] + self._stored.between), "unscored")]  # nothing predicts it
        for at, (text, *pair) in enumerate(zip(texts[1:], frame["unscrubbed"], frame["loss"], strict=True)):
            running.append(_running(text + self._stored.between, at, self._stored.result.worse, *pair))
        token = Column("token", cell=lambda row: Span(row["token"], "token"))
        numbers = [Column(column, title, 3, column == "change") for column, title in _NUMBERS.items()]
        table = FrameTable(frame[frame["change"].notna()], [Column("position", digits=0), token, *numbers])
        title = f"Sequence {sequence}"
        return [
            Heading(title, only="html"),
            Prose(f"{title}, drawn by chance, its scored tokens:", only="markdown"),
            Passage(title, running, len(line) - len(texts)),
            Fold("Its numbers", [Grid(table, f"Numbers of sequence {sequence}", named=False)]),
        ]

    def _most(self, losses: Float[np.ndarray, "sequence position"]) -> pd.DataFrame:
        """List the scored tokens that got worse by most, then those that got better, with the text before them."""
        change, worse = (losses - self._unscrubbed).ravel(), self._stored.result.worse
        order = [int(at) for at in np.argsort(change * worse, kind="stable") if np.isfinite(change[at])]
        hurt = [at for at in order[::-1][:MOST_CHANGED] if change[at] * worse > 0]
        helped = [at for at in order[:MOST_CHANGED] if change[at] * worse < 0]
        rows = []
        for at in [*hurt, *helped]:
            sequence, position = divmod(at, losses.shape[1])
            line = self._stored.line(sequence)
            before = line[max(0, position + 1 - CONTEXT_TOKENS) : position + 1]
            rows.append(
                {
                    "side": "worse" if change[at] * worse > 0 else "better",
                    "before": visible(self._stored.text(*before)),
                    "token": label(self._stored.text(line[position + 1])),
                    "change": change[at],
                    "unscrubbed": self._unscrubbed[sequence, position],
                    "loss": losses[sequence, position],
                    "at": f"{sequence}:{position}",
                }
            )
        return pd.DataFrame(rows, columns=["side", "before", "token", *_NUMBERS, "at"])


def _changed_columns() -> Sequence[Column]:
    def before(text: str) -> Span:
        return Span(text if len(text) <= LONGEST_CHARACTERS else "…" + text[-LONGEST_CHARACTERS:], "before")

    return [
        Column("side", ""),
        Column("before", "text before", left=False, cell=lambda row: before(row["before"])),
        Column("token", cell=lambda row: Span(row["token"], "token")),
        *(Column(column, title, 2, column == "change") for column, title in _NUMBERS.items()),
        Column("at", "sequence:position", left=False),
    ]


def _running(text: str, position: int, worse: int, unscrubbed: float, loss: float) -> Span:
    """Write a token in running text, in the colour of the change of its metric if it is scored."""
    change = loss - unscrubbed
    if math.isnan(change):
        return Span(flowing(text), "unscored")
    numbers = f"{PAGE.number(unscrubbed, 3)} unscrubbed, {PAGE.number(loss, 3)} scrubbed"
    level = bisect_right(STEPS, abs(change))
    kind = f"{'up' if change * worse > 0 else 'down'}{level}" if level else "same"
    return Span(flowing(text), f"t {kind}", tip=f"{PAGE.number(change, 3, sign=True)}: {numbers}, position {position}")


def _colours(worse: int) -> list[Span]:
    """Say what the colours of tokens mean, from better to worse."""
    levels, fall, rise = list(enumerate(STEPS, 1)), f"≤ {MINUS}", "≥ "
    better, bad = (fall, rise) if worse > 0 else (rise, fall)
    down = [Span(f"{better}{step}", f"t down{level}") for level, step in reversed(levels)]
    up = [Span(f"{bad}{step}", f"t up{level}") for level, step in levels]
    said = "solid line: worse; dotted: better; grey: not scored"
    return [*down, Span("about the same", "t same"), *up, Span(said, "said")]


def label(text: str) -> str:
    """Write a token by itself, on one line, its blanks seen."""
    shown = visible(text, spaces=True)
    return shown if len(shown) <= LONGEST_CHARACTERS else shown[: LONGEST_CHARACTERS - 1] + "…"


def flowing(text: str) -> Markup:
    """Write a token as it stands in running text: a line break is seen and breaks the line."""
    return Markup("↵<br>").join(visible(line) for line in text.split("\n"))
