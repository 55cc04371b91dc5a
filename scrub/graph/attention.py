"""Operations of attention: projections into heads, positions, patterns, what heads write, and some of the heads."""

from __future__ import annotations

import torch
from einops import rearrange
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn import functional

from scrub.graph.arithmetic import linear, squeezed
from scrub.graph.masks import MASKS, on_device

SHORT = 32  # positions, below which torch's fused attention drops what is not a number, which gates look for


def project(
    x: Float[Tensor, "batch position d_model"],
    weight: Float[Tensor, "head d_head d_model"],
    bias: Float[Tensor, "head d_head"] | None = None,
) -> Float[Tensor, "batch head position d_head"]:
    flat = linear(x, weight.flatten(0, 1), None if bias is None else bias.flatten())
    return flat.view(*flat.shape[:2], *weight.shape[:2]).transpose(1, 2)


def take_heads(weight: Float[Tensor, "head ..."], *, indices: tuple[int, ...]) -> Float[Tensor, "some ..."]:
    return weight[on_device(indices, weight.device)]


def select_heads(x: Float[Tensor, "batch head ..."], *, indices: tuple[int, ...]) -> Float[Tensor, "batch some ..."]:
    """Take some heads of what is computed; those that stand side by side without a copy."""
    if indices == tuple(range(indices[0], indices[-1] + 1)):
        return x[:, indices[0] : indices[-1] + 1]
    return torch.cat([x[:, head : head + 1] for head in indices], 1)


def repeat_kv(weight: Float[Tensor, "kv_head *shape"], *, times: int) -> Float[Tensor, "head *shape"]:
    """Repeat what makes the keys or values of a head, once for each query head that it serves."""
    return weight.repeat_interleave(times, 0)


def heads_scale(x: Float[Tensor, "batch head position d_head"], *, eps: float) -> Float[Tensor, "batch 1 position 1"]:
    """Give what the RMSNorm of all heads of a layer side by side multiplies by, in float32 at least, as norms are."""
    x = x.to(torch.promote_types(x.dtype, torch.float32))  # the squares of half precision's numbers are none of its own
    return (x.square().mean((1, 3), keepdim=True) + eps).rsqrt()


def scale_heads(
    x: Float[Tensor, "#batch head position d_head"],
    gain: Float[Tensor, "head d_head"],
    scale: Float[Tensor, "#batch 1 position 1"],
) -> Float[Tensor, "batch head position d_head"]:
    return (x * scale * gain[:, None]).to(x.dtype)


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


def attention_pattern(
    q: Float[Tensor, "#batch head query d_head"],
    k: Float[Tensor, "#batch head key d_head"],
    position: Int[Tensor, "#batch query"],
    masked: Float[Tensor, "#batch key 1"] | None = None,
    *,
    window: int | None = None,
    cap: float | None = None,
    causal: bool = True,
) -> Float[Tensor, "batch head query key"]:
    """Take softmax(q k / sqrt(d_head)) over the keys at or before each query's position, of which a window has so many.

    With a `cap`, scores are squeezed into -cap to cap before (Bello et al. 2016, https://arxiv.org/abs/1611.09940).
    Unless it is `causal`, over the keys at every position; what `masked` says of each is added to its scores.
    """
    scores: Tensor = (q * (q.shape[-1] ** -0.5 / (cap or 1.0))) @ k.contiguous().transpose(-1, -2)
    if cap is not None:
        scores = squeezed(scores, cap)
    if causal:
        scores += in_reach(position, on_device(range(k.shape[-2]), k.device)[None], window=window)[:, None]
    if masked is not None:
        scores = scores + masked[:, None].mT  # of more sequences than the scores, where q and k are held
    # in place where nothing will ask for a gradient: fresh memory for every pattern costs as much as the softmax
    return scores.softmax(-1) if scores.requires_grad else torch.softmax(scores, -1, out=scores)


def masked_scores(table: Float[Tensor, "vocab d_model"], *, pad: int) -> Float[Tensor, "vocab 1"]:
    """Give what is added to the scores of a key, by its token: nothing, or of a pad what leaves no weight to it.

    It is finite, so that it splits by positions as all else does: of the largest number a quarter, to add a score to.
    """
    scores = table[:, :1] * 0
    return scores.index_fill(0, on_device((pad,), table.device), torch.finfo(table.dtype).min / 4)


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
