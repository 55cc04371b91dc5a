"""Sums that are computed together are the same sums, with the same gradients, and get nothing that they don't have."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping

import pytest
import torch
from small import DECODERS, Small, random_inputs, small, small_decoder, small_gpt2
from test_plan import study

from scrub.graph.node import Node, walk
from scrub.graph.ops import OPS
from scrub.paths.edges import by_head, edges_of, keep
from scrub.plan import sums
from scrub.plan.plan import compile_plan

G = torch.Generator().manual_seed(0)
MODELS = ["attention only", "gpt2", *DECODERS]


def model(name: str, n_layers: int = 2) -> Small:
    if name not in DECODERS:
        return {"gpt2": small_gpt2, "attention only": small}[name](n_layers=n_layers)
    of = small_decoder(name, n_layers=n_layers)
    return Small(of.config, of.params, random_inputs(of.config, 2, batch=3, donors=19, some=5))


def circuits(of: Small, *shares: float) -> dict[str, Node]:
    """Circuits of random edges, and the whole model."""
    graph = by_head(of.graph).graph
    every = edges_of(graph)
    kept = {share: torch.rand(len(every), generator=G) < share for share in shares}
    some = {str(s): {e for e, here in zip(every, of, strict=True) if here} for s, of in kept.items()}
    return {"whole": of.graph, **{name: keep(graph, edges) for name, edges in some.items()}}


@pytest.fixture
def always(monkeypatch: pytest.MonkeyPatch) -> None:
    """Have all sums computed together, however few."""
    monkeypatch.setattr(sums, "LEAST", 1)
    monkeypatch.setattr(sums, "ADDITION", 1000)


def operations(outputs: Mapping[str, Node], selected: bool = False) -> Counter[str]:
    return Counter(step.node.op for step in compile_plan(outputs, selected).steps)


@pytest.mark.usefixtures("always")
@pytest.mark.parametrize("name", MODELS)
def test_circuits_are_the_same_numbers_in_every_family(name: str) -> None:
    """At all positions, and at some in each sequence, as many as there are or fewer."""
    of = model(name)
    outputs = circuits(of, 0.3, 0.8)
    naive = of.run(outputs, simplified=False)
    for selected in (False, True):
        assert operations(outputs, selected)["sums"] >= 2, selected
        found = of.run(outputs, selected)
        rows = of.inputs["selected"][..., None]
        for each, value in naive.items():
            wanted = value.gather(1, rows.expand(-1, -1, value.shape[-1])) if selected else value
            torch.testing.assert_close(found[each], wanted, rtol=0, atol=1e-10)


@pytest.mark.usefixtures("always")
def test_rows_that_fill_up_are_left_out() -> None:
    of = model("gpt2")
    outputs = circuits(of, 0.4, 0.9)
    plan = compile_plan(outputs)
    leaves = of.leaves(plan)
    rows = next(leaf for leaf in leaves if leaf.op == "rows")
    leaves[rows] = leaves[rows][:, torch.rand(leaves[rows].shape[1], generator=G) < 0.6]
    found = plan.run(plan.once(leaves), leaves)
    sequence, number, position = leaves[rows]
    assert operations(outputs, selected=True)["sums"]
    for name, value in of.run(outputs, simplified=False).items():
        torch.testing.assert_close(found[name][sequence, number], value[sequence, position], rtol=0, atol=1e-10)


@pytest.mark.usefixtures("always")
@pytest.mark.parametrize("name", ["gpt2", "gemma2"])
def test_gradients_are_the_same(name: str) -> None:
    of = model(name)
    outputs = circuits(of, 0.5, 0.9)
    found = []
    for simplified in (False, True):
        params = {each: value.clone().requires_grad_() for each, value in of.params.items()}
        values = Small(of.config, params, of.inputs).run(outputs, simplified=simplified).values()
        total = torch.stack([value.square().sum() * at for at, value in enumerate(values, 1)]).sum()
        found.append(torch.autograd.grad(total, list(params.values())))
    for one, other in zip(*found, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-10, atol=1e-9)


@pytest.mark.usefixtures("always")
@pytest.mark.parametrize("wrong", [torch.nan, torch.inf])
@pytest.mark.parametrize("source", ["x", "y"])
def test_what_is_not_a_number_comes_to_what_has_it_alone(source: str, wrong: float) -> None:
    """A token whose embedding is none, in one sequence from one position on: in all that readers read."""
    of = model("gpt2", n_layers=3)
    table = torch.cat([of.params["embed.weight"], torch.full((1, 11), wrong, dtype=torch.float64)])
    tokens = of.inputs[source].clone()
    tokens[1, 3] = len(table) - 1
    poisoned = Small(of.config, {**of.params, "embed.weight": table}, {**of.inputs, source: tokens})
    graphs = circuits(of, 0.1, 0.9, 0.99)
    del graphs["whole"]
    read = {each.value: None for each in walk(graphs.values()) if each.op == "layer_norm"}
    outputs = {str(at): each for at, each in enumerate(read)}
    assert operations(outputs)["sums"] > 4
    naive, found = poisoned.run(outputs, simplified=False), poisoned.run(outputs)
    lost = 0
    for name, value in naive.items():
        torch.testing.assert_close(found[name], value, rtol=0, atol=1e-10, equal_nan=True)
        lost += bool(value.isnan().any())
    assert len(naive) / 3 < lost < len(naive) - 1


def test_sums_never_touch_what_they_do_not_have() -> None:
    """Whatever number of columns is worked on at once; a term may be in a sum twice, and be held for all sequences."""
    run = OPS["sums"].run
    assert run is not None
    stacks = [torch.randn(batch, some, 5, 7, generator=G) for batch, some in ((3, 2), (1, 4), (3, 3))]
    stacks[0][1, 1, 2, 3], stacks[2][0, 2, 4, 6] = torch.nan, -torch.inf
    terms = ((0, 2, 3, 6), (1, 4, 5), (7, 2), (1, 8), (3, 3, 5), (8, 0))
    each = [term for stack in stacks for term in stack.expand(3, -1, -1, -1).unbind(1)]
    wanted = torch.stack([torch.stack([each[at] for at in row]).sum(0) for row in terms], 1)
    for at_once in (None, 1, 11, 64, 10**6):
        torch.testing.assert_close(run(*stacks, terms=terms, at_once=at_once), wanted, equal_nan=True)
    assert wanted[:, :3].isnan().sum() == 1


def test_a_circuit_has_fewer_steps_and_whatever_adds_little_keeps_its_plan(monkeypatch: pytest.MonkeyPatch) -> None:
    circuit, few = circuits(small_gpt2(n_layers=6), 0.5), study(small(n_layers=3))
    together = {name: operations(outputs) for name, outputs in (("circuit", circuit), ("few", few))}
    assert 3 < together["circuit"]["sums"] <= 6
    assert not together["few"]["sums"]
    plan = str(compile_plan(few))
    monkeypatch.setattr(sums, "LEAST", 10**9)
    assert operations(circuit)["add"] > 2.5 * together["circuit"]["add"]
    assert str(compile_plan(few)) == plan
