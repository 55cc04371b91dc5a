"""Templates, and how what comes from data and names is written into them: as text, never as markup.

Whatever a template prints is escaped by the environment, so no template can forget it.
"""

from __future__ import annotations

import re
from collections.abc import Callable

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from scrub.text.numbers import PAGE
from scrub.text.wording import printable

# What can begin markup within a line of Markdown; a colon or a full stop only where it makes a link of an address.
_MARKUP = re.compile(r"[\\`*_{}\[\]#|~$@^!]|:(?=//)|(?<=[wW]{3})\.")
_FIRST = re.compile(r"^(\d+)([.)])|^([-+=])")  # what can begin a list, a rule or a heading


def html_page(template: str, **values: object) -> str:
    """A template as HTML, every value in it escaped."""
    return _render(template, values, printable)


def markdown_page(template: str, **values: object) -> str:
    """A template as Markdown, every value in it escaped."""
    return _render(template, values, markdown)


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


def _render(template: str, values: dict[str, object], text: Callable[[str], str]) -> str:
    """A template of this package, with everything that it prints made text first and then escaped."""
    environment = Environment(
        loader=PackageLoader("scrub.show"),
        autoescape=True,
        finalize=lambda value: value if isinstance(value, Markup) else text(str(value)),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {"number": PAGE.number, "ends": PAGE.ends, "with_ends": PAGE.with_ends, "fenced": fenced}
    environment.globals["newline"] = Markup("\n")  # as a value it would be made visible
    return environment.get_template(template).render(values)
