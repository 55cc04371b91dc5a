"""The tables of what a model writes: side by side, as grids where the data are some, and a line for each experiment."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import pandas as pd
from rich.cells import cell_len
from rich.console import Console, ConsoleOptions, RenderableType
from rich.table import Table
from rich.text import Text

from scrub.data.prompts.prompts import prompts_called, resampled, token_text
from scrub.data.repeated import NOWHERE
from scrub.data.windows import counted
from scrub.measure.generation.generation import EXACT, TOKENS, Generation
from scrub.show.theme import contrast
from scrub.show.written import RIGHT, Strip, colours, drawn, grid_line, strips
from scrub.text.tables import Column, FrameTable
from scrub.text.tokens import in_context, marked, start, visible
from scrub.text.wording import few, gates_line

ABREAST = 3  # experiments whose texts stand side by side, besides the unchanged model and what is right
MOST_GRIDS = 12
LINE, SHORTEST = 100, 24  # characters of what was written on one line
WRONG, CORRECT, AS_UNCHANGED = "bold red", "correct", "as unchanged"
NOTHING = "nothing is known to be right where it is compared"
SIGN = "!"  # behind a symbol of a grid that is wrong
_GAP = "   "  # between grids


def generation_tables(of: Generation, _console: Console, options: ConsoleOptions) -> Iterator[RenderableType]:
    """Say what was done, and show one prompt with all that was written behind it, or a line over all prompts."""
    one = len(of.prompts) == 1
    yield Text(_heading(of))
    for line in of.how:
        yield Text(line)
    yield Text(gates_line(of.gates.deviations, None if one else resampled(of.prompts, "documents")))
    yield Text(_compared(of))
    if of.width is not None:
        yield Text(grid_line(of.width))
    if one:
        yield from shown_row(of, 0, options)
    else:
        yield generation_table(of)


def shown_row(of: Generation, row: int, options: ConsoleOptions) -> Iterator[RenderableType]:
    """Show one prompt, what was written behind it side by side, and a line for each experiment."""
    if len(of.prompts) > 1:
        yield Text(f"\n{of.prompts.row(row)}")
    yield Text(f"prompt: {start(visible(of.prompts.texts[row]), 4 * options.max_width)}")
    shown = strips(of, row)
    if of.width is not None:
        yield from _grids(shown, of.width, options)
    elif len(of.names) <= 1 + ABREAST:
        yield _side_by_side(of, row)
    yield lines_table(of, row, options.max_width)


def generation_table(of: Generation) -> FrameTable:
    """List the experiments, with the percent of rows and of tokens that are right, and what is written instead."""
    common = [of.commonest(at) for at in range(len(of.names))]
    frame = of.frame().assign(
        instead=["" if c is None else marked(_token(of, c[0])) for c in common],
        of=["" if c is None else f"{c[1]:,} of {c[2]:,}" for c in common],
    )
    names = (EXACT, TOKENS) if int(of.compared.sum(1).max()) > 1 else (EXACT,)
    columns = [
        Column("experiment"),
        *(Column(name, f"{name}, %", 1, ends=(f"{name}, low", f"{name}, high"), lone=True) for name in names),
        Column("instead", "first wrong token, most often"),
        Column("of", "in rows that are wrong"),
    ]
    return FrameTable(frame, columns)


def lines_table(of: Generation, row: int, width: int = LINE) -> FrameTable:
    """Say for each experiment that what it wrote is correct, or what it wrote instead, its first wrong token marked."""
    room = max(SHORTEST, min(LINE, width - 16 - max(map(cell_len, of.names))))
    whole = AS_UNCHANGED if not of.known else CORRECT
    count = int(of.compared[row].sum())
    wanted = _short(of, of.right[row], room) if count else NOTHING
    rows = [{"experiment": RIGHT, "right": "", "written": Text(wanted)}] if of.known else []
    for at, name in enumerate(of.names):
        alone = (at == 0 and not of.known) or not count
        right = "" if alone else f"{int(of.matches[at, row].sum())} of {count}"
        said = _short(of, of.written[at, row], room) if alone else whole
        text = Text(said) if alone or of.exact[at, row] else _instead(of, at, row, room)
        rows.append({"experiment": name, "right": right, "written": text})
    title = "written, its first wrong token marked" if of.known else "written, the first other token marked"
    columns = [Column("experiment"), Column("right", "right" if of.known else "same"), Column("written", title)]
    return FrameTable(pd.DataFrame(rows), columns)


def _heading(of: Generation) -> str:
    many = len(of.prompts)
    on = "one prompt" if many == 1 else f"{many:,} prompts of {prompts_called(of.prompts)}"
    drawn_by = (
        "greedily"
        if of.choice.temperature is None
        else f"at temperature {of.choice.temperature:g}, seed {of.choice.seed}"
    )
    until = f" until {' or '.join(marked(_token(of, end)) for end in of.ends)}" if of.ends else ""
    return f"{of.model.called}: {counted(of.steps, 'token')} behind {on}, {drawn_by}{until}{of.computed}"


def _compared(of: Generation) -> str:
    """Say what is compared with what."""
    which = "" if of.span is None else f" tokens {of.span} of what is written,"
    if not of.known:
        return f"compared:{which} with what the unchanged model writes, since nothing is said to be right"
    counts = of.compared.sum(1)[of.compared.any(1)]
    least, most = int(counts.min()), int(counts.max())
    many = f"{most:,}" if least == most else f"{least:,} to {most:,}"
    some = " the first token alone," if most == 1 else f" the first {many} tokens,"
    tokens = "" if of.span is not None else " all tokens," if least == of.steps else some
    return f"compared:{which}{tokens} with those that are right"


def _token(of: Generation, token: int) -> str:
    return "" if token == NOWHERE else token_text(token, of.model.tokenizer)


def _short(of: Generation, tokens: Sequence[int], width: int) -> str:
    return start(visible(of.text(tokens)), width)


def _instead(of: Generation, at: int, row: int, width: int) -> Text:
    """Write what stands there instead, around the first token that isn't right."""
    wrong = of.first_wrong(at, row)
    assert wrong is not None
    written = of.tokens(at, row)
    if wrong >= len(written):
        return Text(f"{_short(of, written, width)} and then nothing")
    pieces = of.pieces(written)
    return in_context("".join(pieces[:wrong]), pieces[wrong], "".join(pieces[wrong + 1 :]), width, WRONG)


def _side_by_side(of: Generation, row: int) -> Table:
    """Put whole texts beside each other, the first wrong token of each between marks."""
    table = FrameTable(pd.DataFrame(), []).rich()
    texts: list[tuple[str, Text]] = []
    if of.known:
        texts.append((RIGHT, Text(_lines(of.text(of.right[row])))))
    for at, name in enumerate(of.names):
        pieces = of.pieces(of.tokens(at, row))
        bad = of.compared[row] & ~of.matches[at, row]
        first = of.first_wrong(at, row)
        marks = (
            (marked(piece) if step == first else _lines(piece), WRONG if bad[step] else "")
            for step, piece in enumerate(pieces)
        )
        texts.append((name, Text.assemble(*marks)))
    for name, _ in texts:
        table.add_column(Text(name), overflow="fold")
    table.add_row(*(text for _, text in texts))
    return table


def _lines(text: str) -> str:
    """Keep the lines of a text, and show whatever else is in it."""
    return "\n".join(visible(line) for line in text.split("\n"))


def _grids(shown: Sequence[Strip], width: int, options: ConsoleOptions) -> Iterator[Text]:
    """Draw grids side by side, as many as there is room for, and the others below them."""
    some, left = drawn(shown, MOST_GRIDS)
    cell = max(cell_len(symbol) for strip in some for symbol in strip.symbols) + 2
    wide = max(width * cell, *(cell_len(strip.title) for strip in some))
    abreast = max(1, (options.max_width + len(_GAP)) // (wide + len(_GAP)))
    known = colours(some)
    for first in range(0, len(some), abreast):
        here = some[first : first + abreast]
        lines = [Text(_GAP).join(_filled(Text(strip.title, "bold"), wide) for strip in here)]
        for line in range(max(len(strip.lines(width)) for strip in here)):
            lines.append(Text(_GAP).join(_filled(_row(strip, line, width, cell, known), wide) for strip in here))
        yield Text("\n").join([Text(), *lines])
    if left:
        yield Text(f"not drawn: {few(left)}")
    if any(any(strip.wrong) for strip in some):
        yield Text(f"{SIGN} behind a symbol: it is wrong")


def _row(strip: Strip, line: int, width: int, cell: int, known: dict[int, str]) -> Text:
    """Write a row of a grid, each symbol in its colour, and a sign behind what is wrong."""
    text, rows = Text(), strip.lines(width)
    for at in rows[line] if line < len(rows) else ():
        token, sign = strip.tokens[at], SIGN if strip.wrong[at] else " "
        written = " " * (cell - 1 - cell_len(strip.symbols[at])) + strip.symbols[at] + sign
        style = f"{contrast(known[token])} on {known[token]}" if token in known else ""
        text.append(written, f"{style} {'bold underline' if strip.wrong[at] else ''}".strip())
    return text


def _filled(text: Text, width: int) -> Text:
    text.append(" " * max(0, width - text.cell_len))
    return text
