"""Where a name leads: a path, the user's own project, what scrub ships."""

import sys
from pathlib import Path

import pytest

from scrub.models import find as module
from scrub.models.find import find, known, locate, shipped
from scrub.text.errors import ScrubError


def touch(*paths: str | Path) -> None:
    for path in map(Path, paths):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("")


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty working directory, and an installed package that ships two models and a study."""
    package = tmp_path / "site-packages" / "scrub"
    ships = package / "shipped"
    touch(ships / "models/attn2l/config.json", ships / "models/other/config.json", ships / "data/stdlib/README.md")
    touch(ships / "hypotheses/induction/naive.py", ships / "hypotheses/induction/refined_1.py")
    monkeypatch.setattr(module, "_PACKAGE", package)
    (tmp_path / "project").mkdir()
    monkeypatch.chdir(tmp_path / "project")
    return ships


def test_the_shipped_ones_of_a_wheel(project: Path) -> None:
    assert find("models", "attn2l") == project / "models/attn2l"
    assert find("data", "stdlib") == project / "data/stdlib"
    assert find("hypotheses", "induction") == project / "hypotheses/induction"
    assert find("hypotheses", "induction/naive") == project / "hypotheses/induction/naive.py"
    assert find("hypotheses", "induction/naive.py") == project / "hypotheses/induction/naive.py"


def test_a_path_as_the_readme_writes_it_works_without_a_checkout(project: Path) -> None:
    assert find("hypotheses", "hypotheses/induction") == project / "hypotheses/induction"
    assert find("hypotheses", Path("hypotheses/induction/naive.py")) == project / "hypotheses/induction/naive.py"
    assert find("models", "./models/attn2l/") == project / "models/attn2l"


def test_the_shipped_ones_of_a_checkout(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(module, "_PACKAGE", tmp_path / "checkout/scrub")
    touch("checkout/models/attn2l/config.json")
    assert shipped("models") is None, "without a pyproject.toml, the folder of the package is anyone's"
    assert locate("models", "attn2l") is None
    touch("checkout/pyproject.toml")
    assert find("models", "attn2l") == tmp_path / "checkout/models/attn2l"
    assert known("models") == ["attn2l"]


def test_this_checkout_ships_beside_its_package() -> None:
    assert shipped("models") == Path(module.__file__).parents[2] / "models"


def test_ones_own_win_over_shipped_ones(project: Path) -> None:
    touch("models/attn2l/config.json", "hypotheses/induction.py", "data/mine.jsonl")
    assert find("models", "attn2l") == Path("models/attn2l")
    assert find("models", "other") == project / "models/other"
    assert find("hypotheses", "induction") == Path("hypotheses/induction.py")
    assert find("data", "mine.jsonl") == Path("data/mine.jsonl")


def test_a_path_wins_over_names(project: Path) -> None:
    touch("attn2l/config.json", "models/attn2l/config.json", "deep/er/x.py")
    assert find("models", "attn2l") == Path("attn2l")
    assert find("models", Path("attn2l")) == Path("attn2l")
    assert find("models", project / "models/other") == project / "models/other"
    assert find("models", "../project/attn2l") == Path("../project/attn2l")
    assert find("models", "..") == Path("..")
    assert find("hypotheses", "deep/er/x.py") == Path("deep/er/x.py")


@pytest.mark.usefixtures("project")
def test_home(monkeypatch: pytest.MonkeyPatch) -> None:
    touch("models/attn2l/config.json")
    monkeypatch.setenv("HOME", str(Path.cwd()))
    assert find("models", "~/models/attn2l") == Path.cwd() / "models/attn2l"
    assert locate("models", "~nobody-of-this-name/models") is None


@pytest.mark.usefixtures("project")
def test_names_that_can_be_given() -> None:
    touch("hypotheses/_draft.py", "hypotheses/mine.py", "hypotheses/notes/plan.txt", "hypotheses/README.md")
    touch("models/own/config.json", "models/README.md", "models/.hidden/x", "data/a.jsonl", "data/README.md")
    assert known("hypotheses") == ["induction", "mine"]
    assert known("models") == ["attn2l", "other", "own"]
    assert known("data") == ["a.jsonl", "stdlib"]


BAD = [
    ("models", "attn2", "model 'attn2': {}did you mean attn2l? give a path or one of attn2l, other", "models"),
    ("models", "zzz", "model 'zzz': {}give a path or one of attn2l, other", "models"),
    ("models", "../zzz", "model '../zzz': {}give a path or one of attn2l, other", "models"),
    ("models", "a\nb", "model 'a\\nb': {}give a path or one of attn2l, other", "models"),
    ("models", "a\0b", "model 'a\\x00b': {}give a path or one of attn2l, other", "models"),
    ("data", "stlib", "data 'stlib': {}did you mean stdlib? give a path or one of stdlib", "data"),
    ("hypotheses", "naive", "hypothesis 'naive': {}did you mean induction/naive? {}", "hypotheses"),
    ("hypotheses", "inductoin", "hypothesis 'inductoin': {}did you mean induction? {}", "hypotheses"),
    (
        "hypotheses",
        "hypotheses/induction/refined1.py",
        "hypothesis 'hypotheses/induction/refined1.py': {}did you mean induction/refined_1? {}",
        "hypotheses",
    ),
]


@pytest.mark.parametrize(("kind", "name", "line", "where"), BAD)
@pytest.mark.usefixtures("project")
def test_what_is_not_there(kind, name, line, where) -> None:
    searched = f"it is no path, and neither ./{where} nor scrub itself has it: "
    with pytest.raises(ScrubError) as caught:
        find(kind, name)
    assert str(caught.value) == "there is no " + line.format(searched, "give a path or one of induction")


@pytest.mark.parametrize("name", ["", "  "])
@pytest.mark.usefixtures("project")
def test_an_empty_name(name: str) -> None:
    with pytest.raises(ScrubError) as caught:
        find("models", name)
    assert str(caught.value) == "the name of a model is empty: give a path or one of attn2l, other"


@pytest.mark.usefixtures("project")
def test_a_name_that_no_file_can_have() -> None:
    with pytest.raises(ScrubError, match=r"'xxx.*xxx'"):
        find("models", "x" * 5000)


def test_nothing_is_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(module, "_PACKAGE", tmp_path / "scrub")
    with pytest.raises(ScrubError) as caught:
        find("models", "x")
    line = "there is no model 'x': it is no path, and neither ./models nor scrub itself has it: give a path"
    assert str(caught.value) == line


@pytest.mark.usefixtures("project")
def test_a_long_list_is_cut() -> None:
    touch(*(f"models/m{i:02}/config.json" for i in range(30)))
    with pytest.raises(ScrubError, match=r"m09, m10 and 20 more$"):
        find("models", "zzz")


@pytest.mark.usefixtures("project")
def test_the_users_folders_are_never_imported(monkeypatch: pytest.MonkeyPatch) -> None:
    touch("models/__init__.py", "data/__init__.py", "hypotheses/__init__.py")
    monkeypatch.syspath_prepend(str(Path.cwd()))
    for kind in ("models", "data", "hypotheses"):
        known(kind)
        locate(kind, "anything")
        assert kind not in sys.modules
