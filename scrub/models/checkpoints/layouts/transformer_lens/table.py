"""Where the parameters of a decoder are among TransformerLens's tensors."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

import torch
from einops import rearrange
from torch import Tensor

from scrub.models.checkpoints.layouts.transformer_lens.fields import NORMS, Fields
from scrub.models.checkpoints.stored import StoredTensor
from scrub.models.checkpoints.tensors import EXACT, Filled, From, Source, Sources


def table(said: Fields) -> Sources:
    """Find every parameter of the graph."""
    found: dict[str, Source] = {
        "embed.weight": From("embed.W_E", (said.d_vocab, said.d_model)),
        "unembed.weight": From("unembed.W_U", (said.d_model, said.outputs), _turned),
        "unembed.bias": From("unembed.b_U", (said.outputs,)),
        **_norm(said, "final_ln", "ln_final"),
    }
    if not said.rotates:
        found["pos.weight"] = From("pos_embed.W_pos", (said.n_ctx, said.d_model))
    for layer in range(said.n_layers):
        found |= _norms(said, layer) | _attention(said, layer) | (_mlp(said, said.mlp, layer) if said.mlp else {})
    return found


def _norms(said: Fields, layer: int) -> dict[str, Source]:
    """Find the norms of a layer. Those behind heads and MLP are never folded, where there are such in front, too."""
    ours, theirs, found = f"layers.{layer}", f"blocks.{layer}", dict[str, Source]()
    for name, of in [("ln1", "ln1"), ("ln2", "ln2")] if said.mlp else [("ln", "ln1")]:
        found |= _norm(said, f"{ours}.{name}{'_post' * (said.norms == 'after')}", f"{theirs}.{of}")
        if said.norms == "both":
            found |= _norm(said, f"{ours}.{name}_post", f"{theirs}.{of}_post", own=True)
    return found


def _norm(said: Fields, ours: str, theirs: str, own: bool = False) -> dict[str, Source]:
    """Find the weight and the bias of a norm. One that is folded into what reads it has none of its `own`."""
    if said.normalization is None:
        return {}
    vector, kind = (said.d_model,), said.normalization
    if kind.endswith("Pre") and not own:
        return {f"{ours}.weight": Filled(vector, 1.0), f"{ours}.bias": Filled(vector, 0.0)}
    bias = {f"{ours}.bias": From(f"{theirs}.b", vector)} if NORMS[kind] == "layer" else {}
    return {f"{ours}.weight": From(f"{theirs}.w", vector), **bias}


def _attention(said: Fields, layer: int) -> dict[str, Source]:
    """Find the parameters of a layer's heads."""
    ours, theirs = f"layers.{layer}", f"blocks.{layer}.attn"
    shared = "" if said.n_key_value_heads is None else "_"
    return {
        **_slot(said, layer, "q", said.n_heads, "", said.scale(layer)),
        **_slot(said, layer, "k", said.kv_heads, shared),
        **_slot(said, layer, "v", said.kv_heads, shared),
        f"{ours}.wo": From(f"{theirs}.W_O", (said.n_heads, said.d_head, said.d_model), _turned),
        f"{ours}.bo": From(f"{theirs}.b_O", (said.d_model,)),
    }


def _slot(said: Fields, layer: int, slot: str, heads: int, mark: str, times: float = 1.0) -> dict[str, Source]:
    """Find the parameters that make queries, keys or values, and of their norm; `times` is what they are scaled by."""
    ours, theirs = f"layers.{layer}", f"blocks.{layer}.attn"
    ordered, norm = _ordered(said, slot), said.qk_norm if slot != "v" else None
    found: dict[str, Source] = {}
    if norm is not None:
        name = f"{theirs}.{slot}_norm.w"
        of_all = From(
            name, (heads * said.d_head,), lambda value: ordered(rearrange(value, "(h d) -> h d", h=heads)), times
        )
        of_each = From(name, (said.d_head,), ordered, times)
        found[f"{ours}.{slot}_norm.weight"] = of_all if norm == "all" else of_each
        times = 1.0  # a norm takes away what its input is multiplied by
    weight, bias = (f"{theirs}.{mark}{kind}_{slot.upper()}" for kind in "Wb")
    found[f"{ours}.w{slot}"] = From(weight, (heads, said.d_model, said.d_head), lambda value: ordered(value).mT, times)
    found[f"{ours}.b{slot}"] = From(bias, (heads, said.d_head), ordered, times)
    return found


def _ordered(said: Fields, slot: str) -> Callable[[Tensor], Tensor]:
    """Put what turns, in pairs of neighbours, into the order of ours: the first half turns with the second."""
    if slot == "v" or not said.rotary_adjacent_pairs:
        return lambda value: value
    width = said.rotates
    order = [*range(0, width, 2), *range(1, width, 2), *range(width, said.d_head)]
    return lambda value: value[..., order]


def _mlp(said: Fields, width: int, layer: int) -> dict[str, Source]:
    """Find the parameters of a layer's MLP."""
    ours, theirs = f"layers.{layer}", f"blocks.{layer}.mlp"
    into = From(f"{theirs}.b_in", (width,))
    back = From(f"{theirs}.W_out", (width, said.d_model), _turned)
    out = From(f"{theirs}.b_out", (said.d_model,))
    found: dict[str, Source] = {f"{ours}.w_in": From(f"{theirs}.W_in", (said.d_model, width), _turned)}
    found[f"{ours}.w_out"] = back
    if not said.gated_mlp:
        return found | {f"{ours}.b_in": into, f"{ours}.b_out": out}
    found[f"{ours}.w_gate"] = From(f"{theirs}.W_gate", (said.d_model, width), _turned)
    none = Filled((width,), 0.0)
    return found | {f"{ours}.b_gate": none, f"{ours}.b_in": none, f"{ours}.b_out": _Behind(out, into, back)}


@dataclass(frozen=True)
class _Behind:
    """The bias of a gated MLP's output. TransformerLens adds b_in behind the gate, so W_out makes a part of it."""

    out: From
    into: From
    weight: From

    def read(self, stored: Mapping[str, StoredTensor], dtype: torch.dtype) -> Tensor:
        """Read the values in `dtype`. Raises ScrubError as :func:`read_values` does."""
        exact = dtype if dtype in EXACT else torch.float32
        out, into, weight = (each.read(stored, exact) for each in (self.out, self.into, self.weight))
        return (out + weight @ into).to(dtype)


def held(sources: Sources) -> Iterator[tuple[str, tuple[int, ...]]]:
    """List the tensors that are read, with their shapes."""
    for each in sources.values():
        for part in (each.out, each.into, each.weight) if isinstance(each, _Behind) else [each]:
            if isinstance(part, From):
                yield part.name, part.shape


def _turned(value: Tensor) -> Tensor:
    """Take [..., in, out] as [..., out, in]."""
    return value.mT
