"""Values at any path of a model, and its tokens as text: looking into a model without an experiment.

A path is written as a hypothesis writes it, `a1.3/k/a0.1`, and ends in what is meant of the component there: `q`, `k`,
`v`, `pattern` or `z` of heads, `in` (what the activation reads) or `mid` (what the last matrix reads: of a gated MLP
the product with what the activation gates) of an MLP; by default what it writes, in front of a norm behind the layer.
`q` and `k` are as attention takes them: normed and turned, where a model does that. `stream 2` is the residual stream
that enters layer 2, `out` are the logits.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import torch
from jaxtyping import Float, Int
from torch import Tensor

from scrub.graph.heads import head_indices
from scrub.graph.node import Node
from scrub.graph.stream import streams_of
from scrub.paths.cut import Cut, cut
from scrub.paths.locate import below
from scrub.paths.pattern import SLOTS, Pattern, State
from scrub.paths.rules import Rule
from scrub.paths.sources import X
from scrub.plan.leaves import bind_model, leaves_of
from scrub.plan.plan import compile_plan
from scrub.text.begin import Bos
from scrub.text.encoding import encoded
from scrub.text.errors import ScrubError
from scrub.text.fields import theirs
from scrub.text.files import one_line
from scrub.text.wording import short

if TYPE_CHECKING:
    from scrub.models.model import Model

PARTS = {"pattern": {"attention_pattern"}, "z": {"attend"}, "mid": {"activate", "multiply"}, "in": {"linear"}}
_STREAM = re.compile(r"stream\s*(\d{1,4})")


def values(model: Model, on: str | Any, path: str) -> Float[Tensor, "batch ..."]:
    """Compute the value at a path, on token ids [batch, position] or a text: `values(model, "def f", "a1.3/pattern")`.

    Components give [batch, position, d_model]; q, k, v and z [batch, head, position, d_head], a pattern [batch, head,
    query, key], without `head` where the path names one. Raises ScrubError for a path that the model doesn't have, or
    that means several components.
    """
    tokens = tokens_of(model, on)
    found, several = _found(model, path.strip())
    plan = compile_plan({"value": found}, selected=False)
    leaves = bind_model(leaves_of(plan), model.params, tokens.to(model.device))
    value = plan.run(plan.once(leaves), leaves)["value"]
    return value[:, 0] if several == 1 and value.ndim == 4 else value


def tokens_of(model: Model, on: str | Any, bos: Bos = None) -> Int[Tensor, "batch position"]:
    """Give token ids as they are, or those of a text, behind the begin token if `bos`, or if that is usual."""
    if isinstance(on, str):
        if model.tokenizer is None:
            raise ScrubError(f"{model.name} has no tokenizer, so it reads no text: give token ids")
        (ids,) = encoded(model.tokenizer, [on], model.vocab_size)
        begin = [model.bos_token_id] if model.begins(bos, typed=True) else []
        on = [[*begin, *ids]]
    tokens = ids_of(on)
    tokens = tokens[None] if tokens.ndim == 1 else tokens
    model.check(tokens)
    return tokens.long()


def ids_of(given: Any) -> Tensor:
    """Take token ids, whatever holds them, as a tensor. Raises ScrubError for what makes none."""
    if isinstance(given, Tensor):
        return given
    with theirs(f"{short(given)} holds no token ids", "give an array, a tensor or lists of whole numbers"):
        array = np.asarray(given)
    if array.size and array.dtype.kind not in "iu":
        raise ScrubError(f"{short(given)} holds no token ids: give an array, a tensor or lists of whole numbers")
    return torch.as_tensor(array.astype(np.int64))


def top(model: Model, on: str | Any, count: int = 10, position: int = -1) -> pd.DataFrame:
    """List the most probable next tokens at a position of one sequence: token, text, probability and logit."""
    tokens = tokens_of(model, on)
    if len(tokens) != 1 or not -tokens.shape[1] <= position < tokens.shape[1]:
        raise ScrubError(f"there is no position {position} of one sequence in tokens of {list(tokens.shape)}: name one")
    logits = model(tokens)[0, position].double().cpu()
    chances, ids = logits.softmax(-1).topk(min(count, len(logits)))
    return pd.DataFrame(
        {
            "token": ids.tolist(),
            "text": [text_of(model, token) for token in ids.tolist()],
            "probability": chances.tolist(),
            "logit": logits[ids].tolist(),
        }
    )


def text_of(model: Model, token: int) -> str:
    """Decode one token by itself, or write its number."""
    return str(token) if model.tokenizer is None else str(model.tokenizer.decode([token], skip_special_tokens=False))


def _found(model: Model, path: str) -> tuple[Node, int]:
    """Find the node at a path, and of how many heads it is."""
    if path == "out":
        return model.graph, 0
    if stream := _STREAM.fullmatch(path):
        return _stream(model, int(stream[1])), 0
    steps = path.split("/")
    part = steps.pop() if len(steps) > 1 and steps[-1] in PARTS else ""
    pattern = Pattern("/".join(steps) if steps[0] == "**" else "/".join(["**", *steps]))
    found = cut(model.graph, model.roles, [Rule(pattern, X)])
    nodes = list(dict.fromkeys(node.value for node in _matched(found.read(pattern), found)))
    if len(nodes) != 1:
        raise ScrubError(f"{one_line(path)!r} means {len(nodes)} values of {model.name}: name one, as in a1.3/k or m0")
    (component,) = nodes
    heads = len(head_indices(component)) if steps[-1] in SLOTS or component.op == "output" else 0
    return (_part(component, part, path) if part else component), heads


def _matched(pattern: Pattern, of: Cut) -> Sequence[Node]:
    """Find the nodes at the end of the paths that match."""
    matched: list[Node] = []
    start: tuple[Node, State] = (of.graph, pattern.start)
    seen, stack = {start}, [start]
    while stack:
        at, state = stack.pop()
        for child in below(at):
            key = (child, pattern.advance(state, child.label or ""))
            if pattern.accepts(key[1]):
                matched.append(child)
            if key[1] and key not in seen:
                seen.add(key)
                stack.append(key)
    return matched


def _part(component: Node, part: str, path: str) -> Node:
    """Go down to a part of what a component computes. Raises ScrubError if it has no such part."""
    here = component.inputs[0]
    while here.label is None and any(here.op in ops for ops in PARTS.values()):
        if here.op in PARTS[part]:
            return here
        here = here.inputs[0]
    raise ScrubError(f"{one_line(path)!r} is nothing of this model: heads have a pattern and z, MLPs in and mid")


def _stream(model: Model, layer: int) -> Node:
    """Find the residual stream that enters a layer, or leaves the last one."""
    found = streams_of(model.graph)
    if layer >= len(found):
        raise ScrubError(f"there is no stream {layer}: there are stream 0 (the embedding) to stream {len(found) - 1}")
    return found[layer]
