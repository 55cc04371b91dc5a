"""Models of TransformerLens with every setting that the decoder has: its own logits, patterns and stream are ours.

TransformerLens runs in float64 from end to end, but for the frequencies of use_NTK_by_parts_rope, which are float32:
its tables are then put in, written out here.
"""

from __future__ import annotations

import math
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest
import torch
from made import lens, lens_fields, write_lens
from torch import Tensor

from scrub.graph.node import Node, walk
from scrub.models.families import family_of
from scrub.models.model import Model, load_model, save_model
from scrub.plan.leaves import bind_model, leaves_of
from scrub.plan.plan import compile_plan

if TYPE_CHECKING:
    from transformer_lens import HookedTransformer

pytestmark = pytest.mark.filterwarnings("ignore:HookedTransformer is deprecated:DeprecationWarning")

LOCAL = {"use_local_attn": True, "window_size": 3, "attn_types": ["local", "global", "local"]}
ROTARY = {"positional_embedding_type": "rotary", "d_head": 6}
LLAMA = {
    **ROTARY,
    "normalization_type": "RMS",
    "n_heads": 6,
    "n_key_value_heads": 2,
    "act_fn": "silu",
    "gated_mlp": True,
}
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
    "GPT-J": {
        **ROTARY,
        "rotary_dim": 4,
        "rotary_adjacent_pairs": True,
        "parallel_attn_mlp": True,
        "act_fn": "gelu_new",
    },
    "Llama": {**LLAMA, "eps": 0.3, "final_rms": True},
    "Llama 3": {**LLAMA, **NTK},
    "Llama without groups": {**LLAMA, "n_key_value_heads": None, "normalization_type": "RMSPre"},
    "adjacent pairs with norms": {**LLAMA, "rotary_adjacent_pairs": True, "use_qk_norm": True, "rotary_dim": 4},
    "Gemma 2": {**GEMMA, "attn_scores_soft_cap": 1.3, "output_logits_soft_cap": 2.7},
    "Gemma 2 folded": {**GEMMA, "normalization_type": "RMSPre"},
    "Gemma 3": {**GEMMA, "use_qk_norm": True, "rotary_base_local": 30, "rotary_scaling_factor": 3.0},
    "Qwen 3": {**LLAMA, "use_qk_norm": True, "attn_scale": 1.3},
    "OLMo 2": {**LLAMA, "n_key_value_heads": 6, "original_architecture": "Olmo2ForCausalLM", "d_model": 36},
    "encoder": {"attention_dir": "bidirectional", "act_fn": "relu", "d_vocab_out": 5},
    "attention only, rotary": {**ROTARY, "attn_only": True, "normalization_type": "RMS"},
    "attention only, capped": {"attn_only": True, "attn_scores_soft_cap": 0.7},
    "attention only, capped logits": {"attn_only": True, "output_logits_soft_cap": 0.7},
    "attention only, grouped": {"attn_only": True, "n_key_value_heads": 1},
    "attention only, windows": {"attn_only": True, **LOCAL},
    "attention only, normed heads": {"attn_only": True, "use_qk_norm": True, "normalization_type": "LNPre"},
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
    tokens = torch.randint(model.vocab_size, (3, min(model.n_ctx, 23)), generator=torch.Generator().manual_seed(5))
    with torch.no_grad():
        logits, cache = theirs.run_with_cache(tokens)
    torch.testing.assert_close(model(tokens), logits, rtol=1e-12, atol=1e-9)
    for name, value in found(model, inside(model), tokens).items():
        torch.testing.assert_close(
            value, cache[name], rtol=1e-12, atol=1e-9, msg=lambda said, name=name: f"{name}: {said}"
        )


@pytest.mark.parametrize("fields", KINDS.values(), ids=KINDS)
def test_logits_patterns_and_stream(fields: dict[str, Any]) -> None:
    theirs = hooked(**fields)
    model = load_model(theirs, torch.float64)
    check(model, theirs)
    assert model.dtype == torch.float64


@pytest.mark.parametrize("kind", ["ARENA's", "GPT-J", "Gemma 3"])
def test_files_and_pairs_are_what_the_object_is(tmp_path: Path, kind: str) -> None:
    """A folder, (config, state dict) however the config is given, and what we save of it; each in float32."""
    theirs = hooked(**KINDS[kind]).float()
    model = load_model(theirs)
    assert (model.name, model.bos_token_id) == ("HookedTransformer", None)
    theirs.cfg.bos_token_id = 1
    said = lens_fields(theirs)
    for spec in (write_lens(tmp_path, theirs), (theirs.cfg, theirs.state_dict()), (said, theirs.state_dict())):
        again = load_model(spec)
        assert again.graph is model.graph
        assert all(value.equal(again.params[name]) for name, value in model.params.items())
        assert again.bos_token_id == 1
    save_model(model, tmp_path)
    assert load_model(tmp_path).config == model.config
    assert load_model(tmp_path).weights_hash == model.weights_hash


def test_families() -> None:
    """Attention-only models that need no more are of that family, with normalization or without."""
    names = {kind: family_of(load_model(hooked(**KINDS[kind])).config) for kind in KINDS}
    assert [kind for kind, name in names.items() if name == "attention_only"] == ["ARENA's"]


def test_what_begins_a_sequence() -> None:
    """The tokenizer's token; prompts begin with it unless its own library doesn't put it there."""
    theirs = hooked(**KINDS["ARENA's"])
    theirs.tokenizer = SimpleNamespace(bos_token_id=7)
    assert (load_model(theirs).bos_token_id, load_model(theirs).config.bos_before_prompts) == (7, True)
    theirs.cfg.default_prepend_bos = False
    assert load_model(theirs).config.bos_before_prompts is False


@pytest.mark.parametrize("name", ["blocks.1.attn.b_Q", "blocks.0.attn._b_V", "blocks.2.mlp.b_in", "blocks.1.mlp.b_out"])
def test_one_bias_is_enough(name: str) -> None:
    """That isn't zeros; the one behind a gate too, which becomes a part of the MLP's output's."""
    theirs = hooked(**KINDS["Llama"])
    with torch.no_grad():
        for key, value in theirs.named_parameters():
            if "b_" in key and key != name:
                value.zero_()
    model = load_model(theirs, torch.float64)
    assert model.config.biases == ({"Q": "q", "V": "v"}.get(name[-1], "mlp"),)
    check(model, theirs)


# made by TransformerLens of transformers' models


SIZES = {"vocab_size": 61, "hidden_size": 36, "intermediate_size": 37, "num_hidden_layers": 3}
HEADS = {**SIZES, "num_attention_heads": 6, "max_position_embeddings": 23, "bos_token_id": 1}
GROUPED = {**HEADS, "num_key_value_heads": 2}
GPT = {"vocab_size": 61, "bos_token_id": 1, "eos_token_id": 2}
WINDOWED = {"num_layers": 2, "attention_types": [[["global", "local"], 1]], "window_size": 5}
THEIRS: dict[str, dict[str, Any]] = {
    "MistralForCausalLM": {**GROUPED, "sliding_window": 5},
    "Qwen3ForCausalLM": {**GROUPED, "head_dim": 10},
    "GPTNeoXForCausalLM": {**HEADS, "hidden_size": 48},
    "GPTJForCausalLM": {**GPT, "n_embd": 30, "n_layer": 3, "n_head": 3, "n_positions": 23, "rotary_dim": 4},
    "GPTNeoForCausalLM": {**GPT, **WINDOWED, "hidden_size": 30, "num_heads": 5, "max_position_embeddings": 23},
    "Gemma2ForCausalLM": {**GROUPED, "head_dim": 10, "sliding_window": 5, "query_pre_attn_scalar": 7},
}
GEMMA_2 = {
    **GEMMA,
    **{"d_model": 36, "d_head": 10, "d_mlp": 37, "n_ctx": 23, "d_vocab": 61, "window_size": 5, "attn_scale": 7**0.5},
    **{"attn_scores_soft_cap": 50.0, "output_logits_soft_cap": 30.0, "rotary_dim": 10, "eps": 1e-6},
}


def of_transformers(folder: Path, kind: str) -> Any:
    """A random model, whose weights TransformerLens, which works on them in float32, doesn't round."""
    import transformers

    made = getattr(transformers, kind)
    theirs = made(made.config_class(**THEIRS[kind], architectures=[kind])).eval().double()
    generator = torch.Generator().manual_seed(7)
    for each in theirs.parameters():
        each.data.copy_((torch.randn(each.shape, generator=generator) * 20).round() / 64 + (each.ndim == 1))
    theirs.config.save_pretrained(folder)
    return theirs


def converted(folder: Path, kind: str, of: Any, processed: bool) -> HookedTransformer:
    """What TransformerLens makes of it; of its Gemmas, it knows the configs by their names on the hub alone."""
    from transformer_lens import HookedTransformer, HookedTransformerConfig
    from transformer_lens.loading_from_pretrained import get_pretrained_model_config, get_pretrained_state_dict

    if kind == "Gemma2ForCausalLM":
        more = {"n_layers": 3, "original_architecture": kind, "dtype": torch.float64, "device": "cpu"}
        cfg = HookedTransformerConfig(**{**GEMMA_2, **more})
    else:
        cfg = get_pretrained_model_config(str(folder), dtype=torch.float64, device="cpu")
        cfg.tokenizer_name = None
    made = HookedTransformer(cfg)
    names = ("fold_ln", "center_writing_weights", "center_unembed", "fold_value_biases")
    state = get_pretrained_state_dict(str(folder), cfg, of, torch.float64)
    made.load_and_process_state_dict(state, **dict.fromkeys(names, processed))
    for block in made.blocks if cfg.positional_embedding_type == "rotary" else []:  # which became float32
        attn, sizes = block.attn, (cfg.rotary_dim, cfg.n_ctx)
        attn.rotary_sin, attn.rotary_cos = attn.calculate_sin_cos_rotary(*sizes, attn._rotary_base(), torch.float64)
    return made


@pytest.mark.parametrize("kind", THEIRS)
def test_what_transformer_lens_makes_of_transformers(tmp_path: Path, kind: str) -> None:
    """As it is, it is the model that transformers' own files are; folded and centered, it is TransformerLens's."""
    of = of_transformers(tmp_path, kind)
    same = load_model(converted(tmp_path, kind, of, processed=False), torch.float64)
    tokens = torch.randint(61, (3, 23), generator=torch.Generator().manual_seed(5))
    torch.testing.assert_close(same(tokens), load_model(of, torch.float64)(tokens), rtol=0, atol=1e-10)
    folded = converted(tmp_path, kind, of, processed=True)
    assert folded.cfg.normalization_type in {"LNPre", "RMSPre"}
    check(load_model(folded, torch.float64), folded)
