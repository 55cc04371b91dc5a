"""Modules of hypotheses and studies: a user's own folders, and whatever can be wrong with them."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from scrub import Hypothesis, ScrubError, Settings, load_study, prepare
from scrub.study.study import load_module

STUDY = 'from scrub import Study\nstudy = Study(model="tiny", data="words", positions="all", baseline="** -> y"'
MODULE = 'from scrub import Hypothesis\nhypothesis = Hypothesis("k a1.ind/k/** -> y")\n'


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A study of a user's own."""
    mine = tmp_path / "mine"
    mine.mkdir()
    (mine / "study.py").write_text(f'{STUDY}, hypotheses=("one", "two"))\n')
    (mine / "one.py").write_text(f'"""What one\n   says."""\n{MODULE}')
    (mine / "two.py").write_text(MODULE.replace("/k/", "/q/"))
    return mine


def test_a_folder_of_ones_own(folder: Path) -> None:
    study, hypotheses = load_study(folder)
    assert (study.name, study.positions, study.baseline) == ("mine", "all", "** -> y")
    assert [(each.name, each.claim) for each in hypotheses] == [("one", "What one says."), ("two", "")]
    assert hypotheses[0].path == folder / "one.py"
    trial = prepare(folder, settings=Settings(sequences=13))
    assert [each.name for each in trial.experiments.scrubbed[2:]] == ["one/k", "one/all", "two/k", "two/all"]
    assert trial.examples.scored.all()


def test_the_name_of_a_study_is_its_folders(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(folder)
    assert load_study(".")[0].name == load_study("one.py")[0].name == load_study("../mine/")[0].name == "mine"


def test_a_file_belongs_to_the_study_beside_it(folder: Path) -> None:
    study, (hypothesis,) = load_study(folder / "two.py")
    assert (study.name, study.positions, hypothesis.name) == ("mine", "all", "two")
    study, both = load_study([folder / "two.py", folder / "one.py"])
    assert [each.name for each in both] == ["two", "one"]


def test_a_file_that_names_its_study(tmp_path: Path) -> None:
    file = tmp_path / "mine.py"
    file.write_text(MODULE.replace('-> y"', '-> y", study="induction"'))
    study, (hypothesis,) = load_study([file])
    assert (study.name, study.model, hypothesis.name) == ("induction", "tiny", "mine")
    _, together = load_study(["induction/naive", file])
    assert [each.name for each in together] == ["naive", "mine"]


def test_a_study_may_hold_its_hypotheses(tmp_path: Path) -> None:
    held = 'Hypothesis("k a1.ind/k/** -> y", name="held", claim="c")'
    (tmp_path / "study.py").write_text(f"from scrub import Hypothesis\n{STUDY}, hypotheses=({held},))")
    study, (hypothesis,) = load_study(tmp_path)
    assert (study.name, hypothesis.name, hypothesis.claim) == (tmp_path.name, "held", "c")
    (tmp_path / "study.py").write_text((tmp_path / "study.py").read_text().replace(', name="held"', ""))
    with pytest.raises(ScrubError, match=r"study.py holds a hypothesis without a name"):
        load_study(tmp_path)


def test_hypotheses_themselves() -> None:
    mine = Hypothesis("k a1.ind/k/** -> y", study="induction")
    study, (hypothesis,) = load_study(mine)
    assert (study.name, hypothesis.name) == ("induction", "hypothesis")
    with pytest.raises(ScrubError, match=r"the hypothesis belongs to no study: .*study="):
        load_study(Hypothesis("k a1.ind/k/** -> y"))


def test_two_studies_dont_mix(folder: Path, tmp_path: Path) -> None:
    for wanted in (["induction/naive", folder], [folder, "induction"], [folder / "one.py", "induction/naive"]):
        with pytest.raises(ScrubError, match="numbers of two studies don't compare"):
            load_study(wanted)
    twin = tmp_path / "elsewhere" / "mine"  # of the same name and baseline, but about other positions
    twin.mkdir(parents=True)
    (twin / "study.py").write_text((folder / "study.py").read_text().replace('"all"', '"whitelist"'))
    (twin / "three.py").write_text(MODULE)
    with pytest.raises(ScrubError, match=r"three.py belongs to the study 'mine' and what stands before it to 'mine'"):
        load_study([folder, twin / "three.py"])
    empty = folder / "empty"
    empty.mkdir()
    (empty / "study.py").write_text(f"{STUDY})")
    with pytest.raises(ScrubError, match="numbers of two studies don't compare"):
        load_study([folder, empty])


@pytest.mark.parametrize(
    ("files", "wanted", "message"),
    [
        ({}, ".", r"is no study: it has no study.py \(its modules: none\)"),
        ({"k.py": MODULE}, ".", r"is no study: it has no study.py \(its modules: k\)"),
        ({"k.py": MODULE}, "k.py", "k.py belongs to no study: put it into a folder with a study.py"),
        ({"study.py": f"{STUDY})"}, ".", "there is no hypothesis to run"),
        ({"study.py": f'{STUDY}, hypotheses=("k",))'}, ".", "lists the hypothesis 'k', but there is no .*k.py: add it"),
        (
            {"study.py": f"{STUDY}, hypotheses=(3,))"},
            ".",
            "hypotheses is .3,., but must be made of a string or Hypothesis",
        ),
        ({"study.py": f'{STUDY}, hypotheses=("k", "k"))', "k.py": MODULE}, ".", "two hypotheses are called 'k'"),
        ({"study.py": "study = 3"}, ".", "study.py declares no study: it must set study = Study"),
        (
            {"study.py": f"{STUDY.replace('all', 'some of it')})"},
            ".",
            r"study.py, line 2: positions are 'whitelist', 'repeats', 'all' or spans",
        ),
        ({"study.py": f"{STUDY})", "k.py": ""}, "k.py", "k.py declares no hypothesis: it must set hypothesis = "),
        ({"k.py": "hypothesis = 'k a1 -> y'"}, "k.py", "k.py declares no hypothesis"),
        ({"k.py": "x = 1\ny = (\n"}, "k.py", r"k.py, line 2: '\(' was never closed: mend the syntax"),
        ({"k.py": "x = '\0'"}, "k.py", "k.py.*: (ValueError: )?source code .*null bytes: mend the (syntax|module)"),
        ({"k.py": "x = 1\nx.y\n"}, "k.py", "k.py, line 2: AttributeError: 'int' object has no attribute 'y': mend"),
        ({"k.py": "def f():\n    f()\nf()"}, "k.py", "k.py, line 2: RecursionError: .*: mend the module"),
        ({"k.py": "import nowhere_to_be_found"}, "k.py", "k.py, line 1: ModuleNotFoundError: "),
        ({"k.py": "raise ValueError('a\\nb')"}, "k.py", "k.py, line 1: ValueError: a b: mend the module"),
        ({"k.py": "import sys\nsys.exit()"}, "k.py", "k.py, line 2: SystemExit: raised: mend the module"),
        ({"k.py": "import sys\nsys.exit(0)"}, "k.py", "k.py, line 2: SystemExit: 0: mend the module"),
        ({"k.py": MODULE.replace("->", "to")}, "k.py", "k.py, line 2: 'a1.ind/k/.* to y' is no rule"),
        ({"k.py": MODULE.replace('"k a1', '"a1')}, "k.py", "k.py, line 2: .* stands under no part"),
        ({"k.txt": "x"}, "k.txt", "k.txt is no Python file: .* modules that end in .py"),
    ],
)
def test_what_can_be_wrong(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, files: dict[str, str], wanted: str, message: str
) -> None:
    monkeypatch.chdir(tmp_path)
    for name, text in files.items():
        Path(name).write_text(text)
    with pytest.raises(ScrubError, match=message) as caught:
        load_study(wanted)
    assert "\n" not in str(caught.value)


def test_an_error_in_what_a_module_imports(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "helper_of_mine.py").write_text("x = 1\nx = = 2\n")
    (tmp_path / "k.py").write_text("import helper_of_mine\n")
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(ScrubError, match=r"helper_of_mine.py, line 2: invalid syntax: mend the syntax"):
        load_study(tmp_path / "k.py")


def test_what_a_file_is_that_cant_be_decoded(tmp_path: Path) -> None:
    (tmp_path / "k.py").write_bytes(b"x = '\xff\xfe'")
    with pytest.raises(ScrubError, match=r"k.py.*mend the syntax") as caught:
        load_study(tmp_path / "k.py")
    assert "\n" not in str(caught.value)


def test_loading_leaves_nothing_behind(folder: Path) -> None:
    before, writes = set(sys.modules), sys.dont_write_bytecode
    load_study(folder)
    assert {each.name for each in folder.iterdir()} == {"study.py", "one.py", "two.py"}  # no __pycache__
    assert not {name for name in set(sys.modules) - before if "mine" in name}
    assert sys.dont_write_bytecode is writes


def test_modules_see_their_own_path(folder: Path) -> None:
    (folder / "one.py").write_text(f"from pathlib import Path\nhere = Path(__file__).parent.name\n{MODULE}")
    assert load_module(folder / "one.py").here == "mine"


def test_features_of_one_name_must_be_one(tmp_path: Path) -> None:
    text = "from scrub import Hypothesis\ndef f(tokens, _):\n    return tokens % {}\n"
    text += 'hypothesis = Hypothesis("k a1.ind/k/** -> like f", features={{"f": f}}, study="induction")'
    for name, modulus in (("one", 2), ("two", 3)):
        (tmp_path / f"{name}.py").write_text(text.format(modulus))
    with pytest.raises(ScrubError, match="two hypotheses mean different features by 'f'"):
        prepare([tmp_path / "one.py", tmp_path / "two.py"], settings=Settings(sequences=5))
