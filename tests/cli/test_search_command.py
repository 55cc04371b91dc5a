"""`scrub search`: its number is that of the module that it writes; what it refuses, keeps and removes."""

from __future__ import annotations

import json
import os
import re
import shlex
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from project import NOTED

import scrub as package
from scrub import GateError, ScrubError, Settings
from scrub.cli import _status
from scrub.measure.search import beside
from scrub.measure.search.exact import Exact
from scrub.study.study import load_study

Scrub = Callable[..., Any]
DOCS = Path(__file__).parents[2] / "docs"
ON = "--sequences 31 --no-rival --resamples 0 --parts v"


@pytest.fixture(autouse=True)
def few(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Chance is told by few lists, but for where it is asked how many there are: they are most of what is measured."""
    if "like_any_other" not in request.node.name:
        monkeypatch.setattr(beside, "RANDOM", 2)
        monkeypatch.setattr(beside, "RANDOM_ELSEWHERE", 1)


def content(path: Path) -> dict[str, Any]:
    """A file, in which nothing may stand that JSON doesn't have."""

    def wrong(constant: str) -> None:
        raise AssertionError(constant)

    found: dict[str, Any] = json.loads(path.read_text(), parse_constant=wrong)
    return found


def fields(of: Any) -> set[str]:
    """The names of all fields of it, and of what it holds."""
    if isinstance(of, dict):
        return {*of, *(name for each in of.values() for name in fields(each))}
    return {name for each in of for name in fields(each)} if isinstance(of, list) else set()


def numbers(of: dict[str, Any]) -> tuple[float, ...]:
    return of["recovered"], of["low"], of["high"]


@pytest.mark.parametrize(
    "how",
    [
        "--size 2 --seed 5 --draws 2 --no-stop --model standard --positions all --parts k,q --check 1",
        "--size 2 --candidates masks --parts v,k --metric kl --no-stop --check 1",
        "--size 4 --start model --parts v",
    ],
)
def test_the_command_that_is_printed_gives_the_very_number(scrub: Scrub, tmp_path: Path, how: str) -> None:
    """In float32, where another plan of the same rounds otherwise; so do its JSON and its table say."""
    out = tmp_path / "mine.py"
    said = scrub(
        "search induction/naive", how, ON.removesuffix("--parts v"), "--out", out, "--json", tmp_path / "o.json"
    )
    assert said.status == 0, said.err
    found = content(tmp_path / "o.json")
    again = scrub(*shlex.split(found["command"])[1:], "--json", tmp_path / "r.json")
    assert again.status == 0, again.err
    *_, whole = [row for row in content(tmp_path / "r.json")["rows"] if row["part"] == "all"]
    report = found["recovered"]["report"]
    assert numbers(whole) == (report["percent"], report["low"], report["high"])
    assert report == found["steps"][-1]["recovered"]["report"]
    assert whole["scrubs"] == pytest.approx(found["scrubs"])
    printed = "[-]?[0-9.]+ % \\[[-0-9., ]+\\]"
    assert re.search(f"mine: ({printed})", said.out)[1] in " ".join(out.read_text().split())  # type: ignore[index]
    assert f"\nthe same number: {found['command']}\n" in said.out
    assert found["command"] in out.read_text()
    told = re.findall(r"`(\w+)`", (DOCS / "search.md").read_text().partition("## JSON")[2])
    assert fields(found) - {"search", "stop", "report"} <= {*told}, "docs/search.md says what each is"


def test_the_module_is_a_hypothesis_like_any_other(scrub: Scrub, tmp_path: Path) -> None:
    out = tmp_path / "mine.py"
    said = scrub(f"search induction/naive --size 2 --no-stop {ON} --candidates masks", "--out", out)
    assert said.status == 0, said.err
    study, (mine,) = load_study(out)
    assert (study.plain_name, mine.name, mine.study) == ("induction", "mine", "induction")
    assert mine.claim.startswith("Found by a search of induction on tiny. ")
    assert len(mine.claim) < 300, "its prose is longer"
    text = out.read_text()
    assert all(len(line) <= 120 for line in text.splitlines() if "scrub run" not in line)
    for what in ("which the search hasn't seen", "Chance: 20 lists of 2 cells", "further gain", "Beside it"):
        assert what in text
    for command in ("check", "show", "compare induction/naive"):
        results = ["--results", tmp_path / "kept", "--workers 1"] if "compare" in command else []
        on = [] if command == "show" else ["--sequences 9"]
        done = scrub(command, out, *on, "--parts all", *results)
        assert done.status == 0, done.err
        assert command == "check" or "mine" in done.out


def test_the_study_is_named_so_that_it_is_found(scrub: Scrub, own: Path, tmp_path: Path) -> None:
    """In its own folder by none, elsewhere by its name, or by its whole path where it has no name."""
    inside = own / "hypotheses" / "induction" / "inside.py"
    shutil.copytree(own / "hypotheses" / "induction", tmp_path / "apart" / "mine")
    there = tmp_path / "elsewhere.py"
    for study, out, said in (
        ("induction/naive", inside, None),
        (tmp_path / "apart" / "mine" / "naive.py", there, str((tmp_path / "apart" / "mine").resolve())),
    ):
        done = scrub("search", study, "--size 1 --check 1", ON, "--out", out)
        assert done.status == 0, done.err
        assert load_study(out)[1][0].study == said
        assert ("study=" in out.read_text()) == (said is not None)
        assert scrub("run", out, "--sequences 9").status == 0
    shutil.copy(inside, tmp_path / "alone.py")
    assert scrub("run", tmp_path / "alone.py").status == 2, "nothing there says what it is tested on"


def test_a_study_in_memory_is_named_nowhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The module says so, and how to have the number all the same; and it has what was warned of."""
    monkeypatch.setattr("scrub.measure.search.search._beyond", lambda *_: ["it is more than all"])
    study, hypotheses = load_study("induction/naive")  # of which all parts are searched here
    mine = replace(study, name="mine", hypotheses=tuple(hypotheses))
    settings = Settings(sequences=31, progress=False)
    found = package.search(mine, 1, settings=settings, check=1, resamples=0, rival=False)
    assert (found.command, found.hypothesis.study) == ("", None)
    found.save(tmp_path / "kept.py")
    text = (tmp_path / "kept.py").read_text()
    assert "study=" not in text
    assert "Its study was in memory" in " ".join(text.split())
    assert found.warnings[-1] == "it is more than all"
    assert "\nWarning: it is more than all.\n" in text
    kept = replace(found.at(tmp_path / "other.py").hypothesis, path=None)
    result = package.run(replace(mine, hypotheses=(kept,)), settings=replace(settings, fold="report"))
    assert result.recovered("other/all") == found.best.recovered["report"]
    with pytest.raises(ScrubError, match="another study than one in memory"):
        found.at("hypotheses/induction/kept.py")
    with pytest.raises(ScrubError, match="is there already"):
        found.save(tmp_path / "kept.py")
    model = package.load_model("tiny")
    named = package.search(
        "induction/naive", 1, model, settings=replace(settings, parts=["v"]), check=1, resamples=0, rival=False
    )
    assert named.command == ""
    assert "were in memory, so no command line" in " ".join(named.module.split())


def test_an_interrupted_search_goes_on(scrub: Scrub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It measures what it hasn't yet, and gives what it would have given; what was kept goes when all is written."""
    out, how = tmp_path / "mine.py", f"search induction/naive --size 2 --no-stop {ON}"
    whole = scrub(how, "--out", tmp_path / "whole.py", "--json", tmp_path / "whole.json")
    assert whole.status == 0, whole.err
    assert "mine.search.jsonl" not in {each.name for each in tmp_path.iterdir()}
    plain, counts = Exact.__call__, list[int]()

    def counted(self: Exact, lists: Any) -> Any:
        before = self.count
        found = plain(self, lists)
        counts.append(self.count - before)
        if stop and sum(counts) > 3:
            raise KeyboardInterrupt
        return found

    monkeypatch.setattr(Exact, "__call__", counted)
    stop = True
    said = scrub(how, "--out", out, "--json", tmp_path / "o.json")
    assert (said.status, said.err) == (
        2,
        "scrub: interrupted: what was measured is kept beside the output; run the same command again to go on\n",
    )
    assert {each.name for each in tmp_path.iterdir()} == {"whole.py", "whole.json", "mine.search.jsonl"}
    first, stop = sum(counts), False
    counts.clear()
    said = scrub(how, "--out", out, "--json", tmp_path / "o.json")
    assert said.status == 0, said.err
    assert f"note: {first} lists were measured before, and weren't again\n" in said.err
    assert {each.name for each in tmp_path.iterdir()} == {"whole.py", "whole.json", "mine.py", "o.json"}
    wanted, found = content(tmp_path / "whole.json"), content(tmp_path / "o.json")
    assert sum(counts) > 0
    assert found.pop("notes") == [*wanted.pop("notes"), f"{first} lists were measured before, and weren't again"]
    assert first + found.pop("exact") > wanted.pop("exact") > 4
    for each in (wanted, found):
        del each["command"], each["screens"]
    assert found == wanted


def test_a_record_of_something_else(scrub: Scrub, tmp_path: Path) -> None:
    """That of another search is replaced, and it is said; what no search wrote isn't touched."""
    out, record = tmp_path / "mine.py", tmp_path / "mine.search.jsonl"
    package.search(
        "induction/naive",
        1,
        settings=Settings(sequences=31, seed=1, parts=["v"]),
        record=record,
        resamples=0,
        rival=False,
    )
    how = f"search induction/naive --size 1 --check 1 {ON}"
    said = scrub(how, "--out", out)
    assert said.status == 0, said.err
    assert f"note: {record} was of another search, and is of this one now\n" in said.err
    assert not record.exists()
    out.unlink()
    record.write_text("precious\n")
    said = scrub(how, "--out", out)
    assert (said.status, record.read_text()) == (2, "precious\n")
    assert said.err == f"scrub: {record} is there, and no search wrote it: give another path for the record\n"


MISTAKES = {
    "--size 0": "should be greater than or equal to 1",
    "": "--size",
    "--size 3 --candidates ,": "--candidates ',' names no candidates",
    "--size 3 --candidates heads,tails": "there are no candidates 'tails': name some of heads, masks",
    "--size 3 --candidates masks --depth 2": "search at depth 1",
    "--size 3 --check some": "--check 'some' says no number of candidates",
    "--size 3 --check 0": "--check '0' says no number of candidates",
    "--size 3 --resamples -1": "should be greater than or equal to 0",
    "--size 3 --parts all": "there is no part 'all' to search: there are q, k, v",
    "--size 3 --start nosuch": "there is no 'nosuch' to start from: there are naive, refined_1",
    "--size 3 --start induction": "two hypotheses are called",
    "--size 3 --metric loss,kl": "names 2 metrics",
    "--size 3 --metric nosuch": "nosuch",
    "--size 3 --other mean": "here y is a mean",
    "--size 3 --fold report": "--fold",
    "--size 3 --out mine.txt": "mine.txt doesn't end in .py",
    "--size 3 --out 1st.py": "'1st' can't name a hypothesis",
    "--size 3 --out hypotheses/induction/naive.py": "is there already",
    "--size 3 --out naive.py": "the study has a hypothesis 'naive'",
    "--size 3 --out hypotheses/other/mine.py": "in the folder of another study than induction",
    "--size 3 --out nowhere/mine.py": "nowhere/mine.py can't be written",
    "--size 3 --json nowhere/o.json": "nowhere/o.json can't be written",
    "--size 3 --plot o.gif": "a plot can't be written as '.gif'",
    "--size 3 --out o.py --json o.py": "two outputs have the same path",
}


@pytest.mark.parametrize("how", MISTAKES)
def test_mistakes_are_told_in_a_line_before_anything_is_loaded(
    scrub: Scrub, own: Path, monkeypatch: pytest.MonkeyPatch, how: str
) -> None:
    def fail(*_: object, **__: object) -> None:
        raise AssertionError("a model was loaded")

    monkeypatch.setattr("scrub.study.run.load_model", fail)
    shutil.copytree(own / "hypotheses" / "induction", own / "hypotheses" / "other")
    before = sorted(own.rglob("*"))
    said = scrub("search induction", how)
    assert (said.status, said.err.count("\n")) == (2, 1), said.err
    assert MISTAKES[how] in said.err
    assert sorted(own.rglob("*")) == before


@pytest.mark.parametrize(
    ("how", "told"),
    [
        ("--size 18", "a size of 18 among 18 cells: take one from 1 to 17"),
        ("--size 3 --start naive", "the start has 3 cells already"),
        ("--size 3 --parts out", "has no part 'out': it has q, k, v"),
        ("--size 3 --sequences 4", "the fold stop of 'words' has 1 sequence, and no other"),
    ],
)
def test_what_the_model_or_the_data_have_not(scrub: Scrub, tmp_path: Path, how: str, told: str) -> None:
    said = scrub("search induction", how, "--out", tmp_path / "mine.py")
    assert (said.status, said.err.removeprefix(NOTED).count("\n")) == (2, 1), said.err
    assert told in said.err
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(("name", "told"), [("my list", "can't name a hypothesis"), ("naive", "told apart by name")])
def test_a_name_that_is_none(name: str, told: str) -> None:
    with pytest.raises(ScrubError, match=f"'{name}'.*{told}"):
        package.search("induction/naive", 1, name=name, settings=Settings(sequences=31))


def test_nothing_to_recover_fails_a_gate(scrub: Scrub, tmp_path: Path) -> None:
    """Where the baseline is no worse than the model on a fold, percentages are of nothing."""
    study = tmp_path / "upside_down"
    study.mkdir()
    (study / "study.py").write_text(
        "from scrub import Hypothesis, Study\n"
        "def worse(logits, targets, unscrubbed):\n"
        "    return -logits.log_softmax(-1).gather(-1, targets[:, None])[:, 0]\n"
        "k = Hypothesis('k a1.ind/k/** -> y', name='k')\n"
        "study = Study('a1.ind/** -> y', (k,), 'tiny', 'words', metric=worse)\n"
    )
    said = scrub("search", study, "--size 1", ON)
    assert said.status == 1
    assert "on the fold search the baseline is no worse than the model" in said.err
    assert "less_is_better=True" in said.err
    with pytest.raises(GateError):
        package.search(study, 1, settings=Settings(sequences=31), resamples=0)


def test_a_search_goes_on_from_what_another_found(scrub: Scrub, tmp_path: Path) -> None:
    """From a module that isn't of the study's list, too, as long as it is of that study."""
    first = tmp_path / "first.py"
    assert scrub(f"search induction/naive --size 1 --check 1 {ON}", "--out", first).status == 0
    said = scrub(f"search induction/naive --size 2 --no-stop {ON}", "--start", first, "--json", tmp_path / "o.json")
    assert said.status == 0, said.err
    found = content(tmp_path / "o.json")
    (kept,) = [each for each in load_study(first)[1][0].rules.splitlines() if each.endswith("x")]
    assert [step["size"] for step in found["steps"]] == [1, 2]
    assert found["steps"][0]["added"] == [kept.split(" -> ")[0].split()[-1]]
    assert "\nthe same number, once it is written (--out found.py): scrub run found.py --sequences 31 " in said.out


HOSTILE = [
    *("", " ", "x", "nan", "-1", "0", "1.5", "1e9", "9" * 30, str(2**64), "0x10", "1,2", "٣", "\n", ",", "nowhere"),
    *(
        "x" * 5000,
        "../..",
        "/dev/zero",
        "a\x1b[31mb",
        "\x00",
        "~nobody/x",
        "-",
        "FIFO",
        ".",
        "a.py",
        "x" * 300 + ".py",
        "../a.py",
        "~nobody/a.py",
        "a\x1b[31m.py",
        ".py",
        "\x00.py",
    ),
]


@pytest.mark.parametrize(
    "option",
    [
        "--size",
        "--start",
        "--candidates",
        "--depth",
        "--check",
        "--resamples",
        "--metric",
        "--parts",
        "--out",
        "--json",
    ],
)
def test_anything_behind_an_option_is_taken_or_told_in_a_line(
    own: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, option: str
) -> None:
    """And nothing is left behind: no model is loaded here, so what is taken ends there."""

    def fail(*_: object, **__: object) -> None:
        raise ScrubError("it was taken")

    monkeypatch.setattr("scrub.study.run.load_model", fail)
    (own / "pipe").mkdir()
    os.mkfifo(own / "pipe" / "pipe")
    before = sorted(own.rglob("*"))
    taken = 0
    for typed in HOSTILE:
        words = ["search", "induction/naive", *([] if option == "--size" else ["--size", "3"]), option]
        status = _status([*words, {"FIFO": str(own / "pipe" / "pipe")}.get(typed, typed)])
        said = capsys.readouterr()
        assert (status, said.out, said.err.count("\n")) == (2, "", 1), (typed, said.err)
        assert len(said.err) < 1200
        assert said.err.rstrip("\n").isprintable(), typed
        assert sorted(own.rglob("*")) == before
        taken += "it was taken" in said.err
    assert taken < len(HOSTILE)
