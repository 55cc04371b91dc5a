"""The tree of paths as an SVG drawing: inputs at the bottom, the output on top, coloured by source."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from html import escape

from scrub.paths.sources import Source
from scrub.paths.tree import PathTree, fitted, fold_tree, merged
from scrub.show.layout import LINE, MARGIN, PAD_Y, Box, Edge, Layout, lay_out, text_width
from scrub.show.sources import LOOKS, MIXED, Ink, css, styles
from scrub.text.wording import printable

BOXES = 90  # nobody reads a drawing of more
_LIGHT, _DARK = ("#ffffff", "#1d2330"), ("#10151c", "#e9edf3")  # ground, text
_TITLE, _ROW, _SWATCH = 30.0, 22.0, 30.0
_CLASS = "scrub-drawing"


def svg(tree: PathTree, title: str = "", boxes: int = BOXES) -> str:
    """The drawing of a tree. Parts that are fed alike share a box; at most about `boxes` are drawn."""
    shown = fitted(merged(tree), boxes)
    layout, names = lay_out(shown), styles(tree.sources)
    title = printable(title)
    title = title if len(title) <= 100 else title[:99] + "…"
    width = max(layout.width, text_width(title) * 1.25 + 2 * MARGIN, 430.0)
    entries = _legend(shown)
    head = (_TITLE if title else 0.0) + _ROW * (1 + max((row for _, row, *_ in _spread(entries, width)), default=0))
    top, height = MARGIN + head, MARGIN + head + layout.height
    aside = (width - layout.width) / 2 + layout.shift
    return "\n".join(
        [
            f'<svg xmlns="http://www.w3.org/2000/svg" class="{_CLASS}" width="{_n(width)}" height="{_n(height)}" '
            f'viewBox="0 0 {_n(width)} {_n(height)}" role="img" aria-label="{escape(title or "tree of paths")}">',
            f"<style>{_style(names.values())}</style>",
            f'<rect class="ground" width="{_n(width)}" height="{_n(height)}" rx="10"/>',
            *([f'<text class="title" x="{_n(MARGIN)}" y="{_n(MARGIN + 14)}">{escape(title)}</text>'] if title else []),
            *_legend_lines(entries, width, MARGIN + (_TITLE if title else 0.0), names),
            f'<g transform="translate({_n(aside)} {_n(top)})">',
            *_lines(layout, names),
            *(line for box in layout.boxes for line in _box(box, names)),
            "</g>",
            "</svg>",
            "",
        ]
    )


def _style(names: Iterable[str]) -> str:
    """The colours on light ground, and on dark ground where the reader prefers that."""
    names = [*names, MIXED]
    dashes = {name: LOOKS[name].dash for name in names}
    mono = 'ui-monospace,SFMono-Regular,Menlo,Consolas,"DejaVu Sans Mono",monospace'
    sans = 'system-ui,-apple-system,"Segoe UI",Roboto,"Helvetica Neue","Noto Sans",sans-serif'
    return "".join(
        [
            f".{_CLASS} text{{font:12px {mono}}}",
            f".{_CLASS} .title{{font:600 16px {sans}}}.{_CLASS} .legend{{font:12px {sans}}}",
            f".{_CLASS} .middle{{text-anchor:middle}}.{_CLASS} .input{{font-weight:600}}",
            f".{_CLASS} .line{{fill:none;stroke-width:1.6}}.{_CLASS} .halo{{fill:none;stroke-width:6}}",
            f".{_CLASS} .box{{stroke-width:1.4}}.{_CLASS} .cut{{stroke-dasharray:3 3}}",
            *(f".{_CLASS} .line.{name}{{stroke-dasharray:{dash}}}" for name, dash in dashes.items() if dash),
            css(_inked, names, (_ground(*_LIGHT), _ground(*_DARK))),
        ]
    )


def _ground(ground: str, text: str) -> str:
    return f".{_CLASS} .ground{{fill:{ground}}}.{_CLASS} .halo{{stroke:{ground}}}.{_CLASS} text{{fill:{text}}}"


def _inked(name: str, ink: Ink) -> str:
    return (
        f".{_CLASS} .line.{name}{{stroke:{ink.line}}}.{_CLASS} .dot.{name}{{fill:{ink.line}}}"
        f".{_CLASS} .box.{name}{{fill:{ink.fill};stroke:{ink.line}}}.{_CLASS} text.{name}{{fill:{ink.text}}}"
    )


def _colour(sources: Sequence[str], names: Mapping[str, str]) -> str:
    return names[sources[0]] if len(sources) == 1 else MIXED


def _lines(layout: Layout, names: Mapping[str, str]) -> Iterator[str]:
    """The lines, those that lie on top of others last, each on a halo that bridges what it crosses."""
    for rail in layout.rails:
        name = names[rail.source]
        yield f'<path class="line {name}" d="M{_n(rail.left)} {_n(rail.y)}H{_n(rail.right)}"/>'
    uprights = [(rail.source, rail.feed, rail.y, rail.bottom, rail.y, False) for rail in layout.rails]
    uprights += [(drop.source, drop.x, drop.top, drop.bottom, drop.bottom, drop.wire) for drop in layout.drops]
    for source, x, top, bottom, dot, wire in uprights:
        down = f"M{_n(x)} {_n(top)}V{_n(bottom)}"
        yield f'<path class="halo" d="M{_n(x)} {_n(top + 2)}V{_n(bottom - 2)}"/>'
        if not wire:
            yield f'<path class="line {names[source]}" d="{down}"/>'
        yield f'<circle class="dot {names[source]}" cx="{_n(x)}" cy="{_n(dot)}" r="2.6"/>'
    for edge in layout.edges:
        yield from _edge(edge, _colour(edge.sources, names))


def _edge(edge: Edge, name: str) -> Iterator[str]:
    tip = edge.y1 + 6
    across = edge.x1 - edge.x0
    bend = min(6.0, abs(across) / 2)
    side = bend if across > 0 else -bend
    up = f"M{_n(edge.x0)} {_n(edge.y0)}"
    if bend >= 0.5:
        up += f"V{_n(edge.lane + bend)}q0 {_n(-bend)} {_n(side)} {_n(-bend)}"
        up += f"H{_n(edge.x1 - side)}q{_n(side)} 0 {_n(side)} {_n(-bend)}"
    yield f'<path class="line {name}" d="{up}V{_n(tip)}"/>'
    yield f'<path class="dot {name}" d="M{_n(edge.x1)} {_n(edge.y1 + 1)}l3.2 6h-6.4Z"/>'


def _box(box: Box, names: Mapping[str, str]) -> Iterator[str]:
    name, cut = _colour(box.sources, names), box.tree is not None and bool(box.tree.note)
    yield f"<g><title>{escape(_says(box))}</title>"
    yield (
        f'<rect class="box {name}{" cut" * cut}" x="{_n(box.left)}" y="{_n(box.top)}" '
        f'width="{_n(box.width)}" height="{_n(box.height)}" rx="6"/>'
    )
    for at, line in enumerate(box.lines):
        kind = f"middle {name}" + (" input" if box.tree is None and at == 0 else "")
        y = box.top + PAD_Y + LINE * at + 12
        yield f'<text class="{kind}" x="{_n(box.middle)}" y="{_n(y)}">{escape(line)}</text>'
    yield "</g>"


def _says(box: Box) -> str:
    """What a box is in full: its path and what feeds it."""
    if box.tree is None:
        return printable(f"{box.path}: {Source.parse(box.path).meaning}")
    fed = " and ".join(box.sources) or "no input"
    return printable(f"{box.path or box.tree.pattern}, fed by {fed}")


def _legend(tree: PathTree) -> list[tuple[str | None, str]]:
    """Each source, or None for a mixture, and what is said of it."""
    mixed = fold_tree(tree, lambda current, below: len(current.sources) > 1 or any(below))
    entries: list[tuple[str | None, str]] = []
    for source in tree.sources:
        name = Source.parse(source).input_name
        entries.append(
            (source, printable(f"{source}: {Source.parse(source).meaning}" + f" ({name})" * (name != source)))
        )
    return [*entries, *([(None, MIXED)] if mixed else [])]


def _spread(entries: Sequence[tuple[str | None, str]], width: float) -> Iterator[tuple[float, int, str | None, str]]:
    """The legend in rows: each entry with its left edge and its row."""
    left, row = MARGIN, 0
    for source, text in entries:
        wide = _SWATCH + 8 + text_width(text) * 0.88
        if left > MARGIN and left + wide > width - MARGIN:
            left, row = MARGIN, row + 1
        yield left, row, source, text
        left += wide + 20


def _legend_lines(
    entries: Sequence[tuple[str | None, str]], width: float, top: float, names: Mapping[str, str]
) -> Iterator[str]:
    for left, row, source, text in _spread(entries, width):
        name = MIXED if source is None else names[source]
        y = top + _ROW * row + 4
        yield f'<path class="line {name}" d="M{_n(left)} {_n(y)}h{_n(_SWATCH)}"/>'
        yield f'<rect class="box {name}" x="{_n(left + 8)}" y="{_n(y - 6)}" width="14" height="12" rx="3"/>'
        yield f'<text class="legend" x="{_n(left + _SWATCH + 8)}" y="{_n(y + 4)}">{escape(text)}</text>'


def _n(number: float) -> str:
    return f"{number:.1f}".removesuffix(".0")
