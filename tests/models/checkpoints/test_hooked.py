"""Models of TransformerLens with every setting that the decoder has: its own logits, patterns and stream are ours.

TransformerLens runs in float64 from end to end, but for the frequencies of use_NTK_by_parts_rope, which are float32: its
tables are then put in, written out here.
"""

from __future__ import annotations

import math
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import torch
from made import lens, write_lens
from torch import Tensor

from scrub.graph.node import Node, walk
from scrub.models.model import Model, load_model
from scrub.plan.leaves import bind_model, leaves_of
from scrub.plan.plan import compile_plan

if TYPE_CHECKING:
    from transformer_lens import HookedTransformer

pytestmark = pytest.mark.filterwarnings("ignore:HookedTransformer is deprecated:DeprecationWarning")

LOCAL = {"use_local_attn": True, "window_size": 3, "attn_types": ["local", "global", "local"]}
ROTARY = {"positional_embedding_type": "rotary", "d_head": 6}
LLAMA = {**ROTARY, "normalization_type": "RMS", "n_heads": 6, "n_key_value_heads": 2, "act_fn": "silu", "gated_mlp": True}
GEMMA = {
    **LLAMA,
    **LOCAL,
    "act_fn": "gelu_pytorch_tanh",
    "use_normalization_before_and_after": True,
    "attn_scale": 1.7,
}
NTK = {
    "use_NTK_by_parts_rope": True,
    "NTK_by_parts_factor": 5.0,
    "NTK_by_parts_low_freq_factor": 1.5,
    "NTK_by_parts_high_freq_factor": 3.0,
    "NTK_original_ctx_len": 29,
    "rotary_base": 50,
    "rotary_dim": 16,
    "d_head": 17,
}
KINDS: dict[str, dict[str, Any]] = {
    "ARENA's": {"attn_only": True, "normalization_type": None, "positional_embedding_type": "shortformer"},
    "GPT-2 folded": {"normalization_type": "LNPre", "act_fn": "gelu_new"},
    "GPT-2 by layers": {"scale_attn_by_inverse_layer_idx": True, "act_fn": "gelu_fast", "eps": 0.3},
    "GPT-Neo": {**LOCAL, "use_attn_scale": False, "act_fn": "relu"},
    "OPT": {"act_fn": "relu", "positional_embedding_type": "shortformer"},
    "NeoX": {**ROTARY, "rotary_dim": 4, "parallel_attn_mlp": True, "act_fn": "gelu"},
    "GPT-J": {**ROTARY, "rotary_dim": 4, "rotary_adjacent_pairs": True, "parallel_attn_mlp": True, "act_fn": "gelu_new"},
    "Llama": {**LLAMA, "eps": 0.3, "final_rms": True},
    "Llama 3": {**LLAMA, **NTK},
    "Llama without groups": {**LLAMA, "n_key_value_heads": None, "normalization_type": "RMSPre"},
    "adjacent pairs with norms": {**LLAMA, "rotary_adjacent_pairs": True, "use_qk_norm": True, "rotary_dim": 4},
    "Gemma 2": {**GEMMA, "attn_scores_soft_cap": 1.3, "output_logits_soft_cap": 2.7},
    "Gemma 2 folded": {**GEMMA, "normalization_type": "RMSPre"},
    "Gemma 3": {**GEMMA, "use_qk_norm": True, "rotary_base_local": 30, "rotary_scaling_factor": 3.0},
    "Qwen 3": {**LLAMA, "use_qk_norm": True, "attn_scale": 1.3},
    "OLMo 2": {**LLAMA, "n_key_value_heads": 6, "original_architecture": "Olmo2ForCausalLM", "d_model": 36},
    "attention only, rotary": {**ROTARY, "attn_only": True, "normalization_type": "RMS"},
    "attention only, capped": {"attn_only": True, "attn_scores_soft_cap": 0.7, "n_key_value_heads": 1},
}


def hooked(**fields: Any) -> HookedTransformer:
    """A random model in float64, every parameter and bias far from where it starts."""
    theirs = lens(**{"n_layers": 3, "d_mlp": 11, "attn_only": False, "dtype": torch.float64, **fields})
    if fields.get("use_NTK_by_parts_rope"):
        for block in theirs.blocks:
            block.attn.rotary_sin, block.attn.rotary_cos = tables(theirs.cfg, theirs.cfg.n_ctx)
    return theirs


def tables(cfg: Any, positions: int) -> tuple[Tensor, Tensor]:
    """Llama 3's rotary positions, a frequency at a time."""
    turns = []
    for at in range(0, cfg.rotary_dim, 2):
        frequency = cfg.rotary_base ** -(at / cfg.rotary_dim)
        cycles = cfg.NTK_original_ctx_len * frequency / (2 * math.pi)
        low, high = cfg.NTK_by_parts_low_freq_factor, cfg.NTK_by_parts_high_freq_factor
        kept = 0.0 if cycles < low else 1.0 if cycles > high else (cycles - low) / (high - low)
        turns.append(kept * frequency + (1 - kept) * frequency / cfg.NTK_by_parts_factor)
    angle = torch.arange(positions, dtype=torch.float64)[:, None] * torch.tensor(turns * 2, dtype=torch.float64)
    return angle.sin(), angle.cos()


def found(model: Model, nodes: dict[str, Node], tokens: Tensor) -> dict[str, Tensor]:
    """The values of nodes."""
    plan = compile_plan(nodes, selected=False)
    leaves = bind_model(leaves_of(plan), model.params, tokens)
    return plan.run(plan.once(leaves), leaves)


def inside(model: Model) -> dict[str, Node]:
    """What both call the same: the patterns, and the residual stream in front of every layer and behind the last."""
    nodes: dict[str, Node] = {}
    heads = [each for each in walk([model.graph]) if each.op == "attend"]
    assert len(heads) == model.config.n_layers
    for layer, each in enumerate(heads):
        pattern, v = each.inputs
        nodes[f"blocks.{layer}.attn.hook_pattern"] = pattern
        nodes[f"blocks.{layer}.hook_resid_pre"] = unnormed(v.inputs[0])
    last = model.graph
    while last.op != "unembed":
        last = last.inputs[0]
    return {**nodes, f"blocks.{len(heads) - 1}.hook_resid_post": unnormed(last.inputs[0])}


def unnormed(x: Node) -> Node:
    return x.inputs[0] if x.op in {"layer_norm", "rms_norm"} else x


def check(model: Model, theirs: HookedTransformer) -> None:
    tokens = torch.randint(model.vocab_size, (3, model.n_ctx), generator=torch.Generator().manual_seed(5))
    with torch.no_grad():
        logits, cache = theirs.run_with_cache(tokens)
    torch.testing.assert_close(model(tokens), logits, rtol=1e-12, atol=1e-9)
    for name, value in found(model, inside(model), tokens).items():
        torch.testing.assert_close(value, cache[name], rtol=1e-12, atol=1e-9, msg=lambda said, name=name: f"{name}: {said}")


@pytest.mark.parametrize("fields", KINDS.values(), ids=KINDS)
def test_logits_patterns_and_stream(fields: dict[str, Any]) -> None:
    theirs = hooked(**fields)
    model = load_model(theirs, torch.float64)
    check(model, theirs)
    assert model.dtype == torch.float64
