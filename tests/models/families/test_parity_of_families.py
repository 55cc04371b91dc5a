"""Every family against transformers: logits, all attention patterns, and the residual stream in front of every layer.

Random weights with large biases and gains, sequences longer than windows, prime sizes where a family allows them.
"""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from small import Small
from torch import Tensor
from twins import CONTEXT, FAMILIES, SHAPES, VOCAB, Seen, Shape, exact, made, run

from scrub.graph.node import Node, walk
from scrub.models.model import Model, load_model, lower

TOKENS = torch.randint(VOCAB, (3, CONTEXT), generator=torch.Generator().manual_seed(1))
every_family = pytest.mark.parametrize("name", FAMILIES)


def streams(model: Model) -> list[Node]:
    """The stream in front of each layer and behind the last: what the last norm of a shorter model reads."""
    return [_last(lower(model.config.model_copy(update={"n_layers": n}))) for n in range(model.config.n_layers + 1)]


def _last(logits: Node) -> Node:
    (normed,) = (
        each for each in walk([logits]) if any(i.arguments.get("name") == "final_ln.weight" for i in each.inputs)
    )
    return normed.inputs[0]


def seen(model: Model) -> Seen:
    """What the same hooks would see."""
    patterns = [each for each in walk([model.graph]) if each.op == "attention_pattern"]
    outputs = {f"pattern {at}": each for at, each in enumerate(patterns)}
    outputs |= {f"stream {at}": each for at, each in enumerate(streams(model))}
    found = Small(model.config, model.params, {"x": TOKENS}).run({"logits": model.graph, **outputs})
    return Seen(
        found["logits"],
        tuple(found[f"pattern {at}"] for at in range(len(patterns))),
        {("stream", at): found[f"stream {at}"] for at in range(model.config.n_layers + 1)},
    )


def agree(ours: Seen, theirs: Seen, most: float) -> None:
    """All deviate by no more than so much of the largest number there is."""
    assert len(ours.patterns) == len(theirs.patterns)
    assert len(ours.streams) == len(theirs.streams)
    for at, (here, there) in enumerate(zip(ours.streams, theirs.streams, strict=True)):
        close(f"stream {at}", here, there, most)
    for at, (here, there) in enumerate(zip(ours.patterns, theirs.patterns, strict=True)):
        close(f"pattern {at}", here, there, most)
    close("logits", ours.logits, theirs.logits, most)


def close(what: str, here: Tensor, there: Tensor, most: float) -> None:
    assert here.shape == there.shape, what
    deviation = float((here - there).abs().max() / there.abs().max())
    assert deviation < most, f"{what} deviates by {deviation}"


@pytest.mark.parametrize("shape", SHAPES.values(), ids=SHAPES)
@every_family
def test_a_twin_in_float64(name: str, shape: Shape) -> None:
    with exact():
        theirs = made(name, shape)
        right = run(theirs, TOKENS)
    assert right.logits.dtype == torch.float64
    ours = load_model(theirs, dtype=torch.float64)
    agree(seen(ours), right, 1e-9)
    close("fused", ours(TOKENS), right.logits, 1e-9)


@every_family
def test_transformers_as_it_is(name: str, tmp_path: Path) -> None:
    theirs = made(name)
    theirs.save_pretrained(tmp_path)
    agree(seen(load_model(tmp_path)), run(theirs, TOKENS), 1e-4)


@every_family
def test_half_precision_is_rounding(name: str) -> None:
    """Of the same weights: about as far off as transformers' is."""
    for dtype in (torch.bfloat16, torch.float16):
        theirs = made(name).to(dtype)
        exactly = load_model(theirs, dtype=torch.float64)(TOKENS)
        ours = load_model(theirs, dtype=dtype)(TOKENS)
        assert ours.dtype == dtype
        with torch.no_grad():
            stock = theirs(TOKENS).logits
        assert 0 < off(ours, exactly) < 1.5 * off(stock, exactly) < 0.1


def off(found: Tensor, exactly: Tensor) -> float:
    """How large a deviation is beside what it deviates from."""
    return float((found.double() - exactly).norm() / exactly.norm())
