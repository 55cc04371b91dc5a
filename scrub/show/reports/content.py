"""What a report says: each hypothesis with its table, drawings, changes and tokens, as the templates print them."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from textwrap import dedent

from markupsafe import Markup

from scrub.paths.difference import Line as Step
from scrub.paths.difference import lines
from scrub.show import page
from scrub.show.drawing import svg
from scrub.show.reports.patterns import Patterns
from scrub.show.reports.tokens import Tokens, TokenView
from scrub.store.comparisons.changes import Change, changes
from scrub.store.comparisons.comparison import chance
from scrub.store.results.stored import Described, StudyResults
from scrub.study.experiments import ALL_SCRUBBED
from scrub.study.hypothesis import ALL
from scrub.study.null import Standing
from scrub.study.result import BIGRAM, Result, Row
from scrub.study.run import Trial
from scrub.text.numbers import Interval

STEPS = 80  # lines of the paths that changed, at most
DRAWINGS = 1_500_000  # characters of all drawings, above which only those of whole hypotheses are in the report


@dataclass(frozen=True)
class Line:
    """A part of a hypothesis: its row, what was published, and the paired improvement over the hypothesis before it."""

    row: Row
    published: float | None
    over: str = ""
    improvement: Interval | None = None


@dataclass(frozen=True)
class Drawing:
    """The tree of paths of one part: for a page, as a file, or as text where the graph isn't there any more."""

    part: str
    title: str
    html: Markup
    svg: str
    text: str = ""
    image: str = ""


@dataclass(frozen=True)
class Chance:
    """Where a hypothesis stands among random ones of the same size, and the row of the best of these."""

    standing: Standing
    best: Row


@dataclass(frozen=True)
class Chapter:
    """One hypothesis. `anchor` names it within the page."""

    anchor: str
    hypothesis: Described
    lines: tuple[Line, ...]
    drawings: tuple[Drawing, ...]
    left_out: tuple[str, ...]  # parts that aren't drawn
    change: Change | None
    paths: tuple[Step, ...]  # that changed, of the whole
    tokens: TokenView
    chance: Chance | None

    @property
    def whole(self) -> Line:
        """All parts together, or the last."""
        return next((line for line in self.lines if line.row.part == ALL), self.lines[-1])

    @property
    def claim(self) -> list[str]:
        """The paragraphs of the claim."""
        return [" ".join(text.split()) for text in re.split(r"\n\s*\n", self.hypothesis.claim) if text.strip()]

    @property
    def declaration(self) -> str:
        """The splits and rules, without the indentation that they share."""
        return dedent(self.hypothesis.rules).strip("\n").rstrip()

    @property
    def over(self) -> list[str]:
        """The hypotheses that its parts are compared with: most often the one before it."""
        return list(dict.fromkeys(line.over for line in self.lines if line.over))

    def line(self, part: str) -> Line | None:
        """The line of a part."""
        return next((line for line in self.lines if line.row.part == part), None)


@dataclass(frozen=True)
class Anchor:
    """A loss in nats that the scale hangs on. `exact` says that it is 0 or 100 % by definition."""

    name: str
    loss: Interval
    recovered: Interval
    exact: bool


@dataclass(frozen=True)
class Content:
    """All of a report."""

    heading: str
    result: Result  # without random hypotheses
    baseline: str
    positions: str
    published_for: str
    chapters: tuple[Chapter, ...]
    tokens: Tokens
    patterns: Patterns | None
    about: Mapping[str, str]
    command: str

    @cached_property
    def parts(self) -> list[str]:
        """The parts of all hypotheses."""
        return list(dict.fromkeys(part for _, part in self.result.rows))

    @property
    def columns(self) -> int:
        """How many hypotheses the plot has side by side, those that were published counted twice."""
        return len(self.chapters) + len({name.rpartition("/")[0] for name in self.published})

    @property
    def anchors(self) -> list[Anchor]:
        """The anchors with what they recover."""
        return [
            Anchor(name.replace("_", " "), loss, self.result.recovered(name), name not in {ALL_SCRUBBED, BIGRAM})
            for name, loss in self.result.losses.items()
        ]

    @property
    def published(self) -> dict[str, float]:
        """What was published, by experiment."""
        return {
            f"{line.row.hypothesis}/{line.row.part}": line.published
            for chapter in self.chapters
            for line in chapter.lines
            if line.published is not None
        }

    @property
    def hashed(self) -> list[tuple[str, str, str]]:
        """The hash of every part of every hypothesis, as lowered."""
        return [(c.hypothesis.name, part, h) for c in self.chapters for part, h in c.hypothesis.hashes.items()]

    def difference(self, change: Change) -> str:
        """What changed, as text."""
        return "\n".join(f"{mark} {line}" for mark, line in change.lines)

    @property
    def published_own(self) -> bool:
        """Whether that was for this very model."""
        return self.result.model.rpartition("/")[2] == self.published_for

    def place(self, value: float) -> float:
        """Where a percentage lies on a scale from 0 to 1 that holds every estimate of the report."""
        estimates = [line.row.recovered.estimate for chapter in self.chapters for line in chapter.lines]
        low, high = min([0.0, *estimates]), max([100.0, *estimates])
        return min(1.0, max(0.0, (value - low) / (high - low)))


def content(stored: StudyResults, trial: Trial, patterns: Patterns | None, tokens: Tokens, command: str) -> Content:
    """What a report of a study says."""
    names = told(stored)
    result = replace(stored.result, rows=[row for row in stored.result.rows if row[0] in names])
    return Content(
        stored.heading,
        result,
        " ".join(trial.study.baseline.split()),
        trial.settings.positions or trial.study.positions,
        trial.study.published_model or "",
        tuple(_chapters(stored, result, trial, names, tokens)),
        tokens,
        patterns,
        stored.about,
        command,
    )


def told(stored: StudyResults) -> list[str]:
    """The hypotheses that a report tells of, in order: all but the random ones."""
    having = dict.fromkeys(name for name, _ in stored.result.rows)
    return [name for name in having if not _described(stored, name).null_of]


def _described(stored: StudyResults, name: str) -> Described:
    return stored.hypotheses.get(name) or Described(name, "", "")


def _chapters(
    stored: StudyResults, result: Result, trial: Trial, names: Sequence[str], tokens: Tokens
) -> list[Chapter]:
    drawings = _drawings(stored, trial, names)
    graphs = trial.graphs
    pairs, parts = list(zip(names[1:], names, strict=False)), list(dict.fromkeys(part for _, part in result.rows))
    changed = {each.refined: each for each in changes(stored, pairs, graphs, parts)}
    rows = {name: [row for row in result.table if row.hypothesis == name] for name in names}
    published = {each.name: each.published for each in trial.hypotheses}
    before: dict[str, str] = {}
    found = []
    for at, name in enumerate(names):
        described = _described(stored, name)
        rows_of = tuple(_line(result, row, published.get(name, described.published), before) for row in rows[name])
        before |= {row.part: name for row in rows[name]}
        part = ALL if any(line.row.part == ALL for line in rows_of) else rows_of[-1].row.part
        change = changed.get(name)
        drawn = drawings[name]
        found.append(
            Chapter(
                f"h{at + 1}",
                described,
                rows_of,
                tuple(replace(each, image=_image(at + 1, name, each.part)) for each in drawn),
                tuple(row.part for row in rows[name] if row.part not in {each.part for each in drawn}),
                change,
                tuple(lines(change.paths[part], STEPS)) if change and part in change.paths else (),
                tokens.view(f"{name}/{part}", part),
                _chance(stored, name, part),
            )
        )
    return found


def _line(result: Result, row: Row, published: Mapping[str, float], before: Mapping[str, str]) -> Line:
    over = before.get(row.part)
    if over is None:
        return Line(row, published.get(row.part))
    step = result.improvement(f"{row.hypothesis}/{row.part}", f"{over}/{row.part}")
    return Line(row, published.get(row.part), over, step)


def _drawings(stored: StudyResults, trial: Trial, names: Sequence[str]) -> dict[str, list[Drawing]]:
    """The drawings of each hypothesis, the whole first; of whole hypotheses only where all would be too much."""
    graphs = {each.name for each in trial.experiments}
    whole: dict[str, list[Drawing]] = {}
    parts: dict[str, list[Drawing]] = {}
    for name in names:
        having = [part for hypothesis, part in stored.result.rows if hypothesis == name]
        first = ALL if ALL in having else having[-1]
        whole[name] = [_drawing(stored, trial, name, first, f"{name}/{first}" in graphs)]
        parts[name] = [_drawing(stored, trial, name, p, f"{name}/{p}" in graphs) for p in having if p != first]
    if sum(len(each.html) + len(each.text) for drawn in parts.values() for each in drawn) > DRAWINGS:
        return whole
    return {name: whole[name] + parts[name] for name in names}


def _drawing(stored: StudyResults, trial: Trial, name: str, part: str, graph: bool) -> Drawing:
    title = f"{name}: {part}"
    if not graph:
        return Drawing(part, title, Markup(), "", _described(stored, name).paths.get(part, ""))
    tree = trial.show(name, part).tree
    # what page and drawing return is markup whose labels they have escaped
    return Drawing(part, title, Markup(page.drawing(tree, title=title)), svg(tree, title))


def _image(number: int, name: str, part: str) -> str:
    plain = re.sub(r"[^A-Za-z0-9]+", "-", f"{name}-{part}").strip("-")[:60]
    return f"{number:02}-{plain}.svg"


def _chance(stored: StudyResults, name: str, part: str) -> Chance | None:
    standing = chance(stored, name, part)
    if standing is None:
        return None
    rows = (row for row in stored.result.table if row.part == part)
    random = (row for row in rows if _described(stored, row.hypothesis).null_of == name)
    return Chance(standing, max(random, key=lambda row: row.recovered.estimate))
