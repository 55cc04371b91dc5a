"""Drawings with their trees of paths as one page of HTML that needs nothing else and loads nothing."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from html import escape

from scrub.paths.tree import PathTree, fitted
from scrub.show.drawing import svg
from scrub.show.sources import NEUTRAL, Look, looks
from scrub.text.wording import printable

ROWS = 600
_PAGE = """
:root{color-scheme:light dark}
body{margin:2rem auto;padding:0 1.5rem;max-width:84rem;background:#f4f6f9;color:#1d2330;
font:15px/1.5 system-ui,-apple-system,"Segoe UI",Roboto,"Helvetica Neue","Noto Sans",sans-serif}
section{margin-bottom:3.5rem}h1{font-size:1.4rem;margin:0 0 .4rem}.claim{max-width:46rem;margin:0 0 1rem}
@media(prefers-color-scheme:dark){body{background:#0a0d12;color:#e9edf3}}
"""
STYLE = """
.paths>summary{cursor:pointer;font-weight:600;margin:1.2rem 0 .5rem}
.drawing{overflow-x:auto;margin:0}.drawing svg{display:block}
.tree{font:13px/1.7 ui-monospace,SFMono-Regular,Menlo,Consolas,"DejaVu Sans Mono",monospace;
background:#fff;border-radius:10px;padding:1rem 1.5rem;overflow-x:auto}
.tree details>*:not(summary){margin-left:.45rem;padding-left:1.1rem;border-left:1px solid #c9d0da}
.tree summary{cursor:pointer}.tree summary:hover{text-decoration:underline}.tree .note{opacity:.7}
.tree .step{padding:.05rem .4rem;border:1px solid;border-radius:5px;white-space:pre}
@media(prefers-color-scheme:dark){.tree{background:#10151c}
.tree details>*:not(summary){border-color:#3a4352}}
"""


@dataclass(frozen=True)
class Section:
    """One picture of a page."""

    tree: PathTree
    title: str = ""
    claim: str = ""


def html(sections: Sequence[Section]) -> str:
    """The page: of each section the claim, the drawing, and the tree of paths with parts that open and close."""
    heading = ", ".join(printable(each.title) for each in sections if each.title) or "tree of paths"
    return "\n".join(
        [
            '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">',
            """<meta http-equiv="Content-Security-Policy" content="default-src 'none'; style-src 'unsafe-inline'">""",
            '<meta name="viewport" content="width=device-width,initial-scale=1">',
            f"<title>{escape(heading)}</title>",
            f"<style>{_PAGE}{STYLE}</style>\n</head>\n<body>",
            *(line for each in sections for line in _section(each, len(sections) == 1)),
            "</body>\n</html>\n",
        ]
    )


def _section(of: Section, opened: bool) -> Iterator[str]:
    yield "<section>"
    if of.title:
        yield f"<h1>{escape(printable(of.title))}</h1>"
    for paragraph in re.split(r"\n\s*\n", of.claim.strip()) if of.claim else ():
        yield f'<p class="claim">{escape(printable(" ".join(paragraph.split())))}</p>'
    yield drawing(of.tree, opened)
    yield "</section>"


def drawing(tree: PathTree, opened: bool = False, title: str = "") -> str:
    """The drawing and, behind a heading that opens, the tree of paths, for a page that has the STYLE."""
    palette = looks(tree.sources)
    names = {source: f"source-{at}" for at, source in enumerate(palette)}
    return "\n".join(
        [
            f"<style>{_colours(palette, names)}</style>",
            f'<figure class="drawing">\n{svg(tree, title)}</figure>',
            f"<details class=paths{' open' * opened}>\n<summary>Paths, from the output to the inputs</summary>",
            '<div class="tree">',
            *_rows(fitted(tree, ROWS), names),
            "</div>\n</details>",
        ]
    )


def _colours(palette: Mapping[str, Look], names: Mapping[str, str]) -> str:
    inks = {names[source]: look for source, look in palette.items()} | {"mixed": NEUTRAL}

    def rules(theme: str) -> str:
        found = []
        for name, look in inks.items():
            ink = look.dark if theme == "dark" else look.light
            found.append(f".step.{name}{{color:{ink.text};background:{ink.fill};border-color:{ink.line}}}")
        return "".join(found)

    return f"{rules('light')}@media(prefers-color-scheme:dark){{{rules('dark')}}}\n"


def _rows(tree: PathTree, names: Mapping[str, str]) -> Iterator[str]:
    name = names[tree.sources[0]] if len(tree.sources) == 1 else "mixed"
    line = f'<span class="step {name}">{escape(printable(", ".join(tree.steps)))}</span>'
    if len(tree.sources) == 1:
        line += f" {escape(printable(tree.sources[0]))}"
    if tree.note:
        line += f' <span class="note">… {escape(printable(tree.note))}</span>'
    if tree.children:
        yield f"<details open><summary>{line}</summary>"
        for child in tree.children:
            yield from _rows(child, names)
        yield "</details>"
    else:
        yield f"<div>{line}</div>"
