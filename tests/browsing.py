"""Reading pages: by a strict parser of HTML everywhere, and by a real browser where the machine has one."""

from __future__ import annotations

import re
import shutil
import subprocess
from collections.abc import Iterator
from functools import cache
from io import BytesIO
from pathlib import Path
from xml.etree.ElementTree import Element

import html5lib
from markdown_it import MarkdownIt
from PIL import Image

BROWSER = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome", "chrome"))), None)
_FLAGS = (
    *("--headless", "--no-sandbox", "--disable-gpu", "--disable-background-networking", "--disable-quic"),
    *("--no-first-run", "--hide-scrollbars", "--window-size=1280,2000"),
)
MARKDOWN = MarkdownIt("commonmark", {"html": True}).enable(["table", "strikethrough"])


@cache
def parsed(page: str) -> Element:
    """A page, read by a parser that forgives nothing."""
    return html5lib.HTMLParser(strict=True, namespaceHTMLElements=False).parse(page)


@cache
def rendered(markdown: str) -> Element:
    """Markdown as a page."""
    return html5lib.parse(MARKDOWN.render(markdown), namespaceHTMLElements=False)


def skeleton(root: Element) -> list[tuple[str, tuple[str, ...]]]:
    """The elements of a page in order, with the names of their attributes."""
    return [(str(each.tag), tuple(sorted(each.attrib))) for each in root.iter()]


def text_of(element: Element) -> str:
    """All text in an element, blanks folded."""
    return " ".join("".join(element.itertext()).split())


def tables(root: Element) -> Iterator[list[list[str]]]:
    """The cells of each table."""
    for table in root.iter("table"):
        yield [[text_of(cell) for cell in row if cell.tag in {"td", "th"}] for row in table.iter("tr")]


def opened(page: Path, profile: Path, *flags: str) -> str:
    """The page as a browser has it after it has opened it."""
    return _browse(page, profile, "--dump-dom", *flags).stdout


def seen(page: Path, profile: Path, dark: bool) -> Image.Image:
    """What a browser shows of a page."""
    picture = profile.with_suffix(".png")
    scheme = f"--blink-settings=preferredColorScheme={0 if dark else 1}"
    _browse(page, profile, f"--screenshot={picture}", scheme)
    return Image.open(BytesIO(picture.read_bytes())).convert("L")


def _browse(page: Path, profile: Path, *flags: str) -> subprocess.CompletedProcess[str]:
    assert BROWSER is not None
    words = [BROWSER, *_FLAGS, f"--user-data-dir={profile}", *flags, page.resolve().as_uri()]
    return subprocess.run(words, capture_output=True, text=True, check=True, timeout=120)


def referred(page: str) -> set[str]:
    """Everything that a page refers to by an attribute or in its styles."""
    found = {
        value
        for each in parsed(page).iter()
        for name, value in each.attrib.items()
        if name in {"href", "src", "srcset", "action", "data", "poster"} or name.endswith("href")
    }
    return found | set(re.findall(r"url\(|@import", page))
