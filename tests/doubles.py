"""Models in other libraries, and what plain torch hooks see and change in them; no code of `scrub`.

`double` is a GPT-2 of `small.py` in transformers, `random_double` another one whose weights float32 holds, for those
that read its folder; both are run with hooks. `lens` is an attention-only model in TransformerLens, which has hooks
of its own.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np
import torch
from small import Small
from torch import Tensor, nn

if TYPE_CHECKING:
    from transformer_lens import HookedTransformer
    from transformers import GPT2LMHeadModel

LAYERS, HEADS, D_HEAD, POSITIONS = 3, 5, 7, 31  # of random ones
ACTIVATIONS = {"gelu_tanh": "gelu_new", "gelu": "gelu", "relu": "relu"}
Point = tuple[str, int]  # what is seen or changed, and in which layer
Change = Callable[[Tensor], Tensor]


@dataclass
class Seen:
    """A run: its logits, patterns by layer [batch, head, query, key], and what stood at every point.

    "stream" enters a layer (the last: ln_f), "qkv" is what c_attn gives, "z" what all heads have read side by side,
    "ln_2" what that reads, "mlp" what it writes, and ("emb", 0) what the tokens are embedded as.
    """

    logits: Tensor = field(default_factory=lambda: torch.empty(0))
    patterns: tuple[Tensor, ...] = ()
    at: dict[Point, Tensor] = field(default_factory=dict)

    def z(self) -> list[Tensor]:
        """What all heads have read, by layer."""
        return [self.at["z", layer] for layer in range(len(self.patterns))]


class Double:
    """A GPT-2 in transformers. Its Conv1D modules compute x @ weight + bias, with all heads side by side."""

    def __init__(self, make: Callable[[], GPT2LMHeadModel]) -> None:
        self.make = make

    @cached_property
    def theirs(self) -> GPT2LMHeadModel:
        """Made when it is asked for: to import transformers takes seconds."""
        return self.make()

    @property
    def layers(self) -> int:
        return len(self.theirs.transformer.h)

    @property
    def heads(self) -> int:
        return int(self.theirs.config.n_head)

    def columns(self, heads: int | Iterable[int], slot: str = "q") -> list[int]:
        """Where heads stand among all side by side: in z, or of a slot in what c_attn gives."""
        width = self.theirs.config.n_embd
        d_head, first = width // self.heads, "qkv".index(slot) * width
        chosen = [heads] if isinstance(heads, int) else heads
        return [first + head * d_head + at for head in chosen for at in range(d_head)]

    def run(self, tokens: Tensor, changes: Mapping[Point, Change] | None = None) -> Seen:
        """A run on sequences of inputs, with what stands at some points changed."""
        seen, handles, changes = Seen(), [], changes or {}

        def at(point: Point, value: Tensor) -> Tensor:
            seen.at[point] = changes[point](value.clone()) if point in changes else value
            return seen.at[point]

        def before(module: nn.Module, point: Point) -> None:
            handles.append(module.register_forward_pre_hook(lambda _, args: (at(point, args[0]), *args[1:])))

        def after(module: nn.Module, point: Point) -> None:
            handles.append(module.register_forward_hook(lambda _, __, out: at(point, out)))

        body = self.theirs.transformer
        after(body.wte, ("emb", 0))
        for layer, block in enumerate(body.h):
            before(block, ("stream", layer))
            after(block.attn.c_attn, ("qkv", layer))
            before(block.attn.c_proj, ("z", layer))
            before(block.ln_2, ("ln_2", layer))
            after(block.mlp, ("mlp", layer))
        before(body.ln_f, ("stream", self.layers))
        try:
            with torch.no_grad():
                found = self.theirs(tokens, output_attentions=True, use_cache=False)
        finally:
            for handle in handles:
                handle.remove()
        assert set(changes) <= set(seen.at), "a hook was never called"
        seen.logits, seen.patterns = found.logits, found.attentions
        return seen

    def written(self, seen: Seen, layer: int, heads: int | Iterable[int]) -> Tensor:
        """What some heads write together into the residual stream."""
        columns = self.columns(heads)
        weight = self.theirs.transformer.h[layer].attn.c_proj.weight.detach()
        return seen.at["z", layer][..., columns] @ weight[columns]

    def read_by(self, layer: int, heads: int | Iterable[int], slots: str, stream: Tensor) -> Change:
        """Of what c_attn gives: some slots of some heads read another residual stream than the one there is."""
        block = self.theirs.transformer.h[layer]
        with torch.no_grad():
            instead = block.attn.c_attn.forward(block.ln_1.forward(stream))  # not called: that would hook again
        return put(instead, [column for slot in slots for column in self.columns(heads, slot)])


def put(other: Tensor, where: list[int] | slice = slice(None), positions: list[int] | slice = slice(None)) -> Change:
    """Something else stands in some columns, at some positions."""

    def change(value: Tensor) -> Tensor:
        rows, columns = (torch.zeros_like(value, dtype=torch.bool) for _ in range(2))
        rows[:, positions] = True
        columns[..., where] = True
        return torch.where(rows & columns, other.expand_as(value), value)

    return change


@dataclass(frozen=True)
class Predicted:
    """What logits say of the next tokens at scored positions, those of one sequence after another."""

    loss: np.ndarray
    logit: np.ndarray
    mean_logit: np.ndarray

    @staticmethod
    def of(logits: Tensor, tokens: np.ndarray, scored: np.ndarray) -> Predicted:
        logit = logits.gather(-1, torch.from_numpy(tokens[:, 1:])[..., None])[..., 0]
        found = (logits.logsumexp(-1) - logit, logit, logits.mean(-1))
        return Predicted(*(each[torch.from_numpy(scored)].numpy() for each in found))


def double(model: Small, attention: str = "eager") -> Double:
    """The same GPT-2 in transformers."""
    return Double(lambda: _with_weights_of(model, attention))


def _with_weights_of(model: Small, attention: str) -> GPT2LMHeadModel:
    from transformers import GPT2Config, GPT2LMHeadModel

    c, p = model.config, model.params
    config = GPT2Config(
        vocab_size=c.vocab_size,
        n_positions=c.n_ctx,
        n_embd=c.d_model,
        n_layer=c.n_layers,
        n_head=c.n_heads,
        n_inner=c.d_mlp,
        activation_function=ACTIVATIONS[c.activation],
        layer_norm_epsilon=c.layer_norm_eps,
        bos_token_id=0,
        eos_token_id=0,
        tie_word_embeddings=c.tied,
        attn_implementation=attention,
    )
    theirs = GPT2LMHeadModel(config).to(p["embed.weight"].dtype).eval()  # eval: nothing drops out
    body = theirs.transformer
    values = {body.wte.weight: p["embed.weight"], body.wpe.weight: p["pos.weight"]}
    values |= {theirs.lm_head.weight: p["embed.weight" if c.tied else "unembed.weight"]}
    values |= {body.ln_f.weight: p["final_ln.weight"], body.ln_f.bias: p["final_ln.bias"]}
    for layer, block in enumerate(body.h):
        ours = {name.removeprefix(f"layers.{layer}."): value for name, value in p.items()}
        into = torch.stack([ours["wq"], ours["wk"], ours["wv"]])  # [slot, head, d_head, d_model]
        values |= {
            block.ln_1.weight: ours["ln1.weight"],
            block.ln_1.bias: ours["ln1.bias"],
            block.attn.c_attn.weight: torch.einsum("shdm->mshd", into).flatten(1),
            block.attn.c_attn.bias: torch.stack([ours["bq"], ours["bk"], ours["bv"]]).flatten(),
            block.attn.c_proj.weight: torch.einsum("hmd->hdm", ours["wo"]).flatten(0, 1),
            block.attn.c_proj.bias: ours["bo"],
            block.ln_2.weight: ours["ln2.weight"],
            block.ln_2.bias: ours["ln2.bias"],
            block.mlp.c_fc.weight: ours["w_in"].T,
            block.mlp.c_fc.bias: ours["b_in"],
            block.mlp.c_proj.weight: ours["w_out"].T,
            block.mlp.c_proj.bias: ours["b_out"],
        }
    assert set(values) == set(theirs.parameters())
    with torch.no_grad():
        for parameter, value in values.items():
            parameter.copy_(value)
    return theirs


def random_double(
    vocab_size: int, positions: int = POSITIONS, layers: int = LAYERS, seed: int = 3, heads: int = HEADS
) -> Double:
    """One whose attention isn't flat, and whose LayerNorms and biases all do something. Its values are float32."""

    def make() -> GPT2LMHeadModel:
        from transformers import GPT2Config, GPT2LMHeadModel

        config = GPT2Config(
            vocab_size=vocab_size, n_positions=positions, n_embd=heads * D_HEAD, n_layer=layers, n_head=heads,
            n_inner=23, bos_token_id=0, eos_token_id=0, attn_implementation="eager",
        )  # fmt: skip
        theirs = GPT2LMHeadModel(config).eval()
        generator = torch.Generator().manual_seed(seed)
        with torch.no_grad():
            for name, value in theirs.named_parameters():
                shift = float("ln_" in name and "weight" in name)
                value.copy_(shift + 0.3 * torch.randn(value.shape, generator=generator))
        return theirs.requires_grad_(False)

    return Double(make)


def lens(model: Small) -> HookedTransformer:
    """The same attention-only model in TransformerLens, with the hooks of split inputs switched on."""
    from transformer_lens import HookedTransformer, HookedTransformerConfig

    c = model.config
    config = HookedTransformerConfig(
        **{name: getattr(c, name) for name in ("n_layers", "n_heads", "d_model", "d_head", "n_ctx")},
        d_vocab=c.vocab_size,
        attn_only=True,
        normalization_type="LN",
        positional_embedding_type=c.positions,
        eps=c.layer_norm_eps,
        dtype=torch.float64,
        device="cpu",
    )
    theirs = HookedTransformer(config)
    state = {name: torch.zeros_like(value) for name, value in theirs.named_parameters()}
    names = {"embed.W_E": "embed.weight", "pos_embed.W_pos": "pos.weight"}
    names |= {"ln_final.w": "final_ln.weight", "ln_final.b": "final_ln.bias"}
    for layer in range(c.n_layers):
        names |= {
            f"blocks.{layer}.ln1.w": f"layers.{layer}.ln.weight",
            f"blocks.{layer}.ln1.b": f"layers.{layer}.ln.bias",
        }
        for slot in "qkvo":
            weight = model.params[f"layers.{layer}.w{slot}"]
            state[f"blocks.{layer}.attn.W_{slot.upper()}"] = weight.transpose(1, 2)
            if slot in c.biases:
                state[f"blocks.{layer}.attn.b_{slot.upper()}"] = model.params[f"layers.{layer}.b{slot}"]
    state |= {theirs_name: model.params[ours] for theirs_name, ours in names.items()}
    state["unembed.W_U"] = model.params["unembed.weight"].T
    if "unembed" in c.biases:
        state["unembed.b_U"] = model.params["unembed.bias"]
    with torch.no_grad():
        for name, value in theirs.named_parameters():
            value.copy_(state[name])
    theirs.set_use_split_qkv_input(True)  # or hooks on hook_q_input and its like are silently never called
    return theirs
