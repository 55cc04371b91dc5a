"""What there is, what it is called, and how the commands explain themselves."""

from __future__ import annotations

import re
import shlex
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import typer

import scrub as package
from scrub.cli import COMPLETION, _status
from scrub.cli.app import COMMANDS, OLD_NAMES, app
from scrub.store.sweeps.grid import Grid
from scrub.store.sweeps.sweep import sweep

Scrub = Callable[..., Any]
EXAMPLES = {name: example for commands in COMMANDS.values() for name, (_, example) in commands.items()}


def test_the_version_and_short_help(scrub: Scrub) -> None:
    assert scrub("--version").out == f"scrub {package.__version__}\n"
    assert scrub("-h").out == scrub("--help").out
    assert scrub("run -h").out.startswith("Usage: scrub run ")


def test_help_lists_every_command_in_its_group_at_80_columns(scrub: Scrub, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    said = scrub("--help").out
    assert max(map(len, said.splitlines())) <= 80
    for group, commands in COMMANDS.items():
        section = said.partition(f"\n{group}:\n")[2].partition("\n\n")[0]
        assert re.findall(r"^  (\S+)", section, re.MULTILINE) == list(commands)
    assert "..." not in said.partition("Write and look")[2], "nothing is cut"


@pytest.mark.parametrize("name", EXAMPLES)
def test_every_help_text_has_an_example_that_can_be_typed(scrub: Scrub, name: str) -> None:
    said = " ".join(scrub(name, "--help").out.split())
    assert f"Example: {EXAMPLES[name]}" in said
    words = shlex.split(EXAMPLES[name])
    assert words[:2] == ["scrub", name]
    command = typer.main.get_command(app)
    command.commands[name].make_context(name, words[2:])  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    ("typed", "found"),
    [
        ("lea", "leaderboard"),
        ("who", ""),
        ("run gpt2_induction/na", "gpt2_induction/naive"),
        ("ablate ti", "tiny"),
        ("run naive --model attn2", "attn2l"),
    ],
)
def test_the_shell_completes_commands(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, typed: str, found: str
) -> None:
    monkeypatch.setenv(COMPLETION, "complete_bash")
    monkeypatch.setenv("COMP_WORDS", f"scrub {typed}")
    monkeypatch.setenv("COMP_CWORD", str(len(typed.split())))
    assert _status([]) == 0
    assert capsys.readouterr().out.split() == found.split()


def test_a_list_of_what_there_is(scrub: Scrub, own: Path) -> None:
    (own / "hypotheses" / "mine.py").write_text(
        'raise SystemExit("nobody runs this")\nmine = dict(claim="A claim. And more.")'
    )
    (own / "hypotheses" / "broken.py").write_text("def")
    said = scrub("list")
    assert (said.status, said.err) == (0, "")
    assert max(map(len, said.out.splitlines())) <= 80
    lines = {
        kind: scrub("list", kind).out.splitlines() for kind in ("studies", "hypotheses", "models", "data", "roles")
    }
    assert re.match(r"\* induction$", lines["studies"][1]), "yours comes before the one that is shipped"
    assert any(re.match(r"  gpt2_induction +Induction in a GPT-2: ", line) for line in lines["studies"])
    assert any(re.match(r"\* mine +A claim\.$", line) for line in lines["hypotheses"])
    assert any(re.match(r"\* broken +can't be read$", line) for line in lines["hypotheses"])
    assert any(
        re.match(r"\* induction/naive +The standard picture of induction\.$", line) for line in lines["hypotheses"]
    )
    assert not any("study" in line.split()[1] for line in lines["hypotheses"])
    assert any(re.match(r"\* tiny +without a card", line) for line in lines["models"])
    assert any(re.match(r"  attn2l +A 2-layer attention-only transformer", line) for line in lines["models"])
    assert any(re.match(r"\* words +without a card", line) for line in lines["data"])
    assert any(re.match(r"  attn2l +prev = 0\.1; self = ", line) for line in lines["roles"])
    assert re.findall(r"^(\w+):$", said.out, re.MULTILINE) == list(lines)
    wrong = scrub("list studis")
    assert (wrong.status, wrong.err.count("\n"), "hypotheses" in wrong.err) == (2, 1, True)


def test_old_names_of_options_go_on_working_and_help_shows_those_of_today(scrub: Scrub) -> None:
    for command, names in OLD_NAMES.items():
        said = scrub(command, "--help").out
        for old, new in names.items():
            assert f"{new} " in said
            assert f"{old} " not in said
    drawn = "prompts tiny --count 2 --length 3"
    for plain, *same in (
        (f"{drawn} --prompts random-tokens", f"{drawn} --kind random-tokens", f"{drawn} --kind=random-tokens"),
        ("prompts tiny --prompt abxab", "prompts tiny --text abxab", "prompts tiny --text=abxab"),
    ):
        wanted = scrub(plain)
        assert wanted.status == 0
        assert all(scrub(each).out == wanted.out for each in same)
    said = scrub("patch tiny --clean abxab --where prefix --corrupted abyab")
    assert (said.status, "--where" in said.err) == (2, True)


def test_an_option_that_has_one_value_comes_once(scrub: Scrub) -> None:
    for words, option in (
        ("sweep induction/naive --data nosuch --data words", "--data"),
        ("run induction/naive --seed 0 --seed=1", "--seed"),
        ("ablate tiny a0.1 --how zero --how mean", "--how"),
        ("prompts tiny --text ab --prompt ba", "--prompt"),
    ):
        said = scrub(words)
        assert (said.status, said.err) == (2, f"scrub: {option} is given twice: give it once\n")
    said = scrub("run induction/naive --set a=1 --set b=2")
    assert "there is no parameter 'a'" in said.err, "which may come several times"


@pytest.mark.parametrize(
    ("words", "named"),
    [
        ("run induction --json ''", "--json is empty: give it a value, or leave it out"),
        ("run induction --plot ''", "--plot is empty: give it a value, or leave it out"),
        ("run induction --pairs-out=", "--pairs-out is empty: give it a value, or leave it out"),
        ("leaderboard --results ''", "--results is empty: give it a value, or leave it out"),
        ("run ''", "PATH... is empty: give it a value"),
        ("show induction ''", "PATH... is empty: give it a value"),
        ("sweep '' --draws 2", "PATH... is empty: give it a value, or leave it out"),
        ("compare '' naive", "NAME... is empty: give it a value"),
        ("heads ''", "MODEL is empty: give it a value"),
    ],
)
def test_what_is_empty_is_named(capsys: pytest.CaptureFixture[str], words: str, named: str) -> None:
    assert _status(shlex.split(words)) == 2
    assert capsys.readouterr().err == f"scrub: {named}\n"


def test_run_takes_a_bare_name_where_one_study_has_it(scrub: Scrub, own: Path) -> None:
    shutil.copytree(own / "hypotheses" / "induction", own / "hypotheses" / "mine")
    (own / "hypotheses" / "mine" / "naive.py").rename(own / "hypotheses" / "mine" / "only_here.py")
    study = own / "hypotheses" / "mine" / "study.py"
    study.write_text(study.read_text().replace("'naive'", "'only_here'"))
    said = scrub("run only_here --parts v --sequences 31")
    assert said.status == 0, said.err
    assert said.out.startswith("mine on tiny")
    assert package.prepare("only_here", settings=package.Settings(sequences=31)).study.name == "mine"
    said = scrub("run naive --parts v --sequences 31")
    assert (said.status, said.err.count("\n")) == (2, 1)
    assert "which hypothesis is 'naive'? several studies have it: gpt2_induction, induction" in said.err


def test_new_names_hide_nothing(scrub: Scrub, own: Path) -> None:
    for name, why in (("induction", "is there already"), ("gpt2_induction", "would hide")):
        said = scrub("new", name)
        assert (said.status, said.err.count("\n")) == (2, 1)
        assert why in said.err
        assert not (own / "hypotheses" / f"{name}.py").exists()
    said = scrub("new naive")
    assert (said.status, said.err.count("\n")) == (2, 1)
    assert "'naive' is the name of modules of gpt2_induction, induction" in said.err
    assert not (own / "hypotheses" / "naive.py").exists()
    assert scrub("new", Path("elsewhere/induction.py")).status == 0


def test_compare_takes_the_pairings_that_are_stored(scrub: Scrub, own: Path) -> None:
    names = ["induction/naive", "induction/refined_1"]
    grid = Grid.make(studies=names, sequences=31, seeds=(3, 5), draws=2, parts=("v",))
    assert not sweep(grid, own / "results", workers=1, progress=False).failures
    before = sorted((own / "results").rglob("losses/*"))
    said = scrub("compare", *names, "--parts v --sequences 31 --workers 1 --top 0")
    assert said.status == 0, said.err
    assert "the pairings are those that are stored: seeds 3, 5, draws 2; --seed, --draws take others" in said.err
    assert sorted((own / "results").rglob("losses/*")) == before, "nothing was computed"
    said = scrub("compare", *names, "induction/refined_2 --parts v --sequences 31 --workers 1 --top 0")
    assert said.status == 0, said.err
    assert "those that are stored of naive, refined_1: seeds 3, 5, draws 2; --seed, --draws take others" in said.err
    said = scrub("compare", *names, "--parts v --sequences 31 --workers 1 --top 0 --seed 3")
    assert (said.status, "those that are stored" in said.err) == (0, False)
