"""The commands: what they print, and the exact formats of what they write."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from project import COLUMNS, NOTED
from safetensors import safe_open

from scrub import Settings, load_model, run
from scrub.data.for_model import examples_for
from scrub.study.evaluate import Evaluator
from scrub.study.gates import Gates

Scrub = Callable[..., Any]
RUN = "run induction --sequences 31 --seed 4"


@pytest.fixture
def open_gates(monkeypatch: pytest.MonkeyPatch) -> None:
    """No gates, where a test makes many runs that passed them once."""
    monkeypatch.setattr(Evaluator, "check", lambda *_: Gates({"none": 0.0}, ()))


def strict(text: str) -> Any:
    """JSON as the standard has it: no NaN, no key twice."""

    def fields(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        assert len({name for name, _ in pairs}) == len(pairs)
        return dict(pairs)

    def refuse(constant: str) -> float:
        raise ValueError(constant)

    return json.loads(text, parse_constant=refuse, object_pairs_hook=fields)


def test_json_is_the_designs_format(scrub: Scrub, tmp_path: Path) -> None:
    said = scrub(RUN, "--json", tmp_path / "o.json")
    assert (said.status, said.err) == (0, NOTED)
    found = strict((tmp_path / "o.json").read_text(encoding="utf-8"))
    kinds = {
        "format": int,
        "model": str,
        "data": str,
        "sequences": int,
        "positions": int,
        "draws": int,
        "seed": int,
        "losses": dict,
        "rows": list,
        "documents": int,
        "worth": float,
        "digest": str,
        "begin": str,
        "notes": list,
    }
    assert list(found) == list(kinds)
    assert f"note: {found['notes'][0]}\n" == NOTED
    assert all(type(found[key]) is kind for key, kind in kinds.items())
    about = {"format": 1, "model": "tiny", "data": "words", "sequences": 31, "draws": 1, "seed": 4}
    assert {key: found[key] for key in about} == about
    assert list(found["losses"]) == ["unscrubbed", "baseline", "all_scrubbed", "bigram"]
    assert all(type(value) is float and value > 0 for value in found["losses"].values())
    for row in found["rows"]:
        assert list(row) == COLUMNS
        assert [type(value) for value in row.values()] == [str, str, *[float] * 7]
        assert row["low"] <= row["recovered"] <= row["high"]
        assert row["kl"] >= 0
        assert row["mean_abs_change"] >= 0
    names = [f"refined_{number}" for number in range(1, 6)]
    assert [(row["hypothesis"], row["part"]) for row in found["rows"]] == [
        (name, part) for name in ["naive", *names] for part in ("q", "k", "v", "all")
    ]


@pytest.mark.usefixtures("open_gates")
def test_every_output_of_one_run(scrub: Scrub, tmp_path: Path) -> None:
    files = {"--json": "o.json", "--pairs-out": "pairs.safetensors", "--plot": "plot.svg"}
    options = [word for option, name in files.items() for word in (option, tmp_path / name)]
    said = scrub(RUN, "--draws 2 --batch 5 --dtype float64 --model tiny --data words", *options)
    assert (said.status, said.err) == (0, NOTED)
    assert {path.name for path in tmp_path.iterdir()} == set(files.values())
    numbers = strict((tmp_path / "o.json").read_text())
    assert numbers["draws"] == 2
    with safe_open(tmp_path / "pairs.safetensors", "np") as pairs:
        assert {"reference", "other", "selected"} <= set(pairs.keys())
        arrays = {name: pairs.get_tensor(name) for name in ("reference", "other", "selected")}
        assert pairs.metadata() == {"model": "tiny", "data": "words", "seed": "4"}
    assert {name: (each.dtype, each.shape) for name, each in arrays.items()} == {
        "reference": (np.int64, (62, 12)),
        "other": (np.int64, (62, 12)),
        "selected": (np.bool_, (62, 11)),
    }
    assert arrays["selected"].sum() == 2 * numbers["positions"]
    assert (tmp_path / "plot.svg").read_text().lstrip().startswith("<?xml")
    # the table says the same
    for row in numbers["rows"]:
        line = rf"^.*{row['part']}\s+{row['recovered']:.1f} \[{row['low']:.1f}, {row['high']:.1f}\].*{row['kl']:.3f}"
        assert re.search(line, said.out, re.MULTILINE), row
    assert f"induction on tiny, words ({numbers['digest'][:8]}): 31 sequences {numbers['begin']}," in said.out
    assert f"{numbers['positions']} selected positions, 2 draws, seed 4" in said.out
    for name, loss in numbers["losses"].items():
        assert re.search(rf"^ ?{name.replace('_', ' ')} +{loss:.3f} \[", said.out, re.MULTILINE), name


@pytest.mark.usefixtures("open_gates")
@pytest.mark.parametrize(("suffix", "begin"), [("png", b"\x89PNG"), ("pdf", b"%PDF-"), ("svg", b"<?xml")])
def test_plots(scrub: Scrub, tmp_path: Path, suffix: str, begin: bytes) -> None:
    assert scrub("run induction/naive --sequences 31 --plot", tmp_path / f"p.{suffix}").status == 0
    assert (tmp_path / f"p.{suffix}").read_bytes().startswith(begin)


@pytest.mark.usefixtures("open_gates")
def test_parts_and_positions(scrub: Scrub, tmp_path: Path) -> None:
    found = {}
    asked = {"whole": "", "some": "--parts v,q", "every": "--parts v --positions all"}
    for name, words in {**asked, "few": "--parts v --positions 3..5,-1"}.items():
        assert scrub(RUN, words, "--json", tmp_path / name).status == 0
        found[name] = strict((tmp_path / name).read_text())
    assert [row["part"] for row in found["some"]["rows"]] == ["q", "v"] * 6
    rows = {(row["hypothesis"], row["part"]): row for row in found["whole"]["rows"]}
    for row in found["some"]["rows"]:
        assert row == pytest.approx(rows[row["hypothesis"], row["part"]], abs=1e-4)
    assert found["every"]["positions"] == 31 * 11
    assert found["few"]["positions"] == 31 * 4
    assert [row["part"] for row in found["every"]["rows"]] == ["v"] * 6


def test_the_same_again_in_another_process(scrub: Scrub, tmp_path: Path, project: Path) -> None:
    """By the entry point itself, under another hash seed; and the Python interface gives the same text."""
    words = ["run", "induction/refined_5", "--sequences", "31", "--seed", "4", "--dtype", "float64"]
    program = [sys.executable, "-c", "from scrub.cli import main; main()", *words, "--json", str(tmp_path / "a.json")]
    environment = {**os.environ, "PYTHONHASHSEED": "7", "PYTHONPATH": os.pathsep.join(p for p in sys.path if p)}
    done = subprocess.run(program, cwd=project, env=environment, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, NOTED)
    assert scrub(*words, "--json", tmp_path / "b.json").out == done.stdout
    texts = [(tmp_path / name).read_text() for name in ("a.json", "b.json")]
    settings = Settings(sequences=31, seed=4, dtype="float64")
    assert texts == [run("induction/refined_5", settings=settings).to_json()] * 2


@pytest.mark.usefixtures("open_gates")
def test_warnings_go_to_stderr(scrub: Scrub, tmp_path: Path) -> None:
    """Few sequences: the scale is uncertain, so the run says so, gives its numbers, and ends well."""
    said = scrub("run induction/naive --sequences 5 --json", tmp_path / "o.json")
    assert said.status == 0
    assert re.search(r"^warning: the selected positions are of [2345] documents", said.err, re.MULTILINE)
    assert all(line.startswith(("warning: ", "note: ")) for line in said.err.splitlines())
    assert "warning" not in said.out
    strict((tmp_path / "o.json").read_text())


@pytest.mark.usefixtures("open_gates")
def test_a_model_and_data_by_path(scrub: Scrub, tmp_path: Path, project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A user's file of hypotheses in a folder that has nothing else."""
    monkeypatch.chdir(tmp_path)
    Path("k.py").write_text(
        'from scrub import Hypothesis\nhypothesis = Hypothesis("k a1.ind/k/** -> y", study="induction")'
    )
    where = ["--model", project / "models/tiny", "--data", project / "data/words"]
    assert scrub("run k.py --sequences 31 --json o.json", *where).status == 0
    found = strict(Path("o.json").read_text())
    assert (found["model"], found["data"]) == ("tiny", str(project / "data/words"))
    assert [(row["hypothesis"], row["part"]) for row in found["rows"]] == [("k", "k"), ("k", "all")]


def test_check(scrub: Scrub) -> None:
    said = scrub("check induction --sequences 37")
    assert (said.status, said.err) == (0, NOTED)
    lines = said.out.splitlines()
    assert lines[0].startswith("ok  split graph and model, float64: at most ")
    assert (
        len([line for line in lines if line.startswith("ok  ")]) == 6
    )  # all sequences begin with one token, so one is of first rows
    assert lines[-1] == "27 experiments of 6 hypotheses pass every gate"


def test_check_warns(scrub: Scrub, tmp_path: Path) -> None:
    rules = "k a1.ind/k/** -> y\n  a1.ind/k/a0.*/** -> y"
    (tmp_path / "idle.py").write_text(
        f'from scrub import Hypothesis\nhypothesis = Hypothesis("""{rules}""", study="induction")'
    )
    said = scrub("check --sequences 37", tmp_path / "idle.py")
    assert said.status == 0
    assert said.err == NOTED + "".join(
        f"warning: idle/{part}: the rule 'a1.ind/k/a0.*/** -> y' changes nothing: its paths are fed so without it\n"
        for part in ("k", "all")
    )


def test_show(scrub: Scrub) -> None:
    said = scrub("show induction/naive --parts k")
    assert (said.status, said.err) == (0, "")
    lines = said.out.splitlines()
    assert lines[0].startswith("study induction, model tiny: prev = a0.1; self = a0.0 a0.4; ind = a1.2 a1.3")
    lines = lines[lines.index("naive: k") :]
    assert lines[:2] == ["naive: k", "out"]
    assert "│   │   ├── a0.prev[previous]" in lines
    assert "\x1b" not in said.out
    every = scrub("show induction --parts q,all").out
    assert every.count("\nout\n") == 12


@pytest.mark.parametrize(("suffix", "holds"), [("svg", "<svg"), ("html", "<html"), ("txt", "├── emb  x")])
def test_show_into_a_file(scrub: Scrub, tmp_path: Path, suffix: str, holds: str) -> None:
    said = scrub("show induction/naive --out", tmp_path / f"naive.{suffix}")
    assert (said.status, said.out) == (0, f"wrote {tmp_path}/naive.{suffix}\n")
    assert holds in (tmp_path / f"naive.{suffix}").read_text()


def test_plan(scrub: Scrub) -> None:
    said = scrub("plan induction/naive --parts k")
    assert (said.status, said.err) == (0, "")
    lines = said.out.splitlines()
    assert lines[0].startswith("%0 = ")
    assert any("output loss:naive/k" in line for line in lines)
    assert not any("naive/q" in line for line in lines)


def test_new_module_works_in_an_empty_folder(
    scrub: Scrub, tmp_path: Path, project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It names the shipped study; here on the small model and data."""
    monkeypatch.chdir(tmp_path)
    said = scrub("new mine")
    assert (said.status, said.err) == (0, "")
    assert said.out.startswith("wrote hypotheses/mine.py")
    assert "a1.ind" in scrub("show mine --model", project / "models/tiny").out
    on = ["--model", project / "models/tiny", "--data", project / "data/words", "--sequences 31"]
    assert scrub("check hypotheses/mine.py", *on).out.endswith("pass every gate\n")
    done = scrub("run mine", *on)
    assert done.status == 0
    assert re.search(r"^ ?mine +v +-?\d", done.out, re.MULTILINE)
    again = scrub("new mine")
    assert (again.status, again.out) == (2, "")
    assert again.err == "scrub: hypotheses/mine.py is there already: give another name, or remove it first\n"
    assert scrub("new elsewhere/other.py").status == 0
    assert sorted(path.name for path in tmp_path.rglob("*") if path.is_file()) == ["mine.py", "other.py"]


def test_help_is_quick_and_whole(scrub: Scrub) -> None:
    said = scrub("--help")
    assert (said.status, said.err) == (0, "")
    for command in ("run", "check", "show", "plan", "new"):
        assert re.search(rf"^  {command} ", said.out, re.MULTILINE)
        assert scrub(command, "--help").out.startswith(f"Usage: scrub {command} ")
    options = scrub("run --help").out
    names = ("model", "data", "sequences", "draws", "seed", "batch", "device", "dtype", "json", "parts")
    for option in (*names, "pairs-out", "positions", "plot"):
        assert f"--{option} " in options, option
    bare = scrub("")
    assert (bare.status, bare.out) == (2, "")
    assert bare.err.startswith("Usage: scrub ")


def test_parameters_of_hypotheses(scrub: Scrub, tmp_path: Path) -> None:
    rules = "splits a1.ind/k/a0.rest by mask 'last $n'\\nk a1.ind/k/a0.rest[last $n]/** -> y"
    declared = f'hypothesis = Hypothesis("{rules}", parameters={{"n": (1, 2)}}, study="induction")'
    text = f"from scrub import Hypothesis\n{declared}"
    (tmp_path / "mine.py").write_text(text)
    said = scrub(
        "run induction/naive", tmp_path / "mine.py", "--set n=3,2 --parts k --sequences 31 --json", tmp_path / "o.json"
    )
    assert (said.status, said.err) == (0, NOTED)
    rows = strict((tmp_path / "o.json").read_text())["rows"]
    assert list(dict.fromkeys(row["hypothesis"] for row in rows)) == ["naive", "mine(n=3)", "mine(n=2)"]
    for words, wanted in (
        ("show --parts k", "mine(n=3): k"),
        ("check --sequences 5", "of 1 hypotheses pass every gate"),
        ("plan", "last 3"),
    ):
        said = scrub(*words.split(), tmp_path / "mine.py", "--set n=3")
        assert said.status == 0
        assert wanted in said.out


ON_TEXT = {
    "roles": "roles tiny --sequences 20",
    "typicality": "typicality tiny --sequences 20",
    "whitelist": "whitelist DATA --model tiny --split train --out OUT",
    "mechanism": "mechanism tiny --head 1.2 --slots v --sequences 20 --positions all",
    "heads": "heads tiny --scores --count 2 --sequences 20 --prompts random-tokens --prompt abyab --answer y",
    "ablate": "ablate tiny a0.1 --sequences 20",
    "run": "run induction/naive --model tiny --sequences 20 --positions all",
}


@pytest.fixture
def bilingual(tmp_path: Path) -> Path:
    """Data with two columns of text, of which neither has a usual name."""
    rows = [json.loads(line)["text"] for line in Path("data/words/validation.jsonl").read_text().splitlines()]
    folder = tmp_path / "bilingual"
    folder.mkdir()
    said = (json.dumps({"mine": row, "yours": row[::-1]}) + "\n" for row in rows)
    (folder / "train.jsonl").write_text("".join(said))
    return folder


@pytest.mark.parametrize("command", ON_TEXT)
def test_whatever_is_measured_on_text_takes_a_column_and_says_what_was_read(
    command: str, scrub: Scrub, bilingual: Path, tmp_path: Path
) -> None:
    words = ON_TEXT[command].replace("DATA", str(bilingual)).replace("OUT", str(tmp_path / "list.json"))
    if command != "whitelist":
        words += f" --data {bilingual}"
    said = scrub(words)
    assert (said.status, "one of mine, yours with --column" in said.err) == (2, True), said.err
    said = scrub(words, "--column yours --bos no")
    assert said.status == 0, said.err
    assert re.search(r"bilingual \([0-9a-f]{8}\): \d+ sequences .*without a begin token", " ".join(said.out.split()))
    assert "note: " in said.err, "sequences with the tokens of another are left out"


def test_a_check_takes_and_says_the_same_of_the_data(scrub: Scrub, bilingual: Path) -> None:
    words = f"check induction/naive --sequences 20 --positions all --data {bilingual}"
    assert "with --column" in scrub(words).err
    said = scrub(words, "--column mine --bos no")
    assert (said.status, "of another" in said.err) == (0, True), said.err


def test_roles_writes_what_every_head_attends_to(scrub: Scrub, tmp_path: Path) -> None:
    said = scrub("roles tiny --data words --sequences 5 --context 7 --json", tmp_path / "roles.json")
    assert said.status == 0, said.err
    found = strict((tmp_path / "roles.json").read_text())
    assert f"({found['digest'][:8]})" in said.out
    rows = re.findall(r"^ (\d+\.\d+) ", said.out, re.MULTILINE)
    assert [each["head"] for each in found["heads"]] == rows
    assert len(rows) > 1
    loss = found["loss"]
    assert f"nats a token: {loss['estimate']:.3f} [{loss['low']:.3f}, {loss['high']:.3f}]" in said.out
    failed = scrub("roles tiny --data words --json", tmp_path / "nowhere/roles.json")
    assert (failed.status, len(failed.err.splitlines())) == (2, 1), "said before anything is measured"


def test_json_names_the_data_as_a_run_does(scrub: Scrub, tmp_path: Path) -> None:
    """By the digest of the tokens and of what is scored, so the same where both are."""
    found, on = {}, "--data words --sequences 20 --positions all --bos no"
    for command in ("run induction/naive --model tiny", "ablate tiny a0.1", "mechanism tiny --head 1.2 --slots v"):
        file = tmp_path / f"{command.split()[0]}.json"
        assert scrub(command, on, "--json", file).status == 0
        found[file.stem] = {name: strict(file.read_text()).get(name) for name in ("data", "digest", "begin", "notes")}
    assert found["run"] == found["ablate"] == found["mechanism"]
    assert (found["run"]["data"], found["run"]["begin"]) == ("words", "without a begin token")
    file = tmp_path / "heads.json"
    assert scrub(ON_TEXT["heads"], "--data words --json", file).status == 0
    wanted = examples_for(load_model("tiny"), "words", 20)
    assert {**strict(file.read_text()), **wanted.about} == strict(file.read_text())


@pytest.mark.parametrize(
    "command",
    ["prompts tiny --prompt abyab", "ablate tiny --prompt abyab", "patch tiny --prompt abyabx --corrupted acyabx"],
)
def test_a_typed_prompt_has_no_use_for_a_seed(command: str, scrub: Scrub) -> None:
    said = scrub(command, "--seed 5")
    assert (said.status, "so --seed has no meaning" in said.err, said.out) == (2, True, "")
