"""Random models of every family in transformers, and transformers without its float32: no code of `scrub`.

transformers computes RMSNorm, rotary tables and eager softmax in float32, whatever a model's dtype. Inside `exact` all
of that is float64: a model that is made and run there agrees with any other way to compute it, up to rounding.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
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
OUTPUTS = ("o_proj", "out_proj", "dense")  # what the module that reads all heads is called, and the last norm
FINAL = ("norm", "final_layer_norm", "final_layernorm", "ln_f")
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
    vocab: int = VOCAB
    context: int = CONTEXT


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


def made_gpt2(layers: int, heads: int, d_model: int, context: int = 11) -> Any:
    """Make a GPT-2, which has fields of its own, with weights at which every head and MLP matters."""
    from transformers import GPT2Config, GPT2LMHeadModel

    config = GPT2Config(
        vocab_size=VOCAB, n_positions=context, n_embd=d_model, n_layer=layers, n_head=heads, n_inner=13, bos_token_id=1,
        eos_token_id=1, attn_implementation="eager",
    )  # fmt: skip
    theirs = GPT2LMHeadModel(config).eval().requires_grad_(False)
    generator = torch.Generator().manual_seed(3)
    for name, value in theirs.named_parameters():
        drawn = torch.randn(value.shape, generator=generator, dtype=torch.float64)
        value.copy_(0.3 * drawn + float("ln_" in name and "weight" in name))
    return theirs


def _sizes(family: Family, shape: Shape) -> dict[str, Any]:
    layers, heads, width = shape.layers, shape.heads, shape.heads * shape.d_head
    ends = {"vocab_size": shape.vocab, "bos_token_id": 1, "eos_token_id": 1, "pad_token_id": 0}
    if family.name == "GPTJ":
        return {**ends, "n_layer": layers, "n_head": heads, "n_embd": width, "n_positions": shape.context}
    if family.name == "GPTNeo":
        types = (["global", "local", "local"] * layers)[:layers]
        own = {"num_layers": layers, "num_heads": heads, "hidden_size": width, "max_position_embeddings": shape.context}
        return {**ends, **own, "intermediate_size": shape.d_mlp, "attention_types": [[types, 1]]}
    sizes = {
        "hidden_size": width if family.split else shape.d_model,
        "intermediate_size": shape.d_mlp,
        "num_hidden_layers": layers,
        "num_attention_heads": heads,
        "max_position_embeddings": shape.context,
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


Point = tuple[str, int]  # what is seen or changed, and in which layer
Change = Callable[[Tensor], Tensor]


@dataclass
class Seen:
    """A run of a model: its logits, patterns by layer, and what stood at every point.

    "stream" enters a layer (the last: the final norm), "z" what all heads have read side by side, "attention" what they
    write into the stream, "into mlp" what the norm in front of the MLP reads, "q", "k", "v" what projections give.
    """

    logits: Tensor
    patterns: tuple[Tensor, ...] = ()
    at: dict[Point, Tensor] = field(default_factory=dict)

    @property
    def streams(self) -> list[Tensor]:
        """The stream in front of each layer and behind the last."""
        return [value for (what, _), value in sorted(self.at.items()) if what == "stream"]


def layers_of(theirs: Any) -> nn.ModuleList:
    """Find the layers of a model: its one list of modules."""
    (found,) = (each for each in theirs.modules() if isinstance(each, nn.ModuleList))
    return found


def inside(theirs: Any, layer: int, *names: str) -> nn.Module:
    """Find a module of a layer by the end of its name, which is one of these."""
    named = {name.rpartition(".")[2]: each for name, each in layers_of(theirs)[layer].named_modules()}
    return next(named[name] for name in names if name in named)


def run(theirs: Any, tokens: Tensor, changes: Mapping[Point, Change] | None = None) -> Seen:
    """Run a model on tokens, with what stands at some points changed."""
    seen, handles, changes = Seen(torch.empty(0)), [], changes or {}

    def at(point: Point, value: Tensor) -> Tensor:
        seen.at[point] = changes[point](value.clone()) if point in changes else value.clone()
        return seen.at[point]

    def before(module: nn.Module, point: Point) -> None:
        def hook(_: nn.Module, args: Any, named: Any) -> Any:
            if args:
                return (at(point, args[0]), *args[1:]), named
            return args, {**named, "hidden_states": at(point, named["hidden_states"])}

        handles.append(module.register_forward_pre_hook(hook, with_kwargs=True))

    def after(module: nn.Module, point: Point) -> None:
        handles.append(module.register_forward_hook(lambda _, __, out: at(point, out)))

    for layer, each in enumerate(layers_of(theirs)):
        before(each, ("stream", layer))
        before(inside(theirs, layer, *OUTPUTS), ("z", layer))
        posts = hasattr(each, "pre_feedforward_layernorm")
        after(each.post_attention_layernorm if posts else inside(theirs, layer, *OUTPUTS), ("attention", layer))
        norms = ("pre_feedforward_layernorm", "post_attention_layernorm", "ln_2")
        if norm := next((getattr(each, name) for name in norms if hasattr(each, name)), None):
            before(norm, ("into mlp", layer))
        for slot in "qkv":
            if f"{slot}_proj" in {name.rpartition(".")[2] for name, _ in each.named_modules()}:
                after(inside(theirs, layer, f"{slot}_proj"), (slot, layer))
        if hasattr(each, "attention") and hasattr(each.attention, "query_key_value"):
            after(each.attention.query_key_value, ("qkv", layer))
    count = len(layers_of(theirs))
    body = getattr(theirs, theirs.base_model_prefix)
    before(next(getattr(body, name) for name in FINAL if hasattr(body, name)), ("stream", count))
    try:
        with torch.no_grad():
            found = theirs(tokens, output_attentions=True, use_cache=False)
    finally:
        for handle in handles:
            handle.remove()
    assert set(changes) <= set(seen.at), "a hook was never called"
    seen.logits, seen.patterns = found.logits, found.attentions
    return seen
