"""Text from data, claims and names is text in a report, whatever is in it."""

from __future__ import annotations

from pathlib import Path

import browsing
import numpy as np
import pytest
from browsing import MARKDOWN, parsed, rendered, skeleton, text_of
from hypothesis import example, given
from hypothesis import strategies as st
from reported import HOSTILE, tricky

from scrub.show.rendering import fenced, markdown
from scrub.show.reports.report import Report, make_report
from scrub.text.wording import printable


def meaning_nothing(text: str, at: int) -> str:
    """A text of the same shape that means nothing to anyone: as many lines, as long, with the same blanks."""
    lines = [printable(line) for line in text.split("\n")]
    letters = iter(f"word{at}")
    return "\n".join("".join(each if each == " " else next(letters, "w") for each in line) for line in lines)


HARMLESS = tuple(meaning_nothing(text, at) for at, text in enumerate(HOSTILE))


@pytest.fixture(scope="module")
def harmless(project: Path) -> Report:
    """The same report of other texts."""
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(project)
        return make_report(*tricky(HARMLESS))


def test_no_text_becomes_markup(hostile: Report, harmless: Report) -> None:
    assert skeleton(parsed(hostile.html)) == skeleton(parsed(harmless.html))


def test_no_text_becomes_markup_in_markdown(hostile: Report, harmless: Report) -> None:
    assert skeleton(rendered(hostile.markdown)) == skeleton(rendered(harmless.markdown))


def test_what_is_printed_is_the_text(hostile: Report) -> None:
    text = text_of(parsed(hostile.html))
    for each in HOSTILE:
        assert " ".join(printable(" ".join(each.split())).split()) in text


def test_nothing_unseen_is_left(hostile: Report) -> None:
    for page in (hostile.html, hostile.markdown):
        page.encode()
        assert {c for c in page if c != "\n" and printable(c) != c} == set()


lines = st.text(st.sampled_from("ab1 `|*_~<>&[]()!#-+.:=\\$@\n\t/\"'w") | st.characters(), max_size=30)


@given(lines)
def test_markdown_of_any_text_reads_as_the_text(text: str) -> None:
    wanted = printable(" ".join(text.split()))
    assert text_of(rendered(markdown(text))) == wanted.strip()
    allowed = {"html", "head", "body", "p"}
    assert {name for name, _ in skeleton(rendered(markdown(text)))} <= allowed


@given(lines)
def test_any_text_stays_in_its_cell(text: str) -> None:
    page = rendered(f"| a | b |\n| --- | --- |\n| {markdown(text)} | end |")
    (row,) = [r for r in page.iter("tr") if r.find("td") is not None]
    assert [text_of(cell) for cell in row] == [printable(" ".join(text.split())).strip(), "end"]


@example("```\n<b>\n```")
@example("~~~\n````\nmore")
@given(st.text(st.sampled_from("a`~\n |") | st.characters(), max_size=40))
def test_any_text_stays_in_its_block(text: str) -> None:
    tokens = MARKDOWN.parse(f"before\n\n{fenced(text)}\n\nafter")
    assert [each.type for each in tokens if not each.hidden].count("fence") == 1
    (block,) = [each for each in tokens if each.type == "fence"]
    assert block.content == "\n".join(printable(line.replace("\t", "    ")) for line in text.split("\n")) + "\n"


def test_a_report_that_is_opened(hostile: Report, tmp_path: Path) -> None:
    """By the strict parser everywhere; where there is a browser, it must have the same elements, in light and dark."""
    page = tmp_path / "hostile.html"
    page.write_text(hostile.html, encoding="utf-8")
    wanted = skeleton(parsed(page.read_text(encoding="utf-8")))
    assert len(wanted) > 1000
    if browsing.BROWSER:
        assert skeleton(parsed(browsing.opened(page, tmp_path / "profile"))) == wanted
        for dark in (False, True):
            shades = np.asarray(browsing.seen(page, tmp_path / "profile", dark))
            assert np.median(shades) < 30 if dark else np.median(shades) > 240
            assert shades.min() < 60  # and something is to be seen
            assert shades.max() > 200
