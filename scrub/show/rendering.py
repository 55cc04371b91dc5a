"""Templates, and how what comes from data and names is written into them: as text, never as markup.

Whatever a template prints is escaped by the environment, so no template can forget it.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import TypeAlias

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from scrub.show.sources import LOOKS, css
from scrub.text.wording import printable

# What can begin markup within a line of Markdown; a colon or a full stop only where it makes a link of an address.
_MARKUP = re.compile(r"[\\`*_{}\[\]#|~$@^!]|:(?=//)|(?<=[wW]{3})\.")
_FIRST = re.compile(r"^(\d+)([.)])|^([-+=])")  # what can begin a list, a rule or a heading


@dataclass(frozen=True)
class Span:
    """A piece of text in a style, `to` a place within the page if it is a link, with a tip where there is one.

    In Markdown it is `plain`, if that is given.
    """

    text: str
    kind: str = ""
    to: str = ""
    tip: str = ""
    plain: str | None = None


Piece: TypeAlias = str | Span
Line: TypeAlias = Piece | Sequence[Piece]

_TAGS = {
    "b": Markup("<b>{text}</b>"),
    "code": Markup("<code>{text}</code>"),
    "token": Markup('<bdi class="token">{text}</bdi>'),
    "link": Markup('<a href="#{to}">{text}</a>'),
    "file": Markup('<a href="{to}">{text}</a>'),
    "unscored": Markup("<i>{text}</i>"),
}
_COLOURS = Markup(  # of steps of paths
    css(lambda name, ink: f".step.{name}{{color:{ink.text};background:{ink.fill};border-color:{ink.line}}}", LOOKS)
)
_STYLED, _TIPPED = (
    Markup('<span class="{kind}">{text}</span>'),
    Markup('<span class="{kind}" title="{tip}">{text}</span>'),
)


def html_page(template: str, **values: object) -> str:
    """A template as HTML, every value in it escaped."""
    return _render(template, values, printable, html_line)


def markdown_page(template: str, **values: object) -> str:
    """A template as Markdown, every value in it escaped."""
    return _render(template, values, markdown, markdown_line)


def html_line(line: Line) -> Markup:
    """Write a line as HTML."""
    return Markup("").join(_html(piece) for piece in _pieces(line))


def _html(piece: Piece) -> Markup:
    if isinstance(piece, Markup):
        return piece
    if isinstance(piece, str):
        return Markup.escape(printable(piece))
    form = _TAGS.get(piece.kind) or (_TIPPED if piece.tip else _STYLED)
    text = piece.text if isinstance(piece.text, Markup) else printable(piece.text)
    return form.format(text=text, kind=piece.kind, to=piece.to, tip=printable(piece.tip))


def markdown_line(line: Line) -> Markup:
    """Write a line as Markdown."""
    return Markup("").join(_markdown(piece) for piece in _pieces(line))


def _markdown(piece: Piece) -> Markup:
    if isinstance(piece, Markup):
        return piece
    if isinstance(piece, str):
        before, after = (" " * end.isspace() for end in (piece[:1], piece[-1:]))
        return Markup(before) + markdown(piece) + Markup(after if piece.strip() else "")
    text = markdown(piece.text if piece.plain is None else piece.plain)
    if piece.kind == "b":
        return Markup("**") + text + Markup("**")
    return Markup("[") + text + Markup(f"](#{piece.to})") if piece.kind == "link" else text


def _pieces(line: Line) -> Iterator[Piece]:
    if isinstance(line, (str, Span)):
        yield line
    else:
        yield from line


def markdown(text: str) -> Markup:
    """Text on one line of Markdown (GitHub's or CommonMark) that can't be read as markup, nor as HTML."""
    line = printable(" ".join(text.split()))
    line = _MARKUP.sub(r"\\\g<0>", line)
    line = _FIRST.sub(lambda m: f"{m[1]}\\{m[2]}" if m[1] else f"\\{m[3]}", line)
    return Markup(line.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;"))


def fenced(text: str, language: str = "") -> Markup:
    """Text in a block of code of Markdown, whatever backticks are in it."""
    lines = [printable(line.replace("\t", "    ")) for line in text.split("\n")]
    longest = max((len(run) for run in re.findall("`+", "\n".join(lines))), default=0)
    fence = "`" * max(3, longest + 1)
    return Markup("\n".join([fence + language, *lines, fence]))


def _render(
    template: str, values: dict[str, object], text: Callable[[str], str], line: Callable[[Line], Markup]
) -> str:
    """A template of this package, with everything that it prints made text first and then escaped."""
    environment = Environment(
        loader=PackageLoader("scrub.show"),
        autoescape=True,
        finalize=lambda value: value if isinstance(value, Markup) else text(str(value)),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {"line": line, "fenced": fenced}
    environment.globals |= {"newline": Markup("\n"), "colours": _COLOURS}  # a line break as a value would be visible
    return environment.get_template(template).render(values)
