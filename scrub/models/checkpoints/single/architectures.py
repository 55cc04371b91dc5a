"""The architectures that are read from GGUF files: their metadata and tensors, as Hugging Face's config and names.

llama.cpp writes Llama's queries and keys with the two halves of what rotates together side by side (0, d/2, 1, ...),
Gemma's norms with the 1 added that they multiply by, and GPT-2's matrices [out, in].
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any, TypeAlias

from torch import Tensor

from scrub.models.checkpoints.single.said import Said
from scrub.text.errors import ScrubError
from scrub.text.files import shown
from scrub.text.wording import short

Fields: TypeAlias = dict[str, Any]
Turn: TypeAlias = Callable[[Tensor], Tensor]

_GEMMA_LARGE = {46, 62}  # the numbers of layers of Gemma 2's and 3's 27B, whose scale is that of d_model / heads


@dataclass(frozen=True)
class Architecture:
    """One architecture: what its metadata say, and Hugging Face's names of its tensors by ggml's, with their suffix.

    `layer` are those of every layer, without what is before them; `optional` may be missing, all or none of a group
    (the field that says so, and their names).
    `turn(fields, name)` is how a tensor's values are turned, with ggml's name in a layer; None: as it is.
    """

    fields: Callable[[Said], Fields]
    model: Mapping[str, str]
    layer: Mapping[str, str]
    inside: str = "model.layers"
    optional: Mapping[str, Mapping[str, str]] | None = None
    turn: Callable[[Fields, str], Turn | None] | None = None


def _sizes(said: Said) -> Fields:
    """Read what all decoders with rotary positions say."""
    said.refuse("expert_count", 0, "experts")
    said.refuse("expert_used_count", 0, "experts")
    said.refuse("attention.causal", True, "attention to later positions")
    for name in ("tensor_data_layout", "vocab_size"):  # which the tensors themselves say
        said.get(name)
    width, heads = said.whole("embedding_length"), said.whole("attention.head_count")
    d_head = said.whole("attention.key_length", width // heads if width % heads == 0 else None)
    for name in ("attention.value_length", "rope.dimension_count"):
        said.refuse(name, d_head, f"another one than the {d_head} of a head's queries and keys")
    if d_head % 2:
        said.wrong("attention.key_length", d_head, "an even number, as rotary positions turn pairs")
    kv_heads = said.whole("attention.head_count_kv", heads)
    if heads % kv_heads:
        said.wrong("attention.head_count_kv", kv_heads, f"a divisor of the {heads} heads")
    return {
        "max_position_embeddings": said.whole("context_length"),
        "hidden_size": width,
        "intermediate_size": said.whole("feed_forward_length"),
        "num_hidden_layers": said.whole("block_count", most=4096),
        "num_attention_heads": heads,
        "num_key_value_heads": kv_heads,
        "head_dim": d_head,
        "rms_norm_eps": said.real("attention.layer_norm_rms_epsilon"),
    }


def _rotary(said: Said, default: float | None = 1e4) -> Fields:
    """Read the base of rotary positions, and how they are scaled."""
    said.get("rope.scaling.finetuned")
    return {"rope_theta": said.real("rope.freq_base", default), "rope_scaling": _scaling(said)}


def _scaling(said: Said) -> Fields | None:
    kind, older = said.text("rope.scaling.type", "none"), said.get("rope.scale_linear")
    if older is not None and said.get("rope.scaling.type") is None:
        kind = "linear"
    if kind == "none":
        for name in ("factor", "attn_factor"):
            said.refuse(f"rope.scaling.{name}", 1.0, "a scaling of positions and no type of it")
        said.get("rope.scaling.original_context_length")  # before it was trained on more, without a scaling
        return None
    factor = said.real("rope.scaling.factor" if older is None else "rope.scale_linear")
    said.refuse("rope.scaling.attn_factor", 1.0, "rotary positions that scale scores")
    if kind == "linear":
        said.get("rope.scaling.original_context_length")
        return {"rope_type": "linear", "factor": factor}
    if kind == "yarn":
        original = said.whole("rope.scaling.original_context_length")
        return {"rope_type": "yarn", "factor": factor, "original_max_position_embeddings": original}
    raise ScrubError(
        f"{shown(said.path)} scales rotary positions by {short(kind)}: of a GGUF's scalings, scrub reads linear, yarn "
        "and Llama 3's"
    )


def _decoder(model_type: str, said: Said) -> Fields:
    return {"model_type": model_type, **_sizes(said), **_rotary(said)}


def _gemma(model_type: str, pattern: int, said: Said) -> Fields:
    """Read a Gemma 2 or 3: every `pattern`-th layer sees all positions, the others a window."""
    sizes = _sizes(said)
    layers, width, heads = (sizes[name] for name in ("num_hidden_layers", "hidden_size", "num_attention_heads"))
    kinds = _windows(said, layers, pattern)
    caps = {
        f"{name}_logit_softcapping": said.real(f"{name}_logit_softcapping")
        if said.get(f"{name}_logit_softcapping") is not None
        else None
        for name in ("attn", "final")
    }
    rotary = _rotary(said, 1e4 if model_type == "gemma2" else None)
    if model_type != "gemma2":
        rotary["rope_local_base_freq"] = said.real("rope.freq_base_swa", 1e4)
    return {
        "model_type": model_type,
        **sizes,
        **rotary,
        **caps,
        "sliding_window": said.whole("attention.sliding_window"),
        "layer_types": ["sliding_attention" if slides else "full_attention" for slides in kinds],
        "query_pre_attn_scalar": width // heads if layers in _GEMMA_LARGE else sizes["head_dim"],
    }


def _windows(said: Said, layers: int, pattern: int) -> list[bool]:
    """Tell which layers have a window; a file may say it of each, or every how many layers have none."""
    found = said.get("attention.sliding_window_pattern")
    if isinstance(found, list):
        if len(found) != layers or not all(isinstance(each, bool) for each in found):
            said.wrong("attention.sliding_window_pattern", found, f"a yes or no for each of the {layers} layers")
        return [bool(each) for each in found]
    every = said.whole("attention.sliding_window_pattern", pattern)
    return [bool((at + 1) % every) for at in range(layers)]


def _gpt2(said: Said) -> Fields:
    said.refuse("attention.causal", True, "attention to later positions")
    said.get("vocab_size")
    width = said.whole("embedding_length")
    return {
        "model_type": "gpt2",
        "n_positions": said.whole("context_length"),
        "n_embd": width,
        "n_layer": said.whole("block_count", most=4096),
        "n_head": said.whole("attention.head_count"),
        "n_inner": said.whole("feed_forward_length", 4 * width),
        "layer_norm_epsilon": said.real("attention.layer_norm_epsilon"),
        "activation_function": "gelu_new",
    }


def half_rotation(heads: int, value: Tensor) -> Tensor:
    """Turn rows of heads from pairs that rotate together side by side to the first of all pairs, then the second."""
    return value.reshape(heads, -1, 2, *value.shape[1:]).transpose(1, 2).reshape(value.shape)


def _llama_turn(fields: Fields, name: str) -> Turn | None:
    kind = name.partition(".")[0]
    heads = {"attn_q": fields["num_attention_heads"], "attn_k": fields["num_key_value_heads"]}.get(kind)
    return None if heads is None else partial(half_rotation, heads)


def _gemma_turn(fields: Fields, name: str) -> Turn | None:
    del fields
    return (lambda value: value.float() - 1) if name.endswith("norm.weight") else None


def _gpt2_turn(fields: Fields, name: str) -> Turn | None:
    del fields
    matrices = {"attn_qkv.weight", "attn_output.weight", "ffn_up.weight", "ffn_down.weight"}
    return (lambda value: value.mT) if name in matrices else None


def _named(pairs: Mapping[str, str], *suffixes: str) -> dict[str, str]:
    return {f"{ours}.{end}": f"{theirs}.{end}" for ours, theirs in pairs.items() for end in suffixes}


HEAD = "output.weight"  # without it, the embedding is the unembedding too
_MODEL = _named({"token_embd": "model.embed_tokens", "output_norm": "model.norm", "output": "lm_head"}, "weight")
_QKV = {f"attn_{each}": f"self_attn.{each}_proj" for each in "qkv"}
_ATTENTION = {**_QKV, "attn_output": "self_attn.o_proj"}
_MLP = {f"ffn_{each}": f"mlp.{each}_proj" for each in ("gate", "up", "down")}
_MATRICES = {**_ATTENTION, **_MLP}
_PRE_NORMS = {"attn_norm": "input_layernorm", "ffn_norm": "post_attention_layernorm"}
_QK_NORMS = {"attn_q_norm": "self_attn.q_norm", "attn_k_norm": "self_attn.k_norm"}
_GEMMA_NORMS = {
    "attn_norm": "input_layernorm",
    "post_attention_norm": "post_attention_layernorm",
    "ffn_norm": "pre_feedforward_layernorm",
    "post_ffw_norm": "post_feedforward_layernorm",
}

ARCHITECTURES: dict[str, Architecture] = {
    "llama": Architecture(
        partial(_decoder, "llama"),
        _MODEL,
        _named({**_MATRICES, **_PRE_NORMS}, "weight"),
        optional={"attention_bias": _named(_ATTENTION, "bias"), "mlp_bias": _named(_MLP, "bias")},
        turn=_llama_turn,
    ),
    "qwen2": Architecture(
        partial(_decoder, "qwen2"),
        _MODEL,
        _named({**_MATRICES, **_PRE_NORMS}, "weight") | _named(_QKV, "bias"),
    ),
    "qwen3": Architecture(
        partial(_decoder, "qwen3"),
        _MODEL,
        _named({**_MATRICES, **_PRE_NORMS, **_QK_NORMS}, "weight"),
        optional={"attention_bias": _named(_ATTENTION, "bias")},
    ),
    "gemma2": Architecture(
        partial(_gemma, "gemma2", 2), _MODEL, _named({**_MATRICES, **_GEMMA_NORMS}, "weight"), turn=_gemma_turn
    ),
    "gemma3": Architecture(
        partial(_gemma, "gemma3_text", 6),
        _MODEL,
        _named({**_MATRICES, **_GEMMA_NORMS, **_QK_NORMS}, "weight"),
        turn=_gemma_turn,
    ),
    "gpt2": Architecture(
        _gpt2,
        _named({"token_embd": "transformer.wte", "position_embd": "transformer.wpe", "output": "lm_head"}, "weight")
        | _named({"output_norm": "transformer.ln_f"}, "weight", "bias"),
        _named(
            {
                "attn_norm": "ln_1",
                "attn_qkv": "attn.c_attn",
                "attn_output": "attn.c_proj",
                "ffn_norm": "ln_2",
                "ffn_up": "mlp.c_fc",
                "ffn_down": "mlp.c_proj",
            },
            "weight",
            "bias",
        ),
        inside="transformer.h",
        turn=_gpt2_turn,
    ),
}
