"""The tables of results: of a study, of a sweep, of comparisons, and of where the loss, or another metric, moved."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from textwrap import fill
from typing import Any

import pandas as pd
from rich.console import Console, ConsoleOptions, RenderableType
from rich.text import Text

from scrub.paths.unmatched import MARK
from scrub.show.text import coloured_difference
from scrub.store.comparisons.changes import Change
from scrub.store.comparisons.comparison import LEVEL, Comparison, Difference, chance
from scrub.store.comparisons.leaderboard import Board, Leaderboard
from scrub.store.comparisons.moved import Most, Moved, Side
from scrub.store.results.read import StudyResults
from scrub.study.experiments import ALL_SCRUBBED
from scrub.study.hypothesis import ALL
from scrub.study.null import Standing
from scrub.study.result import BIGRAM, Result
from scrub.text.files import one_line, shown
from scrub.text.frames import with_cells
from scrub.text.numbers import PLAIN
from scrub.text.tables import Column, FrameTable, Row
from scrub.text.tokens import in_context, marked, start
from scrub.text.wording import gates_line

_STYLES = {"better": "green", "worse": "red", "same": "dim", "unclear": "", "apart": "dim"}
_MARKS = {"+": "green", "-": "red", " ": "dim"}
LEGEND = (
    "scrubs: percent of the baseline's paths that are resampled; front: nothing recovers more and scrubs more; ranks "
    "and behind: among those that scrub the same parts, and as many paths within a tenth, paired on the same "
    "sequences; ≈: not told apart from the first of them"
)
PATH_LINES = 40  # of a difference of paths
SAYS_CELLS = 40  # of what is other in a control, on a line
CONTEXT_CELLS = 72  # of text around a token, at the most


def parts_table(stored: StudyResults) -> FrameTable:
    """Put the parts of every hypothesis side by side; beside them, where there are random ones, which it is above."""
    rows = [row for row in stored.result.table if not stored.described(row.hypothesis).null_of]
    stands = {(row.hypothesis, row.part): chance(stored, row.hypothesis, row.part) for row in rows}
    parts = list(dict.fromkeys(row.part for row in rows))
    tested = [part for part in parts if any(among and of == part for (_, of), among in stands.items())]
    cells: dict[str, dict[str, object]] = {}
    for row in rows:
        line, among = cells.setdefault(row.hypothesis, {}), stands[row.hypothesis, row.part]
        line[row.part] = row.recovered
        if among:
            line[_against(row.part)] = f"above {among.beaten} of {among.count}, p = {among.p:.2g}"
    columns = [Column(part, digits=1, missing="") for part in parts]
    frame = pd.DataFrame([{"hypothesis": name, **line} for name, line in cells.items()])
    return FrameTable(frame, [Column("hypothesis"), *columns, *(Column(_against(part), left=False) for part in tested)])


def _against(part: str) -> str:
    return f"{part} against random"


def result_tables(result: Result, _console: Console, _options: ConsoleOptions) -> Iterator[RenderableType]:
    """Show what was run on what, the anchors and the rows, of each metric that was measured."""
    yield Text(one_line(result.heading))
    if result.roles:
        yield Text(one_line(result.roles_said))
    yield Text(f"{gates_line(result.gates.deviations, result.documents_called)}\n")
    for each in result.by_metric.values():
        if result.others:
            yield Text(one_line(each.measured), style="bold")
        yield anchors_table(each)
        yield rows_table(each)
        if each.controls:
            yield from controls_tables(each)
            yield from (Text(one_line(line)) for line in each.verdicts)


def anchors_table(result: Result) -> FrameTable:
    """List the losses that the scale hangs on, and what they recover: two are 0 and 100 by definition."""
    recovered = {name: result.recovered(name) for name in result.losses}
    rows = [
        (
            name.replace("_", " "),
            loss,
            recovered[name] if name in {ALL_SCRUBBED, BIGRAM} else PLAIN.number(recovered[name].estimate, 0),
        )
        for name, loss in result.losses.items()
    ]
    frame = pd.DataFrame([*rows, ("baseline - unscrubbed", result.gap, "")], columns=["anchor", "loss", "recovered"])
    loss = Column("loss", result.measured, 3)
    return FrameTable(frame, [Column("anchor"), loss, Column("recovered", "recovered, %", 1)])


def rows_table(result: Result) -> FrameTable:
    """List the parts of every hypothesis: what each recovers and scrubs, and how much more than the one before it.

    That is said only where both scrub the same parts and as much.
    """
    gains, before = [], dict[str, str]()
    for hypothesis, part in result.rows:
        experiment = f"{hypothesis}/{part}"
        alike = part in before and result.claim(experiment).alike(result.claim(before[part]))
        gains.append(result.improvement(experiment, before[part]) if alike else None)
        before[part] = experiment
    frame = with_cells(result.frame(), {"gain": gains})
    recovered = Column(
        "recovered", "recovered, %", 1, ends=("low", "high"), style=lambda row: "bold" if row["part"] == ALL else ""
    )
    columns = [
        Column("hypothesis"),
        Column("part"),
        recovered,
        *_scrubs(frame),
        *([Column("published", digits=6, kind="g", missing="")] if result.published else []),
        *ratio_columns(result),
        Column("gain", "over the one before", 1, sign=True, missing=""),
        Column("loss", result.metric, 3),
        Column("mean_abs_change", "|change|", 3),
        Column("kl", "KL", 3),
    ]
    return FrameTable(frame, columns, by="hypothesis")


def controls_tables(result: Result) -> Iterator[FrameTable]:
    """List what the controls of each hypothesis recover, and how much more it does."""
    columns = [
        Column("says", "what is other in it", cell=lambda row: fill(row["says"], SAYS_CELLS)),
        Column("recovered", "recovered, %", 1, ends=("low", "high")),
        Column("gain", "over it", 1, sign=True, ends=("gain_low", "gain_high")),
    ]
    frame = replace(result, others=()).control_frame()
    for name in frame["hypothesis"].unique():
        of = frame[frame["hypothesis"] == name]
        yield FrameTable(of, [Column("control", f"control of {one_line(name)}"), *columns])
        if name in result.joint:
            yield _class_table(result, name)


def _class_table(result: Result, name: str) -> FrameTable:
    """List what a hypothesis recovers in each joint class of its features, and the label alone."""
    frame = replace(result, others=()).class_frame()
    columns = [
        Column("class", f"class of x, {one_line(name)}", cell=lambda row: fill(row["class"], SAYS_CELLS)),
        Column("sequences", left=False, cell=lambda row: f"{row['sequences']:,}"),
        Column("recovered", "recovered, %", 1, ends=("recovered_low", "recovered_high")),
        *([Column("label", "by the label", 1, ends=("label_low", "label_high"))] if "label" in frame else []),
    ]
    return FrameTable(frame[frame["hypothesis"] == name], columns)


def ratio_columns(result: Result) -> list[Column]:
    """Show the plain ratio to the unscrubbed model's beside what is recovered, where it stands there."""
    ratio = Column("ratio", "ratio, %", 1, ends=("ratio_low", "ratio_high"))
    published = Column("published_ratio", "published", digits=6, kind="g", missing="")
    return [*[ratio] * result.with_ratio, *[published] * bool(result.published_ratios)]


def comparison_tables(of: Comparison, _console: Console, _options: ConsoleOptions) -> Iterator[RenderableType]:
    """Show what each recovers with the differences, what these mean, and what changed."""
    yield Text(one_line(of.heading))
    if of.result.roles:
        yield Text(one_line(of.result.roles_said))
    yield Text()
    yield _comparison(of)
    for note in of.notes:
        yield Text(note, style="dim")
    if of.chances:
        yield Text("\nabove how many random hypotheses of its size, and p of chance:", style="bold")
    for (name, part), standing in of.chances.items():
        yield Text(f"  {one_line(name)}, {part}: {' '.join(_standing(standing))}")
    for change in of.changes:
        yield Text()
        yield from _change(change)


def moved_tables(of: Moved, _console: Console, options: ConsoleOptions) -> Iterator[RenderableType]:
    """List tokens, sequences and kinds of tokens, each with what share of everything those that are shown hold."""
    whole = PLAIN.with_interval(of.recovered, 1, sign=True)
    yield Text(f"where the {of.metric} moved: {one_line(of.refined)} over {one_line(of.over)}, {of.part}", style="bold")
    gains = f"; gains in {of.unit}" if of.unit else ""
    counted = f"points of percent recovered, over {of.scored:,} tokens{gains}"
    yield Text(
        f"{whole} {counted}" if not of.apart else f"{of.apart}: neither is called better; {counted}", style="dim"
    )
    if not of.tokens.rows:
        yield Text("nowhere: it is the same for every token")
        return
    room = min(CONTEXT_CELLS, options.max_width - 36)
    yield from _most("tokens", of, "tokens", _token_columns(room, of.metric))
    yield from _most("sequences", of, "sequences", _sequence_columns(room))
    yield from _most("tokens predicted, by kind", of, "targets", _kind_columns())
    yield from _most("tokens read, by kind", of, "reads", _kind_columns())


def leaderboard_tables(of: Leaderboard, _console: Console, _options: ConsoleOptions) -> Iterator[RenderableType]:
    """Show a table for each board, under a line that says what its numbers were computed of."""
    for at, board in enumerate(of.boards):
        if at:
            yield Text()
        yield Text(one_line(board.heading))
        yield Text(f"{one_line(board.basis)}; part: {one_line(of.part)}", style="dim")
        yield _board(board)
    for note in of.notes:
        yield Text(note, style="dim")
    yield Text(LEGEND, style="dim")


def _comparison(of: Comparison) -> FrameTable:
    tested = {(each.part, each.refined): each for each in of.differences}
    frame = with_cells(of.frame(), {"tested": (tested.get((row.part, row.hypothesis)) for row in of.rows)})
    over = f"over {one_line(of.against)}" if of.against is not None else "over the one before"
    narrow = over if of.against is not None else "over the\none before"

    def style(row: Row) -> str:
        return _STYLES[row["tested"].verdict] if row["tested"] else ""

    def test(name: str, title: str, write: Callable[[Difference], object], **more: Any) -> Column:
        return Column(name, title, 1, True, cell=lambda row: write(row["tested"]) if row["tested"] else "", **more)

    columns = [
        Column("part"),
        _name("hypothesis"),
        Column("recovered", "recovered, %", 1, ends=("low", "high")),
        *ratio_columns(of.result),
        *_scrubs(frame),
        test("difference", over, _gain, style=style, narrow=narrow),
        test(
            "probability",
            "P(better)",
            lambda of: "" if of.same or of.apart else _share(of.improves, of.smallest_p),
            narrow="P: is\nbetter",
        ),
        test("p", "p", lambda of: "" if of.same or of.apart else _p(of.p, of.at_most)),
        test("p_holm", "Holm", _holm, style=style),
    ]
    return FrameTable(frame, columns, by="part")


def _board(of: Board) -> FrameTable:
    frame = with_cells(of.frame(), {"chance": (place.chance for place in of.places)})
    known = _scrubs(frame)
    known += [Column("front", cell=lambda row: "front" if row["front"] else "")] if known else []
    random = Column(
        "chance", "above random", left=False, narrow="above\nrandom", cell=lambda row: _standing(row["chance"])
    )
    some = frame["left_out"].any()  # marks stand below each other

    def mark(row: Row) -> str:
        return _tied(row) + (f" {MARK}" if row["left_out"] else "  ") * bool(some)

    columns = [
        Column("rank", "", 0),
        _name("hypothesis"),
        Column("recovered", "recovered, %", 1, ends=("low", "high"), mark=mark),
        *known,
        Column("behind", None, 1, sign=True, ends=("behind_low", "behind_high"), missing=""),
        *([random] if any(frame["chance"]) else []),
        Column("loss", of.measured, 3),
        Column("kl", "KL", 3),
        *([Column("pairings", digits=0)] if frame["pairings"].nunique() > 1 else []),
    ]
    return FrameTable(frame, columns)


def _name(column: str) -> Column:
    return Column(column, cell=lambda row: one_line(row[column]))


def _tied(row: Row) -> str:
    return " ≈" if row["tied"] else "  "


def _standing(of: Standing | None) -> tuple[str, str]:
    """Say how many of the random hypotheses one is above."""
    return (f"{of.beaten} of {of.count}", f"(p {of.p:.3f})") if of else ("", "")


def _share(share: float, smallest: float) -> str:
    """Write a share of the resamples, of which neither 0 nor 1 says that it is certain."""
    if share < smallest:
        return f"<{smallest:.3f}"
    return f">{1 - smallest:.3f}" if share > 1 - smallest else f"{share:.3f}"


def _p(value: float, at_most: bool) -> str:
    return f"{'≤' if at_most and value < 1 else ''}{value:.3f}"


def _scrubs(frame: pd.DataFrame) -> list[Column]:
    """Say how much is scrubbed, where that is known."""
    return [Column("scrubs", "scrubs, %", 1, missing="")] if frame["scrubs"].notna().any() else []


def _gain(of: Difference) -> object:
    return of.apart or ("the same" if of.same else of.recovered)


def _holm(of: Difference) -> str:
    return "" if of.same or of.apart else _p(of.holm, of.at_most) + ("*" if of.holm < LEVEL and not of.few else " ")


def _change(of: Change) -> Iterator[RenderableType]:
    names = f"{one_line(of.refined)} over {one_line(of.over)}"
    if of.nothing:
        yield Text(f"{names}: they declare the same", style="bold")
        return
    yield Text(f"{names}: what changed", style="bold")
    for mark, line in of.lines:
        yield Text(f"  {mark} {shown(line)}", style=_MARKS[mark])
    for part, tree in of.paths.items():
        yield Text(
            f"\nin paths, {part}: what feeds them, before -> now" if tree.children else f"\nin paths, {part}: nothing"
        )
        yield coloured_difference(tree, PATH_LINES)


def _most(title: str, of: Moved, level: str, columns: Sequence[Column]) -> Iterator[RenderableType]:
    sides: Most[Any] = getattr(of, level)
    said = f"{_side('gained', sides.gained, of.unit)}; {_side('lost', sides.lost, of.unit)}"
    yield Text()
    yield Text.assemble((f"{title}: ", "bold"), (said, "dim"))
    frame = of.frame(level)
    yield FrameTable(frame.assign(gained=frame["gain"] > 0), columns, by="gained")


def _side(what: str, of: Side[Any], unit: str) -> str:
    """Say how many gained or lost how much, and how much of it the table shows."""
    share = (
        f", of which these hold {100 * of.share:.{0 if of.share >= 0.1 else 1}f} %" if of.count > len(of.most) else ""
    )
    gain = f"{abs(of.gain):,.1f} {unit}".rstrip()
    return f"{of.count:,} {what} {gain}{share}" if of.count else f"none {what}"


_GAIN = Column("gain", digits=2, sign=True, style=lambda row: "green" if row["gain"] > 0 else "red")
_MEAN = Column("mean", "a token", 3, sign=True)
_POINTS = Column("points", digits=3, sign=True)


def _token_columns(room: int, metric: str) -> list[Column]:
    def context(row: Row) -> Text:
        style = "bold green" if row["gain"] > 0 else "bold red"
        return in_context(row["before"], row["target"], row["after"], room, style)

    return [
        _GAIN,
        Column("loss", metric, left=False, cell=lambda row: f"{row['other_loss']:.2f} → {row['loss']:.2f}"),
        _POINTS,
        Column("at", left=False, cell=lambda row: f"{row['sequence']}:{row['position']}"),
        Column("target", "in context, the scored token marked", cell=context),
    ]


def _sequence_columns(room: int) -> list[Column]:
    def text(row: Row) -> Text:
        number = f"{row['sequence']}: "
        return Text(number + start(row["text"], room - len(number)), no_wrap=True)

    return [_GAIN, _count("scored"), _MEAN, _POINTS, Column("sequence", cell=text)]


def _kind_columns() -> list[Column]:
    points = Column("points", digits=2, sign=True, ends=("low", "high"))
    return [_GAIN, _count("count"), _MEAN, points, Column("text", "token", cell=lambda row: marked(row["text"]))]


def _count(column: str) -> Column:
    return Column(column, "tokens", left=False, cell=lambda row: f"{row[column]:,}")
