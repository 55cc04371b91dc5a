"""A random GPT-2 of transformers that reads letters, and what its heads do, in plain torch with hooks."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from torch import Tensor

from scrub.data.examples import QUERY, TARGET, Examples

if TYPE_CHECKING:
    from transformers import GPT2LMHeadModel

LAYERS, HEADS, D_HEAD, POSITIONS = 3, 5, 7, 31
LETTERS = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"
Change = Callable[[int, Tensor], Tensor]  # of a layer and what its heads have read, side by side


def letters() -> Tokenizer:
    """As GPT-2's: a letter with a blank in front is another token than without one."""
    tokens = ["<|begin|>", "Ġ", *LETTERS, *(f"Ġ{letter}" for letter in LETTERS)]
    merges = [("Ġ", letter) for letter in LETTERS]
    tokenizer = Tokenizer(models.BPE({token: at for at, token in enumerate(tokens)}, merges))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_special_tokens(["<|begin|>"])
    return tokenizer


def columns(head: int) -> slice:
    """Where a head stands among all side by side."""
    return slice(head * D_HEAD, (head + 1) * D_HEAD)


def save(folder: Path, layers: int = LAYERS, tokenizer: bool = True) -> GPT2LMHeadModel:
    """Write a model whose attention isn't flat, and whose norms and biases do something; it goes on in float64."""
    from transformers import GPT2Config, GPT2LMHeadModel

    size = letters().get_vocab_size()
    model = GPT2LMHeadModel(
        GPT2Config(
            vocab_size=size, n_positions=POSITIONS, n_embd=HEADS * D_HEAD, n_layer=layers, n_head=HEADS, n_inner=23,
            bos_token_id=0, eos_token_id=0, attn_implementation="eager",
        )
    ).eval()  # fmt: skip
    generator = torch.Generator().manual_seed(3)
    with torch.no_grad():
        for name, value in model.named_parameters():
            value.copy_(float("ln_" in name and "weight" in name) + 0.3 * torch.randn(value.shape, generator=generator))
    model.save_pretrained(folder)
    if tokenizer:
        letters().save(str(folder / "tokenizer.json"))
    return model.double().requires_grad_(False)


@dataclass
class Run:
    """Logits, what the heads of each layer have read [sequence, position, head and d_head], patterns, final stream."""

    logits: Tensor
    z: list[Tensor] = field(default_factory=list)
    patterns: tuple[Tensor, ...] = ()
    stream: Tensor = field(default_factory=lambda: torch.empty(0))


def run(model: GPT2LMHeadModel, tokens: np.ndarray, change: Change | None = None) -> Run:
    """A run on tokens [sequence, position]."""
    seen = Run(torch.empty(0))

    def read(layer: int) -> Callable[..., object]:
        def hook(_: object, args: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
            seen.z.append(change(layer, args[0].clone()) if change else args[0])
            return (seen.z[-1],)

        return hook

    def end(_: object, args: tuple[Tensor, ...]) -> None:
        seen.stream = args[0]

    body = model.transformer
    handles = [block.attn.c_proj.register_forward_pre_hook(read(at)) for at, block in enumerate(body.h)]
    handles.append(body.ln_f.register_forward_pre_hook(end))
    found = model(torch.from_numpy(tokens), output_attentions=True, use_cache=False)
    for handle in handles:
        handle.remove()
    seen.logits, seen.patterns = found.logits, found.attentions
    return seen


def instead(head: tuple[int, int], values: list[Tensor] | None) -> Change:
    """A head has read something else, by layer; or nothing at all."""

    def change(layer: int, z: Tensor) -> Tensor:
        if layer == head[0]:
            z[..., columns(head[1])] = 0 if values is None else values[layer][..., columns(head[1])]
        return z

    return change


def metrics(
    model: GPT2LMHeadModel, prompts: Examples, values: list[Tensor] | None = None
) -> tuple[np.ndarray, dict[str, np.ndarray]]:
    """P(expected) [prompt], and every metric [prompt, layer, head]; ablated heads have read `values`, or nothing."""
    whole, every = run(model, prompts.inputs), np.arange(len(prompts))
    places = (prompts.positions[QUERY], prompts.positions[TARGET])
    expected, query, target = (torch.from_numpy(each) for each in (prompts.expected, *places))
    here = whole.logits[every, query]
    gradient = torch.nn.functional.one_hot(expected, here.shape[-1]) - here.softmax(-1)
    stream, norm = whole.stream[every, query], model.transformer.ln_f
    scale = norm.weight / (stream.var(-1, unbiased=False, keepdim=True) + norm.eps).sqrt()
    found = {name: np.zeros((len(prompts), len(whole.z), HEADS)) for name in NAMES}
    for at, block in enumerate(model.transformer.h):
        for head in range(HEADS):
            cell = (slice(None), at, head)
            weight = block.attn.c_proj.weight[columns(head)]
            written = whole.z[at][every, query][:, columns(head)] @ weight
            centred = written - written.mean(-1, keepdim=True)
            found["attention to target"][cell] = whole.patterns[at][every, head, query, target]
            found["direct effect"][cell] = ((centred * scale) @ model.lm_head.weight.T * gradient).sum(-1)
            after = run(model, prompts.inputs, instead((at, head), values)).logits[every, query]
            p, q = here.softmax(-1)[every, expected], after.softmax(-1)[every, expected]
            shift = (after - here).mean(-1)
            found["ablation effect"][cell] = p - q
            found["ablation effect, log probability"][cell] = p.log() - q.log()
            found["uniform shift"][cell] = shift
            found["differential effect"][cell] = (after - here)[every, expected] - shift
    return here.softmax(-1)[every, expected].numpy(), found


NAMES = (
    *("attention to target", "direct effect", "ablation effect", "ablation effect, log probability"),
    *("uniform shift", "differential effect"),
)
