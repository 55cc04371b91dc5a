"""Single-path hypotheses against the oracle and a brute-force list of paths, and on an induction circuit by hand."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from oracle import Oracle
from small import Small, paths, small, small_decoder, small_gpt2
from torch import Tensor

from scrub.measure.heads import single_paths
from scrub.measure.heads.mechanism import Mechanism, mechanism
from scrub.measure.heads.single_paths import SinglePaths
from scrub.models.families.attention_only import Config
from scrub.models.model import Model, make_model
from scrub.study.draws import pair
from scrub.study.settings import Settings
from scrub.text.errors import ScrubError

HEADS = " ".join(map(str, range(5)))
EXACT = Settings(dtype="float64", device="cpu", batch=2, progress=False)


def every_path(model: Small, head: str, slot: str, depth: int) -> set[str]:
    """By listing all paths of the model with every layer split everywhere, and cutting out what is below the slot."""
    layers = sum("wq" in name for name in model.params)
    graph = model.split(*(f"**/a{layer} by heads {HEADS}" for layer in range(layers)))
    below = {path.split(f"a{head}/{slot}/", 1)[1] for path in paths(graph) if f"a{head}/{slot}/" in path}
    return {path for path in below if sum(step not in "qkv" for step in path.split("/")) <= depth}


@pytest.mark.parametrize("depth", [1, 2, 3])
def test_paths_are_all_that_there_are(depth: int) -> None:
    for model, head in ((small(n_layers=3), (2, 3)), (small_gpt2(2), (1, 4)), (small(), (0, 1))):
        found = SinglePaths(model.graph, head, depth).paths("k")
        assert len(set(found)) == len(found)
        assert set(found) == every_path(model, f"{head[0]}.{head[1]}", "k", depth)


def test_masks_are_tried_on_the_head_that_reads_the_embedding() -> None:
    graph = small(n_layers=3, n_heads=2).graph
    plain = SinglePaths(graph, (2, 0), 3).paths("v")
    found = SinglePaths(graph, (2, 0), 3, ("previous", "lag 4")).paths("v")
    assert [path for path in found if "[" not in path] == plain
    masked = {path for path in found if "[" in path}
    assert {path for path in masked if path.count("/") == 2} == {
        f"a{layer}.{head}[{mask}]/v/emb" for layer in (0, 1) for head in (0, 1) for mask in ("previous", "lag 4")
    }
    assert "a1.1/q/a0.0[previous]/v/emb" in masked
    assert len(masked) == 2 * sum(path.endswith("/v/emb") for path in plain)


@pytest.mark.parametrize("family", ["shortformer", "standard", "gpt2"])
def test_experiments_agree_with_the_oracle(family: str) -> None:
    model = small_gpt2(batch=2, n_heads=3) if family == "gpt2" else small(family, batch=2, n_heads=3)
    found = SinglePaths(model.graph, (1, 2), 2, ("previous",))
    graphs = {"all": found.resampled("qkv").graph}
    rules = {"all": [("**/a1.2/**", "y")]}
    splits = {"all": [("**/a1", "heads", ["2"])]}
    chosen = [{"k": path} for path in found.paths("k")]
    chosen += [{"q": "emb", "k": "a0.1[previous]/v/emb", "v": "a0.0/q/emb"}, {"q": "a0.2/v/emb", "v": "emb"}]
    for paths_ in chosen:
        name = str(paths_)
        graphs[name] = found.keeping(paths_).graph
        rules[name] = [(f"**/a1.2/{slot}/**", "y") for slot in paths_]
        rules[name] += [(f"**/a1.2/{slot}/{path}", "x") for slot, path in paths_.items()]
        splits[name] = [("**/a1", "heads", ["2"])]
        splits[name] += [(f"**/a1.2/{slot}/a0", "heads", ["0", "1", "2"]) for slot in paths_]
        masked = [(slot, path.partition("[")[0]) for slot, path in paths_.items() if "[" in path]
        splits[name] += [(f"**/a1.2/{slot}/{head}", "mask", ["previous"]) for slot, head in masked]
    for name, logits in model.run(graphs).items():
        answer = Oracle(model, {}, splits[name], rules[name]).logits()
        torch.testing.assert_close(logits, answer, rtol=0, atol=1e-9, msg=lambda text, name=name: f"{name}: {text}")


def sample(sequences: int, positions: int, vocabulary: int, seed: int = 1) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    tokens = rng.integers(0, vocabulary, (sequences, positions + 1))
    selected = rng.random((sequences, positions)) < 0.6
    return tokens, selected


def oracle_losses(case: Small, tokens: np.ndarray, seed: int, splits: list, rules: list) -> Tensor:  # type: ignore[type-arg]
    """The loss of every position, with the pairing of draw 0."""
    inputs = {"x": torch.from_numpy(tokens[:, :-1]), "y": torch.from_numpy(tokens[pair(len(tokens), seed, 0), :-1])}
    logits = Oracle(Small(case.config, case.params, inputs), {}, splits, rules).logits()
    return -logits.log_softmax(-1).gather(-1, torch.from_numpy(tokens[:, 1:, None]))[..., 0]


def test_percentages_are_those_of_the_oracles_losses() -> None:
    case = small("standard", n_heads=2, n_ctx=5)
    tokens, selected = sample(5, 5, 13)
    model = make_model("small", case.config, case.params)
    found = mechanism(model, tokens, selected, (1, 1), slots=("k",), settings=replace(EXACT, seed=7))
    head = ("a1", "heads", ["1"])
    unscrubbed, resampled = (
        oracle_losses(case, tokens, 7, [head], rules)[torch.from_numpy(selected)].mean()
        for rules in ([], [("a1.1/k/**", "y")])
    )
    assert found.unscrubbed.estimate == pytest.approx(float(unscrubbed), rel=1e-12)
    assert found.gaps["k"].estimate == pytest.approx(float(resampled - unscrubbed), rel=1e-9)
    assert (found.sequences, found.positions) == (5, selected.sum())
    assert len(found.scores) == 7
    for each in found.scores:
        kept = [("a1.1/k/**", "y"), (f"a1.1/k/{each.path}", "x")]
        losses = oracle_losses(case, tokens, 7, [head, ("a1.1/k/a0", "heads", ["0", "1"])], kept)
        loss = losses[torch.from_numpy(selected)].mean()
        assert each.loss.estimate == pytest.approx(float(loss), rel=1e-12)
        percent = 100 * float((resampled - loss) / (resampled - unscrubbed))
        assert each.recovered.estimate == pytest.approx(percent, abs=1e-6)
        assert each.recovered.low <= each.recovered.estimate <= each.recovered.high
    estimates = [each.recovered.estimate for each in found.of("k")]
    assert estimates == sorted(estimates, reverse=True)


def test_a_path_that_is_everything_recovers_100_and_one_that_is_nothing_0(monkeypatch: pytest.MonkeyPatch) -> None:
    """Layer 0 writes nothing: keys are the embedding's, and paths through its heads carry nothing."""
    monkeypatch.setattr("scrub.measure.heads.mechanism.BEST_PATHS", 1)
    case = small("shortformer", n_heads=2)
    params = {**case.params, "layers.0.wo": torch.zeros_like(case.params["layers.0.wo"])}
    found = mechanism(make_model("small", case.config, params), *sample(5, 7, 13), (1, 0), settings=EXACT)
    for slot in "qkv":
        assert found.of(slot)[0].path == "emb" or found.gaps[slot].estimate < 0
        for each in found.of(slot):
            assert each.recovered.estimate == pytest.approx(100 if each.path == "emb" else 0, abs=1e-9)
    together = {each.path: each.recovered.estimate for each in found.of("q k v")}
    assert together["q/emb k/emb v/emb"] == pytest.approx(100, abs=1e-9)
    assert found.gates.warnings


VOCAB, LENGTH = 11, 17  # of the circuit


def induction() -> Model:
    """Head 0.1 copies the previous token from directions A to B; head 1.0's keys read B, its queries and values A.

    Position embeddings are in directions of their own, which only queries and keys see (shortformer). Each position
    holds one unit in A and one in B, so that LayerNorm multiplies by the same everywhere. Head 0.0 copies the current
    token to where nobody reads, and head 1.1 does nothing.
    """
    tokens, places = torch.eye(VOCAB, dtype=torch.float64), torch.eye(LENGTH, dtype=torch.float64)
    width = 4 * VOCAB + LENGTH
    a, b, c, unread, p = torch.eye(width, dtype=torch.float64).split([VOCAB] * 4 + [LENGTH])
    fields = {"n_layers": 2, "n_heads": 2, "d_head": LENGTH, "d_model": width, "n_ctx": LENGTH, "vocab_size": VOCAB}
    config = Config.model_validate({**fields, "bos_token_id": 0, "positions": "shortformer", "layer_norm_eps": 1e-5})
    case = small("shortformer", **fields)
    params = {name: torch.zeros_like(each) for name, each in case.params.items()}
    params |= {name: torch.ones_like(each) for name, each in params.items() if "ln.weight" in name}
    params["embed.weight"], params["pos.weight"], params["unembed.weight"] = (
        9 * tokens @ a,
        9 * places @ p,
        3 * tokens @ c,
    )
    params["layers.0.wq"][:], params["layers.0.wk"][:] = 2 * p, 2 * p
    params["layers.0.wk"][1] = 2 * places.roll(1, 0) @ p  # the key of position i is the query of position i + 1
    params["layers.0.wv"][:, :VOCAB] = a
    params["layers.0.wo"][1, :, :VOCAB] = b.T
    params["layers.0.wo"][0, :, :VOCAB] = unread.T
    params["layers.1.wq"][0, :VOCAB], params["layers.1.wk"][0, :VOCAB] = 2 * a, 2 * b
    params["layers.1.wv"][0, :VOCAB], params["layers.1.wo"][0, :, :VOCAB] = a, c.T
    return make_model("circuit", config, params)


@pytest.fixture(scope="module")
def by_hand() -> Mechanism:
    rng = np.random.default_rng(2)
    rows = []
    for at in range(12):
        half = rng.permutation(np.arange(1, VOCAB))[: 4 + at % 5]  # of different lengths: see the module
        rows.append(np.r_[0, np.tile(half, LENGTH)][: LENGTH + 1])
    selected = np.zeros((12, LENGTH), bool)
    selected[:, 10:] = True
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("scrub.measure.heads.mechanism.BEST_PATHS", 1)
        return mechanism(induction(), np.stack(rows), selected, (1, 0), masks=("previous", "current"), settings=EXACT)


def test_the_circuit_of_an_induction_head_is_found(by_hand: Mechanism) -> None:
    best = {slot: by_hand.of(slot)[0] for slot in "qkv"}
    assert (best["q"].path, best["v"].path) == ("emb", "emb")
    assert best["k"].path in {"a0.1/v/emb", "a0.1[previous]/v/emb"}
    for slot, each in best.items():
        assert by_hand.gaps[slot].low > 0.5
        assert each.recovered.estimate == pytest.approx(100, abs=0.1)
        assert by_hand.standard(slot) is each
    recovered = {each.path: each.recovered.estimate for each in by_hand.of("k")}
    assert recovered["a0.1/v/emb"] == pytest.approx(recovered["a0.1[previous]/v/emb"], abs=0.1)
    others = {path: percent for path, percent in recovered.items() if not path.startswith("a0.1")}
    assert max(map(abs, others.values())) < 20
    assert abs(recovered["a0.1[current]/v/emb"]) < 20
    together = by_hand.of("q k v")[0]
    assert together.paths["q"] == together.paths["v"] == "emb"
    assert together.recovered.estimate == pytest.approx(100, abs=0.1)


def test_conclusions_say_so(by_hand: Mechanism) -> None:
    queries, keys, values, together, behaviour = by_hand.conclusions()
    assert queries.startswith("queries: emb recovers 100.0")
    assert keys.startswith("keys: a0.1")
    for text in (queries, keys, values, together):
        assert "0.0 % is left unexplained. That is the path of the standard induction head." in text
    assert "doesn't make it a mechanistic one" in behaviour
    frame = by_hand.frame()
    assert list(frame.columns) == ["slots", "path", "recovered", "low", "high", "loss"]
    assert set(frame.slots) == {"q", "k", "v", "q k v"}
    assert len(by_hand.numbers()["rows"]) == len(frame)  # type: ignore[arg-type]


def test_mistakes(monkeypatch: pytest.MonkeyPatch) -> None:
    case = small()
    model = make_model("small", case.config, case.params)
    tokens, selected = sample(5, 7, 13)
    for fields, text in (
        ({"head": (2, 0)}, r"head 2\.0.* 0 to 1"),
        ({"head": (1, 0), "slots": ("z",)}, "slots.* q, k, v"),
        ({"head": (1, 0), "slots": ()}, "slots.* q, k, v"),
        ({"head": (1, 0), "depth": 0}, "depth.* 1"),
        ({"head": (1, 0), "masks": ("behind",)}, "mask 'behind'"),
    ):
        with pytest.raises(ScrubError, match=text):
            mechanism(model, tokens, selected, **fields)  # type: ignore[arg-type]
    monkeypatch.setattr(single_paths, "MAX_PATHS", 15)
    with pytest.raises(ScrubError, match=r"a1\.0/q .*15 paths .*2 .*depth"):
        mechanism(model, tokens, selected, (1, 0))


def test_single_paths_of_an_encoder_pass_no_mask() -> None:
    """A mask reads tokens and no component: what is below it is no path of a hypothesis."""
    found = SinglePaths(small_decoder("encoder").graph, (1, 2), depth=3).paths("k")
    assert "emb" in found
    assert "a0.0/v/emb" in found
    assert not [path for path in found if "mask" in path]
