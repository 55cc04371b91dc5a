"""The plan: every value once, freed after its last use; constants, selected rows, printing, size."""

from __future__ import annotations

import gc
import weakref
from collections import Counter
from collections.abc import Callable
from dataclasses import replace

import pytest
import torch
from small import Small, rules, small
from torch import Tensor

from scrub.graph.node import Node, node, unroll, walk
from scrub.graph.ops import OPS
from scrub.paths.locate import below
from scrub.paths.splits import Split
from scrub.plan.leaves import leaves_of
from scrub.plan.plan import Plan, compile_plan
from scrub.plan.rows import select_rows
from scrub.plan.runner import Place
from scrub.study.metric import divergence, losses

GROUPS = (
    "**/a0 by heads prev self",
    "**/a1 by heads ind",
    'a1.ind/k/a0.prev by mask "previous"',
    "a0.self by identity",
)
BELIEFS = {
    "unscrubbed": [],
    "q": ["a1.ind/q/a0.* -> y"],
    "k": ["a1.ind/k -> y", "a1.ind/k/a0.prev[previous]/v -> x"],
    "k, rows": ["a1.ind/k -> y", "a1.ind/k/a0.prev*/{q,k} -> rows like f"],
    "v": ["a1.ind/v/a0.* -> y"],
    "early": ["**/a0.self* -> like g"],
    "nothing": ["** -> y"],
}


def study(model: Small) -> dict[str, Node]:
    """Losses, divergences and logits of several experiments, as a study has them."""
    split = model.split(*GROUPS)
    graphs = {name: rules(split, *texts) for name, texts in BELIEFS.items()}
    outputs = {f"loss {name}": losses(graph) for name, graph in graphs.items()}
    outputs |= {f"kl {name}": divergence(graph, graphs["unscrubbed"]) for name, graph in graphs.items()}
    return outputs | {"logits": graphs["k"], "pattern": pattern_of(graphs["unscrubbed"])}


def pattern_of(graph: Node) -> Node:
    return next(each for each in walk([graph]) if each.op == "attention_pattern")


class Runs:
    """Every operation that is run, as it runs, and which of the results are still held."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.counts: Counter[str] = Counter()
        self.made: list[weakref.ref[Tensor]] = []
        self.most = 0
        for name, op in list(OPS.items()):
            if op.run is not None:
                monkeypatch.setitem(OPS, name, replace(op, run=self.watch(name)))

    def watch(self, name: str):  # type: ignore[no-untyped-def]
        run = OPS[name].run
        assert run is not None

        def watched(*inputs: Tensor, **static: object) -> Tensor:
            result = run(*inputs, **static)
            self.counts[name] += 1
            self.made.append(weakref.ref(result))
            self.most = max(self.most, self.held())
            return result

        return watched

    def held(self) -> int:
        return sum(each() is not None for each in self.made)


def most_needed(plan: Plan) -> int:
    """The most computed values that some later step, or the caller, still needs, counted naively."""
    last = {at: len(plan.steps) for at in plan.outputs.values()}
    for number, step in enumerate(plan.steps):
        for at in step.inputs:
            last[at] = max(last.get(at, 0), number)
    computed = [at for at, step in enumerate(plan.steps) if OPS[step.node.op].run is not None and not step.per_run]
    return max(sum(at <= now and last[at] >= now for at in computed) for now in range(len(plan.steps)))


@pytest.mark.parametrize("selected", [False, True])
def test_every_distinct_value_is_computed_once(model: Small, selected: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    plan = compile_plan(study(model), selected)
    nodes = [step.node for step in plan.steps]
    assert len(set(nodes)) == len(nodes)
    assert all(each.value is each for each in nodes)  # without labels, which would tell equal values apart
    runs, leaves = Runs(monkeypatch), model.leaves(plan)
    plan.run(plan.once(leaves), leaves)
    assert runs.counts == Counter(each.op for each in nodes if OPS[each.op].run is not None)


def test_equal_values_under_different_names_are_computed_once() -> None:
    model = small()
    names = model.split("a0 by heads prev self"), model.split("a0 by heads 1 0 4", roles={})
    labels = [[each.label for each in below(graph)] for graph in names]
    assert labels[0][1] == "a0.prev"
    assert labels[1][1] == "a0.1"
    at = [
        next(each for each in below(graph) if each.label == label)
        for graph, label in zip(names, ("a0.prev", "a0.1"), strict=True)
    ]
    plan = compile_plan({"one": at[0], "other": at[1]}, selected=False)
    assert plan.outputs["one"] == plan.outputs["other"]


def test_an_experiment_more_costs_only_what_is_new() -> None:
    model = small(n_layers=4)
    split = model.split("a3 by heads 1")
    alone = compile_plan({"a": split})
    both = compile_plan({"a": split, "b": rules(split, "** -> x"), "c": rules(split, "a3.1/q/nothing -> y")})
    assert len(both.steps) == len(alone.steps)
    assert len(set(both.outputs.values())) == 1


@pytest.mark.parametrize("selected", [False, True])
def test_a_value_is_freed_after_its_last_use(model: Small, selected: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    plan = compile_plan(study(model), selected)
    leaves = model.leaves(plan)
    once = plan.once(leaves)
    gc.disable()  # what is freed, is freed at once, not by a collection
    try:
        runs = Runs(monkeypatch)
        outputs = plan.run(once, leaves)
        assert runs.held() == len({id(value) for value in outputs.values()})
        # While one operation runs its inputs are still held, and its result is not yet in the plan's hands.
        assert runs.most <= most_needed(plan) + 1
        assert runs.most < len(runs.made) / 3
        del outputs
        assert runs.held() == 0
    finally:
        gc.enable()


def test_frees_are_exactly_what_nothing_needs_any_more(model: Small) -> None:
    plan = compile_plan(study(model))
    freed: set[int] = set()
    for number, step in enumerate(plan.steps):
        assert not freed & set(step.inputs)
        for at in step.frees:
            assert at in step.inputs
            assert all(at not in later.inputs for later in plan.steps[number + 1 :])
            assert at not in plan.outputs.values()
        freed |= set(step.frees)
    kept = set(range(len(plan.steps))) - freed
    assert all(plan.steps[at].per_run or at in plan.outputs.values() for at in kept)


def test_constants_are_computed_once_a_run_and_not_once_a_batch(model: Small, monkeypatch: pytest.MonkeyPatch) -> None:
    plan = compile_plan(study(model))
    leaves = model.leaves(plan)
    constant = {leaf: value for leaf, value in leaves.items() if leaf.op in {"param", "position"}}
    once = plan.once(constant)  # needs nothing of a batch
    taken = [at for at, step in enumerate(plan.steps) if step.node.op == "take_heads"]
    assert taken
    assert all(plan.steps[at].per_run for at in taken)
    assert set(once) == {at for at, step in enumerate(plan.steps) if step.per_run}
    batch = {leaf: value for leaf, value in leaves.items() if leaf not in constant}
    runs = Runs(monkeypatch)
    first, second = plan.run(once, batch), plan.run(once, batch)  # and a batch nothing of the constants
    assert runs.counts["take_heads"] == 0
    assert all(torch.equal(first[name], second[name]) for name in first)


def test_weights_of_some_heads_that_are_not_kept_are_freed(monkeypatch: pytest.MonkeyPatch) -> None:
    """Many splits, each with heads of its own: made once each, one after the other, and none of them stays."""
    model = small(n_layers=3)
    heads = [f"**/a{layer} by heads {head}" for layer in range(3) for head in range(5)]
    outputs = {"model": model.graph} | {each: model.split(each, roles={}) for each in heads}
    made = {kept: compile_plan(outputs, simplified=False, kept=kept) for kept in (True, False)}
    leaves, found, held = model.leaves(made[True]), {}, {}
    for kept, plan in made.items():
        assert ("take_heads" in {step.node.op for step in plan.steps if step.per_run}) == kept
        runs = Runs(monkeypatch)
        found[kept] = plan.run(plan.once(leaves), leaves)
        held[kept] = runs.most
        assert runs.counts["take_heads"] == 4 * 2 * len(heads)  # of q, k, v and o: one head, and the others
        monkeypatch.undo()
    assert all(torch.equal(found[True][name], found[False][name]) for name in outputs)
    assert held[True] > 4 * 2 * len(heads)
    assert held[False] < 2 * len(heads)


def test_what_depends_on_a_batch_is_no_constant(model: Small) -> None:
    for step in compile_plan(study(model)).steps:
        leaves = {each.op for each in walk([step.node]) if not each.inputs}
        assert step.per_run == (leaves <= {"param", "position"})


def test_selecting_rows_is_selecting_afterwards(model: Small) -> None:
    outputs = study(model)
    rows = model.inputs["selected"]
    whole, some = model.run(outputs), model.run(outputs, selected=True)
    for name, value in whole.items():
        index = rows.reshape(rows.shape[0], *[1] * (value.ndim - 3), rows.shape[1], 1)
        expected = value.gather(-2, index.expand(*value.shape[:-2], rows.shape[1], value.shape[-1]))
        torch.testing.assert_close(some[name], expected, rtol=0, atol=1e-11)


def test_only_selected_rows_reach_the_last_layer_and_the_unembedding() -> None:
    model = small(n_layers=3)
    plan = compile_plan({"loss": losses(model.graph)})
    leaves = model.leaves(plan)
    values = plan.once(leaves)
    some, positions = model.inputs["selected"].shape[1], model.config.n_ctx
    rows: dict[str, list[int]] = {}
    for at, step in enumerate(plan.steps):
        run = OPS[step.node.op].run
        if at not in values:
            inputs = (values[i] for i in step.inputs)
            values[at] = run(*inputs, **step.node.arguments) if run else leaves[step.node]
        if values[at].ndim > 2:
            rows.setdefault(step.node.op, []).append(values[at].shape[-2])
    of_all = some * len(model.inputs["x"])  # what works row by row gets the rows of all sequences in a line
    assert set(rows["unembed"]) == set(rows["log_normaliser"]) == {of_all}
    assert rows["attention"] == [positions, positions, some]
    assert Counter(rows["project"]) == {positions: 8, of_all: 1}  # the last layer's keys and values see everything


def test_a_value_needed_in_full_and_in_part_is_selected_from() -> None:
    model = small(n_layers=1)
    output = select_rows([model.graph])[model.graph]
    packs = [each for each in walk([output]) if each.op == "pack"]
    assert {each.inputs[1] for each in packs} == {node("rows")}
    assert len({each.inputs[0] for each in packs}) == len(packs)


@pytest.mark.parametrize("scored", ["", "0 1:3 2:0,4,6", "1:5"], ids=["none", "some", "one"])
def test_what_fills_up_changes_no_number(model: Small, scored: str) -> None:
    """Sequences have different numbers of selected positions: the rest of each row is there to be equally long."""
    chosen = [(int(part[0]), int(at)) for part in scored.split() for at in part[2:].split(",") if at]
    selected, slots = torch.zeros(3, 4, dtype=torch.long), []
    for sequence, position in chosen:
        slots.append(sum(before == sequence for before, _ in chosen[: len(slots)]))
        selected[sequence, slots[-1]] = position
    rows = torch.tensor([[each for each, _ in chosen], slots, [at for _, at in chosen]], dtype=torch.long)
    outputs = study(model)
    whole, plan = model.run(outputs), compile_plan(outputs)
    leaves = model.leaves(plan) | {node("selected"): selected, node("rows"): rows}
    for name, value in plan.run(plan.once(leaves), leaves).items():
        for sequence, slot, position in rows.T.tolist():
            expected = whole[name][sequence, ..., position, :]
            torch.testing.assert_close(value[sequence, ..., slot, :], expected, rtol=0, atol=1e-11)
        assert value.shape[-2] == 4


def test_logits_of_what_is_added_twice_are_not_those_of_what_is_added_once(model: Small) -> None:
    final, table = model.graph.inputs
    (stream, *norm), graphs = final.inputs, {}
    for name, more in (("once", ()), ("twice", (stream.inputs[0],))):
        for source in ("x", "y"):
            summed = node("add", *more, *stream.inputs)
            graph = node("unembed", final.with_inputs((summed, *norm)), table, label="out")
            graphs[f"{name} {source}"] = losses(rules(graph, f"a1 -> {source}"))
    together = model.run(graphs)
    for name, graph in graphs.items():
        torch.testing.assert_close(together[name], model.run({name: graph})[name], rtol=0, atol=1e-11)


def test_printing_shows_what_runs(model: Small) -> None:
    plan = compile_plan(study(model))
    lines = plan.lines()
    assert str(plan) == "\n".join(lines)
    assert len(lines) == len(plan.steps)
    for number, (step, line) in enumerate(zip(plan.steps, lines, strict=True)):
        call, _, notes = line.partition(" # ")
        assert call.startswith(f"%{number} = {step.node.op}(")
        arguments = call.strip().removeprefix(f"%{number} = {step.node.op}(").removesuffix(")")
        inputs = ", ".join(f"%{at}" for at in step.inputs)
        static = [f"{key}={value}" for key, value in step.node.static]
        assert arguments == ", ".join([*([inputs] if inputs else []), *static])
        assert ("once a run" in notes) == step.per_run
        for at in step.frees:
            assert f" %{at}" in f" {notes}"
        for name in plan.outputs:
            assert (f"output {name}" in notes or f", {name}" in notes) or plan.outputs[name] != number
    text = str(plan)
    for shown in ("# emb", "# a1.ind", "rows like f", "mask=previous", "output logits"):
        assert shown in text


def test_the_leaves_are_what_a_run_binds(model: Small) -> None:
    leaves = leaves_of(compile_plan(study(model)))
    sources = {str(each.arguments["source"]) for each in leaves if each.op == "tokens"}
    assert sources == {"x", "y", "like g", "rows like f"}
    assert {each.op for each in leaves} == {"param", "position", "tokens", "donor", "selected", "rows", "target"}
    named = {str(each.arguments["name"]) for each in leaves if each.op == "param"}
    assert named == set(model.params)


DEPTHS = (2, 4, 8, 12)


@pytest.mark.parametrize(
    "texts",
    [
        [],
        ["a1/k/a0[rest] -> y"],
        ["a1/q/** -> y", "a1/q/a0/v/emb -> x"],
        ["**/a1/k/a0[rest]/v -> y"],
        ["**/a0/v/emb -> y"],
        ["**/a1/k/** -> y", "**/a1/k/a0[previous]/v/emb -> x"],
    ],
)
def test_rules_about_a_place_cost_the_same_for_every_layer(texts: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    """There are 4^n paths; every further layer adds so many steps to the plan, and so many nodes to visit."""
    visits: list[int] = []

    def counting(
        root: Node, state: object, advance: object, build: Callable[..., Node], *more: object, **named: object
    ) -> Node:
        def counted(*at: object) -> Node:
            visits[-1] += 1
            return build(*at)

        return unroll(root, state, advance, counted, *more, **named)

    for module in ("rules", "splits"):
        monkeypatch.setattr(f"scrub.paths.{module}.unroll", counting)
    sizes = []
    for n_layers in DEPTHS:
        visits.append(0)
        graph = small(n_layers=n_layers).split('**/a1/k/a0 by mask "previous"')
        scrubbed = rules(graph, *texts)
        assert (scrubbed is graph) == (not texts)
        sizes.append(len(compile_plan({"scrubbed": losses(scrubbed), "kl": divergence(scrubbed, graph)}).steps))
    for counts, most in ((sizes, 60), (visits, 250)):
        growth = [(b - a) / (m - n) for a, b, n, m in zip(counts, counts[1:], DEPTHS, DEPTHS[1:], strict=False)]
        assert len(set(growth[1:])) == 1, counts
        assert max(growth) < most, counts


def test_values_at_selected_rows_keep_the_names_that_paths_know(model: Small) -> None:
    split = rules(Split.parse("**/a1 by heads 0").apply(model.graph, {}), "**/a1.0/** -> y")
    plan = compile_plan({"loss": losses(split)})
    named = {label for labels in plan.labels.values() for label in labels.split()}
    assert {"a1.0", "a1.rest", "q", "k", "v", "emb", "a0"} <= named
    assert [plan.steps[at].node.op for at, labels in plan.labels.items() if "a1." in labels] == ["output", "output"]


def test_a_card_works_on_more_numbers_at_once_than_a_core() -> None:
    assert Place("cpu", False).numbers_at_once < Place("cuda:0", False).numbers_at_once
