"""The table of operations: what a graph may hold, how each is computed, and which axes it carries.

Layouts. Residual stream [batch, position, d_model]; q, k, v and z [batch, head, position, d_head];
attention pattern [batch, head, query, key]. The position (query) axis is always the last but one, so
that rows can be selected from any of them in one way.

`rows` lists the inputs whose rows are the rows of the output: an operation on selected rows needs only
those rows of them. `heads` lists the inputs that carry heads, the first of them under the output's numbers;
`restrict` says which of theirs some of the output's need: the same, unless an operation says otherwise. `optional`
static arguments may be left out. That is all that rewrites need to know of an operation.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial

import torch
from einops import rearrange
from jaxtyping import Bool, Float, Int, Shaped
from torch import Tensor
from torch.nn import functional

from scrub.graph.lowrank import change, changed, fold_bias, fold_output, log_normalisers_changed, log_normalisers_of
from scrub.graph.masks import MASKS, on_device, positions_inside

NONE, ONE, TWO, THREE, FOUR = (range(n, n + 1) for n in range(5))
ANY = range(1, 1 << 16)
Heads = tuple[int, ...]

# gelu_tanh: Hendrycks & Gimpel 2016 (https://arxiv.org/abs/1606.08415), the approximation that GPT-2 uses
ACTIVATIONS: dict[str, Callable[[Tensor], Tensor]] = {
    "gelu_tanh": partial(functional.gelu, approximate="tanh"),
    "gelu": functional.gelu,
    "relu": functional.relu,
    "silu": functional.silu,
}

SINGLE = 4  # bytes of a float32: what is summed of fewer is summed in it
SHORT = 32  # positions, below which torch's fused attention drops what is not a number, which gates look for


@dataclass(frozen=True)
class Op:
    """One row of the table."""

    run: Callable[..., Tensor] | None  # None for a leaf: a parameter or an input of the run
    arity: range  # how many inputs it may have
    static: tuple[str, ...] = ()
    optional: tuple[str, ...] = ()  # static arguments that may be left out
    rows: tuple[int, ...] | None = ()  # None for all inputs
    together: bool = False  # whether rows of a sequence stay together: other inputs belong to the same sequence
    heads: tuple[int, ...] | None = ()  # None for all inputs
    restrict: Callable[[Sequence[int], Heads], Sequence[Heads]] | None = None  # from how many heads each of those has
    blocks: bool = False  # whether it takes `at_once`, how many numbers to work on at once: all, unless a place says so
    expression: Callable[..., Tensor] | None = None  # that a place may have compiled, for it to take as `expression`

    def check(self, name: str, inputs: int, static: Mapping[str, Hashable]) -> None:
        """Raise ValueError unless the table allows this many inputs and these static arguments."""
        if inputs not in self.arity:
            raise ValueError(f"{name} takes {self.arity.start} to {self.arity.stop - 1} inputs, not {inputs}")
        if set(static) - set(self.optional) != set(self.static):
            raise ValueError(f"{name} takes the static arguments {sorted(self.static)}, not {sorted(static)}")

    def function(self) -> Callable[..., Tensor]:
        """Give what computes it."""
        assert self.run is not None, "a leaf is bound"
        return self.run

    def row_inputs(self, inputs: int) -> tuple[int, ...]:
        """List the inputs whose rows are the rows of the output."""
        return tuple(range(inputs)) if self.rows is None else self.rows

    def head_inputs(self, inputs: int) -> tuple[int, ...]:
        """List the inputs that carry heads, first the one whose heads have the numbers of the output's."""
        return tuple(at for at in (range(inputs) if self.heads is None else self.heads) if at < inputs)


def embed(
    tokens: Int[Tensor, "batch position"], table: Float[Tensor, "vocab d_model"]
) -> Float[Tensor, "batch position d_model"]:
    return functional.embedding(tokens, table)


def add_bias(x: Float[Tensor, "... width"], bias: Float[Tensor, " width"]) -> Float[Tensor, "... width"]:
    return x + bias


def add(*terms: Float[Tensor, "..."]) -> Float[Tensor, "..."]:
    total = terms[0] + terms[1] if len(terms) > 1 else terms[0]
    for term in terms[2:]:  # in place, unless the first are held, which is one sequence for all
        total = total.add_(term) if total.shape == term.shape else total + term
    return total


def sub(left: Float[Tensor, "..."], right: Float[Tensor, "..."]) -> Float[Tensor, "..."]:
    return left - right


def layer_norm(
    x: Float[Tensor, "batch position d_model"],
    weight: Float[Tensor, " d_model"],
    bias: Float[Tensor, " d_model"],
    *,
    eps: float,
) -> Float[Tensor, "batch position d_model"]:
    return functional.layer_norm(x, weight.shape, weight, bias, eps)


def rms_norm(
    x: Float[Tensor, "... width"], weight: Float[Tensor, " width"], *, eps: float
) -> Float[Tensor, "... width"]:
    """Divide by the root of the mean square of the last axis: Zhang & Sennrich 2019 (https://arxiv.org/abs/1910.07467)."""
    if x.device.type != "cpu" or x.itemsize < SINGLE or x.requires_grad or weight.requires_grad:
        return functional.rms_norm(x, weight.shape, weight, eps)
    return (x * inverse_root(x, eps=eps)).mul_(weight)  # torch has every step in memory of its own on a CPU


def inverse_root(x: Float[Tensor, "... width"], *, eps: float) -> Float[Tensor, "... 1"]:
    """Give what RMSNorm multiplies by."""
    wide = x if x.itemsize >= SINGLE else x.float()
    if wide.requires_grad:  # of which a norm has none at 0
        return (wide.square().mean(-1, keepdim=True) + eps).rsqrt().to(x.dtype)
    norm: Tensor = torch.linalg.vector_norm(wide, dim=-1, keepdim=True)
    return norm.square_().div_(x.shape[-1]).add_(eps).rsqrt_().to(x.dtype)


def heads_scale(x: Float[Tensor, "batch head position d_head"], *, eps: float) -> Float[Tensor, "batch 1 position 1"]:
    """Give what the RMSNorm of all heads of a layer side by side multiplies by."""
    return (x.square().mean((1, 3), keepdim=True) + eps).rsqrt()


def scale_heads(
    x: Float[Tensor, "#batch head position d_head"],
    gain: Float[Tensor, "head d_head"],
    scale: Float[Tensor, "#batch 1 position 1"],
) -> Float[Tensor, "batch head position d_head"]:
    return x * scale * gain[:, None]


def repeat_kv(weight: Float[Tensor, "kv_head *shape"], *, times: int) -> Float[Tensor, "head *shape"]:
    """Repeat what makes the keys or values of a head, once for each query head that it serves."""
    return weight.repeat_interleave(times, 0)


def linear(
    x: Float[Tensor, "batch position width"],
    weight: Float[Tensor, "out width"],
    bias: Float[Tensor, " out"] | None = None,
) -> Float[Tensor, "batch position out"]:
    return functional.linear(x, weight, bias)


def activate(x: Float[Tensor, "batch position width"], *, kind: str) -> Float[Tensor, "batch position width"]:
    return ACTIVATIONS[kind](x)


def take_heads(weight: Float[Tensor, "head ..."], *, indices: tuple[int, ...]) -> Float[Tensor, "some ..."]:
    return weight[on_device(indices, weight.device)]


def select_heads(x: Float[Tensor, "batch head ..."], *, indices: tuple[int, ...]) -> Float[Tensor, "batch some ..."]:
    """Take some heads of what is computed; those that stand side by side without a copy."""
    if indices == tuple(range(indices[0], indices[-1] + 1)):
        return x[:, indices[0] : indices[-1] + 1]
    return torch.cat([x[:, head : head + 1] for head in indices], 1)


def project(
    x: Float[Tensor, "batch position d_model"],
    weight: Float[Tensor, "head d_head d_model"],
    bias: Float[Tensor, "head d_head"] | None = None,
) -> Float[Tensor, "batch head position d_head"]:
    flat = linear(x, weight.flatten(0, 1), None if bias is None else bias.flatten())
    return flat.view(*flat.shape[:2], *weight.shape[:2]).transpose(1, 2)


def attention_pattern(
    q: Float[Tensor, "#batch head query d_head"],
    k: Float[Tensor, "#batch head key d_head"],
    position: Int[Tensor, "#batch query"],
    *,
    window: int | None = None,
    cap: float | None = None,
) -> Float[Tensor, "batch head query key"]:
    """Take softmax(q k / sqrt(d_head)) over the keys at or before each query's position, of which a window has so many.

    With a `cap`, scores are squeezed into -cap to cap before (Bello et al. 2016, https://arxiv.org/abs/1611.09940).
    """
    scores: Tensor = (q * (q.shape[-1] ** -0.5 / (cap or 1.0))) @ k.contiguous().transpose(-1, -2)
    if cap is not None:
        scores = _squeezed(scores, cap)
    scores += in_reach(position, on_device(range(k.shape[-2]), k.device)[None], window=window)[:, None]
    # in place where nothing will ask for a gradient: fresh memory for every pattern costs as much as the softmax
    return scores.softmax(-1) if scores.requires_grad else torch.softmax(scores, -1, out=scores)


def attend(
    pattern: Float[Tensor, "#batch head query key"], v: Float[Tensor, "#batch head key d_head"]
) -> Float[Tensor, "batch head query d_head"]:
    return pattern @ v


def attention(
    q: Float[Tensor, "#batch head query d_head"],
    k: Float[Tensor, "#batch head key d_head"],
    v: Float[Tensor, "#batch head key d_head"],
    reach: Float[Tensor, "#batch query key"] | None = None,
    *,
    window: int | None = None,
) -> Float[Tensor, "batch head query d_head"]:
    """Do attend(attention_pattern(q, k), v) without a pattern in memory: at every position, or with keys in reach."""
    if reach is None and (q.shape[-2] < SHORT or (window or q.shape[-2]) < q.shape[-2]):
        everywhere = on_device(range(q.shape[-2]), q.device)[None]
        reach = in_reach(everywhere, everywhere, window=window)
    mask = None if reach is None else reach[:, None].to(q.dtype)
    return functional.scaled_dot_product_attention(q, k, v, mask, is_causal=reach is None)


def in_reach(
    query: Int[Tensor, "#batch query"], key: Int[Tensor, "1 key"], *, window: int | None = None
) -> Float[Tensor, "#batch query key"]:
    """Give what is added to the scores of keys: nothing at or before the query's position, -inf after it.

    A window of so many positions ends at the query's: keys before it are out of reach too.
    """
    out = key[:, None] > query[..., None]
    if window is not None:
        out = out | (key[:, None] <= query[..., None] - window)
    return torch.zeros_like(out, dtype=torch.float32).masked_fill_(out, -torch.inf)


def rotary(
    position: Int[Tensor, "#batch position"],
    *,
    width: int,
    base: float,
    scaling: tuple[float, float, float, float] | float | None = None,
) -> Float[Tensor, "#batch position width"]:
    """Give the cosines and sines of rotary positions (Su et al. 2021, https://arxiv.org/abs/2104.09864), in float64.

    Each pair of `width` dimensions turns by position / base^(2 i / width). `scaling` divides all frequencies by a
    factor; or, as (factor, low, high, original), the low ones, as Llama 3.1 does (Grattafiori et al. 2024,
    https://arxiv.org/abs/2407.21783): those that turn less than `low` times in `original` positions by the factor,
    those above `high` not, those between in between.
    """
    frequency = base ** -(torch.arange(0, width, 2, dtype=torch.float64, device=position.device) / width)
    if isinstance(scaling, tuple):
        factor, low, high, original = scaling
        kept = ((original * frequency / (2 * torch.pi) - low) / (high - low)).clamp(0, 1)
        frequency = frequency * (kept + (1 - kept) / factor)
    elif scaling is not None:
        frequency = frequency / scaling
    angle = position[..., None] * frequency
    return torch.cat([angle.cos(), angle.sin()], -1)


def rotate(
    x: Float[Tensor, "#batch head position d_head"], turn: Float[Tensor, "#batch position width"]
) -> Float[Tensor, "batch head position d_head"]:
    """Turn the first dimensions of each head, the first half of them with the second, by the angles of its position."""
    cos, sin = turn.to(x.dtype)[:, None].chunk(2, -1)
    half = cos.shape[-1]
    one, other = slice(half), slice(half, 2 * half)
    turned = x * functional.pad(torch.cat([cos, cos], -1), (0, x.shape[-1] - 2 * half), value=1.0)
    turned[..., one].addcmul_(x[..., other], sin, value=-1)
    turned[..., other].addcmul_(x[..., one], sin)
    return turned


def soft_cap(x: Float[Tensor, "..."], *, cap: float) -> Float[Tensor, "..."]:
    return _squeezed(x / cap, cap)


def _squeezed(x: Float[Tensor, "..."], cap: float) -> Float[Tensor, "..."]:
    """Squeeze into -cap to cap what nothing else needs: where it is, unless a gradient needs what was there."""
    return x.tanh() * cap if x.requires_grad else x.tanh_().mul_(cap)


def scale(x: Float[Tensor, "..."], *, by: float) -> Float[Tensor, "..."]:
    return x * by


def attend_masked(
    pattern: Float[Tensor, "#batch head query key"],
    v: Float[Tensor, "#batch head key d_head"],
    position: Int[Tensor, "#batch query"],
    *,
    mask: str,
) -> Float[Tensor, "batch head query d_head"]:
    """Attend with the part of a pattern inside a mask: masks are few keys a query, so only those are read."""
    keys, inside = MASKS[mask].keys(position)  # [#batch, query, few]
    batch = max(len(pattern), len(v))  # what is held is the same for every sequence
    pattern, v = pattern.expand(batch, -1, -1, -1), v.expand(batch, -1, -1, -1)
    heads, queries = pattern.shape[1:3]
    at = keys[:, None].expand(batch, heads, queries, keys.shape[-1])
    weight = pattern.gather(-1, at) * inside[:, None]
    # a bag of rows of v for each query, as a table of the rows of every sequence and head
    start = on_device(range(0, batch * heads * v.shape[-2], v.shape[-2]), v.device).view(batch, heads, 1, 1)
    bags = functional.embedding_bag(
        (start + at).flatten(0, 2), v.flatten(0, 2), mode="sum", per_sample_weights=weight.flatten(0, 2)
    )
    return bags.view(batch, heads, queries, v.shape[-1])


def output(
    z: Float[Tensor, "batch head position d_head"], weight: Float[Tensor, "head d_model d_head"]
) -> Float[Tensor, "batch position d_model"]:
    # the weight is copied, unless a checkpoint had it so: a head's rows as they lie, which is faster than turned
    return linear(rearrange(z, "b h p d -> b p (h d)"), rearrange(weight, "h m d -> m (h d)"))


def gather_rows(
    pattern: Float[Tensor, "donor head query key"], donor: Int[Tensor, "batch query"]
) -> Float[Tensor, "batch head query key"]:
    """Gather rows: row i of sequence b is row i of the pattern of sequence donor[b, i]."""
    query = on_device(range(pattern.shape[-2]), pattern.device)
    return rearrange(pattern[donor, :, query], "batch query head key -> batch head query key")


def at_positions(
    x: Float[Tensor, "#batch *head position width"],
    position: Int[Tensor, "#batch position"] | Bool[Tensor, "batch position 1"],
    *,
    positions: str,
    inside: bool,
) -> Float[Tensor, "batch *head position width"]:
    """Keep the rows at some positions, or at all others, zeros elsewhere: the two add up to the whole.

    Where it depends on the example which positions these are, `position` says which they are.
    """
    known = position[..., 0] if position.dtype == torch.bool else positions_inside(positions, position)
    kept = known == inside
    return x * kept.reshape(len(kept), *(1,) * (x.ndim - 3), kept.shape[1], 1)


def take_rows(x: Tensor, sequence: Int[Tensor, "#batch #row"], row: Int[Tensor, "batch row"]) -> Tensor:
    """Take rows (position axis) of sequences. What is held is one sequence, which stands for all."""
    found = x.movedim(-2, 1).flatten(0, 1).index_select(0, (sequence % len(x) * x.shape[-2] + row).flatten())
    return found.view(*row.shape, *found.shape[1:]).movedim(1, -2)


def take_places(
    x: Float[Tensor, "#batch place width"], place: Int[Tensor, "batch position 1"]
) -> Float[Tensor, "batch position width"]:
    """Take for each position of each example what is held at its place."""
    return x.expand(len(place), -1, -1).gather(1, place.expand(-1, -1, x.shape[-1]))


def pack(x: Tensor, rows: Int[Tensor, "3 row"], *, of: str) -> Shaped[Tensor, "1 *head row width"]:
    """Lay the selected rows of all sequences one after the other, from all positions or from those that are filled."""
    return take_rows(x, rows[:1], rows[1:2] if of == "filled" else rows[2:])


def fill(
    x: Shaped[Tensor, "1 *head row width"], rows: Int[Tensor, "3 row"], selected: Int[Tensor, "batch some"]
) -> Shaped[Tensor, "batch *head some width"]:
    """Lay the selected rows of each sequence together, filled with zeros to the same number of rows."""
    filled = x.new_zeros(*selected.shape, *x.shape[1:-2], x.shape[-1])
    return filled.index_put_((rows[0], rows[1]), x[0].movedim(-2, 0)).movedim(1, -2)


def log_normaliser(logits: Float[Tensor, "batch position vocab"]) -> Float[Tensor, "batch position 1"]:
    return logits.logsumexp(-1, keepdim=True)


def mean_logit(logits: Float[Tensor, "batch position vocab"]) -> Float[Tensor, "batch position 1"]:
    return logits.mean(-1, keepdim=True)


def mean_row(table: Float[Tensor, "vocab d_model"]) -> Float[Tensor, "1 d_model"]:
    return table.mean(0, keepdim=True)


def look_up(
    target: Int[Tensor, "batch position 1"], table: Float[Tensor, "vocab width"]
) -> Float[Tensor, "batch position width"]:
    return embed(target[..., 0], table)


def pick_some(
    logits: Float[Tensor, "#batch position vocab"], target: Int[Tensor, "batch position some"]
) -> Float[Tensor, "batch position some"]:
    return logits.expand(len(target), -1, -1).gather(-1, target)


def look_up_some(
    x: Float[Tensor, "batch position width"],
    target: Int[Tensor, "batch position some"],
    table: Float[Tensor, "vocab width"],
) -> Float[Tensor, "batch position some"]:
    """Do pick_some(x @ table.T, target)."""
    return torch.einsum("bpw,bpsw->bps", x, functional.embedding(target, table))


def pick_mean(
    logits: Float[Tensor, "#batch position vocab"],
    target: Int[Tensor, "batch position some"],
    weights: Float[Tensor, "batch position some"],
) -> Float[Tensor, "batch position 1"]:
    """Add up the logits of some tokens with weights: a mean, or the difference of two."""
    return (pick_some(logits, target) * weights.to(logits.dtype)).sum(-1, keepdim=True)


def look_up_mean(
    target: Int[Tensor, "batch position some"],
    weights: Float[Tensor, "batch position some"],
    table: Float[Tensor, "vocab width"],
) -> Float[Tensor, "batch position width"]:
    return torch.einsum("bpsw,bps->bpw", functional.embedding(target, table), weights.to(table.dtype))


def probability(
    logits: Float[Tensor, "batch position some"],
    log_normaliser: Float[Tensor, "batch position 1"],
    weights: Float[Tensor, "batch position some"],
    *,
    log: bool,
) -> Float[Tensor, "batch position 1"]:
    """Add up the probabilities of tokens with a weight, less those whose weight is negative; or take the logarithm."""
    logs = (logits - log_normaliser).masked_fill(weights == 0, -torch.inf)
    return logs.logsumexp(-1, keepdim=True) if log else (logs.exp() * weights.sign()).sum(-1, keepdim=True)


def above(
    logits: Float[Tensor, "batch position some"], weights: Float[Tensor, "batch position some"]
) -> Float[Tensor, "batch position 1"]:
    """Tell whether the largest logit with a positive weight is above the largest with a negative one: 1 or 0."""
    right, wrong = (logits.masked_fill(sign * weights <= 0, -torch.inf).amax(-1, keepdim=True) for sign in (1, -1))
    return (right > wrong).to(logits.dtype)


def is_top(
    logits: Float[Tensor, "#batch position vocab"],
    target: Int[Tensor, "batch position some"],
    weights: Float[Tensor, "batch position some"],
) -> Float[Tensor, "batch position 1"]:
    """Tell whether the largest of all logits is that of a token with a weight: 1 or 0."""
    top = logits.argmax(-1, keepdim=True)
    return ((target == top) & (weights > 0)).any(-1, keepdim=True).to(logits.dtype)


def probabilities(logits: Float[Tensor, "batch position vocab"]) -> Float[Tensor, "batch position vocab"]:
    return logits.softmax(-1)


def mean_embedding(
    weight: Float[Tensor, "batch position vocab"], table: Float[Tensor, "vocab d_model"]
) -> Float[Tensor, "batch position d_model"]:
    return weight @ table


def call(*inputs: Tensor, function: Callable[..., Tensor]) -> Float[Tensor, "batch position 1"]:
    """Call somebody's own function of whole rows, which says itself what it is told apart by."""
    return function(*inputs)


def centre(x: Float[Tensor, "batch position d_model"]) -> Float[Tensor, "batch position d_model"]:
    return x - x.mean(-1, keepdim=True)


def inverse_deviation(x: Float[Tensor, "batch position d_model"], *, eps: float) -> Float[Tensor, "batch position 1"]:
    """Give what LayerNorm multiplies by."""
    if x.requires_grad:  # which torch gives for nothing, but without a gradient
        return (x.var(-1, correction=0, keepdim=True) + eps).rsqrt()
    return torch.native_layer_norm(x, x.shape[-1:], None, None, eps)[2].to(x.dtype)


def transpose(table: Float[Tensor, "row column"]) -> Float[Tensor, "column row"]:
    return table.T.contiguous()


def part(whole: Float[Tensor, "part *shape"], *, index: int) -> Float[Tensor, "*shape"]:
    return whole[index]


def multiply(left: Float[Tensor, "..."], right: Float[Tensor, "..."]) -> Float[Tensor, "..."]:
    return left * right


def absolute(x: Float[Tensor, "..."]) -> Float[Tensor, "..."]:
    return x.abs()


def dot(
    left: Float[Tensor, "#batch position width"], right: Float[Tensor, "#batch position width"]
) -> Float[Tensor, "batch position 1"]:
    return torch.einsum("bpw,bpw->bp", left, right)[..., None]


OPS: dict[str, Op] = {
    # leaves: parameters of the model, and what a run binds for every batch
    "param": Op(None, NONE, ("name", "shape")),
    "tokens": Op(None, NONE, ("source",)),  # [batch, position]
    "donor": Op(None, NONE, ("source",)),  # [batch, position], see gather_rows
    "position": Op(None, NONE),  # [1, position]
    "held": Op(None, NONE, ("of", "source")),  # stands for the node `of`, with its shape but one sequence: see rules.py
    "selected": Op(None, NONE),  # [batch, some]: positions, filled to the same number in every sequence
    "rows": Op(None, NONE),  # [3, row]: of each selected position its sequence, its number there, and itself
    "target": Op(None, NONE),  # [batch, position, 1]
    "other_target": Op(None, NONE, ("name",)),  # the same, of the examples' own targets
    "place": Op(None, NONE),  # [batch, position, 1]: which row of what is held by name stands there
    "choices": Op(None, NONE, ("of",)),  # [batch, position, some]: answers, wrong ones, or both
    "weights": Op(None, NONE, ("of",)),  # the same, of each in the mean: see Examples.choices
    "places": Op(None, NONE, ("positions",)),  # [batch, position, 1]: which positions of each example some spans mean
    # the model
    "embed": Op(embed, TWO),
    "add": Op(add, ANY, rows=None, heads=None),
    "add_bias": Op(add_bias, TWO, rows=(0,)),
    "sub": Op(sub, TWO, rows=(0, 1), heads=(0, 1)),
    "layer_norm": Op(layer_norm, THREE, ("eps",), rows=(0,)),
    "rms_norm": Op(rms_norm, TWO, ("eps",), rows=(0,), heads=(0,)),
    "heads_scale": Op(heads_scale, ONE, ("eps",), rows=(0,)),
    "scale_heads": Op(scale_heads, THREE, rows=(0, 2), heads=(0, 1)),
    "scale": Op(scale, ONE, ("by",), rows=(0,)),
    "soft_cap": Op(soft_cap, ONE, ("cap",), rows=(0,)),
    "rotary": Op(rotary, ONE, ("width", "base"), ("scaling",)),
    "rotate": Op(rotate, TWO, rows=(0, 1), heads=(0,)),
    "repeat_kv": Op(repeat_kv, ONE, ("times",)),
    "take_heads": Op(take_heads, ONE, ("indices",), heads=(0,)),
    "select_heads": Op(select_heads, ONE, ("indices",), rows=(0,), heads=(0,)),
    "project": Op(project, range(2, 4), rows=(0,), heads=(1, 2)),
    "attention_pattern": Op(
        attention_pattern, THREE, optional=("window", "cap"), rows=(0, 2), heads=(0, 1), together=True
    ),
    "attention": Op(attention, range(3, 5), optional=("window",), heads=(0, 1, 2)),
    "in_reach": Op(in_reach, TWO, optional=("window",), rows=(0,)),
    "attend": Op(attend, TWO, rows=(0,), heads=(0, 1), together=True),
    "attend_masked": Op(attend_masked, THREE, ("mask",), rows=(0, 2), heads=(0, 1), together=True),
    "output": Op(output, TWO, rows=(0,), heads=(0, 1)),
    "linear": Op(linear, range(2, 4), rows=(0,)),
    "activate": Op(activate, ONE, ("kind",), rows=(0,)),
    "unembed": Op(linear, TWO, rows=(0,)),
    # what a study does with it
    "gather_rows": Op(gather_rows, TWO, heads=(0,)),
    "at_positions": Op(at_positions, TWO, ("positions", "inside"), rows=(0, 1), heads=(0,), together=True),
    "take_places": Op(take_places, TWO, rows=(1,), together=True),
    "pack": Op(pack, TWO, ("of",)),
    "fill": Op(fill, THREE),
    "log_normaliser": Op(log_normaliser, ONE, rows=(0,)),
    "mean_logit": Op(mean_logit, ONE, rows=(0,)),
    "mean_row": Op(mean_row, ONE),
    "pick": Op(pick_some, TWO, rows=(0, 1)),
    "look_up": Op(look_up, TWO, rows=(0,)),
    # apart from `pick`, whose one logit needs no unembedding
    "pick_some": Op(pick_some, TWO, rows=(0, 1)),
    "look_up_some": Op(look_up_some, THREE, rows=(0, 1)),
    "pick_mean": Op(pick_mean, THREE, rows=(0, 1, 2)),
    "look_up_mean": Op(look_up_mean, THREE, rows=(0, 1)),
    "probability": Op(probability, THREE, ("log",), rows=(0, 1, 2)),
    "above": Op(above, TWO, rows=(0, 1)),
    "is_top": Op(is_top, THREE, rows=(0, 1, 2)),
    "call": Op(call, ANY, ("function",), rows=None),
    "probabilities": Op(probabilities, ONE, rows=(0,)),
    "expect": Op(dot, TWO, rows=(0, 1)),  # of logits, under a distribution
    "mean_embedding": Op(mean_embedding, TWO, rows=(0,)),
    "absolute": Op(absolute, ONE, rows=(0,), heads=(0,)),
    "dot": Op(dot, TWO, rows=(0, 1)),
    "centre": Op(centre, ONE, rows=(0,)),
    "inverse_deviation": Op(inverse_deviation, ONE, ("eps",), rows=(0,)),
    "inverse_root": Op(inverse_root, ONE, ("eps",), rows=(0,)),
    "fold_output": Op(fold_output, range(2, 4), optional=("centred",)),
    "fold_bias": Op(fold_bias, TWO),
    "transpose": Op(transpose, ONE),
    "change": Op(change, TWO, rows=(0, 1)),
    "changed": Op(changed, FOUR, rows=(0, 1, 3)),
    "log_normalisers_changed": Op(log_normalisers_changed, ANY, blocks=True, expression=log_normalisers_of),
    "part": Op(part, ONE, ("index",)),
    "multiply": Op(multiply, TWO, rows=(0, 1)),
}
