"""`--model a,b`: a study beside itself on several models, in tables, files, charts and reports, and mistakes."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from sweeping import GONE, KEEP, SOME, add_many, make_study

Scrub = Callable[..., Any]
SMALL = "--sequences 31 --workers 1 --dtype float64"
TWO = "--model tiny,mlps"
TEMPLATES = ("--other", Path("mean by template"))  # words of the command line, of which a path stays whole


@pytest.fixture
def many(own: Path) -> Path:
    """The project with the study `many` and a model with MLPs."""
    add_many(own)
    return own


@pytest.mark.usefixtures("many")
def test_a_study_beside_itself(scrub: Scrub) -> None:
    """Sweep fills the folder; compare and report show all models, by name, with what was left out where."""
    swept = scrub("sweep many", TWO, SMALL)
    assert swept.status == 0
    assert "note: many on tiny: some: left out, as nothing in this model matches: the rule" in swept.err
    assert "blocks were computed" in swept.out

    said = scrub("compare many", TWO, SMALL, "--json o.json --plot o.svg --top 1")
    assert said.status == 0
    first = said.out.splitlines()[0]
    assert first == "many on tiny, mlps: percent of loss recovered"
    titles = next(line for line in said.out.splitlines() if "hypothesis" in line)
    assert titles.split()[:4] == ["part", "hypothesis", "tiny", "mlps"]
    assert re.search(r"q +some +-?\d+\.\d \[.*\] † +-?\d+\.\d \[", said.out)
    assert re.search(r"mlp +some +- +-?\d+\.\d \[", said.out)
    assert "tiny: some: left out, as nothing in this model matches: the rule '**/a*.ind/v/m0/** -> y'" in said.out
    assert "'m0' of the rule '**/a*.ind/q/{emb,m0} -> x'" in said.out
    assert said.out.count("over the one before") == 2  # a comparison within each
    assert "on tiny:\nwhere the loss moved" in said.out
    assert "left out, as nothing" not in said.err  # below the table it is said already

    found = json.loads(Path("o.json").read_text(), parse_constant=pytest.fail)
    assert (found["format"], [each["model"] for each in found["models"]]) == (1, ["tiny", "mlps"])
    alone = found["models"][0]["comparison"]
    assert scrub("compare many", SMALL, "--model mlps --json one.json --top 1 --plot one.csv").status == 0
    assert json.loads(Path("one.json").read_text()) == found["models"][1]["comparison"]  # whose format is as it was
    rows = {(row["part"], row["hypothesis"], row["model"]): row for row in found["rows"]}
    for row in alone["rows"]:
        ours = rows[row["part"], row["hypothesis"], "tiny"]
        assert (ours["recovered"], ours["low"], ours["high"]) == (row["recovered"], row["low"], row["high"])
    assert rows["q", "some", "tiny"]["left_out"] == 1
    assert rows["mlp", "some", "tiny"]["recovered"] is None
    assert (rows["mlp", "some", "tiny"]["left_out"], rows["mlp", "some", "mlps"]["left_out"]) == (1, 0)
    drawn = Path("o.svg").read_text()
    for name in ("tiny", "mlps", "keep", "some", "mlp", "tiny, some/q: ", "without what matches nothing there"):
        assert name in drawn
    assert "tiny" not in Path("one.csv").read_text()

    stored = scrub("compare keep some --stored --study many", TWO, "--json stored.json")
    assert stored.status == 0
    assert json.loads(Path("stored.json").read_text())["rows"] == found["rows"]
    report = scrub("report many --model mlps", SMALL, "--out one.html")  # what the folder holds stands beside it
    assert report.status == 0
    assert scrub("report many", TWO, SMALL, "--out two.html").status == 0
    for file, main in (("one", "mlps"), ("two", "tiny")):
        page, text = Path(f"{file}.html").read_text(), Path(f"{file}.md").read_text()
        assert f"<h1>many on {main}" in page or f"many on {main}" in page
        assert 'id="models"' in page
        section = text[text.index("## On several models") : text.index('<a id="h1">')]
        assert re.search(r"\| q \| some \|.*†", section)
        assert "models.svg" in section
        assert "no difference between them is paired or tested" in section
        assert re.search(r"\| tiny \|.*\| 31 \|", section)
    assert "--model tiny,mlps" in Path("two.md").read_text()


@pytest.mark.usefixtures("many")
def test_a_board_marks_what_lacks_rules(scrub: Scrub) -> None:
    assert scrub("sweep many --parts q", TWO, SMALL).status == 0
    board = scrub("leaderboard many --part q --json board.json")
    assert board.status == 0
    assert re.search(r"some +-?\d+\.\d \[.*\].* † ", board.out)
    assert board.out.count("†") == 2, "on one model, and what it means"
    content = json.loads(Path("board.json").read_text())
    lacking = {(b["about"]["model"], r["hypothesis"]): r["left_out"] for b in content["boards"] for r in b["rows"]}
    assert {place: count for place, count in lacking.items() if count} == {("tiny", "some"): 1}
    assert any("tiny: some: left out, as nothing in this model matches: " in note for note in content["notes"])


def test_what_fails_on_one_model_is_said(scrub: Scrub, many: Path) -> None:
    """Exit status 3, and the rest is there; what can run on none is a mistake, as on one model alone."""
    make_study(many, "many", keep=KEEP, gone=GONE)
    said = scrub("compare many", TWO, SMALL)
    assert said.status == 3
    assert "tiny: gone has no numbers: " in said.out
    (line,) = [line for line in said.err.splitlines() if line.startswith("failed: ")]
    assert line.startswith("failed: many/gone on tiny: ")
    assert re.search(r"k +keep .*\n +gone +- +-?\d", said.out)
    stored = scrub("compare keep gone --stored --study many", TWO, "--json stored.json")
    assert stored.status == 0
    rows = {
        (row["hypothesis"], row["model"]): row["left_out"]
        for row in json.loads(Path("stored.json").read_text())["rows"]
    }
    assert (rows["keep", "tiny"], rows["gone", "tiny"], rows["gone", "mlps"]) == (0, None, 0)
    assert re.search(r"k +keep .*\n +gone +- +-?\d", stored.out)
    report = scrub("report many", TWO, SMALL, "--out two.html")
    assert report.status == 3
    assert "gone has no numbers" in Path("two.md").read_text()

    (many / "hypotheses/many/gone.py").write_text(GONE.replace("m0", "m9"))
    said = scrub("compare many", TWO, SMALL)
    assert said.status == 2
    assert said.err.count("\n") == 1
    assert "'**/a*.ind/k/m9/**' matches no path: the nearest there are" in said.err
    assert scrub("sweep many", TWO, SMALL).status == 3
    (many / "hypotheses/many/gone.py").write_text(SOME)
    said = scrub("compare many", SMALL, "--model tiny")
    assert (said.status, "matches no path" in said.err) == (2, True)


@pytest.mark.parametrize(
    ("words", "told"),
    [
        ("compare many --model tiny,nobody", "nobody"),
        ("sweep many --model nobody,tiny", "nobody"),
        ("report many --model tiny,nobody", "nobody"),
        ("compare many --model tiny,mlps,tiny", "--model names 'tiny' twice"),
        ("compare many --model tiny,models/tiny", "tiny and models/tiny are one model"),
        ("sweep many --model ,", "names no model"),
        ("compare many --model tiny,mlps --parts z", "'z'"),
        ("compare many/keep many/else --model tiny,mlps", "many/else"),
        ("compare keep some --study many --model tiny,mlps --stored --results nowhere", "nowhere"),
        ("compare many --model tiny,mlps --plot o.txt", ".txt"),
    ],
)
def test_mistakes_are_one_line(scrub: Scrub, many: Path, words: str, told: str) -> None:
    said = scrub(words)
    assert said.status == 2
    assert said.err.count("\n") == 1
    assert told in said.err
    assert not (many / "results").exists()


def test_stored_numbers_are_those_of_the_study_that_a_name_says(scrub: Scrub, own: Path) -> None:
    """Two studies have hypotheses of the same names: `w/keep` is never u's, on one model or several."""
    add_many(own)
    make_study(own, "u", keep=KEEP, some=KEEP.replace("a0.prev ", "a0.self "))
    make_study(own, "w", keep=KEEP, some=KEEP)
    one, both = "--model tiny", TWO
    assert scrub("sweep u", both, SMALL).status == 0
    for models in (one, both):
        for words in ("w/keep w/some", "hypotheses/w/keep.py w/some.py", "keep some --study w"):
            said = scrub("compare", words, models, "--stored")
            assert (said.status, said.out, said.err.count("\n")) == (2, "", 1), said
            assert "no stored results of w hold keep, some together" in said.err
            assert "what is stored is of u" in said.err
        for words in ("u/keep w/some", "keep w/some --study u"):
            said = scrub("compare", words, models, "--stored")
            assert (said.status, said.err.count("\n")) == (2, 1)
            assert "these hypotheses belong to u and w" in said.err
    assert scrub("sweep w", one, SMALL).status == 0
    said = scrub("compare w/keep w/some", both, "--stored")
    assert (said.status, said.err.count("\n")) == (2, 1)
    assert "mlps: no stored results of w hold" in said.err
    for name in ("u", "w"):
        said = scrub(f"compare {name}/keep {name}/some --stored --json o.json", one)
        assert said.status == 0, said.err
        found = json.loads(Path("o.json").read_text())
        assert found["study"] == name


@pytest.mark.usefixtures("many")
def test_text_has_no_templates(scrub: Scrub) -> None:
    """Each study of a sweep says so too, and a mean at each position is no mistake."""
    told = "words' are running text, and a mean by template is over prompts of one: give prompts"
    for command in ("run", "sweep"):
        said = scrub(command, "many/keep", SMALL.replace("--workers 1", "") if command == "run" else SMALL, *TEMPLATES)
        assert (said.status, said.err.count("\n")) == (2 if command == "run" else 3, 1), said
        assert told in said.err
    assert scrub("run many/keep --sequences 31 --other mean").status == 0


def test_the_cause_on_one_model_is_told(scrub: Scrub, own: Path) -> None:
    """A study gives a role to a head that one model hasn't: that is the mistake, and not what it leads to elsewhere."""
    add_many(own)
    study = make_study(own, "ours", late=KEEP.replace("a0.prev ", "a0.late ").replace("v    ", "#    ")) / "study.py"
    roles = {"mlps": {"ind": [(1, 1)], "late": [(2, 9)]}}
    study.write_text(study.read_text().replace("))", f"), roles={roles})"))
    told = "the study 'ours' gives the role 'late' to head [2, 9], but the model has no layer 2"
    swept = scrub("sweep ours", SMALL, "--model mlps,tiny")
    assert "failed: ours/* on mlps: " + told in swept.err
    said = scrub("compare ours/late", SMALL, "--model mlps,tiny")  # which has no number at all
    assert (said.status, said.err.count("\n")) == (2, 1)
    assert said.err.startswith(f"scrub: mlps: {told}")
    make_study(own, "ours", late=KEEP.replace("v    ", "#    "))
    study.write_text(study.read_text().replace("))", f"), roles={roles})"))
    said = scrub("compare ours/late", SMALL, "--model mlps,tiny")
    assert said.status == 3
    assert "failed: ours/* on mlps: " + told in said.err
    assert "mlps: no numbers: " + told in said.out
