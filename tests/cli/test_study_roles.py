"""A study's own roles: whatever reads its hypotheses means the heads that it names, not those of a config.

The oracle is the same study, without roles, on a model with the same weights whose config has these roles.
"""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from scrub import Results, ScrubError, Study, known, load_model
from scrub.study.roles import on_study

Scrub = Callable[..., Any]
GIVEN = {"ind": [(1, 0), (1, 4)], "prev": [(0, 3)]}
RULES = "k a1.ind/k/a0.prev -> y\nv a1.ind/v/a0.rest/** -> y"
SECOND = "k a1.ind/k/a0.prev -> y\nv a1.ind/v/a0.3/** -> y"  # a head that is prev, or of the rest
MODULE = '"""{}"""\nfrom scrub import Hypothesis\n\nhypothesis = Hypothesis("""\n{}\n""")\n'
DECLARED = """
from scrub import Study

study = Study(model={!r}, data="words", positions="all", baseline="a1.ind/** -> y", hypotheses=("first", "second"){})
"""
SAID = "roles of the study: ind = 1.0 1.4; prev = 0.3"
FEW = "--sequences 23 --dtype float64"


def declare(name: str, model: str, roles: object = None) -> None:
    """Write a study of two hypotheses, of which the second names a head by its number."""
    folder = Path("hypotheses", name)
    folder.mkdir(exist_ok=True)
    (folder / "first.py").write_text(MODULE.format("First.", RULES))
    (folder / "second.py").write_text(MODULE.format("Second.", SECOND))
    (folder / "study.py").write_text(DECLARED.format(model, f", roles={roles!r}" if roles else ""))


@pytest.fixture(autouse=True)
def studies(own: Path) -> Path:
    """`ours` names other heads than its model's config, `theirs` is on a model whose config has these."""
    shutil.copytree("models/tiny", "models/said")
    config = Path("models/said/config.json")
    config.write_text(json.dumps({**json.loads(config.read_text()), "roles": GIVEN}))
    declare("ours", "tiny", {"tiny": GIVEN, "standard": {"ind": [(1, 1)]}})
    declare("theirs", "said")
    declare("plain", "tiny")
    return own


def test_a_run_means_the_studys_heads_and_says_so(scrub: Scrub) -> None:
    """In its numbers, above its table, and in its JSON."""
    said = {study: scrub(f"run {study} {FEW} --json {study}.json") for study in ("ours", "theirs", "plain")}
    assert {each.status for each in said.values()} == {0}
    ours, theirs, plain = (json.loads(Path(f"{study}.json").read_text()) for study in said)
    assert ours["rows"] == theirs["rows"]
    assert all(abs(a["recovered"] - b["recovered"]) > 1e-3 for a, b in zip(ours["rows"], plain["rows"], strict=True))
    assert SAID in said["ours"].out
    assert ours["roles"] == SAID.partition(": ")[2]
    for study in ("theirs", "plain"):
        assert "roles of the study" not in said[study].out + said[study].err
    assert "roles" not in theirs | plain


def test_looking_at_it_shows_the_heads_that_run(scrub: Scrub) -> None:
    """`show`, `plan` and `check` say what they say where the config names these heads."""
    shown = {study: scrub(f"show {study} --parts k,v,all").out.partition("\n") for study in ("ours", "theirs", "plain")}
    heads = "ind = a1.0 a1.4; prev = a0.3; rest = a0.0 a0.1 a0.2 a0.4, a1.1 a1.2 a1.3"
    assert shown["ours"][0] == f"study ours, model tiny (roles of the study): {heads}"
    assert shown["theirs"][0] == f"study theirs, model said: {heads}"
    assert shown["ours"][2] == shown["theirs"][2] != ""
    plans = {study: scrub(f"plan {study}").out for study in shown}
    assert plans["ours"] == plans["theirs"] != plans["plain"]
    checked = {study: scrub(f"check {study} {FEW}") for study in shown}
    assert (checked["ours"].status, checked["ours"].out) == (0, checked["theirs"].out)


def test_a_sweep_gives_each_study_its_own(scrub: Scrub) -> None:
    """Studies of one model share a job, and not their roles, of which hashes, random hypotheses and changes are."""
    small = "--sequences 23 --dtype float64 --workers 1"
    assert scrub(f"sweep ours plain {small} --null 2").status == 0
    assert scrub(f"sweep theirs {small} --null 2").status == 0
    stored = {study: known(Results("results"), study)[0] for study in ("ours", "theirs", "plain")}
    about = {study: {n: (each.rules, each.hashes) for n, each in of.hypotheses.items()} for study, of in stored.items()}
    assert about["ours"] == about["theirs"]
    assert len(about["ours"]) > 2, "and random ones"
    assert about["ours"].keys() == about["plain"].keys()
    assert all(about["ours"][name][1] != hashes for name, (_, hashes) in about["plain"].items())
    for name in ("first/k", "first/v", "second/k", "second/v"):
        assert stored["ours"].result.recovered(name) == stored["theirs"].result.recovered(name)
    assert [stored[study].result.roles for study in stored] == [SAID.partition(": ")[2], "", ""]
    compared = {study: scrub(f"compare {study}/first {study}/second {small}").out for study in ("ours", "theirs")}
    assert SAID in compared["ours"]
    ours, theirs = (text[text.index("what changed") :] for text in compared.values())
    assert ours == theirs != ""


def test_a_report_looks_at_the_heads_that_run(scrub: Scrub) -> None:
    """Its patterns, and what it says of roles, are the study's."""
    assert scrub("report ours --workers 1 --sequences 23 --out r.html").status == 0
    text = Path("r.md").read_text()
    assert SAID in text
    heads = [("1.0", "ind"), ("1.4", "ind"), ("0.3", "prev")]
    assert [found for found in re.findall(r"Head (\d\.\d), (\w+)", text) if found in heads] == heads


def test_steps_and_circuits_are_of_the_studys_heads(scrub: Scrub) -> None:
    """`attribute STUDY --steps`, and a hypothesis as a circuit."""
    found: dict[str, list[Any]] = {}
    for study in ("ours", "theirs", "plain"):
        on = f"{study}/second --sequences 11 --dtype float64"
        for command in (f"attribute {on} --steps --metric loss", f"circuit {on} --metric loss"):
            said = scrub(f"{command} --json {study}.json")
            assert said.status == 0, said.err
            found.setdefault(study, []).append(json.loads(Path(f"{study}.json").read_text())["rows"])
            steps = "attribute" in command
            assert (SAID in said.err) == (steps and study == "ours"), "edges have numbers, and no roles"
    assert found["ours"] == found["theirs"] != found["plain"]


def test_a_pointers_hub_id_is_its_name_too() -> None:
    """Whichever of the two names the study has and the model goes by, at any revision; another repository's isn't."""
    Path("models/there").mkdir()
    Path("models/there/config.json").write_text('{"hub": "acme/tiny@v1"}')
    tiny = load_model("tiny")
    for key in ("there", "acme/tiny"):
        study = Study("** -> y", roles={key: GIVEN}, name="s")
        for name in ("there", "acme/tiny", "acme/tiny@main"):
            assert on_study(study, replace(tiny, name=name)).roles == {r: tuple(h) for r, h in GIVEN.items()}, (
                key,
                name,
            )
        for name in ("tiny", "other/tiny", "acme/there"):
            assert on_study(study, replace(tiny, name=name)).roles == tiny.roles, (key, name)
    twice = Study("** -> y", roles={"there": GIVEN, "acme/tiny": GIVEN}, name="s")
    with pytest.raises(ScrubError, match="gives roles of 'there' as there, acme/tiny: leave one"):
        on_study(twice, replace(tiny, name="there"))


def test_on_a_model_that_it_does_not_name(scrub: Scrub) -> None:
    """The model's own roles are used, which a note says; where it has none, that is why a rule matches nothing."""
    declare("ours", "tiny", {"standard": GIVEN, "acme/other": GIVEN})
    note = (
        "ours gives roles to heads of standard, acme/other, and not of tiny: its own are used (prev = 0.1; self = 0.0"
    )
    for command in (f"run ours {FEW} --json ours.json", f"check ours {FEW}", "show ours", "plan ours"):
        said = scrub(command)
        assert (said.status, said.err.count(note)) == (0, 1), command
        assert "roles of the study" not in said.out, command
    told = json.loads(Path("ours.json").read_text())
    assert note in " ".join(told["notes"])
    assert scrub(f"run plain {FEW} --json plain.json").status == 0
    assert told["rows"] == json.loads(Path("plain.json").read_text())["rows"]
    assert scrub(f"sweep ours {FEW} --workers 1").status == 0
    assert note in " ".join(known(Results("results"), "ours")[0].result.notes)
    config = Path("models/tiny/config.json")
    config.write_text(json.dumps({**json.loads(config.read_text()), "roles": {}}))
    said = scrub("show ours")
    assert (said.status, said.err.count("\n")) == (2, 1)
    assert "the study gives roles to heads of standard, acme/other" in said.err


MISTAKES = {
    "no layer": (
        {"tiny": {"a": [(2, 0)]}},
        "the study 'ours' gives the role 'a' to head [2, 0], but the model has no layer 2",
    ),
    "no head": (
        {"tiny": {"a": [(0, 5)]}},
        "the study 'ours' gives the role 'a' to head [0, 5], but layer 0 has no head 5",
    ),
    "two roles": ({"tiny": {"a": [(0, 1)], "b": [[0, 1]]}}, "roles of 'tiny': roles give head [0, 1] both 'a' and 'b'"),
    "twice": ({"tiny": {"a": [(0, 1), (0, 1)]}}, "roles of 'tiny': roles give head [0, 1] 'a' twice"),
    "no name": ({"tiny": {"a b": [(0, 1)]}}, "'a b' can't be the name of a role"),
    "rest": ({"tiny": {"rest": [(0, 1)]}}, "'rest' can't be the name of a role"),
    "no model": ({" ": {"a": [(0, 1)]}}, "the study gives roles to the heads of a model without a name"),
    "no pair": (
        {"tiny": {"a": [(0, 1, 2)]}},
        "gives a role of 'tiny' to [0, 1, 2]: a head is its layer and its number",
    ),
    "negative": ({"tiny": {"a": [(0, -1)]}}, "gives a role of 'tiny' to [0, -1]: a head is its layer and its number"),
    "no list": ({"tiny": {"a": 3}}, "the study's roles is"),
    "a name": ({"tiny": {"a": ["0.1"]}}, "the study's roles is"),
    "no models": ({"a": [(0, 1)]}, "the study's roles is"),
}


@pytest.mark.parametrize("case", MISTAKES)
def test_mistakes_are_one_line(scrub: Scrub, case: str) -> None:
    """As those of a config's roles are."""
    roles, expected = MISTAKES[case]
    declare("ours", "tiny", roles)
    said = scrub("show ours")
    assert (said.status, said.out, said.err.count("\n")) == (2, "", 1)
    assert expected in said.err


def test_a_path_means_the_model_there(scrub: Scrub) -> None:
    bare = load_model("models/tiny")
    for key in ("models/tiny", "./models/tiny/", "/somewhere/models/tiny"):
        assert (
            on_study(Study("** -> y", roles={key: GIVEN}, name="s"), bare).roles
            == on_study(Study("** -> y", roles={"tiny": GIVEN}, name="s"), bare).roles
        )
    assert on_study(Study("** -> y", roles={"acme/tiny": GIVEN}, name="s"), bare).given_roles is None
    with pytest.raises(ScrubError, match="gives roles of 'tiny' as"):
        on_study(Study("** -> y", roles={"models/tiny": GIVEN, "tiny": GIVEN}, name="s"), bare)
    declare("ours", "models/tiny", {"models/tiny": GIVEN})
    assert SAID in scrub(f"run ours {FEW}").out


@pytest.mark.parametrize(
    ("roles", "rule", "advice"),
    [
        ({"standard": GIVEN}, "a1.late", "name this model's there too, in Study(roles=...)"),
        ({"standard": GIVEN}, "a1.{ind,late}", "name this model's there too, in Study(roles=...)"),
        ({"standard": GIVEN}, "a1.77", ""),
        ({"standard": GIVEN}, "m7", ""),
        ({"tiny": {}}, "a1.late", "the study gives this model's heads no roles"),
        ({"tiny": {}}, "a1.77", ""),
    ],
)
def test_advice_about_roles_helps(scrub: Scrub, roles: Any, rule: str, advice: str) -> None:
    declare("ours", "tiny", roles)
    folder = Path("hypotheses/ours")
    (folder / "first.py").write_text(MODULE.format("First.", f"k {rule}/** -> y"))
    (folder / "study.py").write_text((folder / "study.py").read_text().replace("a1.ind/**", "a1/**"))
    said = scrub(f"run ours/first {FEW}")
    assert (said.status, said.err.count("\n")) == (2, 1)
    assert rule in said.err
    assert "roles MODEL --write" not in said.err
    assert advice in said.err if advice else "roles" not in said.err, said.err
