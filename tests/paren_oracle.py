"""The claims of the paren study in plain torch: a forward pass, and each claim written out, with no code of `scrub`.

`params` are those of a model of three layers with two heads, by TransformerLens's names; `rows` [row, position] are the
ids that it reads, 1 a pad; `drawn` the number of the row, or of one for each position, that each name of a draw and
each pattern of an `any` stands for.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy, layer_norm

PAD, OPEN, CLOSE = 1, 3, 4
Params = Mapping[str, Tensor]
HEADS = {"A": 1, "B": 2}  # the layers of the two heads that count, by the names of what is drawn for them


def params_of(stored: Params, layers: int = 3) -> dict[str, Tensor]:
    """Rename the parameters of a decoder's graph to what TransformerLens calls them."""
    names = {"embed.W_E": "embed.weight", "pos_embed.W_pos": "pos.weight", "unembed.b_U": "unembed.bias"}
    names |= {"ln_final.w": "final_ln.weight", "ln_final.b": "final_ln.bias"}
    turned = {"unembed.W_U": "unembed.weight"}
    for layer in range(layers):
        here, there = f"blocks.{layer}", f"layers.{layer}"
        for ln in ("ln1", "ln2"):
            names |= {f"{here}.{ln}.w": f"{there}.{ln}.weight", f"{here}.{ln}.b": f"{there}.{ln}.bias"}
        for slot in "qkvo":
            turned[f"{here}.attn.W_{slot.upper()}"] = f"{there}.w{slot}"
            names[f"{here}.attn.b_{slot.upper()}"] = f"{there}.b{slot}"
        for side in ("in", "out"):
            turned[f"{here}.mlp.W_{side}"] = f"{there}.w_{side}"
            names[f"{here}.mlp.b_{side}"] = f"{there}.b_{side}"
    return {new: stored[old] for new, old in names.items()} | {
        new: stored[old].transpose(-1, -2) for new, old in turned.items()
    }


def norm(p: Params, name: str, x: Tensor) -> Tensor:
    return layer_norm(x, x.shape[-1:], p[f"{name}.w"], p[f"{name}.b"], 1e-5)


def head(p: Params, layer: int, number: int, stream: Tensor, pads: Tensor) -> Tensor:
    """What a head writes at every position; no query reads a key that is a pad."""
    x, attn = norm(p, f"blocks.{layer}.ln1", stream), f"blocks.{layer}.attn"
    q, k, v = (x @ p[f"{attn}.W_{s}"][number] + p[f"{attn}.b_{s}"][number] for s in "QKV")
    scores = q @ k.transpose(1, 2) / q.shape[-1] ** 0.5
    pattern = scores.masked_fill(pads[:, None], -torch.inf).softmax(-1)
    return pattern @ v @ p[f"{attn}.W_O"][number]


def mlp(p: Params, layer: int, stream: Tensor) -> Tensor:
    name = f"blocks.{layer}.mlp"
    inside = norm(p, f"blocks.{layer}.ln2", stream) @ p[f"{name}.W_in"] + p[f"{name}.b_in"]
    return inside.relu() @ p[f"{name}.W_out"] + p[f"{name}.b_out"]


def forward(
    p: Params, tokens: Tensor, pads: Tensor | None = None, first: Tensor | None = None
) -> tuple[list[Tensor], dict[str, Tensor]]:
    """The stream in front of each layer and behind the last, and what each head writes.

    `pads` are what is masked, where that isn't the tokens' own, and `first` what head 0.0 writes, where that isn't.
    """
    pads = tokens == PAD if pads is None else pads
    streams, heads = [p["embed.W_E"][tokens] + p["pos_embed.W_pos"]], {}
    for layer in range(3):
        for number in range(2):
            given = first if (layer, number) == (0, 0) else None
            heads[f"{layer}.{number}"] = head(p, layer, number, streams[-1], pads) if given is None else given
        after = streams[-1] + heads[f"{layer}.0"] + heads[f"{layer}.1"] + p[f"blocks.{layer}.attn.b_O"]
        streams.append(after + mlp(p, layer, after))
    return streams, heads


def read_out(p: Params, end: Tensor) -> Tensor:
    return norm(p, "ln_final", end) @ p["unembed.W_U"] + p["unembed.b_U"]


def logits(p: Params, tokens: Tensor) -> Tensor:
    """The logits of both classes, at position 0."""
    return read_out(p, forward(p, tokens)[0][3][:, 0])


def open_direction(p: Params) -> Tensor:
    """Half of what head 0.0 writes more for a ( than for a ), as the mean over the places of parens."""
    read = norm(p, "blocks.0.ln1", p["embed.W_E"][[OPEN, CLOSE], None] + p["pos_embed.W_pos"][None, 1:-1])
    written = (read @ p["blocks.0.attn.W_V"][0] + p["blocks.0.attn.b_V"][0]) @ p["blocks.0.attn.W_O"][0]
    return (written[0] - written[1]).mean(0) / 2


def phi(p: Params, tokens: Tensor) -> Tensor:
    opens, closes = ((tokens == paren).sum(1).double() for paren in (OPEN, CLOSE))
    return ((opens - closes) / (opens + closes))[:, None] * open_direction(p)


def claim(
    p: Params, rows: Tensor, labels: Tensor, drawn: Mapping[str, Tensor], two: str = "", three: str = ""
) -> Tensor:
    """The loss of each label; `two` and `three` are "2a" or "2b", and "3", where those are part of the claim."""
    streams, heads = forward(p, rows[drawn["any **"]])
    end = (streams[3] - heads["1.0"] - heads["2.0"] - heads["2.1"])[:, 0]
    for name, layer in HEADS.items():
        whole = forward(p, rows[drawn[name]])[1][f"{layer}.0"][:, 0] if not two else None
        end = end + (first_paren(p, rows, drawn, name, layer, two) if whole is None else whole)
    if three:
        at, each = torch.arange(rows.shape[1]), drawn["Hi"]
        stream = torch.stack([forward(p, rows[each[:, i]])[0][2][:, i] for i in at.tolist()], dim=1)
        end = end + head(p, 2, 1, stream, rows[drawn["Hm"]] == PAD)[:, 0]
    else:
        end = end + forward(p, rows[drawn["H"]])[1]["2.1"][:, 0]
    return cross_entropy(read_out(p, end), labels, reduction="none")


def first_paren(p: Params, rows: Tensor, drawn: Mapping[str, Tensor], name: str, layer: int, two: str) -> Tensor:
    """What a head that counts writes at the start: it reads what was made for it at position 1, elsewhere any row."""
    others = rows[drawn[f"any out/a{layer}.0/**"]]
    beside = rows[drawn[f"{name}o"]]
    first = forward(p, beside)[1]["0.0"].clone()
    share = rows[drawn[f"{name}p"]]
    if two == "2a":
        first[:, 1] = forward(p, share)[1]["0.0"][:, 1]
    else:
        rest = rows[drawn[f"any out/a{layer}.0/*[1]/**/a0.0[1][rest]/**"]]
        first[:, 1] = phi(p, share) + forward(p, rest)[1]["0.0"][:, 1] - phi(p, rest)
    made = forward(p, rows[drawn[f"{name}e"]], beside == PAD, first)[0][layer]
    stream = forward(p, others)[0][layer].clone()
    stream[:, 1] = made[:, 1]
    return head(p, layer, 0, stream, others == PAD)[:, 0]
