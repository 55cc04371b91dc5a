"""All charts of a model: as files, and as one page that loads nothing, in both themes, with its values as tables."""

from __future__ import annotations

import re
from pathlib import Path

import browsing
import charted
import numpy as np
import pytest
from charted import charts

from scrub.show.charts.chart import INDEX, write_album
from scrub.text.errors import ScrubError

SOME = {name: charts()[name] for name in ("bars", "tokens", "overlap")}


def test_files_and_a_page_that_needs_nothing_else(tmp_path: Path) -> None:
    written = write_album(tmp_path / "new" / "album", SOME, "Heads of <b>", (".svg", ".csv"), "on repeated letters")
    assert written[0].name == INDEX
    assert {path.name for path in written[0].parent.iterdir()} == {path.name for path in written}
    text = written[0].read_text()
    links = {each for each in browsing.referred(text) if not each.startswith(("data:", "#"))}
    links.discard("url(")  # clip paths, which _ids looks at
    assert links == {path.name for path in written[1:]}  # the files that were written, and nothing from elsewhere
    root = browsing.parsed(text)
    assert browsing.text_of(next(root.iter("h1"))) == "Heads of <b>"
    assert [browsing.text_of(each) for each in root.iter("h2")] == [chart.title for chart in SOME.values()]
    assert len(list(root.iter(f"{charted.SVG}svg"))) == len(SOME)  # one for both themes
    for table, chart in zip(browsing.tables(root), SOME.values(), strict=True):
        assert table[0] == list(chart.values.columns)
        assert len(table) == 1 + len(chart.values)
    for name, chart in SOME.items():
        assert (written[0].parent / f"{name}.csv").read_bytes() == chart.content(".csv")
    _ids(text)
    if browsing.BROWSER:
        light, dark = (np.asarray(browsing.seen(written[0], tmp_path / f"p{is_dark}", is_dark)) for is_dark in (0, 1))
        assert np.median(light) > 200
        assert np.median(dark) < 60


def _ids(text: str) -> None:
    """Every id is there once, and whatever refers to one within the page finds it."""
    ids = re.findall(r'\bid="([^"]+)"', text)
    assert len(ids) == len(set(ids))
    assert set(re.findall(r"url\((.)", text)) <= {"#"}
    assert set(re.findall(r'(?:url\(|href=")#([^")]+)', text)) <= set(ids)


def test_long_tables_say_what_they_leave_out(tmp_path: Path) -> None:
    chart = charts()["bars"]
    many = charted.Chart(chart.title, chart.caption, chart.values.loc[[0] * 501], chart.draw)
    (page,) = write_album(tmp_path, {"a": many}, "a", ())
    assert "101 more rows" in page.read_text()


@pytest.mark.parametrize("name", ["../x", "", ".hidden", "a/b", "index", "a\n"])
def test_names_that_make_no_file(name: str, tmp_path: Path) -> None:
    with pytest.raises(ScrubError, match="names no file of an album") as raised:
        write_album(tmp_path / "album", {name: charts()["bars"]}, "t")
    assert "\n" not in str(raised.value)
    assert not (tmp_path / "album").exists()


def test_formats_that_there_are_not(tmp_path: Path) -> None:
    with pytest.raises(ScrubError, match=r"'\.gif'"):
        write_album(tmp_path, SOME, "t", (".gif",))
