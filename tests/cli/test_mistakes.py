"""Every mistake is one line on stderr that says what to do, status 2, and nothing is written."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from scrub.data.whitelist import Whitelist
from scrub.plan.plan import Plan

Scrub = Callable[..., Any]
RULES = "k a1.ind/k/** -> y"
DECLARED = 'from scrub import Hypothesis\nhypothesis = Hypothesis("""{}""", study="induction")\n'


def module(rules: str) -> dict[str, str]:
    """A hypothesis of these rules."""
    return {"bad.py": DECLARED.format(rules)}


def parametrised(name: str, kind: str, value: str = "2") -> dict[str, str]:
    """A hypothesis with a parameter in how it splits."""
    text = DECLARED.format(f"splits a1.ind/k/a0.rest {kind}\n{RULES}")
    return {"bad.py": text.replace("study=", f"parameters={{{name!r}: ({value!r},)}}, study=")}


def feature(body: str) -> dict[str, str]:
    """A hypothesis whose feature is computed so."""
    rules = '"k a1.ind/k/a0.prev/{q,k}/** -> rows like f"'
    text = f"from scrub import Hypothesis\ndef f(tokens, tokenizer):\n    {body}\n"
    return {"bad.py": f'{text}hypothesis = Hypothesis({rules}, features={{"f": f}}, study="induction")\n'}


@dataclass(frozen=True)
class Case:
    """A command with a mistake in it, and what is said of it. FOLDER is a folder that holds the files."""

    words: str
    message: str
    files: dict[str, str] = field(default_factory=dict)


RUN = "run induction/naive --sequences 31"
BAD = "run FOLDER/bad.py --sequences 31"
CASES = {
    # what is asked of the command line
    "no command": Case("runn", "'runn'"),
    "no path": Case("run", "'PATH...'"),
    "no name": Case("new", "'NAME'"),
    "unknown option": Case(f"{RUN} --sequence 3", "--sequence "),
    "unknown flag": Case(f"{RUN} -q", " -q "),
    "option without a value": Case(f"{RUN} --json", "'--json'"),
    "sequences in words": Case("run induction --sequences many", "'--sequences'"),
    "draws in fractions": Case(f"{RUN} --draws 1.5", "'--draws'"),
    "seed in words": Case(f"{RUN} --seed x", "'--seed'"),
    "batch in words": Case(f"{RUN} --batch x", "'--batch'"),
    # numbers out of range
    "one sequence": Case("run induction --sequences 1", "sequences.* 1.* 2"),
    "negative sequences": Case("run induction --sequences -5", "sequences.* -5"),
    "no draw": Case(f"{RUN} --draws 0", "draws.* 0.* 1"),
    "endless draws": Case(f"{RUN} --draws 99999999999999999999", "draws.* 99999999999999999999"),
    "negative seed": Case(f"{RUN} --seed -1", "seed.* -1.* 0.* 4294967295"),
    "huge seed": Case(f"{RUN} --seed 4294967296", "seed.* 4294967296"),
    "empty batch": Case(f"{RUN} --batch 0", "batch.* 0.* 1"),
    "unknown device": Case(f"{RUN} --device tpu", "'tpu'.* auto, cpu .*cuda"),
    "unknown dtype": Case(f"{RUN} --dtype int4", "'int4'.* float32, float64, bfloat16"),
    "TF32 on a CPU": Case(f"{RUN} --device cpu --dtype tf32 --model tiny", "TF32.* CPU.* float32"),
    "ablating in TF32 on a CPU": Case("ablate tiny --device cpu --dtype tf32", "TF32.* CPU"),
    "patching in TF32 on a CPU": Case("patch tiny --device cpu --dtype tf32", "TF32.* CPU"),
    "sweeping in TF32 on a CPU": Case("sweep induction --device cpu --dtype tf32", "TF32.* CPU"),
    "unknown positions": Case(f"{RUN} --positions some", "'whitelist', 'repeats', 'all' or spans .* 'some'"),
    "checking one sequence": Case("check induction --sequences 1", "sequences.* 1"),
    # names
    "unknown hypothesis": Case("run inductoin", "'inductoin'.* induction"),
    "unknown module": Case("run induction/nave", "'induction/nave'.*induction/naive"),
    "unknown model": Case(f"{RUN} --model tinny", "'tinny'.* tiny"),
    "unknown data": Case(f"{RUN} --data wods", "'wods'.* words"),
    "unknown part": Case(f"{RUN} --parts q,w", "'w'.* q, k, v, all"),
    "no part": Case(f"{RUN} --parts ,", "--parts ','"),
    "showing no part": Case("show induction --parts ,", "--parts ','"),
    "showing an unknown part": Case("show induction --parts w", "part 'w'"),
    "planning an unknown part": Case("plan induction --parts w", "part 'w'"),
    "a model that is a file": Case(f"{RUN} --model FOLDER/bad.py", "bad.py .*folder", module(RULES)),
    "a model without tensors": Case(f"{RUN} --model FOLDER", "config.json"),
    # rules and splits
    "unknown role": Case(BAD, r"bad.py.* 'a1.inn/k/\*\*' .*'a1.ind'", module("k a1.inn/k/** -> y")),
    "unknown layer": Case(BAD, r"'a3/k/\*\*'", module("k a3/k/** -> y")),
    "unknown slot": Case(BAD, r"'a1.ind/w/\*\*' .*'a1.ind/[qkv]'", module("k a1.ind/w/** -> y")),
    "unknown head": Case(BAD, "a0.rest .*head 9.* 2, 3", module(f"splits a1.ind/k/a0.rest by heads 9\n{RULES}")),
    "unknown role of a split": Case(BAD, "a0 .*role 'nxt'", module(f"splits a1.ind/k/a0.rest by heads nxt\n{RULES}")),
    "unknown mask": Case(BAD, "mask 'nxt'", module(f"splits a1.ind/k/a0.prev by mask 'nxt'\n{RULES}")),
    "unknown kind of split": Case(
        BAD, "splits by nothing that scrub knows", module(f"splits a1.ind/k/a0.prev by half\n{RULES}")
    ),
    "a part of a split that isn't made": Case(
        BAD, r"'a1.ind/k/a0.prev\[previous\]/v/emb'", module(f"{RULES}\n  a1.ind/k/a0.prev[previous]/v/emb -> x")
    ),
    "rows where there is no whole pattern": Case(
        BAD,
        "a draw per position gives rows of a pattern",
        {"bad.py": feature("return tokens")["bad.py"].replace("{q,k}", "q")},
    ),
    # parameters
    "a parameter that nobody has": Case(
        f"{BAD} --set heds=3",
        "'heds'.* 'heads'",
        parametrised("heads", "by heads $heads"),
    ),
    "a value that can't be": Case(
        f"{BAD} --set heads=9", r"bad.py.* a0.rest .*head 9", parametrised("heads", "by heads $heads")
    ),
    "a value that makes rules unreadable": Case(
        "show FOLDER/bad.py --set m=current,nxt",
        r"bad\(m=nxt\).* mask 'nxt'",
        parametrised("m", "by mask $m", "current"),
    ),
    "no value": Case("plan induction/naive --set heads", "--set 'heads'.* NAME=VALUE"),
    "a parameter of nothing": Case("check induction/naive --set heads=1", "'heads'.* none"),
    "a parameter that isn't declared": Case(BAD, r"bad.py, line 2: '\$m'", module("k a1/$m/** -> y")),
    # modules
    "syntax error": Case(BAD, r"bad.py, line 2: '\('", {"bad.py": "x = 1\ny = (\n"}),
    "no hypothesis": Case(BAD, "bad.py .*hypothesis = Hypothesis", {"bad.py": ""}),
    "empty hypothesis": Case(BAD, "bad.py, line 2: .*rules", module("")),
    "raises": Case(BAD, "bad.py, line 1: ZeroDivisionError: division by zero", {"bad.py": "1 / 0"}),
    "exits": Case(BAD, "bad.py, line 1: SystemExit: 0", {"bad.py": "raise SystemExit(0)"}),
    "exits quietly": Case(BAD, "bad.py, line 2: SystemExit", {"bad.py": "import sys\nsys.exit()"}),
    "interrupts": Case(BAD, "interrupted", {"bad.py": "raise KeyboardInterrupt"}),
    "no study": Case(
        BAD,
        "bad.py .*study",
        {"bad.py": DECLARED.format(RULES).replace(', study="induction"', "")},
    ),
    "unknown study": Case(
        BAD,
        "bad.py .*study 'addition'",
        {"bad.py": DECLARED.format(RULES).replace("induction", "addition")},
    ),
    "no Python": Case("run FOLDER/a.txt", "a.txt .*Python", {"a.txt": "x"}),
    "a folder without a study": Case("run FOLDER", "files .*study.py"),
    "two studies": Case(
        "run induction/naive FOLDER/bad.py --sequences 31",
        "two studies",
        {**module(RULES), "study.py": 'from scrub import Study\nstudy = Study(baseline="** -> y", model="tiny")'},
    ),
    "twice the same": Case("run induction induction/naive", "'naive'"),
    "a baseline that is nothing": Case(
        BAD,
        "baseline .*unscrubbed",
        {**module(RULES), "study.py": 'from scrub import Study\nstudy = Study(baseline="** -> x", model="tiny")'},
    ),
    "a baseline that matches nothing": Case(
        BAD,
        "baseline .*'a7'",
        {**module(RULES), "study.py": 'from scrub import Study\nstudy = Study(baseline="a7 -> y", model="tiny")'},
    ),
    "a feature that fails": Case(BAD, "feature 'f'.* ZeroDivisionError", feature("return 1 / 0")),
    "a feature that exits": Case(BAD, "feature 'f'.* SystemExit", feature("raise SystemExit")),
    "a feature of another shape": Case(BAD, r"feature 'f'.* \(31,\)", feature("return tokens[:, 0]")),
    "a feature of no classes": Case(BAD, "feature 'f'.* float64", feature("return tokens / 2")),
    # data
    "too few sequences": Case("run induction --sequences 4000", " 11 tokens.* 4000"),
    "shorter than the context": Case(
        f"{RUN} --data FOLDER/short.jsonl",
        "short.jsonl.* 1 .* 5 tokens.* 11",
        {"short.jsonl": '{"text": "three"}\n'},
    ),
    "a site that isn't there": Case("ablate tiny a9.9", r"tiny has no head a9\.9: .* a0 to a1, with heads 0 to 4"),
    "no data in a file": Case(f"{RUN} --data FOLDER/e.txt", "e.txt .*empty", {"e.txt": ""}),
    "no JSON": Case(f"{RUN} --data FOLDER/e.jsonl", "e.jsonl", {"e.jsonl": "{nothing"}),
    "tokens of another vocabulary": Case(
        f"{RUN} --data FOLDER/ids.jsonl",
        "ids.jsonl.* 99.* 0 to 30",
        {"ids.jsonl": json.dumps({"ids": [99] * 11})},
    ),
    # outputs
    "a folder that isn't there": Case(f"{RUN} --json FOLDER/no/o.json", "o.json .*folder"),
    "an output that is a folder": Case(f"{RUN} --pairs-out FOLDER", "files .*folder"),
    "an output below a file": Case(f"{RUN} --plot FOLDER/bad.py/o.svg", "o.svg", module(RULES)),
    "a plot of no format": Case(f"{RUN} --plot FOLDER/o.gif", "'.gif'.* .png, .svg, .pdf"),
    "a plot without a format": Case(f"{RUN} --plot FOLDER/o", "plot .*suffix"),
    "two outputs in one": Case(f"{RUN} --json FOLDER/o --pairs-out FOLDER/../files/o", "two outputs"),
    "two drawings in one": Case("show induction --out FOLDER/o.svg", "o.svg .*one .* 6"),
    "a drawing of no format": Case("show induction/naive --out FOLDER/o.gif", "o.gif.*(svg|html|txt)"),
    "a drawing that can't be written": Case("show induction/naive --out FOLDER/no/o.svg", "o.svg"),
    "a name that is none": Case("new 1st", "'1st' .*_"),
    "a module that is there": Case("new FOLDER/bad.py", "bad.py .*already", module(RULES)),
    "a module below a file": Case("new FOLDER/bad.py/x.py", "bad.py", module(RULES)),
}


@pytest.mark.parametrize("case", CASES.values(), ids=list(CASES))
def test_mistakes(scrub: Scrub, tmp_path: Path, project: Path, case: Case) -> None:
    folder = tmp_path / "files"
    folder.mkdir()
    for name, text in case.files.items():
        (folder / name).write_text(text)
    before = sorted(project.rglob("*"))
    said = scrub(case.words.replace("FOLDER", str(folder)))
    assert said.status == 2
    assert said.out == ""
    lines = said.err.splitlines()
    assert len(lines) == 1, said.err
    assert lines[0].startswith("scrub: ")
    assert re.search(case.message, lines[0]), lines[0]
    assert sorted(path.name for path in folder.iterdir()) == sorted(case.files)
    assert sorted(project.rglob("*")) == before


def test_a_selection_without_a_position(scrub: Scrub, tmp_path: Path) -> None:
    """The data's own whitelist lists a token that the text never has."""
    shutil.copytree("data/words", tmp_path / "words")
    Whitelist([30], ["\u010a"], 1.0, 0.1, 1, 1, 1).save(tmp_path / "words" / "whitelist.json")
    said = scrub("run induction --sequences 31 --data", tmp_path / "words")
    assert (said.status, said.out, said.err.count("\n")) == (2, "", 1)
    assert " 372 " in said.err


def test_no_whitelist(scrub: Scrub, tmp_path: Path) -> None:
    """Data without one take that of the study's data; where that has none either, there is none."""
    shutil.copy("data/words/validation.jsonl", tmp_path / "texts.jsonl")
    assert scrub("run induction/naive --parts q --sequences 31 --data", tmp_path / "texts.jsonl").status == 0
    shutil.copytree("hypotheses/induction", tmp_path / "study")
    study = tmp_path / "study" / "study.py"
    study.write_text(study.read_text().replace('"words"', '"nobody/of-that-name"'))
    said = scrub("run --sequences 31 --data", tmp_path / "texts.jsonl", tmp_path / "study")
    assert (said.status, said.out, said.err.count("\n")) == (2, "", 1)
    assert "whitelist.json" in said.err


def test_a_failed_run_leaves_what_was_there(scrub: Scrub, tmp_path: Path) -> None:
    (tmp_path / "o.json").write_text("before")
    said = scrub("run induction --sequences 4000 --json", tmp_path / "o.json")
    assert said.status == 2
    assert (tmp_path / "o.json").read_text() == "before"
    assert [path.name for path in tmp_path.iterdir()] == ["o.json"]


def test_no_memory_for_a_batch(scrub: Scrub, monkeypatch: pytest.MonkeyPatch) -> None:
    def run(*_: object) -> None:
        raise RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 8 bytes\nmore lines")

    monkeypatch.setattr(Plan, "run", run)
    monkeypatch.setattr("scrub.study.evaluate.Evaluator.check", lambda *_: None)
    said = scrub("run induction/naive --sequences 31 --batch 31")
    assert (said.status, said.out, said.err.count("\n")) == (2, "", 1)
    assert "batch of 31" in said.err
