"""`scrub report`: what it writes, what it runs, and mistakes in one line."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest
from browsing import parsed, text_of

from scrub import Settings, run
from scrub.cli import _status

ASKED = "report induction/naive --sequences 23 --seed 4 --dtype float64 --workers 1 --parts q,all"


def test_it_runs_once_and_writes_what_a_run_gives(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = [*ASKED.split(), "--results", str(tmp_path / "results"), "--out", str(tmp_path / "told.html")]
    assert _status(words) == 0
    assert "told.html and " in capsys.readouterr().out
    page = (tmp_path / "told.html").read_text(encoding="utf-8")
    settings = Settings(sequences=23, seed=4, dtype="float64", parts=("q", "all"), progress=False)
    result = run("induction/naive", settings=settings)
    for row in result.table:
        assert f"{row.recovered.estimate:.1f}".replace("-", "\N{MINUS SIGN}") in text_of(parsed(page))

    losses = {path.name for path in (tmp_path / "results" / "losses").iterdir()}
    assert losses
    (again,) = [text_of(each) for each in parsed(page).iter("pre") if text_of(each).startswith("scrub report")]
    words = [*shlex.split(again)[1:], "--workers", "1", "--results", str(tmp_path / "results")]
    assert _status([*words, "--out", str(tmp_path / "again.md")]) == 0
    assert {path.name for path in (tmp_path / "results" / "losses").iterdir()} == losses  # nothing was computed again
    assert (tmp_path / "again.html").read_text(encoding="utf-8") == page
    assert re.findall(r"\((\w+)/", (tmp_path / "again.md").read_text(encoding="utf-8"))[0] == "again_files"


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ("report induction --out missing/told.html", "missing/told.html"),
        ("report nothing", "'nothing'"),
        ("report induction --parts none", "part 'none'"),
        ("report induction --set width=2", "width"),
    ],
)
def test_mistakes_are_told_before_anything_runs(
    words: str, said: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    where = [] if "--out" in words else ["--out", str(tmp_path / "told.html")]
    assert _status([*words.split(), *where, "--results", str(tmp_path / "results")]) == 2
    err = capsys.readouterr().err
    assert said in err
    assert err.count("\n") == 1
    assert not list(tmp_path.iterdir())
