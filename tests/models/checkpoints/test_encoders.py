"""Encoders: masked pads, classes, and what a model must not be asked: beside TransformerLens and plain torch."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from made import lens, lens_fields, write_lens
from small import Small, random_inputs, small_decoder
from torch import Tensor
from torch.nn import functional

import scrub
from scrub.graph.ops import OPS
from scrub.models.model import Model, load_model, save_model
from scrub.paths.rules import Rule, resample
from scrub.plan.plan import compile_plan
from scrub.text.errors import ScrubError

pytestmark = pytest.mark.filterwarnings("ignore:HookedTransformer is deprecated:DeprecationWarning")

PAD, CLASSES, LAYERS, BATCH = 1, 3, 2, 5
BRACKETS = Path(__file__).parents[4] / "shared/reference/brackets"  # beside the checkout
SHAPE = {"attn_only": False, "act_fn": "relu", "attention_dir": "bidirectional", "d_vocab_out": CLASSES, "d_mlp": 17}


def padded(positions: int, vocabulary: int = 13, batch: int = BATCH) -> Tensor:
    """Sequences of several lengths with pads behind, and one with pads between."""
    tokens = torch.randint(PAD + 1, vocabulary, (batch, positions), generator=torch.Generator().manual_seed(3))
    for row in range(batch - 1):
        tokens[row, row + 1 :] = PAD
    tokens[-1, 2::3] = PAD
    return tokens


def theirs() -> tuple[object, dict[str, object]]:
    made = lens(**SHAPE)
    return made.to(torch.float64), {**lens_fields(made), "pad_token_id": PAD, "bos_token_id": 0}


def masked_logits(made, tokens: Tensor) -> Tensor:  # type: ignore[no-untyped-def]
    """TransformerLens's, with the scores of keys that are pads at -inf: its own attention_mask moves positions."""

    def mask(scores: Tensor, hook: object) -> Tensor:
        del hook
        return scores.masked_fill((tokens == PAD)[:, None, None, :], -torch.inf)

    hooks = [(f"blocks.{layer}.attn.hook_attn_scores", mask) for layer in range(LAYERS)]
    logits: Tensor = made.run_with_hooks(tokens, fwd_hooks=hooks)
    return logits


def by_torch(model: Model, tokens: Tensor) -> Tensor:
    """The logits by torch's own layer of an encoder, whose mask of pads it is."""
    p, c = model.params, model.config
    x = p["embed.weight"][tokens] + p["pos.weight"][: tokens.shape[1]]
    for at in range(c.n_layers):
        name = f"layers.{at}"
        layer = torch.nn.TransformerEncoderLayer(
            c.d_model, c.n_heads, c.d_mlp, 0.0, layer_norm_eps=c.layer_norm_eps, batch_first=True, norm_first=True,
            dtype=torch.float64,
        )  # fmt: skip
        state = {
            "self_attn.in_proj_weight": torch.cat([p[f"{name}.w{slot}"].flatten(0, 1) for slot in "qkv"]),
            "self_attn.in_proj_bias": torch.cat([p[f"{name}.b{slot}"].flatten() for slot in "qkv"]),
            "self_attn.out_proj.weight": p[f"{name}.wo"].movedim(0, 1).flatten(1),
            "self_attn.out_proj.bias": p[f"{name}.bo"],
            "linear1.weight": p[f"{name}.w_in"], "linear1.bias": p[f"{name}.b_in"],
            "linear2.weight": p[f"{name}.w_out"], "linear2.bias": p[f"{name}.b_out"],
            **{f"norm{n}.{what}": p[f"{name}.ln{n}.{what}"] for n in (1, 2) for what in ("weight", "bias")},
        }  # fmt: skip
        layer.load_state_dict(state)
        x = layer(x, src_key_padding_mask=tokens == PAD)
    normed = functional.layer_norm(x, (c.d_model,), p["final_ln.weight"], p["final_ln.bias"], c.layer_norm_eps)
    return normed @ p["unembed.weight"].T + p["unembed.bias"]


def close(found: Tensor, expected: Tensor) -> None:
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-9)


def test_logits_at_every_position_are_transformer_lenss() -> None:
    made, fields = theirs()
    model = load_model((fields, made.state_dict()), torch.float64)  # type: ignore[attr-defined]
    tokens = padded(model.n_ctx)
    close(model(tokens), masked_logits(made, tokens))
    assert model(tokens).shape == (BATCH, 11, CLASSES)
    assert (model.classes, model.masked_token) == (CLASSES, PAD)
    # without pads as it is by itself, and so without a mask
    whole = tokens.clamp(min=PAD + 1)
    close(model(whole), made(whole))  # type: ignore[operator]
    close(load_model(made, torch.float64)(tokens), made(tokens))  # type: ignore[operator]


def test_logits_at_every_position_are_torchs() -> None:
    model = small_decoder("encoder", 3, d_head=3, d_model=12, n_heads=4, n_kv_heads=4, n_ctx=11, d_mlp=17)
    close(model(padded(11)), by_torch(model, padded(11)))


def test_what_is_loaded_is_saved_and_loaded_again(tmp_path: Path) -> None:
    made, fields = theirs()
    in_memory = load_model((fields, made.state_dict()), torch.float64)  # type: ignore[attr-defined]
    folder = write_lens(tmp_path / "theirs", made.float(), fields)  # type: ignore[attr-defined]
    model = load_model(folder)
    assert model.graph is in_memory.graph
    save_model(model, tmp_path / "ours")
    again = load_model(tmp_path / "ours")
    assert (again.config, again.graph, again.weights_hash) == (model.config, model.graph, model.weights_hash)
    assert '"pad_token_id": 1' in (tmp_path / "ours" / "config.json").read_text()


def test_a_mask_of_a_float16_model_leaves_no_weight_to_pads() -> None:
    for dtype in (torch.float16, torch.bfloat16, torch.float32):
        pattern = small_decoder("encoder").to(dtype).values(padded(7), "a0.1/pattern")
        pads = (padded(7) == PAD)[:, None].expand_as(pattern)
        assert not pattern[pads].any()
        assert (pattern.double().sum(-1) - 1).abs().max() < 0.02


def test_pads_alone_are_refused() -> None:
    model = small_decoder("encoder")
    tokens = padded(7)
    tokens[2] = PAD
    for what in (
        lambda: model(tokens),
        lambda: scrub.ablate(model, scrub.Examples.of(tokens, labels=[0] * 5), "heads"),
    ):
        with pytest.raises(ScrubError, match=r"^sequence 2 is pads alone, the token 1, which encoder masks"):
            what()


def test_first_rows_are_never_shared() -> None:
    """Where tokens begin alike what is computed of them doesn't: a later position is read there."""
    made = small_decoder("encoder")
    model = Small(made.config, made.params, random_inputs(made.config, 2, batch=3, donors=5, some=7))  # type: ignore[arg-type]
    graph = resample(model.graph, [Rule.parse("a1/v/** -> y")])
    plan = compile_plan({"plain": model.graph, "scrubbed": graph}, first=4)
    assert not {"join", "later", "attention"} & {step.node.op for step in plan.steps}


def test_the_rows_of_a_pattern_that_looks_both_ways() -> None:
    g = torch.Generator().manual_seed(1)
    q, k = (torch.randn(3, 2, rows, 5, generator=g, dtype=torch.float64) for rows in (4, 7))
    masked = torch.where(torch.rand(3, 7, 1, generator=g) < 0.5, -1e30, 0.0).double()
    found = OPS["attention_pattern"].function()(q, k, torch.zeros(1, 4).long(), masked, causal=False)
    close(found, (q @ k.mT / 5**0.5 + masked.mT[:, None]).softmax(-1))
    one = OPS["attention_pattern"].function()(q[:1], k[:1], torch.zeros(1, 4).long(), masked, causal=False)
    assert one.shape == (3, 2, 4, 7)  # of held queries and keys, under each sequence's own mask


@pytest.mark.parametrize(
    ("rules", "says"),
    [
        ("**/a1/mask -> zero", "'zero' stands for the mask of some head, which says what keys are pads"),
        ("**/a1/{q,k} -> attend uniform", "'attend uniform' is over the positions so far, and the queries of this"),
        ("**/a1/{q,k}/** -> rows like f", "is no whole attention pattern: .* and to its mask$"),
    ],
)
def test_what_has_no_meaning_is_refused(rules: str, says: str) -> None:
    graph = small_decoder("encoder").graph
    with pytest.raises(ScrubError, match=says.replace("is no whole", "that are no whole")):
        resample(graph, [Rule.parse(rules)])


def test_nothing_is_written_behind_what_an_encoder_reads() -> None:
    with pytest.raises(ScrubError, match="reads later positions too"):
        scrub.generate(small_decoder("encoder"), [[2, 3]])


def test_a_mask_is_read_at_its_path() -> None:
    model = small_decoder("encoder")
    found = model.values(padded(7), "a1.2/mask")
    assert ((found < 0)[..., 0] == (padded(7) == PAD)).all()


@pytest.mark.skipif(not BRACKETS.is_dir(), reason="needs Redwood's weights, which are no part of the project")
def test_redwoods_model_of_brackets() -> None:
    state = torch.load(BRACKETS / "brackets_model_state_dict.pt", map_location="cpu", weights_only=True)
    fields = {
        "n_layers": 3, "n_heads": 2, "d_model": 56, "d_head": 28, "d_mlp": 56, "n_ctx": 42, "d_vocab": 5,
        "d_vocab_out": 2, "act_fn": "relu", "normalization_type": "LN", "attention_dir": "bidirectional",
        "pad_token_id": PAD, "bos_token_id": 0,
    }  # fmt: skip
    model = load_model((fields, state))
    texts = ["()", "(())()", "())(", ")()(", "((()", "(" * 20 + ")" * 20, "()" * 19 + ")("]
    tokens = np.full((len(texts), 42), PAD)
    for row, text in enumerate(texts):
        tokens[row, : len(text) + 2] = [0, *(3 + (each == ")") for each in text), 2]
    assert model(tokens)[:, 0].argmax(-1).tolist() == [1, 1, 0, 0, 0, 1, 0]


def test_edges_are_not_scored_to_first_order_past_masks() -> None:
    tokens = padded(7)
    pairs = replace(
        scrub.Examples.of(tokens, labels=[0, 1, 2, 3, 4]), other=functional.pad(tokens.flip(0), (0, 1)).numpy()
    )
    with pytest.raises(ScrubError, match=r"^encoder masks pads, and no first order says what a key is worth"):
        scrub.attribute(model=small_decoder("encoder"), data=pairs, metric="loss")
