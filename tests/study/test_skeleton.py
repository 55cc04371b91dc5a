"""What 'scrub new' writes about a model's own heads: it loads, passes the gates, runs, and means what it says."""

from __future__ import annotations

import ast
import re
from fnmatch import fnmatchcase
from pathlib import Path

import pytest
import torch
from project import N_CTX, byte_tokenizer
from small import paths, random_params

from scrub.cli import _status
from scrub.graph.node import walk
from scrub.models.families import ModelConfig, attention_only, gpt2
from scrub.models.model import Model, load_model, make_model, save_model
from scrub.paths.roles import Roles
from scrub.study.experiments import BASELINE, experiments
from scrub.study.hypothesis import Hypothesis
from scrub.study.run import prepare
from scrub.study.settings import Settings
from scrub.study.skeleton import general, skeleton, skeleton_files
from scrub.study.study import load_study
from scrub.text.errors import ScrubError

ROLES: dict[str, Roles] = {
    "as found": {"prev": [(0, 1)], "self": [(0, 0), (0, 4)], "ind": [(1, 2), (2, 1)]},
    "in the middle": {"prev": [(1, 3), (2, 0)], "ind": [(2, 2)]},
    "no induction": {"prev": [(0, 1)], "self": [(2, 0), (1, 4)]},
    "induction alone": {"ind": [(2, 0)]},
    "induction below": {"ind": [(0, 2), (1, 0)], "prev": [(1, 1), (2, 3)], "self": [(0, 0)]},
    "other names": {"dup-tok": [(0, 1)], "mover": [(2, 2), (1, 1)]},
    "below everything": {"prev": [(0, 1)]},
}
FAMILIES = {"attention_only": attention_only.Config, "gpt2": gpt2.Config}


def with_roles(family: str, roles: Roles) -> Model:
    tokenizer = byte_tokenizer()
    sizes = {"n_layers": 3, "n_heads": 5, "d_head": 2, "d_model": 10, "n_ctx": N_CTX, "layer_norm_eps": 1e-5}
    fields = {**sizes, "bos_token_id": 0, "vocab_size": tokenizer.get_vocab_size()}
    extra = {"d_mlp": 7} if family == "gpt2" else {"positions": "standard"}
    found: ModelConfig = FAMILIES[family].model_validate(
        {**fields, **extra, "roles": {r: [*h] for r, h in roles.items()}}
    )
    params = {name: value.float().double() for name, value in random_params(found, 11).items()}
    return make_model("roled", found, params, tokenizer)


def components(model: Model) -> set[str]:
    return {each.label for each in walk([model.graph]) if each.label}


def written(model: Model, folder: Path) -> Path:
    """The files of a skeleton about a model, in a project where the model is."""
    save_model(model.to(torch.float32), folder / "models" / "roled")
    files = skeleton_files(Path("hypotheses/mine.py"), load_model(folder / "models" / "roled"), "roled")
    for path, text in files.items():
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).write_text(text)
    assert [str(path) for path in files] == ["hypotheses/mine/study.py", "hypotheses/mine/naive.py"]
    return folder / "hypotheses" / "mine"


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("roles", ROLES.values(), ids=list(ROLES))
def test_it_loads_and_every_rule_matches(
    family: str, roles: Roles, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = with_roles(family, roles)
    folder = written(model, tmp_path)
    monkeypatch.chdir(tmp_path)
    study, (hypothesis,) = load_study(folder)
    assert (study.model, study.positions, study.data) == ("roled", "repeats", "stdlib")
    for role, heads in roles.items():
        assert f"{role}: {', '.join(f'{layer}.{head}' for layer, head in heads)}" in hypothesis.claim
    lowered = experiments(study, [hypothesis], model.graph, model.roles)  # raises for a rule that matches no path
    assert [each.part for each in lowered if each.hypothesis] == list(hypothesis.parts)
    scrubbed = [each for each in lowered if each.name == BASELINE or each.part == "all"]
    assert len(scrubbed) == 2
    assert all("y" in paths(each.graph).values() for each in scrubbed), "something is claimed"
    assert family == "gpt2" or "m0" not in hypothesis.rules
    assert ("MLP" in hypothesis.claim) == (family == "gpt2" and roles is not ROLES["below everything"])


@pytest.mark.parametrize(("family", "roles"), [("gpt2", "in the middle"), ("attention_only", "other names")])
def test_it_passes_the_gates_and_runs(
    family: str, roles: str, project: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = written(with_roles(family, ROLES[roles]), tmp_path)
    monkeypatch.chdir(tmp_path)
    trial = prepare([folder], data=project / "data" / "words", settings=Settings(sequences=17, dtype="float64"))
    trial.gates()
    parts = ["q", "k", "v", "all"]
    assert [row.part for row in trial.run().table] == parts


@pytest.mark.parametrize("family", FAMILIES)
def test_the_rules_keep_what_the_claim_says(family: str) -> None:
    """Every path below an induction head, by itself, against the sentence of the claim."""
    roles = ROLES["as found"]
    model = with_roles(family, {"prev": [(0, 1)], "self": [(0, 0), (0, 4)], "ind": [(1, 2)]})
    text = skeleton({**roles, "ind": [(1, 2)]}, "roled", components(model), "induction")
    hypothesis = loaded(text)
    assert hypothesis.study == "induction"
    near = {"emb", "m0", "a0.self"} if family == "gpt2" else {"emb", "a0.self"}
    for slot in "qkv":
        found = paths(hypothesis.scrub(model.graph, model.roles, slot))
        below = {path: source for path, source in found.items() if f"a1.ind/{slot}/" in path}
        assert len(below) > 3
        assert {source for path, source in found.items() if path not in below} == {"x"}
        for path, source in below.items():
            rest = path.partition(f"a1.ind/{slot}/")[2]
            copied = fnmatchcase(rest, "a0.prev[[]previous]/v/*")
            assert (source == "x") == (copied if slot == "k" else rest.split("/")[0] in near), path


def loaded(text: str) -> Hypothesis:
    space: dict[str, object] = {}
    exec(compile(text, "skeleton", "exec"), space)
    found = space["hypothesis"]
    assert isinstance(found, Hypothesis)
    return found


def test_the_general_one_is_about_the_induction_study() -> None:
    assert loaded(general()).study == "induction"
    assert len([line for line in general().splitlines() if line.lstrip().startswith("#")]) > 10


@pytest.mark.parametrize(("name", "study"), [("attn2l", "induction"), ("gpt2-mini", "gpt2_induction")])
def test_a_study_about_the_model_is_taken(
    name: str, study: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    files = skeleton_files(Path("hypotheses/mine.py"), load_model(name), name)
    assert list(files) == [Path("hypotheses/mine.py")]
    assert loaded(files[Path("hypotheses/mine.py")]).study == study
    other = skeleton_files(Path("hypotheses/mine.py"), load_model(name), name, {"prev": [(0, 1)], "self": [(1, 0)]})
    assert len(other) == 2, "that study is about other heads"


def test_a_study_about_other_heads_of_the_model_is_not_taken(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model = with_roles("gpt2", ROLES["as found"])
    monkeypatch.chdir(tmp_path)
    (tmp_path / "hypotheses" / "own").mkdir(parents=True)
    for role, taken in [("prev", False), ("ind", True)]:
        held = 'hypotheses=(Hypothesis("v a0.prev/v/** -> y", name="h"),)'
        study = f'from scrub import Hypothesis, Study\nstudy = Study("**/a*.{role}/** -> y", model="roled", {held})'
        (tmp_path / "hypotheses" / "own" / "study.py").write_text(study)
        files = skeleton_files(Path("mine.py"), model, "roled")
        assert (list(files) == [Path("mine.py")]) == taken
        assert ('study="own"' in "".join(files.values())) == taken


@pytest.mark.parametrize("name", ['an "odd" """name\\', "C:\\new\\models", "d'été", "x\ny"])
def test_a_model_may_be_called_anything(name: str) -> None:
    model = with_roles("gpt2", ROLES["as found"])
    files = skeleton_files(Path("mine.py"), model, name)
    study = ast.parse(files[Path("mine/study.py")]).body[-1]
    assert isinstance(study, ast.Assign)
    assert isinstance(study.value, ast.Call)
    said = {each.arg: each.value for each in study.value.keywords}["model"]
    assert ast.literal_eval(said) == name
    assert all(len(line) <= 120 for text in files.values() for line in text.splitlines())
    text = files[Path("mine/naive.py")]
    assert " ".join(name.replace('"""', "'''").split()) in " ".join((ast.get_docstring(ast.parse(text)) or "").split())
    loaded(text)


def test_heads_without_roles_are_one_line() -> None:
    for roles in ({}, {"ind": []}):
        with pytest.raises(ScrubError, match=r"^no head of roled has a role: measure them first \('scrub roles roled"):
            skeleton(roles, "roled", ["emb"])


def test_the_command(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    file = tmp_path / "mine.py"
    assert _status(["new", str(file), "--model", "tiny"]) == 0
    assert f"wrote {file}: edit" in capsys.readouterr().out
    assert re.search(r'^    study="induction",', file.read_text(), re.MULTILINE), "the project's study of this model"
    assert _status(["check", str(file), "--sequences", "31"]) == 0
    assert capsys.readouterr().out.endswith("pass every gate\n")
    other = tmp_path / "other.py"
    assert _status(["new", str(other), "--model", "standard"]) == 0
    assert f"wrote {tmp_path}/other/study.py and {tmp_path}/other/naive.py: edit" in capsys.readouterr().out
    load_study(tmp_path / "other")
    assert _status(["new", str(other)]) == 2
    assert capsys.readouterr().err.startswith(f"scrub: {tmp_path}/other is there already: give another name")
