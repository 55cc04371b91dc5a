"""The same GPT-2 in transformers: its weights in Hugging Face's modules, and its runs with plain torch hooks."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import torch
from small import Small
from torch import Tensor, nn

from scrub.models.families.gpt2 import Config

if TYPE_CHECKING:
    from transformers import GPT2LMHeadModel

ACTIVATIONS = {"gelu_tanh": "gelu_new", "gelu": "gelu", "relu": "relu"}
Change = Callable[[Tensor], Tensor]


def double(model: Small, attention: str = "eager") -> GPT2LMHeadModel:
    """The model in transformers. Its Conv1D modules compute x @ weight + bias, with all heads side by side."""
    from transformers import GPT2Config, GPT2LMHeadModel

    c, p = model.config, model.params
    assert isinstance(c, Config)
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


@dataclass
class Seen:
    """What was seen of a run: the tensor that each module read, and what it wrote; patterns by layer."""

    logits: Tensor = field(default_factory=lambda: torch.empty(0))
    read: dict[str, Tensor] = field(default_factory=dict)
    wrote: dict[str, Tensor] = field(default_factory=dict)
    patterns: tuple[Tensor, ...] = ()


def run(
    theirs: GPT2LMHeadModel,
    tokens: Tensor,
    reads: Mapping[str, Change] | None = None,
    writes: Mapping[str, Change] | None = None,
) -> Seen:
    """Run the model with hooks: modules by name (h.1.attn.c_proj) whose input (`reads`) or output is changed."""
    seen, handles = Seen(), []
    reads, writes = reads or {}, writes or {}

    def before(name: str) -> Callable[..., object]:
        def hook(_: nn.Module, args: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
            seen.read[name] = reads[name](args[0].clone()) if name in reads else args[0]
            return (seen.read[name], *args[1:])

        return hook

    def after(name: str) -> Callable[..., object]:
        def hook(_: nn.Module, __: object, out: Tensor) -> Tensor:
            seen.wrote[name] = writes[name](out.clone()) if name in writes else out
            return seen.wrote[name]

        return hook

    watched = [("h.", ("ln_1", "attn.c_attn", "attn.c_proj", "ln_2", "mlp")), ("", ("wte", "ln_f"))]
    names = [
        n for n, _ in theirs.transformer.named_modules() for a, ends in watched if n.startswith(a) * n.endswith(ends)
    ]
    try:
        for name in names:
            module = theirs.transformer.get_submodule(name)
            handles += [module.register_forward_pre_hook(before(name)), module.register_forward_hook(after(name))]
        with torch.no_grad():
            found = theirs(tokens, output_attentions=True, use_cache=False)
    finally:
        for handle in handles:
            handle.remove()
    assert set(reads) | set(writes) <= set(seen.wrote), "a hook was never called"
    seen.logits, seen.patterns = found.logits, found.attentions
    return seen
