"""Random models of every family in transformers, and transformers without its float32: no code of `scrub`.

transformers computes RMSNorm, rotary tables and eager softmax in float32, whatever a model's dtype. Inside `exact` all
of that is float64: a model that is made and run there agrees with any other way to compute it, up to rounding.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

VOCAB, CONTEXT = 61, 43  # CONTEXT positions are more than windows have, and than any scaling was trained on
LLAMA3 = {"rope_type": "llama3", "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0}
LLAMA3 |= {"rope_theta": 500.0, "original_max_position_embeddings": 16}
LINEAR = {"rope_type": "linear", "rope_theta": 500.0, "factor": 3.0}
SLIDES = ["sliding_attention", "full_attention", "sliding_attention"]


@dataclass(frozen=True)
class Shape:
    """The sizes of a model; a family whose heads share d_model takes heads times d_head for it."""

    layers: int = 3
    heads: int = 6
    kv_heads: int = 2
    d_head: int = 10
    d_model: int = 30  # of which transformers asks that heads divide it, even where they don't share it
    d_mlp: int = 37


GROUPED, ONE_KEY, ALONE = Shape(), Shape(2, 5, 1, 14, 35, 23), Shape(5, 3, 3, 6, 21, 41)
SHAPES = {"two of three": GROUPED, "one key head": ONE_KEY, "a key head each": ALONE}


@dataclass(frozen=True)
class Family:
    """What transformers calls it, and the fields by which it differs from others."""

    name: str
    fields: Mapping[str, Any] = field(default_factory=dict)
    config: str = ""  # where it isn't NAMEConfig
    split: bool = False  # whether d_model is what heads share


FAMILIES = {
    "llama": Family("Llama", {"attention_bias": True, "mlp_bias": True, "rope_parameters": LLAMA3}),
    "llama, tied and linear": Family("Llama", {"tie_word_embeddings": True, "rope_parameters": LINEAR}),
    "mistral": Family("Mistral", {"sliding_window": 5}),
    "qwen2": Family("Qwen2", split=True),
    "qwen2 with windows": Family("Qwen2", {"use_sliding_window": True, "sliding_window": 4, "max_window_layers": 1}),
    "qwen3": Family("Qwen3", {"attention_bias": True}),
    "gemma": Family("Gemma"),
    "gemma2": Family(
        "Gemma2",
        {
            "query_pre_attn_scalar": 7,
            "sliding_window": 5,
            "attn_logit_softcapping": 3.0,
            "final_logit_softcapping": 2.0,
        },
    ),
    "gemma3": Family("Gemma3", {"query_pre_attn_scalar": 7, "sliding_window": 5}, "Gemma3TextConfig"),
    "olmo": Family("Olmo", {"attention_bias": True}, split=True),
    "olmo2": Family("Olmo2", split=True),
    "olmo3": Family("Olmo3", {"sliding_window": 5}, split=True),
    "smollm3": Family("SmolLM3", {"no_rope_layer_interval": 2}),
    "neox": Family("GPTNeoX", {"rotary_pct": 0.45}, split=True),
    "neox in turn": Family("GPTNeoX", {"rotary_pct": 0.45, "use_parallel_residual": False}, split=True),
    "gptj": Family("GPTJ", {"rotary_dim": 4}),
    "phi": Family("Phi", {"partial_rotary_factor": 0.45}, split=True),
    "gpt_neo": Family("GPTNeo", {"window_size": 5}),
}


def made(name: str, shape: Shape = GROUPED, seed: int = 3, **more: Any) -> Any:
    """Make a model with weights that are far from what training begins with: biases are large, gains aren't 1."""
    import transformers

    family = FAMILIES[name]
    fields = {**_sizes(family, shape), **family.fields, **more}
    config = getattr(transformers, family.config or f"{family.name}Config")(**fields, attn_implementation="eager")
    theirs = getattr(transformers, f"{family.name}ForCausalLM")(config).eval()  # eval: nothing drops out
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for each in theirs.parameters():
            drawn = torch.randn(each.shape, generator=generator, dtype=torch.float64)
            each.copy_(drawn / each.shape[1] ** 0.5 * 1.7 if each.ndim > 1 else 0.5 + drawn)
    return theirs.requires_grad_(False)


def _sizes(family: Family, shape: Shape) -> dict[str, Any]:
    layers, heads, width = shape.layers, shape.heads, shape.heads * shape.d_head
    ends = {"vocab_size": VOCAB, "bos_token_id": 1, "eos_token_id": 1, "pad_token_id": 0}
    if family.name == "GPTJ":
        return {**ends, "n_layer": layers, "n_head": heads, "n_embd": width, "n_positions": CONTEXT}
    if family.name == "GPTNeo":
        types = (["global", "local", "local"] * layers)[:layers]
        own = {"num_layers": layers, "num_heads": heads, "hidden_size": width, "max_position_embeddings": CONTEXT}
        return {**ends, **own, "intermediate_size": shape.d_mlp, "attention_types": [[types, 1]]}
    sizes = {
        "hidden_size": width if family.split else shape.d_model,
        "intermediate_size": shape.d_mlp,
        "num_hidden_layers": layers,
        "num_attention_heads": heads,
        "max_position_embeddings": CONTEXT,
    }
    sizes |= {} if family.name == "GPTNeoX" else {"num_key_value_heads": shape.kv_heads}
    sizes |= {} if family.split else {"head_dim": shape.d_head}
    sizes |= {"layer_types": (SLIDES * layers)[:layers]} if family.name in {"Gemma2", "Gemma3", "Olmo3"} else {}
    return {**ends, **sizes}


@contextmanager
def exact() -> Iterator[None]:
    """Compute in float64 whatever transformers computes in float32. Models are to be made inside too."""
    before = torch.get_default_dtype()
    try:
        torch.set_default_dtype(torch.float64)
        with _Double():
            yield
    finally:
        torch.set_default_dtype(before)


class _Double(TorchFunctionMode):
    """Calls everything that is asked for float32 for float64 instead."""

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        del types
        if func is Tensor.float:
            return args[0].double()
        named = {name: _wider(value) for name, value in (kwargs or {}).items()}
        return func(*map(_wider, args), **named)


def _wider(value: Any) -> Any:
    return torch.float64 if value is torch.float32 else value


@dataclass
class Seen:
    """A run of a model: its logits, patterns by layer, and the stream in front of each layer and behind the last."""

    logits: Tensor
    patterns: tuple[Tensor, ...]
    streams: list[Tensor]


def layers_of(theirs: Any) -> nn.ModuleList:
    """Find the layers of a model: its one list of modules."""
    (found,) = (each for each in theirs.modules() if isinstance(each, nn.ModuleList))
    return found


@torch.no_grad()
def run(theirs: Any, tokens: Tensor) -> Seen:
    """Run a model with hooks in front of its layers and behind the last."""
    streams: list[Tensor] = []
    handles = [each.register_forward_pre_hook(_keep(streams), with_kwargs=True) for each in layers_of(theirs)]
    last = layers_of(theirs)[-1]
    handles.append(last.register_forward_hook(lambda _, __, out: streams.append(out[0] if type(out) is tuple else out)))
    try:
        found = theirs(tokens, output_attentions=True, use_cache=False)
    finally:
        for handle in handles:
            handle.remove()
    return Seen(found.logits, found.attentions, streams)


def _keep(streams: list[Tensor]) -> Any:
    return lambda _, args, named: streams.append(args[0] if args else named["hidden_states"])
