"""What the leaves are bound to at which a component, slot or attention pattern is held."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from scrub.graph.masks import MASKS
from scrub.graph.node import Node
from scrub.graph.ops import at_positions
from scrub.measure.heads.places import Tokens
from scrub.models.model import Model
from scrub.paths.rules import ATTEND
from scrub.plan.runner import Runner
from scrub.text.errors import ScrubError

Arrays = Mapping[str, Float[np.ndarray, "..."]]


def held_values(
    leaves: Sequence[Node], model: Model, reference: Tokens, arrays: Arrays | None = None, batch: int = 8
) -> dict[Node, Tensor]:
    """The value of each leaf, for one sequence of as many positions as the reference sequences have.

    A mean is that of the unchanged model over the reference sequences, at each position by itself. Where a mask to
    attend by has no key (`lag 100` at the first hundred positions), the first position is attended to.
    Raises ScrubError for a mean over fewer than two sequences, an unknown mask, or an array that is missing, doesn't
    have the shape, isn't finite, or attends to what comes later.
    """
    if not leaves:
        return {}
    shapes = _means(leaves, model, reference[:1], 1)
    means = {leaf for leaf in leaves if leaf.arguments["source"] == "mean"}
    if means and len(reference) < 2:
        raise ScrubError(
            "a mean over one sequence is that sequence itself, and ablates nothing: give more sequences or prompts, "
            "or ablate by zero or resample"
        )
    found = _means([leaf for leaf in leaves if leaf in means], model, reference, batch) if means else {}
    for leaf in leaves:
        if leaf not in means:
            value = _value(str(leaf.arguments["source"]), shapes[leaf], arrays or {})
            found[leaf] = _at_positions(_of(leaf), value)
    return found


def _at_positions(of: Node, value: Tensor) -> Tensor:
    """The value at the positions that a component was split by, if it was: zeros elsewhere, as the component has."""
    if of.op != "at_positions":
        return value
    return at_positions(value, torch.arange(value.shape[-2], device=value.device)[None], **of.arguments)  # type: ignore[arg-type]


def _means(leaves: Sequence[Node], model: Model, reference: Tokens, batch: int) -> dict[Node, Tensor]:
    """The mean over some sequences of what leaves stand for, with an axis for one sequence."""
    outputs = {str(at): _of(leaf) for at, leaf in enumerate(leaves)}
    running = Runner(outputs, model.params, reference.shape[1] - 1, model.device, selected=False)
    totals: dict[str, Tensor] = {}
    for start in range(0, len(reference), batch):
        tokens = torch.from_numpy(np.ascontiguousarray(reference[start : start + batch, :-1])).to(model.device)
        for name, value in running({leaf: tokens for leaf in running.leaves if leaf.op == "tokens"}).items():
            total = value.sum(0, keepdim=True, dtype=torch.float64)
            totals[name] = totals[name] + total if name in totals else total
    return {leaf: (totals[str(at)] / len(reference)).to(model.dtype) for at, leaf in enumerate(leaves)}


def _of(leaf: Node) -> Node:
    of = leaf.arguments["of"]
    assert isinstance(of, Node)
    return of


def _value(source: str, like: Float[Tensor, "1 ..."], arrays: Arrays) -> Tensor:
    if source == "zero":
        return torch.zeros_like(like)
    what = source.removeprefix(ATTEND)
    if what.startswith("array "):
        return _given(what.removeprefix("array "), like, arrays, attends=source.startswith(ATTEND))
    return _pattern(what, like.shape[-1]).to(like).expand_as(like)


def _given(name: str, like: Float[Tensor, "1 ..."], arrays: Arrays, attends: bool) -> Tensor:
    shape = tuple(like.shape[1:])
    if name not in arrays:
        raise ScrubError(f"there is no array {name!r}: there are {', '.join(arrays) or 'none'}; pass one of {shape}")
    array = torch.as_tensor(np.asarray(arrays[name], dtype=np.float64))
    try:
        value = array.expand(shape)
    except RuntimeError as error:
        raise ScrubError(f"the array {name!r} is {tuple(array.shape)}, but stands where {shape} does") from error
    if not value.isfinite().all():
        raise ScrubError(f"the array {name!r} holds values that are NaN or infinite: no loss can come of it")
    if attends and (value.triu(1).any() or (value < 0).any()):
        raise ScrubError(
            f"the array {name!r} attends to later positions, or by less than nothing: a pattern is [query, key] with 0 "
            "above the diagonal and no negative entry"
        )
    return value[None].to(like)


def _pattern(what: str, positions: int) -> Float[Tensor, "query key"]:
    """Attention spread evenly over all keys so far, over the query itself, or over the keys of a mask."""
    if what == "uniform":
        return torch.ones(positions, positions).double().tril() / torch.arange(1, positions + 1)[:, None]
    if what == "identity":
        return torch.eye(positions).double()
    keys, inside = MASKS[what].keys(torch.arange(positions)[None])
    pattern = torch.zeros(positions, positions).double().scatter_add_(1, keys[0], inside[0].double())
    pattern[pattern.sum(1) == 0, 0] = 1
    return pattern / pattern.sum(1, keepdim=True)
