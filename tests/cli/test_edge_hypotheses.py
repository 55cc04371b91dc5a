"""Hypotheses that are sets of edges, through all that hypotheses go through."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

Scrub = Callable[..., Any]
FEW = "--sequences 17"
STUDY = 'from scrub import Study\n\nstudy = Study(model="tiny", data="words", positions="all", baseline="** -> y"{})\n'
KEPT = """
    edges  out/{emb,a1.ind}  a1.ind/{q,v}/emb    # a comment
           a1.ind/k/a0.prev  a0.1/*/emb
"""
RULED = """
    all_of_it  ** -> y
               emb -> x
               a1.ind/{q,v}/emb -> x
               a1.ind/k/a0.prev/** -> x
"""
SWEPT = "edges  out/a1.ind  a1.ind/*/$of  a0.*/{q,k,v}/emb"
IDLE = "edges  out/a1.ind  a1.ind/*/emb  a1.ind/k/a0.prev"


@pytest.fixture
def circuits(own: Path) -> Path:
    folder = own / "hypotheses/circuits"
    folder.mkdir()
    declare(folder, "kept", KEPT)
    declare(folder, "ruled", RULED)
    (folder / "study.py").write_text(STUDY.format(', hypotheses=("kept", "ruled")'))
    return folder


def declare(folder: Path, name: str, text: str, **more: object) -> None:
    fields = {"rules": text, "claim": f"What {name} says.", **more}
    (folder / f"{name}.py").write_text(f"from scrub import Hypothesis\n\nhypothesis = Hypothesis(**{fields!r})\n")


def rows(scrub: Scrub, words: str) -> list[dict[str, Any]]:
    said = scrub(f"{words} {FEW} --json out.json")
    assert said.status == 0, said.err
    found: list[dict[str, Any]] = json.loads(Path("out.json").read_text())["rows"]
    return found


@pytest.mark.usefixtures("circuits")
def test_edges_recover_what_rules_do(scrub: Scrub) -> None:
    """Also against the mean; and 100 times the faithfulness of the same circuit, intervals too."""
    for more in ("", " --other mean"):
        kept, *ruled = rows(scrub, f"run circuits{more}")
        assert kept["part"] == "all"
        for row in ruled:
            for name in ("loss", "recovered", "low", "high", "kl", "mean_abs_change", "scrubs"):
                assert row[name] == pytest.approx(kept[name], rel=1e-4), (more, name)
    (alone,) = rows(scrub, "run circuits/kept --parts all")
    (circuit,) = rows(scrub, "circuit circuits/kept")
    assert circuit["edges"] == circuit["connected"] == 12
    for recovered, faithful in (("recovered", ""), ("low", ", low"), ("high", ", high")):
        assert alone[recovered] == pytest.approx(100 * circuit[f"faithfulness{faithful}"], rel=1e-9)
    (said,) = rows(scrub, "circuit circuits/ruled")
    assert said == {**circuit, "edges": said["edges"]}


@pytest.mark.usefixtures("circuits")
def test_edges_are_shown_checked_and_planned(scrub: Scrub) -> None:
    shown = scrub("show circuits/kept")
    assert shown.status == 0
    for line in ("emb  x", "a0.2  y", "a1.2"):
        assert line in shown.out
    for name in ("kept.svg", "kept.html", "kept.txt"):
        assert scrub(f"show circuits/kept --out {name}").status == 0
    assert "a1.2" in Path("kept.svg").read_text()
    checked = scrub(f"check circuits/kept {FEW}")
    assert (checked.status, "pass every gate" in checked.out) == (0, True)
    planned = scrub("plan circuits/kept")
    assert "loss:kept/all" in planned.out
    refused = scrub(f"run circuits/kept --parts k {FEW}")
    assert (refused.status, refused.err) == (2, "scrub: no hypothesis has a part 'k': they have all\n")


def test_edges_are_swept_compared_and_reported(circuits: Path, scrub: Scrub) -> None:
    declare(circuits, "swept", SWEPT, parameters={"of": ("a0.prev", "a0.self", "emb")})
    (circuits / "study.py").write_text(STUDY.format(', hypotheses=("kept", "ruled", "swept")'))
    swept = scrub(f"sweep circuits --workers 1 --results r --null 1 {FEW}")
    assert swept.status == 0, swept.err
    assert "kept is a set of edges, and random hypotheses are drawn path by path: leave the null out\n" in swept.err
    compared = scrub(f"compare kept ruled --study circuits --stored --results r --parts all {FEW}")
    assert compared.status == 0, compared.err
    assert "- edges  out/{emb,a1.ind}" in compared.out
    assert "nowhere: it is the same for every token" in compared.out
    assert scrub(f"report circuits --results r --out r.html {FEW}").status == 0
    assert "a1.ind/k/a0.prev" in Path("r.html").read_text()
    ways = rows(scrub, "run circuits/swept --set of=a0.prev,a0.self,emb")
    assert len({row["recovered"] for row in ways}) == 3
    (default,) = rows(scrub, "run circuits/swept")
    assert default["recovered"] == pytest.approx(ways[0]["recovered"], abs=1e-4)


WRONG = [
    (
        'splits  a1.ind/k/a0.prev by mask "previous"\nedges  out/a1.ind',
        "a set of edges is a whole hypothesis: leave 'spl",
    ),
    ("edges  out/a1.ind\nk  a1.ind/k/** -> y", "a set of edges is a whole hypothesis: leave 'k' out"),
    ("edges  out/a1.ind a1.ind/k/m0", "'a1.ind/k/m0' is no edge of this model: the nearest there are 'a1."),
    ("edges  out/a1.ind a1.nobody/k/emb", "'a1.nobody/k/emb' is no edge of this model"),
    ("edges  a1.ind/k/** -> y", "edges have no sources"),
    ("edges  out/{a1.ind,a9.0}", "'a9.0' is nothing that 'out/{a1.ind,a9.0}' could mean"),
    ("edges  ", "'edges' has nothing behind it: write its first edge on the same line"),
]


@pytest.mark.parametrize(("text", "says"), WRONG)
def test_wrong_edges_are_told_in_one_line(circuits: Path, scrub: Scrub, text: str, says: str) -> None:
    declare(circuits, "wrong", text)
    said = scrub(f"run circuits/wrong {FEW}")
    assert said.status == 2
    assert says in said.err
    assert "circuits/wrong.py" in said.err
    assert len(said.err.splitlines()) == 1


def test_edges_that_lead_nowhere_are_told(circuits: Path, scrub: Scrub) -> None:
    declare(circuits, "idle", IDLE)
    said = scrub(f"run circuits/idle {FEW}")
    assert said.status == 0
    assert "warning: idle: 2 of 10 edges lie on no whole path, so they change nothing\n" in said.err
