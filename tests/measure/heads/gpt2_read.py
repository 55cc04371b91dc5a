"""What a GPT-2 of transformers attends to and writes, and scores of its heads written out in plain torch."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

if TYPE_CHECKING:
    from transformers import GPT2LMHeadModel

LAYERS, HEADS, D_HEAD, VOCAB, POSITIONS = 3, 5, 7, 53, 13


def random_gpt2(seed: int = 0) -> GPT2LMHeadModel:
    """Weights at which attention isn't flat, and every LayerNorm and bias does something; values of float32."""
    from transformers import GPT2Config, GPT2LMHeadModel

    config = GPT2Config(
        vocab_size=VOCAB, n_positions=POSITIONS, n_embd=HEADS * D_HEAD, n_layer=LAYERS, n_head=HEADS, n_inner=23,
        bos_token_id=0, eos_token_id=0, attn_implementation="eager",
    )  # fmt: skip
    model = GPT2LMHeadModel(config).eval()
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, value in model.named_parameters():
            scale, shift = (0.3, float(name.endswith("weight"))) if "ln_" in name else (0.3, 0.0)
            value.copy_(shift + scale * torch.randn(value.shape, generator=generator))
    return model


def saved(model: GPT2LMHeadModel, folder: Path) -> Path:
    """Its folder on disk."""
    model.save_pretrained(folder)
    return folder


@dataclass(frozen=True)
class Read:
    """One sequence's run: patterns [layer, head, query, key], what each head writes, the final stream."""

    model: GPT2LMHeadModel
    tokens: list[int]
    patterns: Tensor
    written: Tensor  # [layer, head, position, d_model]
    stream: Tensor  # [position, d_model]

    def ending(self, query: int) -> Callable[[Tensor], Tensor]:
        """The final LayerNorm, with the deviation that the run has at a query, and the unembedding."""
        norm, table = self.model.transformer.ln_f, self.model.lm_head.weight
        deviation = (self.stream[query].var(unbiased=False) + norm.eps).sqrt()
        return lambda x: ((x - x.mean()) / deviation * norm.weight + norm.bias) @ table.T

    def direct_effect(self, layer: int, head: int, query: int, target: int) -> float:
        """The derivative of log P(target) along what the head writes."""
        ending, along = self.ending(query), self.written[layer, head, query]
        here = self.stream[query].clone().requires_grad_()
        (gradient,) = torch.autograd.grad(ending(here).log_softmax(-1)[target], here)
        return float(gradient @ along)

    def copying(self, layer: int, head: int, query: int) -> float:
        """The attended token's logit less the mean of all others, by attention."""
        ending = self.ending(query)
        with torch.no_grad():
            logits = (ending(self.written[layer, head, query]) - ending(torch.zeros_like(self.stream[query]))).numpy()
        found = 0.0
        for key in range(query + 1):
            token = self.tokens[key]
            raised = logits[token] - np.delete(logits, token).mean()
            found += float(self.patterns[layer, head, query, key]) * raised
        return found


def read(model: GPT2LMHeadModel, rows: np.ndarray) -> Iterator[Read]:
    """What the model does with each sequence, all but its last token."""
    for row in torch.from_numpy(rows):
        seen: dict[str, Tensor] = {}
        blocks = [(f"z{at}", block.attn.c_proj) for at, block in enumerate(model.transformer.h)]
        handles = [
            module.register_forward_pre_hook(lambda _, args, name=name, into=seen: into.update({name: args[0][0]}))
            for name, module in [*blocks, ("stream", model.transformer.ln_f)]
        ]
        with torch.no_grad():
            found = model(row[None, :-1], output_attentions=True, use_cache=False)
        for handle in handles:
            handle.remove()
        written = []
        for name, module in blocks:
            z = seen[name].unflatten(-1, (HEADS, D_HEAD))
            written.append(torch.stack([z[:, h] @ module.weight[h * D_HEAD : (h + 1) * D_HEAD] for h in range(HEADS)]))
        patterns = torch.cat(found.attentions)
        yield Read(model, row[:-1].tolist(), patterns, torch.stack(written).detach(), seen["stream"])
