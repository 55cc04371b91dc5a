"""Composition scores and virtual weights against dense matrices, TransformerLens, and circuits built by hand."""

from __future__ import annotations

import json
from collections.abc import Callable
from itertools import product

import numpy as np
import pytest
import torch
from scipy.stats import ks_2samp
from small import Small, small, small_gpt2
from torch import Tensor

from scrub.measure.weights.composition import composition
from scrub.measure.weights.links import Links
from scrub.measure.weights.virtual_weights import layer_readers, readers
from scrub.models.model import Model, make_model
from scrub.text.errors import ScrubError

FAMILIES: dict[str, Callable[[], Small]] = {
    "shortformer": lambda: small("shortformer", 3, biases=("q", "k", "v", "o", "unembed")),
    "standard": lambda: small("standard", 3),
    "gpt2": lambda: small_gpt2(3),
}
LAYERS, HEADS = range(3), range(5)


@pytest.fixture(params=list(FAMILIES))
def case(request: pytest.FixtureRequest) -> Small:
    return FAMILIES[request.param]()


def model_of(case: Small) -> Model:
    return make_model("small", case.config, case.params)


def read(case: Small, weight: Tensor, norm: str) -> Tensor:
    """What a matrix makes of the stream, less LayerNorm's division: W diag(gain) (1 - the mean)."""
    width = case.params[f"{norm}.weight"].shape[0]
    centring = torch.eye(width, dtype=torch.float64) - torch.ones(width, width, dtype=torch.float64) / width
    return weight @ torch.diag(case.params[f"{norm}.weight"]) @ centring


def head_matrices(case: Small, layer: int, head: int) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    norm = f"layers.{layer}.ln1" if f"layers.{layer}.ln1.weight" in case.params else f"layers.{layer}.ln"
    q, k, v = (read(case, case.params[f"layers.{layer}.w{slot}"][head], norm) for slot in "qkv")
    return q, k, v, case.params[f"layers.{layer}.wo"][head]


def share(left: Tensor, right: Tensor) -> float:
    return float((left @ right).norm() / (left.norm() * right.norm()))


def scores(links: Links) -> dict[tuple[str, str, str], float]:
    found = {(each.writer, each.reader, each.slot): each.score for each in links.links}
    assert len(found) == len(links.links)
    return found


def test_composition_is_that_of_the_dense_matrices(case: Small) -> None:
    wanted = {}
    for (above, to), (under, of) in product(product(LAYERS, HEADS), repeat=2):
        if under < above:
            q, k, v, o = head_matrices(case, above, to)
            _, _, inner, out = head_matrices(case, under, of)
            names = f"{under}.{of}", f"{above}.{to}"
            wanted[(*names, "q")] = share((q.T @ k).T, out @ inner)
            wanted[(*names, "k")] = share(q.T @ k, out @ inner)
            wanted[(*names, "v")] = share(o @ v, out @ inner)
    found = composition(model_of(case), draws=2)
    assert scores(found) == pytest.approx(wanted, rel=1e-10)
    assert list(found.frame().score) == sorted(found.frame().score, reverse=True)


@pytest.mark.filterwarnings("ignore:HookedTransformer is deprecated:DeprecationWarning")
def test_composition_is_that_of_transformer_lens() -> None:
    from transformer_lens import HookedTransformer, HookedTransformerConfig

    case = FAMILIES["standard"]()
    fields = {name: getattr(case.config, name) for name in ("n_layers", "n_heads", "d_model", "d_head", "n_ctx")}
    config = HookedTransformerConfig(
        **fields, d_vocab=13, attn_only=True, normalization_type="LN", dtype=torch.float64, device="cpu"
    )
    theirs = HookedTransformer(config)
    state = {name: torch.zeros_like(value) for name, value in theirs.state_dict().items()}
    for layer in LAYERS:
        state[f"blocks.{layer}.ln1.w"] = case.params[f"layers.{layer}.ln.weight"]
        for slot in "qkvo":
            state[f"blocks.{layer}.attn.W_{slot.upper()}"] = case.params[f"layers.{layer}.w{slot}"].transpose(1, 2)
    state["ln_final.w"] = case.params["final_ln.weight"]
    theirs.load_and_process_state_dict(
        state, fold_ln=True, center_writing_weights=False, center_unembed=False, fold_value_biases=False
    )
    found = scores(composition(model_of(case), draws=2))
    for slot in "qkv":
        wanted = theirs.all_composition_scores(slot.upper()).detach()
        for (under, of), (above, to) in product(product(LAYERS, HEADS), repeat=2):
            if under < above:
                expected = float(wanted[under, of, above, to])
                assert found[f"{under}.{of}", f"{above}.{to}", slot] == pytest.approx(expected, rel=1e-6), (
                    "theirs is exact to single precision"
                )


def test_virtual_weights_are_those_of_the_dense_matrices(case: Small) -> None:
    model = model_of(case)
    table = case.params["unembed.weight" if "unembed.weight" in case.params else "embed.weight"]
    unembedding = read(case, table - table.mean(0), "final_ln")
    for layer, head in ((0, 1), (1, 4), (2, 0)):
        _, _, inner, out = head_matrices(case, layer, head)
        wanted = {("out", ""): share(unembedding, out @ inner)}
        for above in LAYERS:
            if "layers.0.w_in" in case.params and above >= layer:
                mlp = read(case, case.params[f"layers.{above}.w_in"], f"layers.{above}.ln2")
                wanted[f"m{above}", ""] = share(mlp, out @ inner)
            for to, (at, slot) in product(HEADS if above > layer else (), enumerate("qkv")):
                wanted[f"{above}.{to}", slot] = share(head_matrices(case, above, to)[at], out @ inner)
        found = readers(model, (layer, head), draws=2)
        assert {each.writer for each in found.links} == {f"{layer}.{head}"}
        assert {key[1:]: score for key, score in scores(found).items()} == pytest.approx(wanted, rel=1e-9)


def test_virtual_weights_of_layers_stack_their_heads(case: Small) -> None:
    found = scores(layer_readers(model_of(case), draws=2))
    assert {writer for writer, _, _ in found} == {"a0", "a1", "a2"}
    for under, above in ((0, 1), (0, 2), (1, 2)):
        writes = torch.cat([(m := head_matrices(case, under, h))[3] @ m[2] for h in HEADS], 1)
        for at, slot in enumerate("qkv"):
            reads = torch.cat([head_matrices(case, above, h)[at] for h in HEADS])
            assert found[f"a{under}", f"a{above}", slot] == pytest.approx(share(reads, writes), rel=1e-9)
    mlps = {("a1", "m1", ""), ("a1", "m2", "")} if "layers.0.w_in" in case.params else set()
    assert {key for key in found if key[0] == "a1"} == {("a1", "a2", s) for s in "qkv"} | mlps | {("a1", "out", "")}


def circuit() -> Model:
    """Head 0.1 writes into three directions, which the keys of head 1.2 read, and no other slot or head of layer 1.

    Gains are 1 and the directions have mean 0, so that LayerNorm takes nothing of them.
    """
    case = small("standard", 2, d_head=3, d_model=13)
    params = {name: torch.ones_like(each) if "ln.weight" in name else each for name, each in case.params.items()}
    g = torch.Generator().manual_seed(5)
    free = torch.randn(13, 12, generator=g, dtype=torch.float64)
    basis = torch.linalg.qr(torch.cat([torch.ones(13, 1, dtype=torch.float64), free], 1)).Q[:, 1:]
    written, elsewhere = basis[:, :3], basis[:, 3:6]
    for slot in "qkv":
        params[f"layers.1.w{slot}"] = elsewhere.T.expand(5, 3, 13).clone()
        params[f"layers.0.w{slot}"][1] = basis[:, 6:9].T
    params["layers.1.wk"][2] = written.T
    params["layers.0.wo"][1] = written
    return make_model("circuit", case.config, params)


def test_a_circuit_built_by_hand_scores_as_it_must() -> None:
    """Matrices with three singular values of 1 that meet fully score 1 / sqrt(3), and 0 where they don't meet."""
    model = circuit()
    found = scores(composition(model, draws=2).between(writer="0.1"))
    assert len(found) == 15
    for (_, to, slot), score in found.items():
        assert score == pytest.approx(3**-0.5 if (to, slot) == ("1.2", "k") else 0, abs=1e-12), (to, slot)
    read_by = readers(model, (0, 1), draws=2).links
    assert [(each.reader, each.slot) for each in read_by[:2]] == [("1.2", "k"), ("out", "")]
    assert read_by[0].score == pytest.approx(3**-0.5)
    assert max(each.score for each in read_by[2:]) < 1e-7


def test_random_matrices_score_as_the_theory_says() -> None:
    """The mean square is 1 / d_model; draws of both kinds are those of dense Gaussian matrices."""
    model = model_of(FAMILIES["gpt2"]())
    chance = composition(model, draws=600).links[0].chance
    assert np.mean(chance.draws**2) == pytest.approx(1 / 11, rel=0.05)
    rng = np.random.default_rng(1)
    dense = []
    for _ in range(600):
        a, b, c, d = (rng.standard_normal((2, 11)) for _ in range(4))
        left, right = a.T @ b, c.T @ d
        dense.append(np.linalg.norm(left @ right) / np.linalg.norm(left) / np.linalg.norm(right))
    assert ks_2samp(chance.draws, dense).pvalue > 0.01
    found = readers(model, (1, 3), draws=600).links
    _, _, inner, out = (each.numpy() for each in head_matrices(FAMILIES["gpt2"](), 1, 3))
    for width, reader in ((2, "2.0"), (23, "m1")):
        random = [rng.standard_normal((width, 11)) for _ in range(600)]
        norms = [np.linalg.norm(r @ out @ inner) / np.linalg.norm(r) / np.linalg.norm(out @ inner) for r in random]
        draws = next(each.chance.draws for each in found if each.reader == reader)
        assert ks_2samp(draws, norms).pvalue > 0.01


def test_the_frame_says_how_far_a_score_is_from_chance() -> None:
    model = model_of(FAMILIES["standard"]())
    found = composition(model, draws=40, seed=3)
    frame = found.frame()
    assert list(frame.columns) == ["from", "to", "slot", "score", "baseline", "low", "high", "above", "draws_below"]
    assert len(frame) == 3 * 75
    draws = found.links[0].chance.draws
    assert len(draws) == 40
    np.testing.assert_allclose(frame.baseline, draws.mean())
    np.testing.assert_allclose(frame.above, frame.score - draws.mean())
    np.testing.assert_allclose(frame.draws_below, [(draws < score).mean() for score in frame.score])
    assert [frame.low[0], frame.high[0]] == pytest.approx(list(np.percentile(draws, [2.5, 97.5])))
    again, other = composition(model, draws=40, seed=3), composition(model, draws=40, seed=4)
    np.testing.assert_array_equal(again.links[0].chance.draws, draws)
    assert (other.links[0].chance.draws != draws).any()
    assert json.loads(found.to_json())["rows"][0] == frame.to_dict("records")[0]


def test_mistakes() -> None:
    model = model_of(FAMILIES["standard"]())
    with pytest.raises(ScrubError, match=r"head 3\.0.* 0 to 2.* 0 to 4"):
        readers(model, (3, 0))
    with pytest.raises(ScrubError, match=r"head 0\.5"):
        readers(model, (0, 5))
    with pytest.raises(ScrubError, match=r"from 2\.1"):
        composition(model, draws=2).between(writer="2.1")
