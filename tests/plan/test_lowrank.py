"""Maps of streams that differ in some heads, from the map of what they share: of decoders' norms and MLPs."""

from __future__ import annotations

from collections import Counter

import pytest
import torch
from small import Small, random_inputs, random_params, rules

from scrub.models.families import decoder
from scrub.plan.plan import compile_plan

LLAMA = {
    "norm": "rms",
    "gated": True,
    "activation": "silu",
    "rotary": (decoder.Rotary(width=6, base=100.0),),
}
BELIEFS = ("a1.ind/q -> y", "a1.ind/k -> y", "a1.ind/v -> y")  # m1 reads the heads as they are
EVERYWHERE = tuple(f"**/{text}" for text in BELIEFS)
ROLES = {"ind": [(1, 2), (1, 5)]}


def decoded(**fields: object) -> Small:
    """A random decoder: batch 3, position 5, 6 heads on 2, d_head 7, d_model 43, MLPs of 23, vocabulary 13."""
    sizes = {"n_layers": 2, "n_heads": 6, "n_kv_heads": 2, "d_head": 7, "d_model": 43, "d_mlp": 23, "n_ctx": 5}
    config = decoder.Config.model_validate(
        {**sizes, "vocab_size": 13, "bos_token_id": 0, "layer_norm_eps": 1e-5, **fields}
    )
    return Small(config, random_params(config, 1), random_inputs(config, 2, batch=3, donors=2, some=3))  # type: ignore[arg-type]


def changed(model: Small, beliefs: tuple[str, ...] = EVERYWHERE) -> int:
    """Compare every experiment with its graph as it stands, and count the maps that are taken from shared ones."""
    split = model.split("**/a1 by heads ind", roles=ROLES)
    graphs = {text: rules(split, text) for text in beliefs}
    plan = compile_plan(graphs, selected=False)
    leaves = model.leaves(plan)
    found = plan.run(plan.once(leaves), leaves)
    for text, graph in graphs.items():
        torch.testing.assert_close(found[text], model.naive(graph), rtol=0, atol=1e-11)
    return Counter(step.node.op for step in plan.steps)["changed"]


@pytest.mark.parametrize(
    ("fields", "maps"),
    [
        (LLAMA, 2),
        ({**LLAMA, "biases": ("q", "k", "v", "o", "mlp"), "qk_norm": "head"}, 2),
        ({**LLAMA, "norm": "layer"}, 2),
        ({"norm": "rms"}, 1),
        ({**LLAMA, "d_mlp": None, "gated": False, "biases": ("unembed",), "logit_cap": 3.0}, 1),
        ({**LLAMA, "norm": "layer", "parallel": True, "one_norm": True}, 1),  # where no MLP reads heads of its layer
    ],
)
def test_what_streams_share_is_mapped_once(fields: dict[str, object], maps: int) -> None:
    """By every matrix that reads them, whatever the norm; with an MLP, streams differ in more than heads above it."""
    assert changed(decoded(**fields)) == maps * len(BELIEFS)


@pytest.mark.parametrize("parallel", [True, False])
def test_what_the_unembedding_reads_is_shared(parallel: bool) -> None:
    assert changed(decoded(**LLAMA, parallel=parallel), BELIEFS) == len(BELIEFS)


@pytest.mark.parametrize("norms", ["after", "both"])
def test_heads_behind_a_norm_are_no_terms_of_the_stream(norms: str) -> None:
    assert changed(decoded(**LLAMA, norms=norms)) == 0


def test_heads_as_wide_as_the_stream_are_mapped_with_it() -> None:
    """Where their products would be no smaller than the whole."""
    assert changed(decoded(**LLAMA, d_model=13)) == 0
