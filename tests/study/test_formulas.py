"""The induction study's numbers against its formulas, written out in plain torch from the pairs file and the weights.

Nothing here but the run that is tested uses scrub: the model is its tensors, a hypothesis is what enters the LayerNorm
of each slot of the induction heads, as the design's table says it, and the sequences are those of the pairs file.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import torch
from project import LETTERS, LISTED
from safetensors.torch import load, load_file
from torch import Tensor

from scrub.cli import _status
from scrub.study.evaluate import Evaluator
from scrub.study.gates import Gates

SEQUENCES, DRAWS = 23, 2
PREV, SELF, REST = [1], [0, 4], [2, 3]  # layer 0
IND, OTHERS = [2, 3], [0, 1, 4]  # layer 1
EVERY = [*PREV, *SELF, *REST]


class Plain:
    """A two-layer attention-only model in float64, as tensor code."""

    def __init__(self, folder: Path) -> None:
        self.config = json.loads((folder / "config.json").read_text())
        self.w = {name: value.double() for name, value in load_file(folder / "model.safetensors").items()}
        self.shortformer = self.config["positions"] == "shortformer"
        n_ctx = self.config["n_ctx"]
        lag = torch.arange(n_ctx)[:, None] - torch.arange(n_ctx)[None]
        self.causal = lag >= 0
        self.masks = {"current": lag == 0, "previous": lag == 1, "last three": (lag >= 0) & (lag <= 2)}

    def norm(self, x: Tensor, name: str) -> Tensor:
        centred = x - x.mean(-1, keepdim=True)
        scale = (centred.square().mean(-1, keepdim=True) + self.config["layer_norm_eps"]).sqrt()
        return centred / scale * self.w[f"{name}.weight"] + self.w[f"{name}.bias"]

    def emb(self, tokens: Tensor) -> Tensor:
        found = self.w["embed.weight"][tokens]
        return found if self.shortformer else found + self.w["pos.weight"]

    def project(self, x: Tensor, layer: int, slot: str, heads: list[int]) -> Tensor:
        """q, k or v [batch, head, position, d_head] of what enters the layer's LayerNorm."""
        read = self.norm(x, f"layers.{layer}.ln")
        if self.shortformer and slot != "v":
            read = read + self.w["pos.weight"]
        return torch.einsum("bpm,hdm->bhpd", read, self.w[f"layers.{layer}.w{slot}"][heads])

    def pattern(self, q: Tensor, k: Tensor) -> Tensor:
        scores = torch.einsum("bhqd,bhkd->bhqk", q, k) / self.config["d_head"] ** 0.5
        return scores.masked_fill(~self.causal, -torch.inf).softmax(-1)

    def write(self, z: Tensor, layer: int, heads: list[int]) -> Tensor:
        return torch.einsum("bhpd,hmd->bpm", z, self.w[f"layers.{layer}.wo"][heads])

    # Layer 0, as the table's letters say it: P(t) and OV(t) on the tokens t

    def p0(self, tokens: Tensor, heads: list[int]) -> Tensor:
        x = self.emb(tokens)
        return self.pattern(self.project(x, 0, "q", heads), self.project(x, 0, "k", heads))

    def v0(self, tokens: Tensor, heads: list[int]) -> Tensor:
        return self.project(self.emb(tokens), 0, "v", heads)

    def h(self, tokens: Tensor, heads: list[int]) -> Tensor:
        return self.write(self.p0(tokens, heads) @ self.v0(tokens, heads), 0, heads)

    def under(self, mask: str, pattern: Tensor, x: Tensor, y: Tensor, heads: list[int]) -> Tensor:
        """OV(x) inside the mask and OV(y) outside, both weighted by a pattern."""
        inside = self.masks[mask]
        z = (pattern * inside) @ self.v0(x, heads) + (pattern * ~inside) @ self.v0(y, heads)
        return self.write(z, 0, heads)

    def identity(self, tokens: Tensor, heads: list[int]) -> Tensor:
        return self.write(self.v0(tokens, heads), 0, heads)

    # The rest of the model

    def stream(self, tokens: Tensor) -> Tensor:
        """What enters the LayerNorm of layer 1 on these tokens."""
        return self.emb(tokens) + self.h(tokens, EVERY)

    def attention(self, q: Tensor, k: Tensor, v: Tensor, heads: list[int]) -> Tensor:
        """What heads of layer 1 write, from what enters the LayerNorm of each slot."""
        pattern = self.pattern(self.project(q, 1, "q", heads), self.project(k, 1, "k", heads))
        return self.write(pattern @ self.project(v, 1, "v", heads), 1, heads)

    def logits(self, x: Tensor, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        """Everything runs on x, but for what enters the slots of the induction heads."""
        own = self.stream(x)
        final = own + self.attention(own, own, own, OTHERS) + self.attention(q, k, v, IND)
        return self.norm(final, "final_ln") @ self.w["unembed.weight"].T


@dataclass(frozen=True)
class Pairs:
    """What a pairs file holds: tokens of all draws, and the donor of each position."""

    reference: Tensor
    other: Tensor
    selected: Tensor
    donor: Tensor

    @property
    def x(self) -> Tensor:
        return self.reference[:, :-1]

    @property
    def y(self) -> Tensor:
        return self.other[:, :-1]


Slots = tuple[Tensor, Tensor, Tensor]


def naive(m: Plain, pairs: Pairs) -> Slots:
    x, y = pairs.x, pairs.y
    q = m.emb(x) + m.h(y, EVERY)
    k = m.emb(y) + m.under("previous", m.p0(y, PREV), x, y, PREV) + m.h(y, SELF) + m.h(y, REST)
    return q, k, q


def refined_1(m: Plain, pairs: Pairs) -> Slots:
    x, y = pairs.x, pairs.y
    q = m.emb(x) + m.under("current", m.p0(y, EVERY), x, y, EVERY)
    k = m.emb(y) + m.under("previous", m.p0(y, EVERY), x, y, EVERY)
    return q, k, q


def refined_2(m: Plain, pairs: Pairs) -> Slots:
    x, y = pairs.x, pairs.y
    q = m.emb(x) + m.under("last three", m.p0(y, EVERY), x, y, EVERY)
    return q, q, refined_1(m, pairs)[2]


def refined_3(m: Plain, pairs: Pairs) -> Slots:
    x, y = pairs.x, pairs.y
    q = m.emb(x) + m.h(x, PREV) + m.h(x, SELF) + m.under("last three", m.p0(y, REST), x, y, REST)
    return q, q, refined_1(m, pairs)[2]


def refined_4(m: Plain, pairs: Pairs) -> Slots:
    x, y = pairs.x, pairs.y
    self_heads = m.identity(x, SELF) + (m.h(y, SELF) - m.identity(y, SELF))
    both = [*PREV, *REST]
    q = m.emb(x) + self_heads + m.under("last three", m.p0(y, both), x, y, both)
    return q, refined_2(m, pairs)[1], refined_1(m, pairs)[2]


def refined_5(m: Plain, pairs: Pairs) -> Slots:
    x, y = pairs.x, pairs.y
    on_all = m.p0(x, PREV)
    rows = torch.stack([on_all[pairs.donor[:, at], :, at] for at in range(x.shape[1])], 2)
    others = [*SELF, *REST]
    k = m.emb(x) + m.under("last three", rows, x, y, PREV) + m.under("last three", m.p0(y, others), x, y, others)
    return refined_4(m, pairs)[0], k, refined_1(m, pairs)[2]


HYPOTHESES: dict[str, Callable[[Plain, Pairs], Slots]] = {
    each.__name__: each for each in (naive, refined_1, refined_2, refined_3, refined_4, refined_5)
}


def logits_of(m: Plain, pairs: Pairs) -> dict[str, Tensor]:
    """The logits of every anchor and experiment, by name."""
    own, others = m.stream(pairs.x), m.stream(pairs.y)
    found = {
        "unscrubbed": m.logits(pairs.x, own, own, own),
        "baseline": m.logits(pairs.x, others, others, others),
        "all_scrubbed": m.logits(pairs.y, others, others, others),
    }
    for name, formula in HYPOTHESES.items():
        q, k, v = formula(m, pairs)
        found[f"{name}/q"] = m.logits(pairs.x, q, own, own)
        found[f"{name}/k"] = m.logits(pairs.x, own, k, own)
        found[f"{name}/v"] = m.logits(pairs.x, own, own, v)
        found[f"{name}/all"] = m.logits(pairs.x, q, k, v)
    return found


def bigram(sequences: list[list[int]], vocabulary: int) -> np.ndarray:
    """Losses of a Witten-Bell bigram, each half of the sequences predicted from the other half."""
    losses = np.zeros((len(sequences), len(sequences[0]) - 1))
    for half in (0, 1):
        known = sequences[1 - half :: 2]
        couples = Counter(each for s in known for each in pairwise(s))
        firsts, seconds = Counter(a for a, _ in couples.elements()), Counter(b for _, b in couples.elements())
        distinct = Counter(a for a, _ in couples)
        for row, s in list(enumerate(sequences))[half::2]:
            for at, (a, b) in enumerate(pairwise(s)):
                overall = (seconds[b] + 1) / (couples.total() + vocabulary)
                weight = distinct[a] if firsts[a] else 1
                losses[row, at] = -np.log((couples[a, b] + weight * overall) / (firsts[a] + weight))
    return losses


@pytest.fixture(scope="module", params=["tiny", "standard"])
def both(request: pytest.FixtureRequest, project: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[dict, Pairs]:
    """What a run says, and what the formulas say: the model, its JSON, its pairs, and the logits."""
    out = tmp_path_factory.mktemp("out")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(project)
        if request.param == "standard":  # gates are passed once
            patch.setattr(Evaluator, "check", lambda *_: Gates({"none": 0.0}, ()))
        words = f"run induction --model {request.param} --sequences {SEQUENCES} --draws {DRAWS} --seed 3 --batch 11"
        files = f"--dtype float64 --json {out}/run.json --pairs-out {out}/pairs.safetensors"
        assert _status(f"{words} {files}".split()) == 0
    tensors = load((out / "pairs.safetensors").read_bytes())
    assert set(tensors) == {"reference", "other", "selected", "rows like typicality"}
    pairs = Pairs(tensors["reference"], tensors["other"], tensors["selected"], tensors["rows like typicality"])
    numbers = json.loads((out / "run.json").read_text())
    return {"json": numbers, "logits": logits_of(Plain(project / "models" / request.param), pairs)}, pairs


def test_the_formulas_are_the_model(project: Path) -> None:
    """The plain code on x is the model itself: else agreement would prove nothing."""
    from scrub.models.model import load_model

    for name in ("tiny", "standard"):
        tokens = torch.arange(22).reshape(2, 11) % 31
        own = (plain := Plain(project / "models" / name)).stream(tokens)
        mine = plain.logits(tokens, own, own, own)
        assert torch.allclose(mine, load_model(project / "models" / name, torch.float64)(tokens), atol=1e-12)


def test_pairs_file(both: tuple[dict, Pairs]) -> None:
    numbers, pairs = both[0]["json"], both[1]
    assert pairs.reference.shape == pairs.other.shape == (DRAWS * SEQUENCES, 12)
    assert pairs.selected.shape == (DRAWS * SEQUENCES, 11)
    assert (pairs.reference.dtype, pairs.other.dtype, pairs.selected.dtype) == (torch.int64, torch.int64, torch.bool)
    assert int(pairs.selected.sum()) == DRAWS * numbers["positions"]
    listed = torch.tensor([1 + LETTERS.index(letter) for letter in LISTED])
    assert torch.equal(pairs.selected, torch.isin(pairs.x, listed))  # the token, whose successor is scored
    first, second = pairs.reference.split(SEQUENCES)
    assert torch.equal(first, second)  # the same sequences in every draw, in other pairs
    assert not torch.equal(*pairs.other.split(SEQUENCES))
    for other in pairs.other.split(SEQUENCES):
        assert not (other == first).all(1).any()
        assert sorted(other.tolist()) == sorted(first.tolist())


def test_every_number_is_the_formulas(both: tuple[dict, Pairs]) -> None:
    (found, pairs), numbers = both, both[0]["json"]
    at = pairs.selected
    target = pairs.reference[:, 1:, None]
    log_p = {name: logits.log_softmax(-1) for name, logits in found["logits"].items()}
    loss = {name: -value.gather(-1, target)[..., 0][at] for name, value in log_p.items()}
    mean = {name: float(value.mean()) for name, value in loss.items()}
    assert numbers["losses"] == pytest.approx(
        {name: mean[name] for name in ("unscrubbed", "baseline", "all_scrubbed")}
        | {"bigram": bigram(pairs.reference[:SEQUENCES].tolist(), 31)[at[:SEQUENCES].numpy()].mean()},
        abs=1e-10,
    )
    own = log_p["unscrubbed"]
    for row in numbers["rows"]:
        name = f"{row['hypothesis']}/{row['part']}"
        recovered = 100 * (mean["baseline"] - mean[name]) / (mean["baseline"] - mean["unscrubbed"])
        kl = (own.exp() * (own - log_p[name])).sum(-1)[at].mean()
        change = (loss[name] - loss["unscrubbed"]).abs().mean()
        assert row["loss"] == pytest.approx(mean[name], abs=1e-10), name
        assert row["recovered"] == pytest.approx(recovered, abs=1e-7), name
        assert row["kl"] == pytest.approx(float(kl), abs=1e-10), name
        assert row["mean_abs_change"] == pytest.approx(float(change), abs=1e-10), name
    assert [(row["hypothesis"], row["part"]) for row in numbers["rows"]] == [
        (name, part) for name in HYPOTHESES for part in ("q", "k", "v", "all")
    ]


def test_the_formulas_differ(both: tuple[dict, Pairs]) -> None:
    """Each hypothesis is told apart from the others by some part, so that no two could be swapped unnoticed."""
    logits = both[0]["logits"]
    for one in HYPOTHESES:
        for two in HYPOTHESES:
            if one < two:
                assert any((logits[f"{one}/{part}"] - logits[f"{two}/{part}"]).abs().max() > 0.01 for part in "qkv")


def test_rows_come_from_sequences_of_the_same_typicality(both: tuple[dict, Pairs]) -> None:
    """As declared for the project: the current token is an e or a blank, or the one before a t, a dot or an a."""
    pairs = both[1]
    number = {letter: 1 + at for at, letter in enumerate(LETTERS)}
    now = torch.isin(pairs.x, torch.tensor([number[each] for each in "e "]))
    before = torch.isin(pairs.x, torch.tensor([number[each] for each in "t.a"]))
    now[:, 1:] |= before[:, :-1]
    assert 0.1 < now.float().mean() < 0.9
    at = torch.arange(now.shape[1])
    agree = now[pairs.donor, at] == now
    assert agree.all()
    for number, donors in enumerate(pairs.donor.split(SEQUENCES)):
        itself = torch.arange(SEQUENCES)[:, None] + number * SEQUENCES
        assert (donors // SEQUENCES == number).all()  # a draw's donors are rows of that draw
        assert (donors == itself).float().mean() < 0.05  # only where nobody else agrees
