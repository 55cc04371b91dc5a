"""What matches nothing on one of several models: what is left is the hypothesis without it, written by hand."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest
import torch
from small import ROLES, Small, small, small_gpt2

from scrub import Hypothesis, ScrubError, Study
from scrub.models.model import Bare
from scrub.paths.roles import Roles
from scrub.paths.unmatched import LeftOut, Unmatched
from scrub.study.experiments import Experiment, Experiments, anchors, parts_of
from scrub.study.fitting import matching_elsewhere

STUDY = Study("**/a*.ind/** -> y", name="s")
ATTENTION, MLPS = small(), small_gpt2(3)
MORE: Roles = {**ROLES, "ind": [(1, 2), (2, 3)], "far": [(0, 4), (2, 1)]}  # what the first model has no heads of
NO_SELF: Roles = {role: heads for role, heads in ROLES.items() if role != "self"}
Q, K = "q  **/a*.ind/q/** -> y\n  ", "k  **/a*.ind/k/** -> y\n  "

# what is asked, the same without what isn't there, and what was left out: of the attention-only model
BY_HAND: dict[str, tuple[str, str, list[str]]] = {
    "an alternative": (f"{Q}**/a*.ind/q/{{emb,m0}} -> x", f"{Q}**/a*.ind/q/emb -> x", ["m0"]),
    "several": (
        f"{K}**/a*.ind/k/{{a0.prev,emb,m0,m1}} -> x",
        f"{K}**/a*.ind/k/{{a0.prev,emb}} -> x",
        ["m0", "m1"],
    ),
    "a rule": (f"{K}**/a*.ind/k/m0/** -> x\n  **/a*.ind/k/a0.prev -> x", f"{K}**/a*.ind/k/a0.prev -> x", [""]),
    "a rule that resamples": (
        "q  **/a*.ind/q/m0/** -> y\n  **/a*.ind/q/a0.self -> y",
        "q  **/a*.ind/q/a0.self -> y",
        [""],
    ),
    "a split, and rules of its parts": (
        f'splits **/a*.ind/k/m0/a0 by mask "previous"\n{K}**/a*.ind/k/m0/a0[previous]/** -> x\n  **/a*.ind/k/emb -> x',
        f"{K}**/a*.ind/k/emb -> x",
        ["", ""],
    ),
    "an alternative of a split": (
        f'splits **/a*.ind/k/{{m0,a0.prev}} by positions 0..2\n{K}**/a*.ind/k/a0.prev[0..2]/** -> x',
        f'splits **/a*.ind/k/a0.prev by positions 0..2\n{K}**/a*.ind/k/a0.prev[0..2]/** -> x',
        ["m0"],
    ),
    "heads of a split that is nowhere stay in rest": (
        f"splits **/a*.ind/k/m0/a0 by heads 3\n{K}**/a*.ind/k/a0.rest -> x",
        f"{K}**/a*.ind/k/a0.rest -> x",
        [""],
    ),
    "heads of an alternative that is nowhere stay in rest": (
        "splits **/a*.ind/v/{a0,a1} by heads 4\nv  **/a*.ind/v/a0.4/** -> y\n  a1.rest/** -> y",
        "splits **/a*.ind/v/a0 by heads 4\nv  **/a*.ind/v/a0.4/** -> y\n  a1.rest/** -> y",
        ["a1"],
    ),
    "a role": (f"{K}**/a*.ind/k/a0.{{far,prev}} -> x", f"{K}**/a*.ind/k/a0.prev -> x", ["a0.far"]),
    "a role that a split names": (
        f"splits **/a*.ind/k/a0 by heads prev far\n{K}**/a*.ind/k/a0.rest -> x\n  **/a*.ind/k/a0.far -> x",
        f"splits **/a*.ind/k/a0 by heads prev\n{K}**/a*.ind/k/a0.rest -> x",
        ["far", ""],
    ),
    "a role in a layer that no path reaches": (
        f"{K}**/a*.ind/k/emb -> x\n  **/a*.far/v/** -> x",
        f"{K}**/a*.ind/k/emb -> x",
        [""],
    ),
    "edges": (
        "edges out/{emb,a1.2,m1} a1.2/*/emb m1/emb a1.2/v/{emb,m0}",
        "edges out/{emb,a1.2} a1.2/*/emb a1.2/v/emb",
        ["m1", "", "m0"],
    ),
}  # fmt: skip


def built(
    text: str, elsewhere: Any = (), model: Small = ATTENTION, roles: Roles = ROLES, study: Study = STUDY
) -> list[Experiment]:
    hypothesis = Hypothesis(text, name="h")
    return parts_of(study, hypothesis, model.graph, roles, elsewhere=elsewhere)


def beside(text: str, *models: tuple[Small, Roles], study: Study = STUDY) -> list[Any]:
    """What of a hypothesis matches elsewhere, for each of some models."""
    bare = [Bare(model.graph, roles, "small", 7) for model, roles in models]
    return [of["h"] for of in matching_elsewhere(study, [Hypothesis(text, name="h")], bare)]


def logits(some: Sequence[Experiment], model: Small = ATTENTION) -> dict[str, torch.Tensor]:
    return {each.name: model.naive(each.graph) for each in some}


@pytest.mark.parametrize("name", BY_HAND)
def test_what_is_left_is_what_one_would_write(name: str) -> None:
    """The numbers node by node, and the hashes, are those of the hypothesis without what isn't there."""
    text, by_hand, alternatives = BY_HAND[name]
    elsewhere, theirs = beside(text, (ATTENTION, ROLES), (MLPS, MORE))
    ours, same = built(text, elsewhere), built(by_hand)
    assert [each.name for each in ours] == [each.name for each in same]
    expected = logits(same)
    for part, found in logits(ours).items():
        torch.testing.assert_close(found, expected[part], rtol=0, atol=0)
    unscrubbed = anchors(STUDY, ATTENTION.graph, ROLES)
    hashes = [Experiments(unscrubbed.unscrubbed, tuple(some)).hashes({}) for some in (ours, same)]
    assert hashes[0] == hashes[1]
    assert sorted(each.alternative for each in ours[0].left_out.unmatched) == sorted(alternatives)
    assert all(each.why for each in ours[0].left_out.unmatched)
    with pytest.raises(ScrubError):
        built(text)  # alone it is a mistake
    on_theirs = built(text, theirs, MLPS, MORE)
    assert not any(each.left_out for each in on_theirs)  # nothing was left out where all of it is
    assert [each.graph for each in on_theirs] == [each.graph for each in built(text, (), MLPS, MORE)]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (f"{Q}**/a*.ind/q/{{emb,m7}} -> x", "'m7' is nothing that"),
        (f"{Q}**/a*.ind/q/m7 -> x", r"'\*\*/a\*.ind/q/m7' matches no path: the nearest there are"),
        (f"{Q}**/a*.ind/q/{{m0,m7}} -> x", "m7"),
        ("splits **/a*.ind/q/m7 by positions 2\nq  **/a*.ind/q/** -> y", "m7"),
        ("splits **/a*.ind/q/a0 by heads nobody\nq  **/a*.ind/q/** -> y", "no head of a0 has the role 'nobody'"),
        ("edges out/{emb,m7}", "'m7' is nothing that"),
    ],
)
def test_what_matches_on_no_model_is_still_the_error(text: str, said: str) -> None:
    ours, theirs = beside(text, (ATTENTION, ROLES), (MLPS, ROLES))
    with pytest.raises(ScrubError, match=said):
        built(text, theirs, MLPS)
    with pytest.raises(ScrubError):
        built(text, ours)


def test_a_part_of_which_nothing_is_left_has_no_experiment() -> None:
    """It would be the unscrubbed model at 100 %: a number of nothing."""
    text = f"{Q}**/a*.ind/q/emb -> x\nind  **/a*.ind/**/a*.ind/** -> y"
    roles: Roles = {**ROLES, "ind": [(1, 2), (2, 3)]}
    (elsewhere, theirs) = beside(text, (ATTENTION, ROLES), (MLPS, roles))
    ours = built(text, elsewhere)
    assert [each.part for each in ours] == ["q", "all"]
    assert ours[0].left_out.parts == {"ind": "none of its rules matches anything in this model"}
    assert ours[1].claim.parts == ("q",)  # which all of it scrubs there
    assert not ours[0].left_out.of("q")
    assert built(text, theirs, MLPS, roles)[-1].claim.parts == ("q", "ind")
    with pytest.raises(ScrubError, match="none of its rules matches anything in this model; the rule"):
        parts_of(STUDY, Hypothesis(text, name="h"), ATTENTION.graph, ROLES, ["ind"], elsewhere=elsewhere)


def test_what_is_left_may_be_no_more_than_the_baseline() -> None:
    """A hypothesis that keeps nothing there is told as a failure, and not as 0 %."""
    study, text = Study("**/a*.ind/k/** -> y", name="s"), f"{K}**/a*.ind/k/m0 -> x"
    (elsewhere, _) = beside(text, (ATTENTION, ROLES), (MLPS, ROLES), study=study)
    with pytest.raises(ScrubError, match=r"what is left of it in this model is the baseline; the rule '.*m0 -> x'"):
        built(text, elsewhere, study=study)


def test_a_model_that_cannot_be_read_has_nothing() -> None:
    text = BY_HAND["an alternative"][0]
    hypothesis = Hypothesis(text, name="h")
    found = matching_elsewhere(STUDY, [hypothesis], [Bare(ATTENTION.graph, ROLES, "small", 7), None])
    assert found[0]["h"] == frozenset()
    assert Unmatched("rule", "**/a*.ind/q/emb -> x") not in found[1]["h"]
    assert Unmatched("rule", "**/a*.ind/q/{emb,m0} -> x", "emb") in found[1]["h"]
    assert Unmatched("rule", "**/a*.ind/q/{emb,m0} -> x", "m0") not in found[1]["h"]


def test_it_is_kept_and_read_again() -> None:
    said = LeftOut((Unmatched("rule", "a -> x", "m0", "no", ("q", "all")), Unmatched("split", "s")), {"k": "why"})
    assert LeftOut.read(said.to_dict()) == said
    assert LeftOut.read(said.to_dict()).of("q")[0].why == "no"
    assert (
        said.said
        == "left out, as nothing in this model matches: the split 's'; 'm0' of the rule 'a -> x'; k has no number: why"
    )
    for wrong in ({}, {"unmatched": [{"kind": "rule"}], "parts": {}}, {"unmatched": [], "parts": 3}):
        with pytest.raises(ScrubError, match="sweep it again"):
            LeftOut.read(wrong)
    wrong_kind = {"unmatched": [{"kind": "else", "text": "a", "parts": []}], "parts": {}}
    with pytest.raises(ScrubError, match="unknown kind"):
        LeftOut.read(wrong_kind)
