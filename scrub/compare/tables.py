"""Comparisons, and where the loss moved, as tables in a terminal or a file."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence

from rich import box
from rich.console import Console, ConsoleOptions, RenderableType
from rich.measure import Measurement
from rich.table import Table
from rich.text import Text

from scrub.compare.changes import Change
from scrub.compare.comparison import LEVEL, Comparison, Difference
from scrub.compare.moved import Most, Moved, MovedKind, MovedSequence, MovedToken, Side, T
from scrub.files import one_line, shown
from scrub.show.tokens import in_context, marked, start
from scrub.study.statistics import SMALLEST_P, Interval

_STYLES = {"better": "green", "worse": "red", "same": "dim", "unclear": ""}
_MARKS = {"+": "green", "-": "red", " ": "dim"}
_ENDLESS = 100_000  # cells
CONTEXT = 72  # cells of text around a token, at the most


def comparison_tables(of: Comparison, console: Console, options: ConsoleOptions) -> Iterator[RenderableType]:
    """The table of what each recovers with the differences, what these mean, and what changed."""
    yield Text(of.result.heading)
    yield Text()
    yield _fitting(lambda wide: _comparison(of, wide), console, options)
    for note in of.notes:
        yield Text(note, style="dim")
    for change in of.changes:
        yield Text()
        yield from _change(change)


def moved_tables(of: Moved, options: ConsoleOptions) -> Iterator[RenderableType]:
    """The tokens, sequences and kinds of tokens, each with what share of everything those that are shown hold."""
    whole = interval(of.recovered, 1, sign=True)
    yield Text(f"where the loss moved: {one_line(of.refined)} over {one_line(of.over)}, {of.part}", style="bold")
    yield Text(f"{whole} points of percent recovered, over {of.scored:,} tokens; gains in nats", style="dim")
    if not of.tokens.rows:
        yield Text("nowhere: it is the same for every token")
        return
    room = min(CONTEXT, options.max_width - 36)
    titles = ("gain", "loss", "points", "at", "in context, the scored token marked")
    yield from _most("tokens", of.tokens, titles, lambda each: _token(each, room))
    titles = ("gain", "tokens", "a token", "points", "sequence")
    yield from _most("sequences", of.sequences, titles, lambda each: _sequence(each, room))
    titles = ("gain", "tokens", "a token", "points", "token")
    yield from _most("tokens predicted, by kind", of.targets, titles, _kind)
    yield from _most("tokens read, by kind", of.reads, titles, _kind)


def interval(value: Interval, digits: int, sign: bool = False, wide: bool = True) -> str:
    """An estimate with its interval, on one line or, if that is too wide, on two."""
    form = f"{'+' if sign else ''}.{digits}f"
    return f"{value.estimate:{form}}{' ' if wide else chr(10)}[{value.low:{form}}, {value.high:{form}}]"


def _fitting(make: Callable[[bool], Table], console: Console, options: ConsoleOptions) -> Table:
    """The table with everything on one line, or the narrow one if it is wider than there is room."""
    wide = make(True)
    return (
        wide
        if Measurement.get(console, options.update(width=_ENDLESS), wide).maximum <= options.max_width
        else make(False)
    )


def table(titles: Iterable[str], left: Sequence[int]) -> Table:
    """A table without lines but under its titles; the columns at `left` are text, the others numbers."""
    made = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    for at, title in enumerate(titles):
        made.add_column(Text(title), justify="left" if at in left else "right", no_wrap=at not in left)
    return made


def _comparison(of: Comparison, wide: bool) -> Table:
    over = f"over {one_line(of.against)}" if of.against is not None else "over the one before"
    titles = ("part", "hypothesis", "recovered, %", over, "P(better)", "p", "Holm")
    made = table(titles, left=(0, 1))
    found = {(each.part, each.refined): each for each in of.differences}
    part = ""
    for row in of.rows:
        if part and row.part != part:
            made.add_section()
        each = found.get((row.part, row.hypothesis))
        made.add_row(
            Text(row.part if row.part != part else ""),
            Text(one_line(row.hypothesis)),
            Text(interval(row.recovered, 1, wide=wide)),
            *(_tested(each, wide) if each else ()),
        )
        part = row.part
    return made


def _tested(of: Difference, wide: bool) -> list[Text]:
    style = _STYLES[of.verdict]
    if of.same:
        return [Text("the same", style=style)]
    star = " *" if of.holm < LEVEL else "  "
    return [
        Text(interval(of.recovered, 1, sign=True, wide=wide), style=style),
        Text(_share(of.improves)),
        Text(_p(of.p, of.at_most)),
        Text(_p(of.holm, of.at_most) + star, style=style),
    ]


def _share(share: float) -> str:
    """A share of the resamples, of which neither 0 nor 1 says that it is certain."""
    return (
        f"<{SMALLEST_P:.3f}"
        if share < SMALLEST_P
        else f">{1 - SMALLEST_P:.3f}"
        if share > 1 - SMALLEST_P
        else f"{share:.3f}"
    )


def _p(value: float, at_most: bool) -> str:
    return f"{'≤' if at_most and value < 1 else ''}{value:.3f}"


def _change(of: Change) -> Iterator[RenderableType]:
    names = f"{one_line(of.refined)} over {one_line(of.over)}"
    if of.nothing:
        yield Text(f"{names}: they declare the same", style="bold")
        return
    yield Text(f"{names}: what changed", style="bold")
    for mark, line in of.lines:
        yield Text(f"  {mark} {shown(line)}", style=_MARKS[mark])


def _most(title: str, of: Most[T], titles: Sequence[str], cells: Callable[[T], list[Text]]) -> Iterator[RenderableType]:
    yield Text()
    yield Text.assemble((f"{title}: ", "bold"), (f"{_side('gained', of.gained)}; {_side('lost', of.lost)}", "dim"))
    made = table(titles, left=(len(titles) - 1,))
    for side in (of.gained.most, of.lost.most[::-1]):
        made.add_section()
        for each in side:
            made.add_row(*cells(each))
    yield made


def _side(what: str, of: Side[T]) -> str:
    """How many gained or lost how much, and how much of it the table shows."""
    share = (
        f", of which these hold {100 * of.share:.{0 if of.share >= 0.1 else 1}f} %" if of.count > len(of.most) else ""
    )
    return f"{of.count:,} {what} {abs(of.gain):,.1f} nats{share}" if of.count else f"none {what}"


def _gain(gain: float) -> Text:
    return Text(f"{gain:+.2f}", style="green" if gain > 0 else "red")


def _token(of: MovedToken, room: int) -> list[Text]:
    losses, place = f"{of.other_loss:.2f} → {of.loss:.2f}", f"{of.sequence}:{of.position}"
    context = in_context(of.before, of.target, of.after, room, "bold green" if of.gain > 0 else "bold red")
    return [_gain(of.gain), Text(losses), Text(f"{of.points:+.3f}"), Text(place), context]


def _sequence(of: MovedSequence, room: int) -> list[Text]:
    text = Text(f"{of.sequence}: {start(of.text, room - len(f'{of.sequence}: '))}", no_wrap=True)
    return [_gain(of.gain), Text(f"{of.scored:,}"), Text(f"{of.mean:+.3f}"), Text(f"{of.points:+.3f}"), text]


def _kind(of: MovedKind) -> list[Text]:
    points = interval(Interval(of.points, of.low, of.high), 2, sign=True)
    return [_gain(of.gain), Text(f"{of.count:,}"), Text(f"{of.mean:+.3f}"), Text(points), Text(marked(of.text))]
