"""Rules that hold a component, a slot or an attention pattern at a value, and what stays of the graph then."""

from __future__ import annotations

import pytest
import torch
from small import Small, rules, small, small_gpt2

from scrub.graph.node import Node, node, walk
from scrub.paths.gathered import draws
from scrub.paths.locate import below
from scrub.paths.rules import Rule, held
from scrub.paths.sources import Source, X
from scrub.text.errors import ScrubError

GROUPS = ("**/a0 by heads prev", "**/a1 by heads ind")


@pytest.fixture(scope="module")
def graph() -> Node:
    return small().split(*GROUPS)


def leaves(graph: Node, *texts: str) -> dict[str, str]:
    """Every path to something that is held, and what holds it, after these rules; a pattern has no step."""
    found: dict[str, str] = {}

    def descend(current: Node, path: str) -> None:
        if current.op == "held":
            found[path] = str(current.arguments["source"])
        for each in current.inputs:
            descend(each, f"{path}/{each.label}".lstrip("/") if each.label else path)

    descend(rules(graph, *texts), "")
    return found


def of(leaf: Node) -> Node:
    stands_for = leaf.arguments["of"]
    assert isinstance(stands_for, Node)
    return stands_for


@pytest.mark.parametrize(
    "text",
    [
        "a1.3 -> zero",
        "**/m0 -> mean",
        "a1/k -> array keys",
        "a1.ind/{q,k} -> attend lag 100",
        "a1/{q,k} -> attend last three",
        "a1/{q,k} -> attend uniform",
        "a1/{q,k} -> attend identity",
        "a1/{q,k} -> attend array pattern_2",
    ],
)
def test_a_rule_that_holds_reads_as_it_is_written(text: str) -> None:
    rule = Rule.parse(text)
    assert rule.holds
    assert str(rule) == text
    assert Rule.parse(f"  {text.replace(' ', '   ')}") == rule


@pytest.mark.parametrize("source", ["x", "y", "like zero", "rows like mean"])
def test_sequences_hold_nothing(source: str) -> None:
    assert not Rule.parse(f"a1/{{q,k}} -> {source}").holds


@pytest.mark.parametrize(
    ("source", "says"),
    [
        ("zeros", "there is no source 'zeros'"),
        ("zero 3", "there is no source 'zero 3'"),
        ("mean f", "there is no source 'mean f'"),
        ("array", "there is no source 'array'"),
        ("array 3", "there is no source 'array 3'"),
        ("array a b", "there is no source 'array a b'"),
        ("attend", "there is no source 'attend'"),
        ("attend next", "there is no mask 'next'"),
        ("attend lag", "there is no mask 'lag'"),
        ("attend last 0", "there is no mask 'last 0'"),
        ("attend array", "there is no mask 'array'"),
        ("attend array 3", "there is no mask 'array 3'"),
        ("attend array a b", "there is no mask 'array a b'"),
        ("attend uniform 3", "there is no mask 'uniform 3'"),
        ("attend identity now", "there is no mask 'identity now'"),
        ("attend zero", "there is no mask 'zero'"),
    ],
)
def test_what_holds_nothing_is_one_clear_line(source: str, says: str) -> None:
    with pytest.raises(ScrubError) as caught:
        Rule.parse(f"a1/{{q,k}} -> {source}")
    assert says in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("texts", "wanted"),
    [
        (["a1.ind -> zero"], {"a1.ind": "zero"}),
        # a beginning covers what is below it; the first step of it that can be held is
        (["a1.ind/k -> mean"], {"a1.ind/k": "mean"}),
        (["a1.ind/** -> zero"], {"a1.ind": "zero"}),
        (["a1.ind/* -> zero"], {f"a1.ind/{slot}": "zero" for slot in "qkv"}),
        (["** -> zero"], dict.fromkeys(["emb", "a0.prev", "a0.rest", "a1.ind", "a1.rest"], "zero")),
        (["emb -> array a"], {"emb": "array a"}),
        # the last that matches wins
        (["a1.ind -> zero", "a1.ind -> mean"], {"a1.ind": "mean"}),
        (["a1.ind -> zero", "a1.* -> y"], {}),
        (["a1.ind -> y", "a1.* -> zero"], {"a1.ind": "zero", "a1.rest": "zero"}),
        (["a1.* -> zero", "a1.ind -> x"], {"a1.rest": "zero"}),
        (["** -> mean", "{emb,a0.*} -> x"], {"a1.ind": "mean", "a1.rest": "mean"}),
        # no rule for what a held component reads counts, be it before or after
        (["a1.ind/k -> y", "a1.ind -> zero"], {"a1.ind": "zero"}),
        (["a1.ind -> zero", "a1.ind/k -> y"], {"a1.ind": "zero"}),
        (["a1.ind -> zero", "a1.ind/k -> mean", "a1.ind/v/** -> x"], {"a1.ind": "zero"}),
        # but for one that is fed otherwise it does
        (["a1.ind/k -> zero", "a1.ind -> y"], {}),
        (["a1.ind -> y", "a1.ind/k -> zero"], {"a1.ind/k": "zero"}),
        (["a1.ind -> zero", "a1.ind -> y", "a1.ind/k/emb -> mean"], {"a1.ind/k/emb": "mean"}),
        # rules that match nothing, or deeper only, hold nothing
        (["a1.ind/k/a1 -> zero"], {}),
        (["out -> zero"], {}),
    ],
)
def test_what_is_held(graph: Node, texts: list[str], wanted: dict[str, str]) -> None:
    assert leaves(graph, *texts) == wanted


def test_what_is_held_stands_for_the_unchanged_component(graph: Node) -> None:
    """Whatever feeds what it reads, and under the same name."""
    scrubbed = rules(graph, "a0.* -> y", "a1.ind -> y", "a1.ind/k -> mean", "a1.rest -> zero")
    (key, rest) = sorted(held([scrubbed]), key=lambda leaf: str(leaf.arguments["source"]))
    unchanged = {str(each.label): each for each in below(graph)}
    assert of(rest) is unchanged["a1.rest"].value
    assert of(key) is next(each for each in below(unchanged["a1.ind"]) if each.label == "k").value
    assert draws(of(key)) == {X}
    assert [each.label for each in below(scrubbed)] == list(unchanged)


def test_held_at_one_value_in_many_places_is_one_leaf() -> None:
    graph = small(n_layers=3).split("**/a0 by heads 2")
    scrubbed = rules(graph, "**/a0.2 -> zero")
    assert len([each for each in walk([scrubbed.value]) if each.op == "held"]) == 1
    assert len(held([scrubbed, rules(graph, "a1/k/a0.2 -> zero"), rules(graph, "a0.2 -> mean")])) == 2


@pytest.mark.parametrize("source", ["attend uniform", "attend lag 2", "attend array p"])
def test_a_pattern_is_held_as_a_whole(graph: Node, source: str) -> None:
    scrubbed = rules(graph, f"a1.ind/{{q,k}} -> {source}")
    (leaf,) = held([scrubbed])
    assert leaf.arguments["source"] == Source.parse(source)
    assert of(leaf).op == "attention_pattern"
    attention = next(each for each in below(scrubbed) if each.label == "a1.ind")
    assert [each.label for each in below(attention)] == ["v"]


@pytest.mark.parametrize(
    "texts",
    [
        ["a1.ind/q -> attend uniform"],
        ["a1.ind/k -> attend uniform"],
        ["a1.ind/{k,v} -> attend uniform"],
        ["a1.ind/v -> attend uniform"],
        ["a1.ind/* -> attend uniform"],
        ["a1.ind -> attend uniform"],
        ["** -> attend uniform"],
        ["**/emb -> attend uniform"],
        ["a1.ind/{q,k}/** -> attend uniform", "a1.ind/k -> x"],
        ["a1.ind/{q,k} -> attend uniform", "a1.ind/q -> y"],
        ["a1.ind/{q,k} -> attend uniform", "a1.ind/q -> zero"],
        ["a1.ind/q -> attend uniform", "a1.ind/k -> attend identity"],
        ["a1.ind/{q,k}/* -> attend uniform"],
    ],
)
def test_a_pattern_to_attend_by_is_for_whole_patterns(graph: Node, texts: list[str]) -> None:
    with pytest.raises(ScrubError, match="'attend uniform' stands for a whole attention pattern: feed it to") as caught:
        rules(graph, *texts)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("positions", ["q", "k", "{q,k}"])
def test_a_pattern_to_attend_by_takes_no_part_of_a_slot(positions: str) -> None:
    split = small().split(f"a1/{positions} by positions 2..3")
    with pytest.raises(ScrubError, match="stands for a whole attention pattern"):
        rules(split, "a1/{q*,k*} -> attend uniform")


def test_two_rules_may_make_one_pattern(graph: Node) -> None:
    one = rules(graph, "a1.ind/{q,k} -> attend lag 2")
    assert rules(graph, "a1.ind/q -> attend lag 2", "a1.ind/k -> attend lag 2") is one
    assert rules(graph, "a1.ind/{q,k} -> attend uniform", "a1.ind/** -> x", "a1.ind/{q,k} -> attend lag 2") is one


def attended(model: Small, layer: int, heads: list[int], pattern: torch.Tensor, source: str) -> torch.Tensor:
    """What heads of the first layer write that attend by a pattern [head, query, key], by the formula."""
    values = Small(model.config, model.params, {"x": model.inputs[source]})
    v = values.naive(next(each for each in below(at(model.graph, f"a{layer}")) if each.label == "v"))[:, heads]
    return torch.einsum("hqk,bhkd,hmd->bqm", pattern, v, model.params[f"layers.{layer}.wo"][heads])


def at(graph: Node, label: str) -> Node:
    return next(each for each in below(graph) if each.label == label)


@pytest.mark.parametrize("selected", [False, True])
def test_a_whole_layer_and_a_masked_part_attend_by_a_pattern(model: Small, selected: bool) -> None:
    """The value of one pattern is that of every sequence of the batch, and under a mask only its part counts."""
    whole = rules(model.graph, "a0/{q,k} -> attend lag 2")
    split = model.split("a0 by heads 1", 'a0.1 by mask "previous"')
    part = rules(split, "a0.1[previous]/{q,k} -> attend lag 2")
    forced = model.inputs["attend lag 2"][:, :, : model.config.n_ctx]
    previous = torch.diag(torch.ones(model.config.n_ctx - 1, dtype=torch.float64), -1)
    wanted = {
        "whole": attended(model, 0, [0, 1, 2, 3, 4], forced, "x"),
        "part": attended(model, 0, [1], forced[:1] * previous, "x"),
    }
    outputs = {"whole": at(whole, "a0"), "part": at(part, "a0.1[previous]")}
    rows = model.inputs["selected"]
    for name, found in model.run(outputs, selected).items():
        answer = wanted[name]
        if selected:
            answer = answer.gather(1, rows[..., None].expand(-1, -1, answer.shape[-1]))
        torch.testing.assert_close(found, answer, rtol=0, atol=1e-11)


@pytest.mark.parametrize("make", [small, small_gpt2])
@pytest.mark.parametrize("text", ["** -> zero", "** -> mean", "** -> array a", "{a*,m*} -> zero", "**/a0 -> mean"])
def test_losses_of_a_model_with_everything_held(make: object, text: str) -> None:
    model = make()  # type: ignore[operator]
    loss = node(
        "sub", node("log_normaliser", rules(model.graph, text)), node("pick", rules(model.graph, text), node("target"))
    )
    shape = tuple(model.inputs["target"].shape)
    whole, some = (model.run({"loss": loss}, selected)["loss"] for selected in (False, True))
    assert tuple(whole.shape) == shape
    assert torch.equal(whole.gather(1, model.inputs["selected"][..., None]), some) or torch.allclose(
        whole.gather(1, model.inputs["selected"][..., None]), some, rtol=0, atol=1e-11
    )


def test_held_at_what_it_gives_changes_nothing(model: Small) -> None:
    """Wherever a leaf stands, what it stands for there is what it takes the place of."""
    split = model.split(
        *GROUPS, 'a1.ind/k/a0.prev by mask "previous"', "a0.rest by positions 1..3", "a1.*/q by positions 2"
    )
    for text in ("** -> mean", "**/a0.* -> mean", "**/{q*,k,v} -> mean", "**/{q*,emb} -> mean", "a0.rest[*] -> mean"):
        scrubbed = rules(split, text)
        plan_values = {leaf: model.naive(of(leaf)) for leaf in held([scrubbed])}
        assert plan_values
        own = Own(model.config, model.params, model.inputs)
        torch.testing.assert_close(own.logits(scrubbed), model.naive(model.graph), rtol=0, atol=1e-11)
    forced = rules(model.graph, "**/{q,k} -> attend uniform")
    own = Own(model.config, model.params, model.inputs)
    torch.testing.assert_close(own.logits(forced), model.naive(model.graph), rtol=0, atol=1e-11)


class Own(Small):
    """The same model, in which whatever is held gives what it gives by itself."""

    def held(self, leaf: Node) -> torch.Tensor:
        return self.naive(of(leaf))
