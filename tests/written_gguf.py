"""GGUF files of random models of transformers, written as llama.cpp's converter does, by the package gguf."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import gguf
import numpy as np
import torch

if TYPE_CHECKING:
    from transformers import PreTrainedModel

SIZES: dict[str, Any] = {
    "hidden_size": 96,
    "intermediate_size": 160,
    "num_hidden_layers": 2,
    "num_attention_heads": 6,
    "num_key_value_heads": 2,
    "head_dim": 16,
    "max_position_embeddings": 23,
    "vocab_size": 37,
    "bos_token_id": 1,
    "eos_token_id": 2,
}
GPT2_SIZES: dict[str, Any] = {"n_layer": 2, "n_head": 3, "n_embd": 96, "n_positions": 23, "vocab_size": 37}


def random_model(model_type: str, **fields: Any) -> PreTrainedModel:
    """A random model whose norms and biases aren't the first ones."""
    from transformers import AutoConfig, AutoModelForCausalLM

    torch.manual_seed(0)
    sizes = GPT2_SIZES if model_type == "gpt2" else SIZES
    config = AutoConfig.for_model(model_type, **{**sizes, **fields})
    theirs = AutoModelForCausalLM.from_config(config, attn_implementation="eager").eval()
    with torch.no_grad():
        for parameter in theirs.parameters():
            parameter.add_(torch.randn_like(parameter), alpha=0.2)
    return theirs


def unchanged(writer: gguf.GGUFWriter) -> None:
    """Add no metadata."""
    del writer


def write_gguf(
    path: Path,
    theirs: PreTrainedModel,
    quantisation: str = "F32",
    more: Callable[[gguf.GGUFWriter], None] = unchanged,
    without: tuple[str, ...] = (),
    tensors: Mapping[str, np.ndarray] | None = None,
) -> Path:
    """Write a model; `more` adds metadata, `without` leaves out, `tensors` adds or replaces tensors by ggml's names."""
    config = theirs.config
    architecture = {"gemma3_text": "gemma3"}.get(config.model_type, config.model_type)
    writer = gguf.GGUFWriter(path, architecture)
    layers = _sizes(writer, config)
    more(writer)
    names = gguf.get_tensor_name_map(getattr(gguf.MODEL_ARCH, architecture.upper()), layers)
    found: dict[str, np.ndarray] = {}
    tied = config.tie_word_embeddings
    for name, value in theirs.state_dict().items():
        if tied and name == "lm_head.weight":
            continue
        there = names.get_name(name, (".weight", ".bias"))
        assert there is not None, name
        found[there] = _as_converted(architecture, config, name, value)
    for name, value in {**found, **(tensors or {})}.items():
        if name not in without:
            _add(writer, name, value, quantisation)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


def interleaved(value: np.ndarray, heads: int) -> np.ndarray:
    """Turn the rows of heads from halves to pairs, as llama.cpp's converter and Meta's files have them."""
    return value.reshape(heads, 2, -1, *value.shape[1:]).swapaxes(1, 2).reshape(value.shape)


def _sizes(writer: gguf.GGUFWriter, config: Any) -> int:
    if config.model_type == "gpt2":
        writer.add_context_length(config.n_positions)
        writer.add_embedding_length(config.n_embd)
        writer.add_block_count(config.n_layer)
        writer.add_feed_forward_length(4 * config.n_embd)
        writer.add_head_count(config.n_head)
        writer.add_layer_norm_eps(config.layer_norm_epsilon)
        return int(config.n_layer)
    writer.add_context_length(config.max_position_embeddings)
    writer.add_embedding_length(config.hidden_size)
    writer.add_block_count(config.num_hidden_layers)
    writer.add_feed_forward_length(config.intermediate_size)
    writer.add_head_count(config.num_attention_heads)
    writer.add_head_count_kv(config.num_key_value_heads)
    writer.add_layer_norm_rms_eps(config.rms_norm_eps)
    writer.add_key_length(SIZES["head_dim"])
    writer.add_value_length(SIZES["head_dim"])
    writer.add_vocab_size(config.vocab_size)
    if config.model_type == "llama":
        writer.add_rope_dimension_count(SIZES["head_dim"])
    rope = config.rope_parameters
    writer.add_rope_freq_base(rope.get("full_attention", rope).get("rope_theta"))
    if config.model_type.startswith("gemma"):
        writer.add_sliding_window(config.sliding_window)
    if config.model_type == "gemma2":
        writer.add_attn_logit_softcapping(config.attn_logit_softcapping)
        writer.add_final_logit_softcapping(config.final_logit_softcapping)
    return int(config.num_hidden_layers)


def _as_converted(architecture: str, config: Any, name: str, value: torch.Tensor) -> np.ndarray:
    found = value.detach().float().numpy()
    if architecture == "llama" and ".q_proj." in name:
        return interleaved(found, config.num_attention_heads)
    if architecture == "llama" and ".k_proj." in name:
        return interleaved(found, config.num_key_value_heads)
    if architecture.startswith("gemma") and "norm" in name:
        return found + 1
    if architecture == "gpt2" and any(part in name for part in ("c_attn.w", "c_proj.w", "c_fc.w")):
        return found.T
    return found


def _add(writer: gguf.GGUFWriter, name: str, value: np.ndarray, quantisation: str) -> None:
    kind = gguf.GGMLQuantizationType[quantisation if value.ndim == 2 else "F32"]
    writer.add_tensor(name, gguf.quantize(np.ascontiguousarray(value, np.float32), kind), raw_dtype=kind)
