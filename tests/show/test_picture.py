"""Pictures in notebooks, terminals and files."""

from __future__ import annotations

import io
from html.parser import HTMLParser
from pathlib import Path

import drawn
import pytest
from rich.console import Console

from scrub.paths.listing import plain
from scrub.show.picture import Picture, picture, save
from scrub.text.errors import ScrubError

VOID = {"meta", "br"}


class Page(HTMLParser):
    """What a page holds. Fails on tags that don't match."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: list[str] = []
        self.attributes: list[tuple[str, str | None]] = []
        self.words: list[str] = []
        self.feed(text)
        self.close()
        assert not self.open

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.attributes += attrs
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.attributes += attrs

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.words.append(data)


def naive() -> Picture:
    return picture(drawn.naive(), "naive, all", "A claim\nin prose.\n\nIts second paragraph.")


def test_a_notebook_gets_the_drawing() -> None:
    shown = naive()
    assert shown._repr_svg_() == shown.svg()
    assert shown.svg() in shown._repr_html_()
    Page(shown._repr_html_())


def test_a_terminal_gets_the_tree_under_its_title() -> None:
    file = io.StringIO()
    naive().print(Console(file=file))
    assert file.getvalue() == naive().text() == str(naive())
    assert naive().text() == f"naive, all\n{plain(drawn.tree())}\nx = reference\ny = other\n"


@pytest.mark.parametrize(("ending", "form"), [(".svg", "svg"), (".html", "html"), (".txt", "text"), (".HTML", "html")])
def test_a_file_holds_the_form_that_its_name_says(tmp_path: Path, ending: str, form: str) -> None:
    path = tmp_path / f"naive{ending}"
    naive().save(path)
    assert path.read_text(encoding="utf-8") == getattr(naive(), form)()


def test_other_forms_are_refused_and_nothing_is_written(tmp_path: Path) -> None:
    for name in ("naive.png", "naive", ".svg"):
        with pytest.raises(ScrubError, match=r"\.svg, \.html, \.txt"):
            naive().save(tmp_path / name)
    with pytest.raises(ScrubError, match="folder"):
        naive().save(tmp_path / "missing" / "naive.svg")
    assert not list(tmp_path.iterdir())


def test_several_pictures_fit_a_page_or_a_text_but_no_svg(tmp_path: Path) -> None:
    pictures = [picture(drawn.naive(part), f"naive, {part}") for part in ("q", "k")]
    save(pictures, tmp_path / "all.html")
    page = Page((tmp_path / "all.html").read_text(encoding="utf-8"))
    assert page.tags.count("svg") == page.tags.count("section") == 2
    save(pictures, tmp_path / "all.txt")
    assert (tmp_path / "all.txt").read_text(encoding="utf-8") == f"{pictures[0].text()}\n{pictures[1].text()}"
    with pytest.raises(ScrubError, match=" 2 "):
        save(pictures, tmp_path / "all.svg")


def test_the_page_has_the_claim_and_a_tree_that_opens_and_closes() -> None:
    page = Page(naive().html())
    assert "A claim in prose." in page.words
    assert "Its second paragraph." in page.words
    mixed = 1 + 1 + 3 + 1  # out, a1.ind, its slots, a0.prev[previous]
    assert page.tags.count("details") == mixed + 1  # and the tree as a whole
    for line in plain(drawn.tree()).splitlines():
        assert line.lstrip("│├└─ ").partition("  ")[0] in page.words


def test_the_page_loads_nothing() -> None:
    page = Page(naive().html())
    assert not {"script", "link", "img", "iframe", "object", "a"} & set(page.tags)
    assert not {"src", "href", "xlink:href"} & {name for name, _ in page.attributes}
    assert "url(" not in naive().html()
    assert ("content", "default-src 'none'; style-src 'unsafe-inline'; img-src data:") in page.attributes


def test_nothing_that_a_label_holds_becomes_markup() -> None:
    shown = picture(drawn.hostile(), title=drawn.HOSTILE[1], claim=drawn.HOSTILE[0])
    page = Page(shown.html())
    assert not {"script", "img", "b"} & set(page.tags)
    assert not {name for name, _ in page.attributes if name.startswith("on")}
    assert drawn.HOSTILE[0] in page.words
