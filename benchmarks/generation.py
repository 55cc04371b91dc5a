"""What writing costs beside transformers: `python benchmarks/generation.py [--prompt 12] [--tokens 40] [--rows 8]`.

Prints, from one run, the time of a greedy continuation over that of a plain loop, which gives transformers' own model
all tokens anew each step and keeps no cache: the same random weights, the same prompts, and the same tokens come out.
Then the same with every layer ablated by itself, gates included, over as many such loops as there are experiments.
"""

from __future__ import annotations

from typing import Annotated, Any

import numpy as np
import torch
import typer
from measuring import alternate, ratio
from rich.console import Console
from transformers import GPT2Config, GPT2LMHeadModel

import scrub
from scrub.study.settings import Settings

SEED = 0


def made(layers: int, width: int, vocabulary: int, context: int) -> GPT2LMHeadModel:
    """Make a random GPT-2 of heads of 32, which writes more than one token again and again."""
    config = GPT2Config(
        vocab_size=vocabulary, n_positions=context, n_embd=width, n_layer=layers, n_head=width // 32, bos_token_id=0,
        eos_token_id=0,
    )  # fmt: skip
    torch.manual_seed(SEED)
    theirs = GPT2LMHeadModel(config).eval().requires_grad_(False)
    for each in theirs.parameters():
        torch.nn.init.normal_(each, std=0.1)
    return theirs


def main(
    layers: Annotated[int, typer.Option(help="Layers.")] = 4,
    width: Annotated[int, typer.Option(help="The model's width.")] = 256,
    vocabulary: Annotated[int, typer.Option(help="Tokens of the vocabulary.")] = 4096,
    prompt: Annotated[int, typer.Option(help="Tokens of a prompt.")] = 12,
    tokens: Annotated[int, typer.Option(help="Tokens that are written.")] = 40,
    rows: Annotated[int, typer.Option(help="Prompts.")] = 8,
    repeats: Annotated[int, typer.Option(help="Rounds.")] = 5,
) -> None:
    """Compare writing with a loop of plain forward passes."""
    theirs = made(layers, width, vocabulary, prompt + tokens)
    model = scrub.load_model(theirs)
    given = np.random.default_rng(SEED).integers(1, vocabulary, size=(rows, prompt))
    settings = Settings(device="cpu", progress=False)

    def loop() -> Any:
        found = torch.from_numpy(given)
        with torch.inference_mode():
            for _ in range(tokens):
                chosen = theirs(found, use_cache=False).logits[:, -1].argmax(-1, keepdim=True)
                found = torch.cat([found, chosen], 1)
        return found[:, prompt:].numpy()

    def ours(what: str | None = None) -> Any:
        return scrub.generate(model, given, tokens, what, stop=False, settings=settings).written

    same = bool((ours()[0] == loop()).all())
    experiments = len(ours("layers"))
    seconds = alternate([loop, ours, lambda: ours("layers")], repeats)
    out = Console(highlight=False)
    out.print(f"{rows} prompts of {prompt} tokens, {tokens} written; the same tokens: {'yes' if same else 'no'}")
    out.print(f"unchanged, over a loop: {ratio(seconds[:, 1], seconds[:, 0])}")
    out.print(f"{experiments} experiments, over as many loops: {ratio(seconds[:, 2], experiments * seconds[:, 0])}")


if __name__ == "__main__":
    typer.run(main)
