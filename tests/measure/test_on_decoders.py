"""What looks into a model by its structure, on random decoders of every kind, against one in plain torch.

Norms in front, behind, both or none; grouped queries; rotary positions, whole, partial and scaled; parallel and gated
MLPs; caps and windows.
"""

from __future__ import annotations

from functools import cache
from itertools import product

import numpy as np
import pytest
import torch
from plain import REST, Plain, turned
from scipy.stats import ks_2samp
from small import DECODERS, small_decoder
from torch import Tensor

from scrub.data.examples import Examples
from scrub.measure.heads.scores import score_heads
from scrub.measure.interventions.ablation import ablate
from scrub.measure.stream.direct import direct_attribution
from scrub.measure.stream.lens import logit_lens
from scrub.measure.weights.composition import composes, composition
from scrub.measure.weights.links import Links
from scrub.measure.weights.virtual_weights import layer_readers, readers
from scrub.models.families.decoder import Config
from scrub.models.model import Model
from scrub.models.values import values
from scrub.paths.sites import components, sweep
from scrub.study.settings import Settings
from scrub.text.errors import ScrubError

EXACT = Settings(dtype="float64", device="cpu", progress=False)
RNG = np.random.default_rng(3)
ROWS, COUNT, VOCAB, HEADS, LAYERS = 5, 7, 13, 6, 3
TOKENS = RNG.integers(VOCAB, size=(ROWS, COUNT + 1))
SCORED = RNG.random((ROWS, COUNT)) < 0.5
SCORED[:, 3] = True
TEXT = Examples(TOKENS, SCORED)
BEHIND = "gptneo, norms behind"  # LayerNorms, which no family has there
NAMES = [*DECODERS, BEHIND]
FAMILIES = pytest.mark.parametrize("name", NAMES)
NORMED = {"qwen3", "gemma3", "olmo2"}  # queries and keys
TURNED = [name for name in DECODERS if name not in NORMED | {"gptneo", "arena"}]
LEARNED = ["gptneo", BEHIND, "arena"]


@cache
def case(name: str) -> tuple[Model, Plain]:
    model = small_decoder("gptneo", LAYERS, norms="both") if name == BEHIND else small_decoder(name, LAYERS)
    return model, Plain(config(model), model.params, torch.from_numpy(TOKENS[:, :-1]))


def config(model: Model) -> Config:
    assert isinstance(model.config, Config)
    return model.config


def of_targets(logits: Tensor) -> np.ndarray:
    """Sums of the targets' logits over the scored positions of each row."""
    found = logits.gather(-1, torch.from_numpy(TOKENS[:, 1:, None]))[..., 0].numpy()
    return np.where(SCORED, found, 0).sum(1)


@FAMILIES
def test_each_component_adds_what_plain_torch_has_of_it(name: str) -> None:
    model, plain = case(name)
    added = plain.added()
    whole = torch.stack(list(added.values())).sum(0)
    torch.testing.assert_close(model(plain.tokens), plain.capped(whole), rtol=0, atol=1e-9)
    found = direct_attribution(model, TEXT, EXACT)
    assert set(found.names[:-1]) == set(added) - {REST}
    for component, sums in zip(found.names, found.sums, strict=True):
        wanted = of_targets(added.get(component, added[REST]))
        np.testing.assert_allclose(sums, wanted, rtol=0, atol=1e-9, err_msg=component)
    np.testing.assert_allclose(found.total, of_targets(whole), rtol=0, atol=1e-9)
    assert (found.cap, bool(found.notes)) == ((5.0, True) if name == "gemma2" else (None, False))


@FAMILIES
def test_the_lens_goes_through_all_that_is_behind_the_stream(name: str) -> None:
    model, plain = case(name)
    found = logit_lens(model, TEXT, "loss", settings=EXACT)
    assert list(found.sites) == [f"stream {layer}" for layer in range(LAYERS + 1)]
    for layer, stream in enumerate(plain.streams):
        torch.testing.assert_close(values(model, plain.tokens, f"stream {layer}"), stream, rtol=0, atol=1e-9)
        wanted = of_targets(-plain.lens(stream).log_softmax(-1))
        np.testing.assert_allclose(found.sums["loss"][layer, 0], wanted, rtol=0, atol=1e-9)


@FAMILIES
def test_scores_of_heads_are_along_gradients_of_the_logits(name: str) -> None:
    """With a cap on logits too: the direct effect is the gradient's share, copying that of the logits before it."""
    model, plain = case(name)
    added = plain.added()
    logits = torch.stack(list(added.values())).sum(0).requires_grad_()
    likely = plain.capped(logits).log_softmax(-1).gather(-1, torch.from_numpy(TOKENS[:, 1:, None])).sum()
    (gradient,) = torch.autograd.grad(likely, logits)
    found = score_heads(model, TEXT, ["direct effect", "copying", "previous token"])
    for layer, head in product(range(LAYERS), range(HEADS)):
        of = added[f"a{layer}.{head}"]
        pattern = plain.inside[f"a{layer}.{head}/pattern"]
        own = of.gather(-1, plain.tokens[:, None].expand(-1, COUNT, -1))  # of each query, for each key's token
        raised = (pattern * (own - (of.sum(-1, keepdim=True) - own) / (VOCAB - 1))).sum(-1)
        previous = torch.cat([pattern.new_zeros(ROWS, 1), pattern.diagonal(-1, -2, -1)], 1)
        for score, each in (
            ("direct effect", (of * gradient).sum(-1)),
            ("copying", raised),
            ("previous token", previous),
        ):
            wanted = np.where(SCORED & (np.arange(COUNT) > 0) if score == "previous token" else SCORED, each, 0).sum(1)
            np.testing.assert_allclose(found[score].sums[:, layer, head], wanted, rtol=0, atol=1e-9, err_msg=score)


@FAMILIES
def test_parts_of_components_are_those_of_plain_torch(name: str) -> None:
    model, plain = case(name)
    for path, wanted in list(plain.inside.items())[1::3]:
        torch.testing.assert_close(values(model, plain.tokens, path), wanted, rtol=0, atol=1e-9)
    for path in ("a1/mid", "a1/in", "m1/pattern", "m1/z", "emb/in"):
        with pytest.raises(ScrubError, match=r"nothing of this model|matches no path"):
            values(model, plain.tokens, path)


@FAMILIES
def test_edges_of_a_sweep_are_those_that_are_read(name: str) -> None:
    model, plain = case(name)
    mlps, parallel = config(model).d_mlp is not None, config(model).parallel
    before = {"emb", "m0"} | {f"a0.{head}" for head in range(HEADS)} if mlps else {"emb"}
    before |= {f"a0.{head}" for head in range(HEADS)}
    read = {"a1.2/k/*": before} | (
        {"m1/*": before if parallel else before | {f"a1.{h}" for h in range(HEADS)}} if mlps else {}
    )
    for what, wanted in read.items():
        edges = sweep(what, model.graph)
        assert {each.rpartition("/")[2] for each in edges} == wanted
        assert len(edges) == len(wanted)
        for edge in (edges[0], edges[-1]):
            values(model, plain.tokens, edge)  # which knows no other paths
    assert components(model.graph)[:3] == (["emb", "a0", "m0"] if mlps else ["emb", "a0", "a1"])


@FAMILIES
def test_a_stream_is_held_at_its_mean_or_at_zero_but_for_what_norms_make_of_biases(name: str) -> None:
    model, plain = case(name)
    c, p, final = config(model), model.params, plain.streams[-1]
    nothing = torch.zeros_like(final)
    left = nothing + (p["pos.weight"][:COUNT] if c.positions == "learned" else 0)
    for layer in range(LAYERS):
        bias = nothing + p.get(f"layers.{layer}.bo", 0)
        left = left + (bias if c.norms == "before" else plain.norm(f"layers.{layer}.ln1_post", bias))
        if c.norms != "before":
            left = left + plain.norm(f"layers.{layer}.ln2_post", nothing)
    wanted = {"zero": left, "mean": final.mean(0, keepdim=True).expand_as(final)}
    ways = ("zero",) if c.norms != "before" else tuple(wanted)
    for how in ways:
        effects = ablate(model, TEXT, [f"stream {LAYERS}"], how=how, settings=EXACT).effects
        logits = plain.lens(wanted[how])
        losses = -logits.log_softmax(-1).gather(-1, torch.from_numpy(TOKENS[:, 1:, None]))[..., 0].numpy()
        np.testing.assert_allclose(effects.values["loss"][1], losses[SCORED], rtol=0, atol=1e-9, err_msg=how)
    if c.norms != "before":
        ablate(model, TEXT, ["stream 0", "a1+m0"], how="mean", settings=EXACT)  # nothing is in front of a norm there
        for stream in (f"stream {LAYERS}", "stream 1@2..3", "streams"):
            with pytest.raises(ScrubError, match=r"^'stream [123].* a0 is written .* name components") as raised:
                ablate(model, TEXT, stream, how="mean", settings=EXACT)
            assert "\n" not in str(raised.value)


def dense(model: Model, weight: Tensor, norm: str) -> Tensor:
    """What a matrix makes of the stream, but for what the norm in front divides by."""
    if f"{norm}.weight" not in model.params:
        return weight
    width = weight.shape[-1]
    gain = torch.diag(model.params[f"{norm}.weight"])
    centring = torch.eye(width, dtype=torch.float64) - (1 / width if config(model).norm == "layer" else 0)
    return weight @ centring @ gain if norm.endswith("_post") else weight @ gain @ centring


def head_matrices(model: Model, layer: int, head: int, lag: int = 0) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """W_Q, W_K and W_V of a query head, and its W_O, the linear parts of norms folded in."""
    c, p, name = config(model), model.params, f"layers.{layer}"
    norm = f"{name}.ln1" if c.d_mlp else f"{name}.ln"
    shared = head // (c.n_heads // c.n_kv_heads)
    q, k, v = (p[f"{name}.w{slot}"][head if slot == "q" else shared] for slot in "qkv")
    if c.qk_norm:
        gains = (p[f"{name}.{slot}_norm.weight"] for slot in "qk")
        q_gain, k_gain = (g if g.ndim == 1 else g[at] for g, at in zip(gains, (head, shared), strict=True))
        q, k = q_gain[:, None] * q, k_gain[:, None] * k
    q, k, v = (dense(model, each, norm) for each in (q, k, v))
    if (rotary := c.rotary[layer % len(c.rotary)]) is not None:
        q = turned(q.T, torch.full((q.shape[1],), lag), rotary).T
    return q, k, v, dense(model, p[f"{name}.wo"][head].T, f"{norm}_post").T


def share(left: Tensor, right: Tensor) -> float:
    return float((left @ right).norm() / (left.norm() * right.norm()))


def scores(links: Links) -> dict[tuple[str, str, str], float]:
    return {(each.writer, each.reader, each.slot): each.score for each in links.links}


@pytest.mark.parametrize(
    ("name", "lag"), [*product([each for each in TURNED if each != "mistral"], (0, 4)), ("mistral", 2),
                      *(("gemma2", lag) for lag in (2, 3)), *product(LEARNED, (0,))]
)  # fmt: skip
def test_composition_is_that_of_the_dense_matrices_at_its_lag(name: str, lag: int) -> None:
    model, _ = case(name)
    wanted, windows = {}, config(model).windows
    for (above, to), (under, of) in product(product(range(LAYERS), range(HEADS)), repeat=2):
        if under < above:
            q, k, v, o = head_matrices(model, above, to, lag)
            _, _, inner, out = head_matrices(model, under, of)
            names = f"{under}.{of}", f"{above}.{to}"
            if lag < (windows[above % len(windows)] or COUNT):  # else no query attends to such a key
                wanted[*names, "q"] = share(k.T @ q, out @ inner)
                wanted[*names, "k"] = share(q.T @ k, out @ inner)
            wanted[*names, "v"] = share(o @ v, out @ inner)
    found = composition(model, draws=2, lag=lag)
    assert ("without queries and keys of a0, a2," in found.source) == (name == "gemma2" and lag > 2)
    assert scores(found) == pytest.approx(wanted, rel=1e-10)
    assert found.lag == (lag if name in TURNED else None)


def test_the_lag_of_composition_is_that_of_keys_before_queries() -> None:
    """Scores by W_QK at a lag are those of the run, of tokens whose embedding alone is read."""
    model, plain = case("llama")
    pattern = plain.inside["a0.2/pattern"][0]
    stream = plain.streams[0][0]
    stream = stream / (stream.pow(2).mean(-1, keepdim=True) + config(model).layer_norm_eps).sqrt()
    for query, (one, other) in ((6, (2, 5)), (3, (3, 0))):
        made = []
        for key in (one, other):
            q, k, _, _ = head_matrices(model, 0, 2, lag=query - key)
            made.append(stream[query] @ q.T @ k @ stream[key] / config(model).d_head ** 0.5)
        ratio = (pattern[query, one] / pattern[query, other]).log()
        assert float(made[0] - made[1]) == pytest.approx(float(ratio), abs=1e-9)


@pytest.mark.parametrize(
    ("name", "lag", "says"),
    [*((each, 0, "norms its queries and keys") for each in sorted(NORMED)), ("gptneo", 1, "no rotary positions"),
     ("arena", 2, "no rotary positions"), ("llama", 7, "0 to 6"), ("neox", -1, "0 to 6"),
     ("mistral", 3, "3 before the query: .* at most 2$")],
)  # fmt: skip
def test_composition_that_is_no_fixed_matrix_is_refused(name: str, lag: int, says: str) -> None:
    model, _ = case(name)
    assert composes(model) == (name not in NORMED)
    with pytest.raises(ScrubError, match=says) as raised:
        composition(model, draws=2, lag=lag)
    assert "\n" not in str(raised.value)


@FAMILIES
def test_virtual_weights_are_those_of_the_dense_matrices_of_decoders(name: str) -> None:
    model, _ = case(name)
    c, p = config(model), model.params
    table = p["embed.weight" if c.tied else "unembed.weight"]
    _, _, inner, out = head_matrices(model, 1, 4)
    wanted = {("out", ""): share(dense(model, table - table.mean(0), "final_ln"), out @ inner)}
    for to, (at, slot) in product(range(HEADS), enumerate("qkv")):
        wanted[f"2.{to}", slot] = share(head_matrices(model, 2, to)[at], out @ inner)
    for layer in (1, 2) if c.d_mlp else ():
        if layer == 2 or not c.parallel:
            norm = f"layers.{layer}.ln1" if c.one_norm else f"layers.{layer}.ln2"
            rows = [p[f"layers.{layer}.w_{which}"] for which in (("gate", "in") if c.gated else ("in",))]
            wanted[f"m{layer}", ""] = share(dense(model, torch.cat(rows), norm), out @ inner)
    found = readers(model, (1, 4), draws=2)
    assert {key[1:]: score for key, score in scores(found).items()} == pytest.approx(wanted, rel=1e-9)


@pytest.mark.parametrize("name", ["llama", "gemma3", "olmo2", "phi"])
def test_layers_read_shared_keys_once(name: str) -> None:
    """Random matrices of a layer are as many rows as its checkpoint has, and the score is that of those."""
    model, _ = case(name)
    c, p, above = config(model), model.params, 2
    writes = torch.cat([(m := head_matrices(model, 1, h))[3] @ m[2] for h in range(HEADS)], 1)
    found = {
        each.slot: each for each in layer_readers(model, draws=600).links if (each.reader, each.writer) == ("a2", "a1")
    }
    rng = np.random.default_rng(1)
    for at, slot in enumerate("qkv"):
        stored = [
            head_matrices(model, above, head)[at] for head in range(0, HEADS, HEADS // len(p[f"layers.2.w{slot}"]))
        ]
        assert found[slot].score == pytest.approx(share(torch.cat(stored), writes), rel=1e-9)
        random = [torch.from_numpy(rng.standard_normal((len(stored) * c.d_head, 11))) for _ in range(600)]
        assert ks_2samp(found[slot].chance.draws, [share(each, writes) for each in random]).pvalue > 0.01, slot
