"""Keys and values that query heads share are computed once, behind whatever works head by head."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from small import Small, random_inputs, rules, small_decoder
from torch import Tensor

from scrub import Hypothesis
from scrub.graph.node import Node
from scrub.graph.ops import OPS, Op
from scrub.plan.plan import compile_plan

LAYERS, QUERIES, SHARED = 2, 6, 2  # heads 0 to 2 share keys and values, and 3 to 5
BY_HEAD = ("project", "rms_norm", "scale_heads", "rotate")


def model(family: str) -> Small:
    made = small_decoder(family, LAYERS, n_kv_heads=SHARED)
    return Small(made.config, made.params, random_inputs(made.config, 3, batch=2, donors=3, some=4))  # type: ignore[arg-type]


def computed(of: Small, outputs: dict[str, Node]) -> tuple[dict[str, list[int]], dict[str, Tensor]]:
    """How many heads each operation worked on, each time, and what the outputs are."""
    counts: dict[str, list[int]] = {name: [] for name in BY_HEAD}

    def way(op: Op) -> Callable[..., Tensor]:
        def run(*inputs: Tensor, **static: Any) -> Tensor:
            found = op.function()(*inputs, **static)
            name = next(name for name, row in OPS.items() if row is op)
            if name in BY_HEAD and found.ndim == 4:  # not a norm of the stream
                counts[name].append(found.shape[1])
            return found

        return run

    plan = compile_plan(outputs, selected=False)
    leaves = of.leaves(plan)
    found = plan.run(plan.once(leaves, way), leaves, way)
    return {name: sorted(heads) for name, heads in counts.items()}, found


# of one layer's k: what stands behind its projection
CASES = {"llama": ("rotate",), "mistral": ("rotate",), "phi": ("rotate",), "qwen3": ("rms_norm", "rotate"),
         "gemma3": ("rms_norm", "rotate"), "olmo2": ("scale_heads", "rotate")}  # fmt: skip
families = pytest.mark.parametrize("family", CASES)


@families
def test_an_unsplit_model_computes_what_its_checkpoint_stores(family: str) -> None:
    of = model(family)
    counts, found = computed(of, {"logits": of.graph})
    assert counts["project"] == sorted([SHARED, SHARED, QUERIES] * LAYERS)
    for name in BY_HEAD[1:]:
        assert counts[name] == (sorted([SHARED, QUERIES] * LAYERS) if name in CASES[family] else []), name
    torch.testing.assert_close(found["logits"], of.naive(of.graph), rtol=0, atol=1e-12)


@families
@pytest.mark.parametrize(("heads", "added"), [((1,), 1), ((1, 3), 2), ((4, 3), 1)])
def test_query_heads_whose_keys_are_fed_apart_add_the_keys_that_they_read(
    family: str, heads: tuple[int, ...], added: int
) -> None:
    """One more head of keys for what reads the first or the last three, and the layer below for the other sequence."""
    of = model(family)
    split = of.split(f"**/a1 by heads {' '.join(map(str, heads))}", roles={})
    fed = rules(split, *(f"**/a1.{head}/k/** -> y" for head in heads))
    counts, found = computed(of, {"logits": of.graph, "fed": fed})
    keys = {added, SHARED} if family == "olmo2" else {added}  # whose scale is that of all heads of keys
    assert counts["project"] == sorted([SHARED, SHARED, QUERIES] * (LAYERS + 1) + [*keys])
    if "rms_norm" in CASES[family]:
        assert counts["rms_norm"] == sorted([SHARED, QUERIES] * (LAYERS + 1) + [added])
    torch.testing.assert_close(found["fed"], of.naive(fed), rtol=0, atol=1e-12)
    torch.testing.assert_close(found["logits"], of.naive(of.graph), rtol=0, atol=1e-12)
    assert (found["fed"] - found["logits"]).abs().max() > 1e-3


@families
def test_heads_that_come_of_the_whole_layer_are_told_from_those_alone(family: str) -> None:
    """A head by a mask, on y but for one path on x: its values on y are the layer's, on x they are its own alone.

    Of the first shared keys and values both are head 0, once of all of them and once of one.
    """
    roles = {"prev": [(1, 1)], "ind": [(2, 3)]}
    made = small_decoder(family, 3, n_kv_heads=SHARED)
    of = Small(made.config, made.params, random_inputs(made.config, 3, batch=2, donors=3, some=4))  # type: ignore[arg-type]
    text = """
        splits  **/a2.ind/k/a1.prev                     by mask "previous"
        k       **/a2.ind/k/**                          -> y
                **/a2.ind/k/a1.prev[previous]/v/emb     -> x
    """
    graph = Hypothesis(text).scrub(of.graph, roles, "k")
    torch.testing.assert_close(of.logits(graph), of.naive(graph), rtol=0, atol=1e-12)


@pytest.mark.parametrize("head", [0, 1, 2, 3])
@pytest.mark.parametrize("mask", ["previous", "last three"])
def test_a_head_whose_values_are_fed_in_part_is_told_from_those_beside_it(head: int, mask: str) -> None:
    """Values of one head on x and y beside those of all heads on y: number 0 of one is number 0 of all."""
    of = model("llama")
    alone = of.split(f"**/a1 by heads {head}", f'**/a1.{head} by mask "{mask}"', roles={})
    fed = rules(alone, "**/a1*/v/** -> y", f"**/a1.{head}[{mask}]/v/a0/** -> x")
    _, found = computed(of, {"logits": of.graph, "fed": fed})
    torch.testing.assert_close(found["fed"], of.naive(fed), rtol=0, atol=1e-12)
    assert (found["fed"] - found["logits"]).abs().max() > 1e-3
