"""Splits: they happen along their path, name their parts, and change no number."""

from __future__ import annotations

import pytest
import torch
from small import Small, paths, rules, small, small_gpt2

from scrub.graph.heads import head_indices
from scrub.graph.node import Node, walk
from scrub.paths.locate import below
from scrub.paths.splits import Split
from scrub.plan.plan import compile_plan
from scrub.text.errors import ScrubError


def components(graph: Node) -> list[str | None]:
    """What is directly below the output, or below any other node."""
    return [each.label for each in below(graph)]


def at(graph: Node, path: str) -> Node:
    """The node at the end of a path."""
    for step in path.split("/"):
        (graph,) = (each for each in below(graph) if each.label == step)
    return graph


SPLITS = [
    ["a1 by heads ind"],
    ["a0 by heads prev self"],
    ["**/a0 by heads 3 1"],
    ["a1/k/a0 by heads prev"],
    ['a0 by mask "previous"'],
    ['a1 by mask "last three"'],
    ['**/a0 by mask "first"'],
    ['a1/{q,k}/a0 by mask "last 5"'],
    ['**/a* by mask "lag 2"'],
    ['a0 by mask "current" "previous"'],
    ['**/a0 by mask "lag 2" "current" "lag 99"', "a0[*] by heads prev", 'a1 by mask "previous" "lag 3"'],
    ['a1/v/a0 by mask "lag 3" "last three"', "a1/v/a0[{lag 3,rest}] by positions 2..4"],
    ["a0 by identity"],
    ["a1 by identity"],
    ["a1/v/a0 by identity"],
    ["**/a0 by heads prev self", 'a1/k/a0.prev by mask "previous"', "a1/q/a0.self by identity"],
    ["a1 by heads ind", "a1.ind/q/a0 by heads self", 'a1.ind/q/a0.* by mask "current"'],
    ["**/a0 by heads 0 1 2 3 4", "**/a1 by heads 0 1 2 3 4", "a1.2 by identity", 'a1.3/k/a0.4 by mask "lag 1"'],
    ['a0 by mask "previous"', "a0[previous] by heads prev", "a0[rest] by heads self"],
    ["a0 by identity", "a0[*] by heads prev"],
    ["a0 by heads self", "a0.self by heads 4", "a0.rest by heads prev"],
    ["emb by positions 2..4"],
    ["a1 by positions 0"],
    ["a1 by positions 90"],
    ["**/a0 by positions 1,3..4", "a1/k/a0[rest] by positions 5..90"],
    ["**/{q,k,v} by positions 2..4"],
    ["a1 by heads ind", "a1.ind by positions 2..4", "a1.ind[rest]/k by positions 6"],
    ['a0 by mask "previous"', "a0[*] by positions 2..4"],
    ["a1 by identity", "a1[*]/v by positions 2..4", "a1[error] by positions 3"],
    # what is split later is split within what was split by positions
    ["a1/{q,k,v} by positions 2..4", "a1 by heads ind", 'a1.ind by mask "previous"', "a1.rest by heads 4 0"],
    ["a1/v by positions 2..4", "a1 by identity", "a1[error] by heads 1"],
    ["a1/k by positions 2..4", "a1/k[rest]/a0 by heads prev", "a1/k[2..4]/a0 by identity"],
]


@pytest.mark.parametrize("splits", SPLITS, ids=" + ".join)
def test_a_split_changes_no_number(splits: list[str]) -> None:
    """Computed as it stands, and by the plan, which simplifies what nothing tells apart."""
    model = small()
    graph = model.split(*splits)
    assert graph is not model.graph
    assert set(paths(graph).values()) == {"x"}
    for dtype, most in ((torch.float64, 1e-12), (torch.float32, 1e-4)):
        typed = model.to(dtype)
        whole = typed.naive(typed.graph)
        torch.testing.assert_close(typed.naive(graph), whole, rtol=0, atol=most)
        torch.testing.assert_close(typed.logits(graph), whole, rtol=0, atol=most)


@pytest.mark.parametrize(
    ("split", "names"),
    [
        ("a0 by heads prev self", ["emb", "a0.prev", "a0.self", "a0.rest", "a1"]),
        ("a0 by heads self, prev", ["emb", "a0.self", "a0.prev", "a0.rest", "a1"]),
        ("a0 by heads 3 prev", ["emb", "a0.3", "a0.prev", "a0.rest", "a1"]),
        ("a0 by heads 0 1 2 3 4", ["emb", "a0.0", "a0.1", "a0.2", "a0.3", "a0.4", "a1"]),
        ('a1 by mask "last three"', ["emb", "a0", "a1[last three]", "a1[rest]"]),
        ('a1 by mask "lag 1" "current"', ["emb", "a0", "a1[lag 1]", "a1[current]", "a1[rest]"]),
        ("a1 by identity", ["emb", "a0", "a1[identity]", "a1[error]"]),
        ("a1 by positions 4..7,9", ["emb", "a0", "a1[4..7,9]", "a1[rest]"]),
        ("emb by positions 3", ["emb[3]", "emb[rest]", "a0", "a1"]),
    ],
)
def test_the_parts_have_names(split: str, names: list[str]) -> None:
    assert components(small().split(split)) == names


@pytest.mark.parametrize(
    ("splits", "names"),
    [
        # a part stays that part when its heads are told apart, and parts don't share a name
        (['a0 by mask "previous"', "a0[*] by heads prev"], ["a0.prev", "a0.rest"]),
        # what remains of a group is not what remains of the layer
        (["a0 by heads self", "a0.self by heads 4"], ["a0.4", "a0.self.rest", "a0.rest"]),
        (["a0 by heads self", "a0.rest by heads prev"], ["a0.self", "a0.prev", "a0.rest"]),
    ],
)
def test_no_two_parts_share_a_name(splits: list[str], names: list[str]) -> None:
    found = [str(label) for label in components(small().split(*splits)) if str(label).startswith("a0")]
    assert len(set(found)) == len(found)
    expected = (
        [f"{name}{part}" for part in ("[previous]", "[rest]") for name in names] if "mask" in splits[0] else names
    )
    assert found == expected


def test_the_heads_of_each_part() -> None:
    graph = small().split("a0 by heads self", "a0.self by heads 4", "a0.rest by heads prev")
    heads = {each.label: head_indices(each) for each in below(graph) if str(each.label).startswith("a0")}
    assert heads == {"a0.4": (4,), "a0.self.rest": (0,), "a0.prev": (1,), "a0.rest": (2, 3)}


def test_a_split_in_steps_is_the_split_at_once() -> None:
    model = small()
    steps = model.split("a0 by heads prev", "a0.rest by heads self")
    once = model.split("a0 by heads prev self")
    assert [each.value for each in below(steps)] == [each.value for each in below(once)]


def test_a_split_happens_only_along_its_path() -> None:
    model = small()
    graph = model.split("a1/k/a0 by heads prev")
    assert components(graph) == ["emb", "a0", "a1"]
    assert components(at(graph, "a1/k")) == ["emb", "a0.prev", "a0.rest"]
    assert components(at(graph, "a1/q")) == components(at(graph, "a1/v")) == ["emb", "a0"]
    assert at(graph, "a0") is at(model.graph, "a0")
    assert at(graph, "a1/q") is at(model.graph, "a1/q")


def test_a_split_pattern_ends_at_the_component() -> None:
    graph = small(n_layers=3).split("a2 by heads 1")
    assert components(graph) == ["emb", "a0", "a1", "a2.1", "a2.rest"]
    assert components(at(graph, "a2.1/k")) == ["emb", "a0", "a1"]


def test_equal_parts_at_different_places_are_one_value() -> None:
    graph = small().split('**/a0 by mask "previous"')
    parts = {each.value for each in walk([graph]) if each.label == "a0[previous]"}
    assert len(parts) == 1


def test_what_lies_outside_a_mask_can_come_from_elsewhere(model: Small) -> None:
    """The formula of the design: the pattern of the reference, its own values inside the mask, the other's outside."""
    graph = model.split('a1 by mask "previous"')
    found = model.naive(rules(graph, "a1[rest]/v -> y"))
    other = Small(model.config, model.params, {"x": model.inputs["y"]})
    pattern, v, v_y = (m.naive(n) for m, n in zip((model, model, other), attention(model.graph), strict=True))
    inside = torch.diag(torch.ones(pattern.shape[-1] - 1, dtype=pattern.dtype), -1)
    z = (pattern * inside) @ v + (pattern * (1 - inside)) @ v_y
    written = torch.einsum("bhpd,hmd->bpm", z, model.params["layers.1.wo"])
    stream = model.naive(model.graph.inputs[0].inputs[0]) - model.naive(at(model.graph, "a1")) + written
    normed = torch.nn.functional.layer_norm(
        stream, stream.shape[-1:], model.params["final_ln.weight"], model.params["final_ln.bias"], 1e-5
    )
    table = model.params.get("unembed.weight", model.params["embed.weight"])
    torch.testing.assert_close(found, normed @ table.T, rtol=0, atol=1e-11)


@pytest.mark.parametrize(
    "masks", [["previous"], ["current", "previous"], ["lag 2", "current"], ["last three", "lag 4", "lag 3"]]
)
def test_each_part_is_the_pattern_inside_its_mask_and_the_rest_what_lies_in_none(
    model: Small, masks: list[str]
) -> None:
    """Each attends to its own values: the pattern that is masked by hand, times these and the output's weight."""
    lags = {"current": [0], "previous": [1], "lag 2": [2], "lag 3": [3], "lag 4": [4], "last three": [0, 1, 2]}
    graph = model.split("a1 by mask " + " ".join(f'"{mask}"' for mask in masks))
    other = Small(model.config, model.params, {"x": model.inputs["y"]})
    pattern, v, v_y = (m.naive(n) for m, n in zip((model, model, other), attention(model.graph), strict=True))
    back = torch.arange(pattern.shape[-1])[:, None] - torch.arange(pattern.shape[-1])
    inside = {mask: sum((back == lag).to(pattern) for lag in lags[mask]) for mask in masks}
    inside["rest"] = 1 - sum(inside.values())
    whole = torch.zeros(())
    for fed in inside:
        split = rules(graph, f"a1[{fed}]/v/** -> y")
        for name, kept in inside.items():
            expected = (pattern * kept) @ (v_y if name == fed else v)
            expected = torch.einsum("bhpd,hmd->bpm", expected, model.params["layers.1.wo"])
            found = model.naive(at(split, f"a1[{name}]"))
            torch.testing.assert_close(found, expected, rtol=0, atol=1e-12)
            whole = whole + (expected if name == fed else 0)
        torch.testing.assert_close(model.logits(split), model.naive(split), rtol=0, atol=1e-12)
    together = rules(graph, "a1[*]/v/** -> y")
    torch.testing.assert_close(
        sum(model.naive(at(together, f"a1[{name}]")) for name in inside), whole, rtol=0, atol=1e-12
    )


def test_masks_that_nothing_tells_apart_cost_nothing(model: Small) -> None:
    """And each that is fed other values is attended to once, for what it changes."""
    split = model.split('**/a0 by mask "current" "lag 2" "previous"')
    assert compile_plan({"logits": split}).steps == compile_plan({"logits": model.graph}).steps
    for fed, masks in (("lag 2", ["lag 2"]), ("{current,previous}", ["current", "previous"])):
        plan = compile_plan({"logits": rules(split, f"a0[{fed}]/v/** -> y")})
        assert sorted(str(s.node.arguments["mask"]) for s in plan.steps if s.node.op == "attend_masked") == masks


@pytest.mark.parametrize("text", ["2..4", "0", "1,5..90"])
@pytest.mark.parametrize("path", ["a0", "a1/k", "emb"])
def test_what_lies_at_some_positions_can_come_from_elsewhere(model: Small, path: str, text: str) -> None:
    """Rows of the reference at some positions, and of the other at the rest."""
    split = rules(model.split(f"{path} by positions {text}"), f"{path}[rest] -> y")
    other = Small(model.config, model.params, {"x": model.inputs["y"]})
    whole = at(model.graph, path)
    own, theirs = model.naive(whole), other.naive(whole)
    above, _, last = path.rpartition("/")
    where = at(split, above) if above else split
    found = sum(model.naive(part) for part in below(where) if str(part.label) in {f"{last}[{text}]", f"{last}[rest]"})
    assert isinstance(found, torch.Tensor)
    inside = {"2..4": [2, 3, 4], "0": [0], "1,5..90": [1, 5, 6]}[text]
    for position in range(model.config.n_ctx):
        assert torch.equal(found[..., position, :], (own if position in inside else theirs)[..., position, :])


def test_positions_that_nothing_tells_apart_cost_nothing(model: Small) -> None:
    """One plan step stands for the parts together; fed differently, they are computed."""
    split = model.split("**/a0 by positions 2..4", "a1/{q,k} by positions 1")
    assert compile_plan({"logits": split}).steps == compile_plan({"logits": model.graph}).steps
    apart = compile_plan({"logits": rules(split, "a1/k*/a0[2..4] -> y")})
    assert [step.node.op for step in apart.steps].count("at_positions") == 2
    written = compile_plan({"logits": split}, simplified=False)
    assert [step.node.op for step in written.steps].count("at_positions") == 6


def attention(graph: Node) -> tuple[Node, Node, Node]:
    """The pattern of layer 1, and its values twice."""
    pattern, v = at(graph, "a1").inputs[0].inputs
    return pattern, v, v


THROUGH_MLPS = [
    ["m1 by positions 2..4", "m1[rest]/m0 by positions 3", "m1[2..4]/a0 by heads prev"],
    ["m1/a0 by heads prev self"],
    ["m1/m0/a0 by heads 2", 'm1/m0/a0.rest by mask "previous"'],
    ["**/m*/**/a0 by identity"],
    ["a1/k/m0/a0 by heads self", "a1/k/m0/a0.self by identity", "a1/k/m0/a0.self[error] by heads 4"],
]


@pytest.mark.parametrize("splits", THROUGH_MLPS, ids=" + ".join)
def test_a_split_on_a_path_through_an_mlp_changes_no_number(splits: list[str]) -> None:
    model = small_gpt2()
    graph = model.split(*splits)
    assert graph is not model.graph
    assert at(graph, "a0") is at(model.graph, "a0")
    for found in (model.naive(graph), model.logits(graph)):
        torch.testing.assert_close(found, model.naive(model.graph), rtol=0, atol=1e-12)


@pytest.mark.parametrize("rule", ["a1.* -> y", "a1.ind -> y", "a1.rest/v -> y"])
def test_the_output_bias_of_attention_belongs_to_no_head(rule: str) -> None:
    """It is part of the wires: what heads write is linear in their weights, bias or not."""
    model = small_gpt2()
    graph = rules(model.split("a1 by heads ind"), rule)
    bias, writes = "layers.1.bo", [each for each in below(graph) if str(each.label).startswith("a1.")]
    without = Small(model.config, {**model.params, bias: torch.zeros(11, dtype=torch.float64)}, model.inputs)
    for each in writes:
        assert torch.equal(model.naive(each), without.naive(each))
    assert (model.naive(graph) - without.naive(graph)).abs().max() > 1e-3
    found = sum(1 for each in walk([graph]) if each.op == "param" and each.arguments["name"] == bias)
    assert found == 1


def test_the_biases_of_slots_belong_to_their_heads() -> None:
    """A head by itself is the same as that head of a model in which the others are nothing."""
    model = small_gpt2()
    head = at(model.split("a1 by heads 3"), "a1.3")
    kept = torch.tensor([0, 0, 0, 1, 0], dtype=torch.float64)
    params = {f"layers.1.{name}": value for name in ("wv", "bv") for value in [model.params[f"layers.1.{name}"]]}
    alone = {name: value * kept.view(-1, *[1] * (value.ndim - 1)) for name, value in params.items()}
    only = Small(model.config, model.params | alone, model.inputs)
    torch.testing.assert_close(model.naive(head), only.naive(at(only.graph, "a1")), rtol=0, atol=1e-12)


def test_mlps_dont_split() -> None:
    with pytest.raises(ScrubError, match="can't split 'm0': only attention heads split"):
        small_gpt2().split("m0 by heads 1")


@pytest.mark.parametrize(
    "text",
    [
        "a1.ind/k/a0.prev by heads 0 1",
        'a1.ind/**/a0.* by mask "last three"',
        "**/a0.self by identity",
        "a0 by heads prev",
        'a1.ind/k/a0.* by mask "current" "previous" "lag 2"',
    ],
)
def test_a_split_reads_as_it_is_written(text: str) -> None:
    assert str(Split.parse(text)) == text
    assert Split.parse(f"  {text.replace(' by ', '   by  ')}  ") == Split.parse(text)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("a0", "is no split"),
        ("", "is no split"),
        ("by heads prev", "is no split"),
        ("a0 by", "is no split"),
        ("a0 by heads", "splits by nothing that scrub knows"),
        ("a0 by identity now", "splits by nothing that scrub knows"),
        ("a0 by halves", "splits by nothing that scrub knows"),
        ("a0 by mask", "there is no mask ''"),
        ('a0 by mask "next"', "there is no mask 'next'"),
        ('a0 by mask "current" "next"', "there is no mask 'next'"),
        ('a0 by mask "current" ""', "there is no mask ''"),
        ("a0 by mask current, previous", "names no masks: write each in quotes of its own"),
        ('a0 by mask "current" previous', "names no masks: write each in quotes of its own"),
        ('a0 by mask "current" "last 2"', "'current' and 'last 2' of 'a0 by mask"),
        ('a0 by mask "lag 3" "previous" "last 5"', "share the position 3 before: a split needs them apart"),
        ('a0 by mask "previous" "previous"', "share the position 1 before"),
        ('a0 by mask "lag 7" "first"', "share position 0, which lies 7 before position 7"),
        ('a0 by mask "first" "current"', "share position 0, which lies 0 before position 0"),
        ("a0 by positions", "'' is no span of positions"),
        ("a0 by positions 7..4", "'7..4' is no span of positions"),
        ("a0 by positions first 2", "'first 2' is no span of positions"),
        ("a0 by positions S2..", "'S2..' is no span of positions"),
        ("a0 by positions end..end-2", "'end..end-2' is no span of positions"),
        ("a0//k by identity", "empty step"),
    ],
)
def test_a_bad_split_is_one_clear_line(text: str, says: str) -> None:
    with pytest.raises(ScrubError) as caught:
        Split.parse(text)
    assert says in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("splits", "says"),
    [
        (["a0.prev by identity"], "the pattern 'a0.prev' matches no path: the nearest there are 'a0'"),
        (["a1/k/a1 by identity"], "matches no path"),
        (["a0 by heads nobody"], "no head of a0 has the role 'nobody': this model's roles are prev, self, ind"),
        (["a0 by heads ind"], "no head of a0 has the role 'ind'"),  # that is a role of layer 1
        (["a0 by heads 5"], "a0 has no head 5: its heads are 0, 1, 2, 3, 4"),
        (["a0 by heads prev", "a0.prev by heads 0"], "a0.prev has no head 0: its heads are 1"),
        (["a0 by heads prev 1"], "share a head"),
        (["emb by identity"], "can't split 'emb': only attention heads split"),
        (["a1/k by heads 1"], "can't split 'k'"),
        (["** by identity"], "can't split 'emb'"),
        (
            ['a0 by mask "previous"', "a0[rest] by identity"],
            "can't split 'a0[rest]': that is a part of a split already",
        ),
        (["a0 by identity", 'a0[identity] by mask "first"'], "that is a part of a split already"),
        (["a0 by positions 2", "a0[2] by heads prev"], "can't split 'a0[2]'"),
        (["a0 by positions 2", "a0[rest] by identity"], "can't split 'a0[rest]'"),
        (["a1/q by positions 2", "a1/q[2] by heads 1"], "can't split 'q[2]'"),
        (["a1/q by positions 2", "a1/q by positions 3"], "'a1/q' matches no path"),
    ],
)
def test_a_split_that_cant_be_is_one_clear_line(splits: list[str], says: str) -> None:
    with pytest.raises(ScrubError) as caught:
        small().split(*splits)
    assert says in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_role_called_rest_loses_no_heads() -> None:
    with pytest.raises(ScrubError, match="give the role 'rest' another name"):
        small().split("a0 by heads rest", roles={"rest": [(0, 1)]})
