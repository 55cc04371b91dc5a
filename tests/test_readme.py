"""The README's commands and code run, and its table is the shipped study's."""

from __future__ import annotations

import os
import platform
import re
import shlex
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pandas as pd
import pytest

from scrub.cli import _status

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text(encoding="utf-8")
THIRDS = "6"  # sequences, two in each fold
FEW, RANDOM = "4", "1"  # sequences, and random hypotheses: what is tested is that commands run, not their numbers
BY_A_SHELL = "scrub new mine"  # as a program of its own; the others share this process, which has torch loaded
INSTALLED = {"PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"}


def block(language: str, after: str = "") -> str:
    """The first code block of a language after some text."""
    found = re.search(rf"```{language}\n(.*?)```", README[README.index(after) :], re.DOTALL)
    assert found is not None
    return found[1]


BLOCKS = re.findall(r"```sh\n(.*?)```", README, re.DOTALL)
WRITTEN = [  # by the commands of each block
    {"numbers.json", "story.svg", "pairs.safetensors", "hypotheses"},
    {"pairs.jsonl"},
    {"results", "report.html", "report.md"},
    {"found.py", "found.json", "found.svg"},
    set[str](),
    {"written.svg", "written.json"},
    {"letters.json", "letters.svg", "curve.svg"},
]


def made_pairs() -> list[dict[str, object]]:
    """The pairs that the text makes, and says how to write."""
    code = block("python", after="<!-- prompts -->")
    names: dict[str, list[dict[str, object]]] = {}
    exec(code[code.index("draws =") : code.index("values =")], names)
    return names["pairs"]


@pytest.mark.parametrize(("commands", "written"), list(zip(BLOCKS, WRITTEN, strict=True)))
def test_commands_run_in_an_empty_folder(
    commands: str,
    written: set[str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("LOKY_MAX_CPU_COUNT", "1")  # sweeps have one worker, which is this process
    assert len(commands.splitlines()) >= 3
    if "pairs.jsonl" in written:
        pd.DataFrame(made_pairs()).to_json("pairs.jsonl", orient="records", lines=True)
    few = THIRDS if "--fold" in commands else FEW
    for command in commands.splitlines():
        fewer = re.sub(r"--sequences \d+", f"--sequences {few}", re.sub(r"--null \d+", f"--null {RANDOM}", command))
        words = shlex.split(fewer)[1:]
        if words[0] in {"run", "sweep", "compare", "report"} and "--sequences" not in words:
            words += ["--sequences", FEW]
        if words[0] == "search":
            words[words.index("--size") + 1] = "1"
            words += ["--resamples", "0", "--no-rival", "--check", "1", "--parts", "k"]
        if words[0] in {"attribute", "circuit"} and "--prompts" in words:
            words += ["--count", FEW]
        if command == BY_A_SHELL:
            assert subprocess.check_output(command, shell=True, env=os.environ | INSTALLED)
            continue
        status = _status(words)
        said = capsys.readouterr()
        assert status == 0, f"{command}: {said.err}"
        assert said.out
    assert written <= {each.name for each in tmp_path.iterdir()}
    if "results" not in written:
        return
    monkeypatch.chdir(tmp_path)
    import duckdb

    experiments = [row[:4] for row in duckdb.sql(block("sql")).fetchall()]
    assert {"unscrubbed", "baseline", "bigram", "naive/all", "window(positions=2)/q"} <= {
        each[0] for each in experiments
    }
    assert len(set(experiments)) == len(experiments)  # anchors aren't mixed up


def test_notebook_code_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    code = block("python", after="<!-- notebook -->")
    names: dict[str, object] = {}
    exec(code.replace("sequences=64", f"sequences={FEW}"), names)
    frame = names["result"].frame()  # type: ignore[attr-defined]
    assert list(frame.hypothesis) == ["naive"] * 4 + ["mine"] * 2
    assert "<svg" in names["study"].show("mine", "k")._repr_svg_()  # type: ignore[attr-defined]
    exec(block("python", after="<!-- model -->"), names)


def test_prompts_code_runs(capsys: pytest.CaptureFixture[str]) -> None:
    """From a list of pairs to percent recovered, in ten lines; and the claim that the text makes of it."""
    code = block("python", after="<!-- prompts -->")
    names: dict[str, object] = {}
    exec(code, names)
    said = capsys.readouterr().out
    assert "logit_diff" in said
    found = re.search(r"values\s+v\s+(-?\d+\.\d)", said)
    assert found is not None
    assert 15 < float(found[1]) < 35  # a quarter


def test_links_lead_somewhere() -> None:
    links = [link for link in re.findall(r"\]\(([^)#]+)\)", README) if "://" not in link]
    assert links
    assert [link for link in links if not (ROOT / link).exists()] == []


def test_the_text_names_the_digest_of_the_table() -> None:
    """And that is what this Python's library gives, where it is the one that the table is from."""
    import scrub

    heading = re.search(r"\((\w{8})\): (\d+) sequences", block("", after="<!-- table -->"))
    assert heading is not None
    named = re.search(r"tables here are from Python\s+(\S+) with its tests; `(\w+)` is a digest", README)
    assert named is not None
    assert named[2] == heading[1]
    if platform.python_version() == named[1] and find_spec("test.test_grammar"):
        assert scrub.prepare("induction").examples.digest[:8] == heading[1]


def test_what_the_text_calls_is_there() -> None:
    """Methods too: of what functions of the package give."""
    import scrub
    from scrub.measure.study.heads import HeadStudy

    called = re.findall(r"`scrub\.(\w+)\([^`]*\)", README)
    assert called
    assert [name for name in called if not callable(getattr(scrub, name, None))] == []
    assert re.findall(r"`(\S+)\.charts\(\)`", README) == ["scrub.study_heads(model)"]
    assert callable(HeadStudy.charts)


def test_table_has_every_experiment_of_the_shipped_study() -> None:
    from scrub import load_study

    _, hypotheses = load_study("induction")
    table = block("", after="<!-- table -->")
    for hypothesis in hypotheses:
        assert re.search(rf"^\s*{hypothesis.name}\s+q\s", table, re.MULTILINE), hypothesis.name
    rows = re.findall(r"^.*\b(q|k|v|all)\s+-?\d+\.\d \[", table, re.MULTILINE)
    assert rows == ["q", "k", "v", "all"] * len(hypotheses)
