"""A study swept on several models: what isn't on one is left out there and kept as such, and the rest goes on."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from sweeping import BY_HAND, EXACT, GONE, KEEP, SOME, add_many, make_study, rows

from scrub import ScrubError, compare_models, known
from scrub.store.comparisons.lineup import swept_models
from scrub.store.comparisons.models import AcrossModels, beside
from scrub.store.sweeps.grid import Grid
from scrub.store.sweeps.sweep import Swept, sweep

FAST: dict[str, Any] = {"sequences": 37, "dtype": "float64", "progress": False, "workers": 1}
BOTH = ["tiny", "mlps"]
# other heads than the configs', which have no `late`; of the first model nothing is `late` by the study either
GIVEN = {
    "tiny": {"ind": [(1, 0), (1, 4)], "prev": [(0, 3)]},
    "mlps": {"ind": [(1, 1)], "prev": [(0, 2)], "late": [(0, 3)]},
}
BY_ROLES = """from scrub import Hypothesis

hypothesis = Hypothesis('''
k    **/a*.ind/k/a0.prev     -> y
v    **/a*.ind/v/a0.rest/**  -> y
q    **/a*.ind/q/a0.late/**  -> y
''')
"""
OTHER_RULES = BY_ROLES.replace("k    **/a*.ind/k/a0.prev     -> y", "k    **/a*.ind/k/{a0.prev,emb}  -> y")


@pytest.fixture
def many(sweeping: Path) -> Path:
    """The project with the study `many` and a model with MLPs."""
    add_many(sweeping)
    return sweeping


def run(models: list[str], studies: Any = "many", **more: Any) -> Swept:
    return sweep(studies, models=models, **{**FAST, **more})


def of(table: pd.DataFrame, model: str, hypothesis: str) -> pd.DataFrame:
    return table[(table["model"] == model) & (table["hypothesis"] == hypothesis)].reset_index(drop=True)


def said(folder: Path, model: str) -> dict[str, Any]:
    """What the newest record of the study on a model says was left out, by hypothesis."""
    every = [json.loads(path.read_bytes()) for path in sorted((folder / "studies").glob("*.json"))]
    last = [each for each in every if each["setting"]["model"] == model][-1]
    return {h["name"]: h["left_out"] for h in last["hypotheses"] if "left_out" in h}


def test_what_is_left_has_the_numbers_of_what_one_would_write(many: Path) -> None:
    """To the last bit, under the same hash; and the rest of the grid is as it is without that model."""
    swept = run(BOTH)
    assert not swept.failures
    make_study(many, "many", keep=KEEP, some=BY_HAND)
    study = many / "hypotheses/many/study.py"
    study.write_text(study.read_text().replace("a1.ind/**", "**/a*.ind/**"))
    assert not run(["tiny"], results="by_hand").failures
    found, by_hand = rows(many / "results"), rows(many / "by_hand")
    columns = ["cell", "part", "hypothesis_hash", "sequence", "other", *EXACT, "token_losses"]
    ours, theirs = (of(table, "tiny", "some") for table in (found, by_hand))
    assert set(ours["part"]) == {"q", "k", "all"}
    pd.testing.assert_frame_equal(ours[columns], theirs[columns], check_exact=True)
    assert set(of(found, "mlps", "some")["part"]) == {"q", "k", "mlp", "all"}

    kept = said(many / "results", "tiny")
    assert set(kept) == {"some"}
    assert said(many / "results", "mlps") == {}
    texts = {(each["text"], each["alternative"]): each["parts"] for each in kept["some"]["unmatched"]}
    assert texts == {
        ("**/a*.ind/q/{emb,m0} -> x", "m0"): ["q", "all"],
        ("**/a*.ind/v/m0/** -> y", ""): ["mlp", "all"],
    }
    assert set(kept["some"]["parts"]) == {"mlp"}
    (tiny,) = [k for k in known("results", "many") if k.result.model == "tiny"]
    (note,) = [each for each in tiny.result.notes if "some" in each]
    assert "'m0' of the rule '**/a*.ind/q/{emb,m0} -> x'" in note
    assert "mlp has no number" in note


def test_a_record_says_what_was_left_out_of_what_was_run_last(many: Path) -> None:
    """Rules that were mended by hand give the same cells: nothing is computed, and nothing is said to be left out."""
    assert run(BOTH).computed == 4
    assert run(BOTH).computed == 0
    assert set(said(many / "results", "tiny")) == {"some"}
    module = many / "hypotheses/many/some.py"
    module.write_text(BY_HAND)
    assert run(["tiny"]).computed == 0
    assert said(many / "results", "tiny") == {}
    module.write_text(SOME)
    assert run(BOTH).computed == 0
    assert set(said(many / "results", "tiny")) == {"some"}


def test_alone_it_is_the_error_that_it_was(many: Path) -> None:
    (failure,) = run(["tiny"]).failures
    assert (failure.hypothesis, failure.kind) == ("some", "mistake")
    assert "matches no path: the nearest there are" in failure.reason
    assert "failures" in {path.parent.name for path in (many / "results").rglob("*.parquet")}


def test_what_has_nothing_left_or_is_nowhere_fails_alone(many: Path) -> None:
    """Also a baseline that matches nothing on one model: its study fails there, and nowhere else."""
    make_study(many, "many", keep=KEEP, gone=GONE, nowhere=GONE.replace("m0", "m9"))
    swept = run(BOTH)
    failed = {(each.hypothesis, each.model): each.reason for each in swept.failures}
    assert set(failed) == {("gone", "tiny"), ("nowhere", "tiny"), ("nowhere", "mlps")}
    assert (
        "none of its rules matches anything in this model; the rule '**/a*.ind/k/m0/** -> y'" in failed["gone", "tiny"]
    )
    for model in BOTH:
        assert "'**/a*.ind/k/m9/**' matches no path" in failed["nowhere", model]
    study = many / "hypotheses/many/study.py"
    study.write_text(
        study.read_text().replace("a1.ind/**", "**/m1/**").replace("('keep', 'gone', 'nowhere')", "('keep',)")
    )
    swept = run(BOTH, results="other")
    assert [(each.hypothesis, each.model) for each in swept.failures] == [("", "tiny")]
    assert [each.result.model for each in swept.studies()] == ["mlps"]
    across = compare_models(swept)
    assert across.models == BOTH
    assert "baseline of the study 'many'" in across.on[0].why_not("keep", "v")
    assert any(note.startswith("tiny: no numbers: baseline") for note in across.notes)


def test_side_by_side(many: Path) -> None:
    """Every number is that of the results on the model; between models there is no difference."""
    make_study(many, "many", keep=KEEP, some=SOME, gone=GONE)
    swept = run(BOTH)
    across = compare_models(swept)
    assert (across.models, across.names, across.parts) == (
        BOTH,
        ("keep", "some", "gone"),
        ("k", "v", "all", "q", "mlp"),
    )
    assert "gone" in across.names
    frame = across.frame().set_index(["hypothesis", "part", "model"])
    for stored in swept.studies():
        for row in stored.result.table:
            ours = frame.loc[row.hypothesis, row.part, stored.result.model]
            assert ours["recovered"] == row.recovered.estimate
            assert (ours["low"], ours["high"]) == (row.recovered.low, row.recovered.high)
    assert frame.loc["some", "q", "tiny"]["left_out"] == 1
    assert frame.loc["some", "q", "mlps"]["left_out"] == 0
    assert frame.loc["some", "mlp", "tiny"]["no_number"] == "none of its rules matches anything in this model"
    assert "none of its rules" in frame.loc["gone", "k", "tiny"]["no_number"]
    assert frame["no_number"].astype(bool).sum() == frame["recovered"].isna().sum() == 3
    content = json.loads(across.to_json())
    assert [each["model"] for each in content["models"]] == BOTH
    assert set(content["models"][0]["left_out"]) == {"some"}
    assert [each["hypothesis"] for each in content["models"][0]["failed"]] == ["gone"]
    assert content["models"][1]["roles"] == {"prev": ["a0.1"], "self": ["a0.0", "a0.4"], "ind": ["a1.2", "a1.3"]}
    for each in content["models"]:
        assert {row["hypothesis"] for row in each["comparison"]["differences"]} <= {"some", "gone"}
    text = repr(across)
    assert text.startswith("many on tiny, mlps: percent of loss recovered")
    assert "†: without what matches nothing on that model" in text
    assert "no difference between them is paired or tested" in text.replace("\n", " ")
    (stored,) = [each for each in swept.studies() if each.result.model == "mlps"]
    assert [each.result.model for each in beside("results", stored)] == ["mlps", "tiny"]


def declare(root: Path, name: str, roles: object = None) -> None:
    """A study of two hypotheses about roles, which it may give itself."""
    study = make_study(root, name, first=BY_ROLES, second=OTHER_RULES) / "study.py"
    given = f", roles={roles!r})" if roles else ")"
    study.write_text(study.read_text().replace("a1.ind/**", "**/a*.ind/**").replace("))", f"){given}"))


def side_by_side(study: str, *models: str, **more: Any) -> AcrossModels:
    names, fields = [f"{study}/first", f"{study}/second"], {**FAST, **more, "models": models}
    del fields["progress"], fields["workers"]
    return swept_models(Path("results"), names, False, None, fields, 1).across


def without_names(of: object) -> str:
    """What was found, without what the study and its models are called."""
    text = json.dumps(of)
    for theirs, ours in (("theirs", "ours"), ("tiny_said", "tiny"), ("mlps_said", "mlps")):
        text = text.replace(theirs, ours)
    return text


def test_a_studys_own_roles_are_those_of_each_model(many: Path) -> None:
    """What is left out where, numbers, what changed and notes: as on models whose configs say what the study says."""
    for model, roles in GIVEN.items():
        shutil.copytree(many / "models" / model, many / "models" / f"{model}_said")
        config = many / "models" / f"{model}_said/config.json"
        config.write_text(json.dumps({**json.loads(config.read_text()), "roles": roles}))
    declare(many, "ours", GIVEN)
    declare(many, "theirs")
    ours, theirs = side_by_side("ours", *BOTH), side_by_side("theirs", "tiny_said", "mlps_said")
    assert not any(each.failed for each in (*ours.on, *theirs.on))
    frame = ours.frame().set_index(["hypothesis", "part", "model"])
    assert frame.loc["first", "q", "tiny"]["no_number"] == "none of its rules matches anything in this model"
    assert frame.loc["first", "q", "mlps"]["no_number"] == ""
    assert without_names(ours.to_dict()["rows"]) == without_names(theirs.to_dict()["rows"])
    for mine, other in zip(ours.on, theirs.on, strict=True):
        assert mine.roles == other.roles
        assert mine.comparison is not None
        assert other.comparison is not None
        changes = [change.to_dict() for change in mine.comparison.changes]
        assert changes
        assert changes == [change.to_dict() for change in other.comparison.changes]
    assert ours.on[1].roles == {"ind": ("a1.1",), "prev": ("a0.2",), "late": ("a0.3",)}
    told = [note.replace("_said", "") for note in theirs.notes if "heads with a role: " not in note]
    assert [note for note in ours.notes if "roles of the study" not in note] == told
    assert "tiny: roles of the study: ind = 1.0 1.4; prev = 0.3" in ours.notes
    assert "tiny: has no heads with the role late, so whichever would have it are in 'rest'" in " ".join(ours.notes)

    stored = compare_models(known("results", "ours"))
    assert "mlps: roles of the study: ind = 1.1; prev = 0.2; late = 0.3" in stored.notes
    random = [
        sweep(each, models=on, null=2, results=each, **FAST)
        for each, on in (("ours", BOTH), ("theirs", [f"{m}_said" for m in BOTH]))
    ]
    hashes = [[{n: h.hashes for n, h in each.hypotheses.items()} for each in swept.studies()] for swept in random]
    assert hashes[0] == hashes[1]
    assert len(hashes[0][1]) > 2  # of what lacks something there is none


def test_a_study_with_roles_of_one_of_its_models(many: Path) -> None:
    """The other's are its config's, which is said; a head that isn't there is a mistake on that model alone."""
    declare(many, "ours", {"mlps": GIVEN["mlps"]})
    across = compare_models(run(BOTH, "ours"))
    assert across.on[0].roles == {"prev": ("a0.1",), "self": ("a0.0", "a0.4"), "ind": ("a1.2", "a1.3")}
    said = "tiny: heads with a role by its config, as the study names none of its heads: prev a0.1; self a0.0 a0.4; ind"
    assert any(note.startswith(said) for note in across.notes)
    assert any("roles of the study" in note for note in across.notes)
    declare(many, "ours", {**GIVEN, "tiny": {"ind": [(1, 0)], "late": [(7, 0)]}})
    swept = run(BOTH, "ours", results="wrong")
    assert [(each.hypothesis, each.model) for each in swept.failures] == [("", "tiny")]
    across = compare_models(swept)
    assert "the study 'ours' gives the role 'late' to head [7, 0]" in across.on[0].why_not("first", "k")
    assert across.on[0].roles is None
    assert across.on[1].row("first", "q") is not None


@pytest.mark.usefixtures("many")
def test_models_keep_their_order() -> None:
    """Whichever worker is done first."""
    swept = run(["standard", "mlps", "tiny"], "one/keep", workers=2)
    assert [each.result.model for each in swept.studies()] == ["standard", "mlps", "tiny"]


@pytest.mark.usefixtures("many")
def test_mistakes() -> None:
    for models, told in (
        (["tiny", "tiny"], "tiny is there twice"),
        (["tiny", "models/tiny"], "tiny and models/tiny are one model"),
        (["tiny", "nobody"], "nobody"),
    ):
        with pytest.raises(ScrubError, match=told):
            Grid.make(studies="many", models=models).jobs()
    swept = run(["tiny", "standard"], "one")
    with pytest.raises(ScrubError, match="nothing is known of a hypothesis 'else'"):
        compare_models(swept, ["else"])
    with pytest.raises(ScrubError, match="none of the hypotheses has a part 'z'"):
        compare_models(swept, parts=["z"])
    with pytest.raises(ScrubError, match="these results are of one model, tiny"):
        compare_models(swept.studies()[:1])
    with pytest.raises(ScrubError, match="two of the results are of tiny on words"):
        compare_models([*swept.studies(), swept.studies()[0]])
    with pytest.raises(ScrubError, match="there are no results"):
        compare_models([])


def test_a_model_known_to_have_no_roles_lacks_all(many: Path) -> None:
    rules = """from scrub import Hypothesis\n\nhypothesis = Hypothesis("k  **/a*.{ind,rest}/k/** -> y")\n"""
    study = make_study(many, "ours", first=rules, second=rules.replace("/k", "/k/emb")) / "study.py"
    given = f", roles={ {'tiny': {}, 'mlps': GIVEN['mlps']}!r})"
    study.write_text(study.read_text().replace("a1.ind/**", "**").replace("))", f"){given}"))
    across = side_by_side("ours", *BOTH)
    assert across.on[0].roles == {}
    told = "tiny: has no heads with the role ind, prev, late, so whichever would have it are in 'rest'"
    assert told in " ".join(across.notes)
    unknown = replace(across, on=tuple(replace(each, roles=None) for each in across.on))
    assert "would have it" not in " ".join(unknown.notes)
