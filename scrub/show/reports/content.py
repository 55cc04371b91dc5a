"""The content of a report: the hypotheses side by side, a chapter of each, attention, and what the numbers rest on."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from textwrap import dedent

import pandas as pd
from markupsafe import Markup

from scrub.paths.difference import Line as Step
from scrub.paths.difference import lines
from scrub.show.charts.recovery import recovery_chart
from scrub.show.page import Block, Code, Fold, Grid, Heading, Page, Prose, Section
from scrub.show.picture import Picture, paragraphs
from scrub.show.rendering import Line, Span
from scrub.show.reports.models import models_section
from scrub.show.reports.tokens import Tokens
from scrub.show.tables.results import anchors_table, parts_table
from scrub.store.comparisons.changes import Change, changes
from scrub.store.comparisons.comparison import chance
from scrub.store.comparisons.models import AcrossModels
from scrub.store.results.read import HypothesisRecord, StudyResults
from scrub.study.experiments import Name
from scrub.study.hypothesis import ALL
from scrub.study.metric import LOSS
from scrub.study.result import BIGRAM, Row
from scrub.study.run import Trial
from scrub.text.frames import with_cells
from scrub.text.numbers import MINUS, PAGE, Interval
from scrub.text.tables import Column, FrameTable
from scrub.text.wording import with_unit

SHOWN_STEPS, OPEN_STEPS = 80, 16  # lines of the paths that changed, at most, and so many without opening them
OPEN_DRAWINGS = 10  # hypotheses, up to which a drawing of each is seen without opening it
DRAWN_CHARACTERS = 750_000  # of the drawings of parts, above which only those of whole hypotheses are in the report
PLOT = "recovered.svg"


class Content:
    """The sources of a report's page: a study's results, and the study made ready, which has the graphs.

    `across` is the study on several models, if it is there on more than this one.
    """

    def __init__(self, stored: StudyResults, trial: Trial, across: AcrossModels | None = None) -> None:
        self._stored, self._trial, self._across = stored, trial, across
        names = dict.fromkeys(name for name, _ in stored.result.rows)
        self.names = [name for name in names if not stored.described(name).null_of]
        rows = [row for row in stored.result.rows if row[0] in self.names]
        self.result = replace(stored.result, rows=rows)
        self._tokens = Tokens(stored, len(self.names))
        self._rows = {name: [row for row in self.result.table if row.hypothesis == name] for name in self.names}
        self._parts = list(dict.fromkeys(part for _, part in rows))
        given = {each.name: each.published for each in trial.hypotheses}
        theirs = {name: given.get(name, stored.described(name).published) for name in self.names}
        of_loss = stored.result.metric == LOSS.name  # that is what was published
        there = {row.name: theirs[row.hypothesis].get(row.part) for row in self.result.table}
        self._published: dict[str, float] = {
            name: known for name, known in there.items() if known is not None and of_loss
        }

    def page(self, attention: Sequence[Block], command: str) -> Page:
        """Make the report as a page."""
        result = self.result
        warnings = [Prose([Span("Warning:", "b"), f" {text}"], "warning") for text in result.warnings]
        warnings += [
            Prose([Span("Note:", "b"), f" {text}"], "caption")
            for text in (*[result.roles_said] * bool(result.roles), *result.notes, *self._stored.notes)
        ]
        intro: Line = [
            "Each hypothesis says which paths through the model matter. Every other path is fed from another sequence, "
            "and what is left of the model's performance is the ",
            Span(f"percent of {result.metric} recovered", "b"),
            ": 100 is the unscrubbed model, 0 the baseline (",
            Span(" ".join(self._trial.study.baseline.split()), "code"),
            f"). Brackets hold 95 % bootstrap intervals over {result.documents_called}. The difference between the two "
            f"anchors is {PAGE.with_ends(result.gap, 3)} {result.unit}{' ' * bool(result.unit)}a token.",
        ]
        patterns = Section("attention", "Attention patterns", attention)
        models = [models_section(self._across)] if self._across else []
        sections = [self._story(), *models, *self._chapters(), patterns, self._trust(command)]
        lead = self._stored.heading
        return Page(
            f"{result.study} on {result.model}", sections, lead, result.study, [*warnings, Prose(intro, "intro")]
        )

    def _whole(self, name: str) -> Row:
        """Find the row of all parts of a hypothesis together, or the last."""
        return next((row for row in self._rows[name] if row.part == ALL), self._rows[name][-1])

    def _anchor(self, name: str) -> str:
        return f"h{self.names.index(name) + 1}"

    def _story(self) -> Section:
        """Show the hypotheses side by side, and the anchors of the scale."""
        published_for = self._trial.study.published_model or ""
        title = f"{self.result.metric} recovered across the hypotheses"
        chart = recovery_chart(self.result, self._published, published_for, title)
        said = f"{chart.caption.removesuffix('.')}; the grey lines are the anchors at 0 and 100."
        if self._published:
            named = f" for {published_for}" if published_for else ""
            own = self.result.model.rpartition("/")[2] == published_for
            said += f" The right panel has what was published{named}"
            said += f"{', which is another model than this one' if named and not own else ''}."
        alt = f"{chart.caption.partition(',')[0]} by each part across the hypotheses; the table below has the numbers."
        drawings: Line = [
            "In the drawings ",
            Span("", "swatch reference"),
            "solid blue is the reference ",
            *(Span("x", "code"), " (", Span("emb", "code"), "), whose next tokens are scored, and "),
            Span("", "swatch other"),
            "dashed red the other sequence ",
            *(Span("y", "code"), " (", Span("emb2", "code")),
            "). A box is a component, a line a path; the inputs are at the bottom, the output on top.",
        ]
        image = chart.image("recovered", said, PLOT, alt)
        return Section(
            "story", "Across the hypotheses", [image, self._matrix(), self._scale(), Prose(drawings, "caption")]
        )

    def _matrix(self) -> Grid:
        table = parts_table(self._stored)
        link = Column("hypothesis", cell=lambda row: Span(row["hypothesis"], "link", self._anchor(row["hypothesis"])))
        columns = [link, *(column for column in table.columns if column.name in self._parts)]
        caption = f"Percent of {self.result.metric} recovered by each part, with its interval."
        return Grid(replace(table, columns=columns), "Percent recovered by hypothesis and part", caption, "matrix")

    def _scale(self) -> Grid:
        caption = (
            "The anchors of the scale, whose ends are 0 and 100 by definition. A score that everything scrubbed"
            f"{', or a bigram that knows no model,' if BIGRAM in self.result.loss else ''} could reach says little."
        )
        return Grid(anchors_table(self.result), "Anchors of the scale", caption)

    def _chapters(self) -> Iterator[Section]:
        pairs = list(zip(self.names[1:], self.names, strict=False))
        changed = {each.refined: each for each in changes(self._stored, pairs, self._trial.graphs, self._parts)}
        drawings = self._drawings()
        over: dict[str, str] = {}
        for name in self.names:
            described, whole = self._stored.described(name), self._whole(name)
            gains = {
                row.part: (over[row.part], self.result.improvement(row.name, Name(over[row.part], row.part)))
                for row in self._rows[name]
                if row.part in over
                and self.result.claim(row.name).alike(self.result.claim(Name(over[row.part], row.part)))
            }
            declaration = dedent(described.rules).strip("\n").rstrip()
            yield Section(
                self._anchor(name),
                name,
                [
                    *(Prose(text, "claim") for text in paragraphs(described.claim)),
                    Prose(_headline(whole, gains), "headline"),
                    *self._chance(whole),
                    *_parameters(described),
                    self._numbers(name, gains),
                    *(_change(changed[name], whole.part) if name in changed else ()),
                    *drawings[name],
                    *([Fold("The declaration", [Code(declaration)])] if declaration else []),
                    Fold("Token by token", self._tokens.blocks(whole.name, name)),
                ],
                self._bar(whole.recovered),
                f"{PAGE.with_ends(whole.recovered)} %",
            )
            over |= {row.part: name for row in self._rows[name]}

    def _chance(self, whole: Row) -> Iterator[Prose]:
        """Say where a hypothesis stands among random ones of the same size, and the best of these."""
        standing = chance(self._stored, whole.hypothesis, whole.part)
        if standing is not None:
            known = self._stored.result.table
            random = (row for row in known if self._stored.described(row.hypothesis).null_of == whole.hypothesis)
            best = max(row.recovered.estimate for row in random if row.part == whole.part)
            found = next(row.recovered for row in known if row.recovered.estimate == best and row.part == whole.part)
            yield Prose(
                f"Against chance: it recovers more than {standing.beaten} of {standing.count} random hypotheses of the "
                f"same size (p = {PAGE.number(standing.p, 3)}, one-sided); the best of them recovers "
                f"{PAGE.with_ends(found)} %.",
                "caption",
            )

    def _numbers(self, name: str, gains: Mapping[str, tuple[str, Interval]]) -> Grid:
        rows, whole = self._rows[name], self._whole(name)
        cells = {
            "part": (row.part for row in rows),
            "recovered": (row.recovered for row in rows),
            "scrubs": (row.scrubs for row in rows),
            "published": (self._published.get(row.name) for row in rows),
            "ratio": (row.ratio for row in rows),
            "gain": (gains.get(row.part, (None, None))[1] for row in rows),
            "loss": (row.loss for row in rows),
            "change": (row.mean_abs_change for row in rows),
            "kl": (row.kl for row in rows),
        }
        others = ", ".join(dict.fromkeys(other for other, _ in gains.values()))
        columns = [
            Column("part"),
            Column("recovered", "recovered, %", 1),
            Column("bar", "0 to 100 %", cell=lambda row: self._bar(row["recovered"])),
            *([Column("scrubs", "scrubs, %", 1, missing="")] if any(row.scrubs is not None for row in rows) else []),
            *([Column("published", "published, %", 6, kind="g", missing="")] if self._published else []),
            *([Column("ratio", "ratio to unscrubbed, %", 1)] if self.result.with_ratio else []),
            *([Column("gain", f"over {others}", 1, sign=True, missing="")] if gains else []),
            Column("loss", self.result.measured, 3),
            Column("change", with_unit("mean |change|", self.result.unit), 3),
            Column("kl", "KL, nats", 3),
        ]
        bold = [replace(column, style=lambda row: "bold" if row["part"] == whole.part else "") for column in columns]
        table = FrameTable(with_cells(pd.DataFrame(index=range(len(rows))), cells), bold if len(rows) > 1 else columns)
        return Grid(table, f"Numbers of {name}", unwritten={"bar"})

    def _bar(self, interval: Interval) -> Markup:
        """Draw an interval on a scale that holds every estimate of the report, with ticks at 0 and 100 %."""
        estimates = [row.recovered.estimate for row in self.result.table]
        low, high = min([0.0, *estimates]), max([100.0, *estimates])

        def at(value: float) -> str:
            return f"{120 * min(1.0, max(0.0, (value - low) / (high - low))):.1f}"

        ticks = "".join(f'<path class="tick" d="M{at(tick)} 3V11"/>' for tick in (0, 100))
        spread = f'<path class="range" d="M{at(interval.low)} 7H{at(interval.high)}"/>'
        spot = f'<circle class="at" cx="{at(interval.estimate)}" cy="7" r="3.6"/>'
        return Markup(  # nothing but numbers is written into it
            f'<svg class="bar" viewBox="0 0 120 14" aria-hidden="true"><path class="axis" d="M0 7H120"/>'
            f"{ticks}{spread}{spot if interval.estimate == interval.estimate else ''}</svg>"
        )

    def _drawings(self) -> dict[str, list[Block]]:
        """Draw each hypothesis, the whole first; only whole hypotheses where all parts would be too much."""
        drawn = {name: {row.part: self._picture(row) for row in self._rows[name]} for name in self.names}
        size = sum(len(svg) for parts in drawn.values() for part, (_, svg) in parts.items() if part != ALL)
        blocks: dict[str, list[Block]] = {}
        for at, (name, parts) in enumerate(drawn.items(), 1):
            first = self._whole(name).part
            shown = [first, *(part for part in parts if part != first and size <= DRAWN_CHARACTERS)]
            blocks[name] = []
            for part in shown:
                picture, text = parts[part]
                plain = re.sub(r"[^A-Za-z0-9]+", "-", f"{name}-{part}").strip("-")[:60]
                inside = picture.blocks(file=f"{at:02}-{plain}.svg") if picture else [Code(text)]
                opened = part == first and len(self.names) <= OPEN_DRAWINGS
                blocks[name].append(Fold(f"The drawing of {part}", inside, opened, titled=True))
            if left_out := [part for part in parts if part not in shown]:
                said = f"The drawings of {', '.join(left_out)} would make this page too large; "
                blocks[name].append(Prose([said, Span("scrub show", "code"), " draws them."], "caption", only="html"))
        return blocks

    def _picture(self, row: Row) -> tuple[Picture | None, str]:
        """Picture a part and draw it, or give its paths as text where the graph isn't there any more."""
        if row.name not in self._trial.experiments.names:
            return None, self._stored.described(row.hypothesis).paths.get(row.part, "")
        picture = self._trial.show(row.hypothesis, row.part)
        return picture, picture.svg()

    def _trust(self, command: str) -> Section:
        """List the gates, inputs and versions, and hashes, and the command that makes the report again."""
        deviations = self.result.gates.deviations
        said = [f"{each:.1e}" for each in deviations.values()]
        seen = pd.DataFrame({"between": [*deviations], "deviation": said}, dtype=object)  # any text, not only UTF-8
        gates = FrameTable(seen, [Column("between"), Column("deviation", "nats a token", left=False)])
        about = {
            "scored positions": self._trial.settings.positions or self._trial.study.positions,
            **self._stored.about,
        }
        inputs = pd.DataFrame({"what": [*about], "which": [*about.values()]}, dtype=object)
        which = Column("which", cell=lambda row: Span(row["which"], "code"))
        hashes = [
            (name, part, found) for name in self.names for part, found in self._stored.described(name).hashes.items()
        ]
        hashed = FrameTable(
            pd.DataFrame(hashes, columns=["hypothesis", "part", "hash"], dtype=object),
            [Column("hypothesis"), Column("part"), Column("hash", cell=lambda row: Span(row["hash"], "code"))],
        )
        caption = "Before any number was kept, the run passed its gates. The largest deviations that they saw:"
        blocks: list[Block] = [
            Heading("Gates"),
            Grid(gates, "Deviations that the gates saw", caption),
            Heading("Inputs and versions"),
            Grid(FrameTable(inputs, [Column("what"), which]), "Inputs and versions", kind="about", titled=False),
        ]
        if hashes:
            grid = Grid(hashed, "Hashes of the hypotheses", kind="about")
            blocks.append(Fold("Hashes of the hypotheses as lowered", [grid]))
        blocks += [Heading("Make it again"), Code(command, "sh")]
        return Section("trust", "What the numbers rest on", blocks)


def _headline(whole: Row, gains: Mapping[str, tuple[str, Interval]]) -> Line:
    """Say what all parts together recover, and how much more than before."""
    recovered = PAGE.number(whole.recovered.estimate)
    said = "All parts together recover " if whole.part == ALL else f"{whole.part} recovers "
    line: list[str | Span] = [said, Span(f"{recovered} %", "b"), " ", Span(PAGE.ends(whole.recovered), "ci")]
    if whole.part in gains:
        over, gain = gains[whole.part]
        line += [f", {PAGE.number(gain.estimate, sign=True)} ", Span(PAGE.ends(gain, sign=True), "ci"), f" over {over}"]
    return [*line, "."]


def _parameters(described: HypothesisRecord) -> Iterator[Prose]:
    if described.parameters:
        values = ", ".join(f"{name} = {value}" for name, value in described.parameters.items())
        yield Prose(f"Parameters: {values}.", "caption")


def _change(change: Change, part: str) -> Iterator[Block]:
    """Show what changed in the declaration, and in the paths of a part."""
    yield Heading(f"What changed against {change.over}")
    if change.nothing:
        yield Prose("The two declare the same.")
    else:
        yield Code("\n".join(f"{mark} {line}" for mark, line in change.lines), "diff")
    steps = list(lines(change.paths[part], SHOWN_STEPS)) if part in change.paths else []
    if steps:
        caption = f"Paths of {part}, from the output down. ~ is fed by another source, + is new, {MINUS} is gone."
        grid = Grid(_steps(steps), "Paths that changed", caption, named=False)
        yield Fold("The paths that changed", [grid], len(steps) <= OPEN_STEPS, titled=True)


def _steps(steps: list[Step]) -> FrameTable:
    rows = [
        {
            "mark": Span(step.mark.replace("-", MINUS), "code"),
            "path": _path(step),
            "before": _fed(step.before),
            "after": _fed(step.after),
        }
        for step in steps
    ]
    titles = {"mark": "", "path": "path", "before": "fed before", "after": "fed now"}
    return FrameTable(pd.DataFrame(rows, dtype=object), [Column(name, title) for name, title in titles.items()])


def _path(step: Step) -> Span:
    """Write the steps of a line below those that they are indented under, in Markdown the whole path."""
    note = f" … {step.note}" if step.note else ""
    return Span(f"{'  ' * step.depth}{', '.join(step.steps)}{note}", "steps", plain=f"{step.path}{note}")


def _fed(source: str) -> Span | str:
    return Span(source, f"fed {({'x': 'reference', 'y': 'other'}).get(source, 'draw')}") if source else ""
