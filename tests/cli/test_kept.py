"""A whitelist and a typicality are kept for a model; a hypothesis that can't run on one leaves the others be."""

from __future__ import annotations

import json
import shutil
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from scrub import load_model, prepare
from scrub.data.whitelist import Whitelist, kept_whitelist
from scrub.measure.heads import roles
from scrub.models import kept
from scrub.store.sweeps.grid import Grid
from scrub.store.sweeps.sweep import sweep
from scrub.study.settings import Settings
from scrub.study.token_feature import TokenFeature

Scrub = Callable[..., Any]
SHIPPED = Path(__file__).parents[2] / "hypotheses" / "induction"
ON = "--data words --sequences 31 --positions all --parts k"
MEASURE = "--data words --split validation --sequences 60 --write"


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The user's cache, empty."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.fixture
def other(tmp_path: Path) -> Path:
    """A model that no study and no feature is about."""
    return Path(shutil.copytree("models/tiny", tmp_path / "other"))


def test_what_a_model_lacks_leaves_one_hypothesis_out_until_it_is_measured(
    scrub: Scrub, other: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(roles, "MIN_OCCURRENCES", 5)
    monkeypatch.setattr(roles, "DEPARTS_FRACTION", 0.9)
    file = tmp_path / "o.json"
    said = scrub("run", SHIPPED, ON, "--model", other, "--json", file)
    assert said.status == 0
    left = [line for line in said.err.splitlines() if "left out, as it can't run on other" in line]
    assert len(left) == 1
    assert f"'scrub typicality {other} --write'" in left[0]
    found = json.loads(file.read_text())
    assert left[0].removeprefix("note: ") in found["notes"]
    assert [row["hypothesis"] for row in found["rows"]] == ["naive", *(f"refined_{n}" for n in range(1, 5))]
    assert "refined_5" in scrub("check", SHIPPED, ON, "--model", other).err
    shown = scrub("show", SHIPPED, "--parts k", "--model", other)
    assert (shown.status, "refined_4: k" in shown.out, "refined_5 is left out" in shown.err) == (0, True, True)

    said = scrub("typicality", other, MEASURE)
    assert (said.status, str(other / "features.json") in said.out) == (0, True), said.err
    written = json.loads((other / "features.json").read_text())["typicality"]
    assert written["current"] + written["previous"]
    said = scrub("run", SHIPPED, ON, "--model", other, "--json", file)
    assert (said.status, "left out, as" in said.err) == (0, False), said.err
    assert len(json.loads(file.read_text())["rows"]) == 6
    trial = prepare(SHIPPED / "refined_5.py", other, "words", Settings(sequences=31, positions="all"))
    assert trial.features == {"typicality": TokenFeature(tuple(written["current"]), tuple(written["previous"]))}

    grid = {"studies": [str(SHIPPED / "refined_5.py")], "models": [str(other)], "data": ["words"], "sequences": 31}
    swept = sweep(Grid.make(**grid, positions="all", parts=("k",)), tmp_path / "results", workers=1, progress=False)
    assert not swept.failures

    fields = {"typicality": {**written, "weights": "others"}}
    (other / "features.json").write_text(json.dumps(fields))
    assert scrub("run", SHIPPED / "refined_5.py", ON, "--model", other).status == 2, "it was measured on other weights"
    (other / "features.json").write_text("{}]")
    said = scrub("run", SHIPPED / "refined_5.py", ON, "--model", other)
    assert (said.status, "holds no features" in said.err) == (2, True)


def test_only_mistakes_are_left(scrub: Scrub, other: Path, tmp_path: Path) -> None:
    """Where nothing can run, the reason is an error; so it is on the study's own model, where it is a mistake."""
    said = scrub("run", SHIPPED / "refined_5.py", ON, "--model", other)
    assert (said.status, said.out, said.err.count("\n")) == (2, "", 1)
    shutil.copytree("hypotheses/induction", tmp_path / "study")
    naive = tmp_path / "study" / "naive.py"
    naive.write_text(naive.read_text().replace("a1.ind/q/a0.*/**", "a1.ind/q/a0.slef/**"))
    said = scrub("run", tmp_path / "study", ON)
    assert (said.status, "slef" in said.err) == (2, True)


def test_a_head_that_never_departs_has_one_class(scrub: Scrub, other: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(roles, "MIN_OCCURRENCES", 10**6)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        said = scrub("typicality", other, MEASURE)
    assert said.status == 0, said.err
    assert "nan" not in said.out
    assert "no token was found around which it looks elsewhere" in said.out
    assert kept.kept_features(load_model(other))["typicality"].current == []


def test_a_whitelist_of_a_model_wins_over_that_of_the_data(scrub: Scrub, other: Path) -> None:
    model = load_model(other)
    assert kept_whitelist(model, "words") is None
    said = scrub("whitelist words --split validation --threshold 0.05 --model", other)
    place = kept.whitelist_places(model, "words")[0]
    assert (said.status, str(place) in said.out, place.parent) == (0, True, other / "whitelists"), said.err
    found = kept_whitelist(model, "words")
    assert found is not None
    asked = Settings(sequences=31)
    trial = prepare("induction/naive", other, settings=asked)
    assert trial.examples.scored.tolist() == found.select(trial.examples.tokens).tolist()
    assert trial.examples.scored.sum() != prepare("induction/naive", settings=asked).examples.scored.sum()
    Whitelist([3], ["nobody's"], 1.0, 0.1, 1, 1, 1).save(place)
    assert kept_whitelist(model, "words") is None, "of another tokenizer"


def test_what_may_not_be_written_is_in_the_cache(
    scrub: Scrub, other: Path, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(kept.os, "access", lambda *_: False)
    before = sorted(other.rglob("*"))
    for words in ("whitelist words --split validation --model", "typicality"):
        assert scrub(words, other, *([MEASURE] if words == "typicality" else [])).status == 0
    assert sorted(other.rglob("*")) == before
    assert {path.name.partition("-")[0] for path in cache.rglob("*.json")} == {"words", "features.json"}
    same, another = load_model(other), load_model("standard")
    assert kept_whitelist(another, "words") == kept_whitelist(same, "words") is not None, "by the tokenizer"
    assert kept.kept_features(same)
    assert not kept.kept_features(another), "by the weights"


def test_a_whitelist_is_of_some_data_and_not_of_their_name(
    own: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two projects have other data of one name; one project's are the same by any of theirs."""
    monkeypatch.setattr(kept, "_is_own", lambda _: False)
    shutil.copytree(own, tmp_path / "another")
    model = load_model("tiny")
    place = kept.whitelist_places(model, "words")[0]
    assert place == kept.whitelist_places(model, "data/words")[0] == kept.whitelist_places(model, own / "data/words")[0]
    monkeypatch.chdir(tmp_path / "another")
    assert place != kept.whitelist_places(model, "words")[0]
    for name in ("stdlib", "owner/name", "owner/name:config"):
        there = kept.whitelist_places(model, name)[0]
        monkeypatch.chdir(own)
        assert there == kept.whitelist_places(model, name)[0], "the same wherever it is asked for"


def test_a_whitelist_in_a_project_moves_with_it(own: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = kept.whitelist_places(load_model("tiny"), "words")[0]
    path.parent.mkdir()
    Whitelist([], [], 1.0, 0.1, 1, 1, 1).save(path)
    monkeypatch.chdir(tmp_path)
    own.rename("moved")
    monkeypatch.chdir("moved")
    for name in ("words", "data/words"):
        assert kept_whitelist(load_model("tiny"), name) is not None
