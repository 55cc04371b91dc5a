"""Options are what the fields of a class say, and a command gets the class's object."""

from __future__ import annotations

import dataclasses
import os
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, get_type_hints

import pytest
import typer

from scrub.cli import _status, options
from scrub.cli.fields import Options, Overrides, Words, command
from scrub.cli.train import SETTINGS as TRAINING
from scrub.cli.whitelist import WHITELIST_SETTINGS
from scrub.data.settings import Recipe, WhitelistSettings
from scrub.store.sweeps.grid import Grid
from scrub.study.metric import METRICS
from scrub.study.settings import Settings
from scrub.text.errors import ScrubError
from scrub.training import settings as training


@dataclass(frozen=True)
class Cake:
    """What is baked."""

    eggs: int
    sugar: float = 0.5
    icing: str | None = None
    layers: tuple[str, ...] | None = None
    vegan: bool = False

    def __post_init__(self) -> None:
        if self.eggs > 12:
            raise ScrubError(f"{self.eggs} eggs are too many")


WORDS = {
    "vegan": Words(None, "Without eggs.", "--vegan"),
    "eggs": Words("N", "How many."),
    "sugar": Words("KG", "How much."),
    "icing": Words("COLOUR", "On top.", "--on-top"),
    "layers": Words("A,B", "Inside.", read=lambda text: tuple(text.split(","))),
}


def run(function: Callable[..., None], *words: str) -> None:
    """Call a command with these words."""
    app = typer.Typer(rich_markup_mode=None, pretty_exceptions_enable=False)
    app.command()(command(function))
    app(list(words), standalone_mode=False)


def baked(by: Options, *words: str) -> Any:
    """The cake that a command with such options gets, or what of one is given."""
    found: list[Any] = []
    kind: Any = dict[str, Any] if isinstance(by, Overrides) else Cake

    def bake(name: str, *, cake: kind, times: int = 1) -> None:  # type: ignore[valid-type]
        found.append((name, cake, times))

    bake.__annotations__ = {"name": str, "cake": Annotated[kind, by], "times": int}
    run(bake, "it", *words, "--times", "3")
    (name, cake, times), *_ = found
    assert (name, times) == ("it", 3)
    return cake


def test_an_object_is_filled() -> None:
    words = ("--eggs", "3", "--sugar", "0.25", "--on-top", "blue", "--layers", "jam,cream", "--vegan")
    assert baked(Options(WORDS), *words) == Cake(3, 0.25, "blue", ("jam", "cream"), True)
    assert baked(Options(WORDS), "--eggs", "3") == Cake(3)


def test_a_command_names_what_it_takes_and_says_other_defaults(capsys: pytest.CaptureFixture[str]) -> None:
    by = Options(WORDS, "sugar eggs", defaults={"eggs": 7}, words={"sugar": Words("CUPS", "Not much.")})
    assert baked(by) == Cake(7)
    with pytest.raises(typer.TyperException, match="--on-top"):
        baked(by, "--on-top", "blue")
    with pytest.raises(typer.TyperException, match="valid integer"):
        baked(by, "--eggs", "x")
    with pytest.raises(ScrubError, match="13 eggs are too many"):
        baked(by, "--eggs", "13")
    with pytest.raises(ValueError, match="unpack"):  # help is printed, and nothing baked
        baked(by, "--help")
    said = " ".join(capsys.readouterr().out.split())
    assert said.index("--sugar CUPS Not much. [default: 0.5]") < said.index("--eggs N How many. [default: 7]")


def test_what_must_be_given() -> None:
    with pytest.raises(typer.TyperException, match="eggs"):
        baked(Options(WORDS))


def test_only_what_is_given() -> None:
    by = Overrides({**WORDS, "pans": Words("N", "How many.", kind=int)}, like=Cake)
    assert baked(by) == {}
    assert baked(by, "--eggs", "13", "--pans", "2", "--layers", "jam") == {"eggs": 13, "pans": 2, "layers": ("jam",)}


def test_every_field_has_words() -> None:
    """A field that is added to a class has an option as soon as its table has words for it: so it has to."""
    assert options.SETTINGS.keys() == {each.name for each in dataclasses.fields(Settings)} - {"progress"}
    assert options.GRID.keys() == Grid.model_fields.keys() - {"studies"}
    assert options.METRICS.split("|") == [*METRICS]
    assert WHITELIST_SETTINGS.keys() == {each.name for each in dataclasses.fields(WhitelistSettings)}
    assert options.RECIPE.keys() == {each.name for each in dataclasses.fields(Recipe)}
    assert TRAINING.keys() <= {each.name for each in dataclasses.fields(training.Settings)}


def test_a_grid_has_the_fields_of_settings() -> None:
    """Options of a grid take their types from the settings, so that help needn't import the grid."""
    grid, settings = get_type_hints(Grid), get_type_hints(Settings)
    shared = grid.keys() & settings.keys()
    assert shared == settings.keys() - {"seed", "progress", "controls"}  # of which a grid has none
    assert {name: grid[name] for name in shared if options.GRID[name].read is None} == {
        name: settings[name] for name in shared if options.GRID[name].read is None
    }


def test_help_imports_neither_torch_nor_numpy() -> None:
    program = (
        "import sys\nfrom scrub.cli import _status\n"
        "for words in (['--help'], *([each, '--help'] for each in ('run', 'search', 'sweep', 'train'))):\n"
        "    assert _status(words) == 0\n"
        "print('heavy:', *sorted({'torch', 'numpy', 'matplotlib', 'pandas'} & sys.modules.keys()))"
    )
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(part for part in sys.path if part)}
    done = subprocess.run([sys.executable, "-c", program], env=environment, capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1].split() == ["heavy:"]


def test_mistakes_are_told_before_torch_is_imported(tmp_path: Path) -> None:
    """Which takes seconds: mistakes in rules, and in the names of modules, models and data."""
    bad = {
        "source": "k  a1.ind/k/** -> z",
        "split": "splits a0 by nothing\nk  a1.ind/k/** -> y",
        "mask": 'splits a0 by mask "lost"\nk  a1.ind/k/** -> y',
        "masks": 'splits a0 by mask "last 3" "lag 2"\nk  a1.ind/k/** -> y',
        "pattern": "k  a1.ind//k/** -> y",
        "line": "k  a1.ind/k/** to y",
    }
    for name, rules in bad.items():
        text = f"from scrub import Hypothesis\nhypothesis = Hypothesis({rules!r}, study='induction')\n"
        (tmp_path / f"{name}.py").write_text(text)
    (tmp_path / "baseline").mkdir()
    (tmp_path / "baseline" / "study.py").write_text("from scrub import Study\nstudy = Study('** -> z', ('k',))\n")
    (tmp_path / "baseline" / "k.py").write_text(text.replace("to y", "-> y"))
    commands = [[command, f"{name}.py"] for name in bad for command in ("run", "sweep")]
    commands += [
        ["run", "baseline"],
        ["show", "inductoin"],
        ["run", "induction", "--parts", "zz"],
        ["run", "induction", "--positions", "3..x y"],
        ["run", "induction", "--fold", "nosuch"],
        ["check", "induction", "--data", "stdlob"],
    ]
    numbers = ("--temperature 1e10", "--width 99999999", "--tokens 3 --span 1..3", "--span 3..1")
    meant = ("--only", "--how mean", "--how nosuch", "--at 3")
    commands += [["generate", "attn2l", "--prompt", "a b", *words.split()] for words in (*numbers, *meant)]
    commands += [["plan", "induction", "--model", "attn3l"], ["ablate", "attn3l"], ["compare", "naive", "refined_9"]]
    commands += [["whitelist", "stdlob"], ["roles", "attn3l"], ["report", "lost"], ["heads", "lost", "--data", "lost"]]
    commands += [["fetch", "nosuch"], ["prompts", "attn2l", "--prompts", "nosuch"]]
    commands += [["ablate", "attn2l", "a0.1", "--how", "nosuch"], ["patch", "attn2l", "--prompts", "nosuch"]]
    commands += [["patch", "attn2l", "--where", "nosuch"], ["patch", "attn2l", "a0.9"], ["ablate", "gpt2-mini", "a4"]]
    commands += [["patch", "attn2l", "blocks.1.attn.hook_z"], ["direct", "attn2l", "--wrong", "x"]]
    commands += [["readers", "attn2l", "9.9"], ["mechanism", "attn2l", "--head", "9.9"]]
    commands += [["parity", "nosuch"], ["parity", "gpt2-mini", "--split", "train"]]
    commands += [["composition", "attn2l", "--to", "1.8"], ["run", "induction", "--model", "/etc"]]
    commands += [["attribute", "nosuch"], ["attribute", "--model", "attn2l"], ["attribute", "induction", "--steps"]]
    commands += [["attribute", "induction", *words.split()] for words in ("--method nosuch", "--points 3", "--exact")]
    commands += [["attribute", "induction", "--metric", name] for name in ("nosuch", "kl", "loss,kl")]
    commands += [["circuit", name] for name in ("induction", "induction/naive", "nosuch", "lost.json", "source.py")]
    commands += [["circuit", "lost.json", *words.split()] for words in ("--size 3", "--task ioi_gpt2", "--export a.b")]
    commands += [["prompts", "gpt2-mini", "--data", "ioi:foo"], ["fetch", "ioi:foo"]]
    commands += [["sweep", "induction", "--data", "stdlib,ioi:foo"], ["fetch", "successor:seed=x"]]
    searched = ("--candidates nosuch", "--check nosuch", "--depth 2 --candidates masks", "--parts z", "--start nosuch")
    searched += ("--other mean", "--out a.txt", "--out naive.py", "--metric nosuch", "--json lost/a.json")
    commands += [["search", "induction", "--size", "3", *words.split()] for words in searched]
    commands += [["search", "nosuch", "--size", "3"], ["search", "induction"], ["search", "baseline", "--size", "3"]]
    commands += [["leaderboard", "nosuch"], ["leaderboard", "induction", "--results", "nosuch"]]  # these need pandas
    program = (
        f"import sys\nfrom scrub.cli import _status\nfor words in {commands!r}:\n"
        "    assert _status(words) == 2, words\n"
        "    heavy = {'torch', 'matplotlib', 'datasets'} | ({'pandas'} if words[0] != 'leaderboard' else set())\n"
        "    assert not heavy & sys.modules.keys(), words\n"
    )
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(part for part in sys.path if part)}
    done = subprocess.run(
        [sys.executable, "-c", program], env=environment, cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert done.stderr.count("\n") == len(commands)


def test_whatever_typer_says_is_a_mistake(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    """Whichever of its classes it raises; and nothing else is taken for one."""
    for error in (typer.TyperException("it is wrong."), typer.BadParameter("it is wrong.")):
        monkeypatch.setattr("typer.main.get_command", lambda _, error=error: _raises(error))
        assert _status(["run"]) == 2
        said = capsys.readouterr().err
        assert said.startswith("scrub: ")
        assert said.endswith("it is wrong ('scrub --help' tells what there is)\n")
    monkeypatch.setattr("typer.main.get_command", lambda _: _raises(ZeroDivisionError()))
    with pytest.raises(ZeroDivisionError):
        _status(["run"])


def _raises(error: Exception) -> Any:
    raise error
