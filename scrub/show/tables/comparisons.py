"""Comparisons, and where the loss moved, as tables in a terminal or a file."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import partial

from rich import box
from rich.console import Console, ConsoleOptions, RenderableType
from rich.table import Table
from rich.text import Text

from scrub.show.difference import coloured
from scrub.store.comparisons.changes import Change
from scrub.store.comparisons.comparison import LEVEL, Comparison, Difference
from scrub.store.comparisons.leaderboard import Board, Leaderboard
from scrub.store.comparisons.moved import Most, Moved, MovedKind, MovedSequence, MovedToken, Side, T
from scrub.study.null import Standing
from scrub.study.statistics import SMALLEST_P, Interval
from scrub.text.files import one_line, shown
from scrub.text.tables import fitting
from scrub.text.tokens import in_context, marked, start

_STYLES = {"better": "green", "worse": "red", "same": "dim", "unclear": ""}
_MARKS = {"+": "green", "-": "red", " ": "dim"}
PATHS = 40  # lines of a difference of paths
CONTEXT = 72  # cells of text around a token, at the most


def comparison_tables(of: Comparison, console: Console, options: ConsoleOptions) -> Iterator[RenderableType]:
    """The table of what each recovers with the differences, what these mean, and what changed."""
    yield Text(one_line(of.heading))
    yield Text()
    yield fitting(partial(_comparison, of), console, options)
    for note in of.notes:
        yield Text(note, style="dim")
    if of.chances:
        yield Text("\nabove how many random hypotheses of its size, and p of chance:", style="bold")
    for (name, part), standing in of.chances.items():
        yield Text(f"  {one_line(name)}, {part}: ").append(_standing(standing, wide=True))
    for change in of.changes:
        yield Text()
        yield from _change(change)


def moved_tables(of: Moved, _console: Console, options: ConsoleOptions) -> Iterator[RenderableType]:
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


def leaderboard_tables(of: Leaderboard, console: Console, options: ConsoleOptions) -> Iterator[RenderableType]:
    """A table for each board, under a line that says what its numbers were computed of."""
    for at, board in enumerate(of.boards):
        if at:
            yield Text()
        yield Text(one_line(board.heading))
        yield Text(f"{one_line(board.basis)}; part: {one_line(of.part)}", style="dim")
        yield fitting(partial(_board, board), console, options)
    yield Text("≈: the interval overlaps the leader's; behind: by how much, paired on the same sequences", style="dim")


def interval(value: Interval, digits: int, sign: bool = False, wide: bool = True, mark: str = "") -> str:
    """An estimate with its interval and a mark, on one line or, if that is too wide, on two."""
    form = f"{'+' if sign else ''}.{digits}f"
    around = f"[{value.low:{form}}, {value.high:{form}}]"
    return f"{value.estimate:{form}} {around}{mark}" if wide else f"{value.estimate:{form}}{mark}\n{around}"


def _table(titles: Iterable[str], left: Sequence[int]) -> Table:
    """A table without lines but under its titles; the columns at `left` are text, the others numbers."""
    made = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    for at, title in enumerate(titles):
        made.add_column(Text(title), justify="left" if at in left else "right", overflow="fold")
    return made


def _comparison(of: Comparison, wide: bool) -> Table:
    between = " " if wide else "\n"
    over = f"over {one_line(of.against)}" if of.against is not None else f"over the{between}one before"
    better = "P(better)" if wide else "P: is\nbetter"
    titles = ("part", "hypothesis", "recovered, %", over, better, "p", "Holm")
    made = _table(titles, left=(0, 1))
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


def _board(of: Board, wide: bool) -> Table:
    random = (f"above{' ' if wide else chr(10)}random",) if any(place.chance for place in of.places) else ()
    pairings = ("pairings",) if len({place.pairings for place in of.places}) > 1 else ()
    titles = ("", "hypothesis", "recovered, %", "behind", *random, "loss", "KL", *pairings)
    made = _table(titles, left=(1,))
    for rank, place in enumerate(of.places, 1):
        made.add_row(
            Text(str(rank)),
            Text(one_line(place.hypothesis)),
            Text(interval(place.recovered, 1, wide=wide, mark=" ≈" if place.overlaps and rank > 1 else "  ")),
            Text(interval(place.behind, 1, sign=True, wide=wide) if place.behind else ""),
            *([_standing(place.chance, wide)] if random else []),
            Text(f"{place.loss.estimate:.3f}"),
            Text(f"{place.kl.estimate:.3f}"),
            *([Text(str(place.pairings))] if pairings else []),
        )
    return made


def _tested(of: Difference, wide: bool) -> list[Text]:
    style = _STYLES[of.verdict]
    if of.same:
        return [Text("the same", style=style)]
    star = "*" if of.holm < LEVEL else " "
    return [
        Text(interval(of.recovered, 1, sign=True, wide=wide), style=style),
        Text(_share(of.improves)),
        Text(_p(of.p, of.at_most)),
        Text(_p(of.holm, of.at_most) + star, style=style),
    ]


def _standing(of: Standing | None, wide: bool) -> Text:
    """How many of the random hypotheses one is above."""
    return Text(f"{of.beaten} of {of.count}{' ' if wide else chr(10)}(p {of.p:.3f})" if of else "")


def _share(share: float) -> str:
    """A share of the resamples, of which neither 0 nor 1 says that it is certain."""
    if share < SMALLEST_P:
        return f"<{SMALLEST_P:.3f}"
    return f">{1 - SMALLEST_P:.3f}" if share > 1 - SMALLEST_P else f"{share:.3f}"


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
    for part, tree in of.paths.items():
        yield Text(
            f"\nin paths, {part}: what feeds them, before -> now" if tree.children else f"\nin paths, {part}: nothing"
        )
        yield coloured(tree, PATHS)


def _most(title: str, of: Most[T], titles: Sequence[str], cells: Callable[[T], list[Text]]) -> Iterator[RenderableType]:
    yield Text()
    yield Text.assemble((f"{title}: ", "bold"), (f"{_side('gained', of.gained)}; {_side('lost', of.lost)}", "dim"))
    made = _table(titles, left=(len(titles) - 1,))
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
