"""--fold, wherever a study's examples are read: what is run, compared and reported is of one of three parts of them."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

Scrub = Callable[..., Any]
ON = "--sequences 31 --dtype float64"


def content(path: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(path.read_text())
    return found


def test_a_run_says_which_fold_it_is_of(scrub: Scrub, tmp_path: Path) -> None:
    counts = []
    for fold in ("search", "report"):
        said = scrub("run induction/naive --parts k", ON, "--fold", fold, "--json", tmp_path / "o.json")
        found = content(tmp_path / "o.json")
        assert (said.status, found["fold"]) == (0, fold)
        counts.append(found["sequences"])
        assert f"note: fold {fold}: {counts[-1]} of 31 sequences, " in said.err
        assert f"fold {fold}, {counts[-1]} sequences" in said.out
    assert counts == [11, 10]
    assert "note: fold stop: 10 of 31" in scrub("check induction/naive --parts k", ON, "--fold stop").err


def test_edges_are_scored_on_a_fold(scrub: Scrub, tmp_path: Path) -> None:
    rules = "edges out/a1.ind a1.ind/k/a0.prev a0.prev/v/emb out/a0 out/emb a1.ind/{q,v}/emb a0/{q,k,v}/emb"
    text = f"from scrub import Hypothesis\nhypothesis = Hypothesis({rules!r}, study='induction')\n"
    (tmp_path / "edgy.py").write_text(text)
    for words in (["attribute induction --top 1"], ["circuit", tmp_path / "edgy.py"]):
        said = scrub(*words, ON, "--fold report --json", tmp_path / "o.json")
        assert said.status == 0, said.err
        assert content(tmp_path / "o.json")["sequences"] == 10
        assert "note: fold report: 10 of 31 sequences" in said.err
    kept = tmp_path / "kept.py"
    said = scrub("circuit", tmp_path / "edgy.py", ON, "--fold report --out", kept)
    assert f"scrub run {kept} --sequences 31 --fold report" in said.err


def test_a_comparison_is_of_one_fold(scrub: Scrub, tmp_path: Path) -> None:
    """The pairings that are stored of a fold are taken there, and those of another not."""
    both, kept = "induction/naive induction/refined_1 --parts k", f"--results {tmp_path / 'kept'}"
    assert scrub("sweep", both, ON, "--fold search --seed 5 --workers 1", kept).status == 0
    said = scrub("compare", both, ON, "--fold search --workers 1", kept, "--json", tmp_path / "o.json")
    assert said.status == 0, said.err
    assert "the pairings are those that are stored: seeds 5" in said.err
    assert "note: fold search: 1" in said.err
    assert "fold search, 1" in said.out
    said = scrub("compare", both, ON, "--fold stop --workers 1", kept)
    assert "pairings" not in said.err
    assert "fold stop, 10 sequences" in said.out
    for fold in ("search", "stop"):
        assert f"fold {fold}, 1" in scrub("compare", both, "--stored --fold", fold, kept).out
    assert "pairings" not in scrub("compare", both, "--dtype float64 --workers 1", kept).err, "of all of the data"
    assert "holds nothing of fold report" in scrub("compare", both, "--stored --fold report", kept).err


@pytest.mark.parametrize(
    ("words", "says"),
    [
        ("run induction/naive --fold train", "there is no fold 'train' of examples: take one of search, stop, report"),
        ("sweep induction --fold all", "there is no fold 'all' of examples"),
        ("run induction/naive --sequences 4 --fold report", "the fold report of 'words' has 1 sequence, and no other"),
        ("run induction/naive --sequences 2 --fold stop", "2 different sequences of 'words' can't be divided into 3"),
        ("ablate tiny a0.1 --data words --fold stop", "No such option"),
    ],
)
def test_a_fold_that_cant_be_is_one_line(scrub: Scrub, words: str, says: str) -> None:
    said = scrub(words)
    assert said.status == 2
    assert says in said.err
    assert len(said.err.splitlines()) == 1
