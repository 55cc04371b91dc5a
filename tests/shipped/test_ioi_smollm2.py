"""Indirect objects in SmolLM2: the rules on a random model of that shape, and what they give on the real one."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from jaxtyping import Int
from transformers import LlamaConfig, LlamaForCausalLM
from twins import exact

import scrub
from scrub.study.study import load_study

NAMES = ["naive", *(f"refined_{number}" for number in range(1, 6))]
ROWS, LENGTH, WORDS, WIDTH = 5, 7, 53, 4  # of a head
LAYERS, HEADS, SHARED = 30, 9, 3
DOUBLE = scrub.Settings(dtype="float64", progress=False)


@pytest.fixture(scope="module")
def twin() -> LlamaForCausalLM:
    """A random model with as many layers and heads as SmolLM2 135M, each as narrow as can be."""
    torch.manual_seed(7)
    config = LlamaConfig(
        vocab_size=WORDS, hidden_size=HEADS * WIDTH, intermediate_size=11, num_hidden_layers=LAYERS,
        num_attention_heads=HEADS, num_key_value_heads=SHARED, max_position_embeddings=16, attn_implementation="eager",
        initializer_range=0.3,
    )  # fmt: skip
    return LlamaForCausalLM(config).double().eval()


@pytest.fixture(scope="module")
def pairs() -> scrub.Examples:
    rng = np.random.default_rng(3)
    tokens, other = rng.integers(WORDS, size=(2, ROWS, LENGTH + 1))
    other[:, -1] = tokens[:, -1]
    scored = np.zeros((ROWS, LENGTH), dtype=bool)
    scored[:, -1] = True
    at: dict[str, Int[np.ndarray, " row"]] = {"IO": rng.integers(1, 3, ROWS), "S2": rng.integers(4, 6, ROWS)}
    return scrub.Examples(tokens, scored, "prompts", other=other, positions=at, lengths=np.full(ROWS, LENGTH))


def test_every_rule_says_something_and_hardly_any_path_is_kept(twin: LlamaForCausalLM, pairs: scrub.Examples) -> None:
    found = scrub.run(_as_said("twin"), scrub.load_model(twin, name="twin"), pairs, DOUBLE)
    assert found.gates.warnings == ()
    frame = found.frame().set_index(["hypothesis", "part"])
    assert [name for name in NAMES if (name, "all") in frame.index] == NAMES
    assert frame.scrubs.min() > 99


@pytest.mark.parametrize("name", ["passed_on", "six_paths"])
def test_what_was_searched_for_says_something(twin: LlamaForCausalLM, pairs: scrub.Examples, name: str) -> None:
    (module,) = load_study(f"ioi_smollm2/{name}")[1]
    study = replace(_as_said("twin"), hypotheses=(module,))
    found = scrub.run(study, scrub.load_model(twin, name="twin"), pairs, DOUBLE)
    assert found.gates.warnings == ()
    assert found.frame().scrubs.min() > 99


def _as_said(model: str) -> scrub.Study:
    """The shipped study, whose roles are those of another model, in the loss, which needs no wrong answers."""
    study, modules = load_study("ioi_smollm2")
    (roles,) = study.roles.values()
    return replace(study, model=model, metric="loss", roles={model: roles}, hypotheses=tuple(modules))


def test_what_movers_copy_of_mlp_0_is_what_plain_torch_gives(twin: LlamaForCausalLM, pairs: scrub.Examples) -> None:
    """Values of four heads of layer 23, at IO alone, read what MLP 0 makes of x's embedding; everything else, y."""
    study = _as_said("twin")
    found = scrub.run(
        replace(study, hypotheses=study.hypotheses[1:2]), scrub.load_model(twin, name="twin"), pairs, DOUBLE
    )
    x, y = (torch.from_numpy(each[:, :-1]) for each in (pairs.tokens, pairs.other))
    rows = torch.arange(ROWS)
    at = torch.from_numpy(pairs.positions["IO"])
    body = twin.model
    first_block, block = body.layers[0], body.layers[23]
    last: list[torch.Tensor] = []
    hook = body.norm.register_forward_pre_hook(lambda _, given: last.append(given[0]))
    with torch.inference_mode(), exact():
        seen = twin(y, output_hidden_states=True, output_attentions=True)
        hook.remove()
        read, _ = first_block.self_attn(
            first_block.input_layernorm(seen.hidden_states[0]),
            position_embeddings=body.rotary_emb(seen.hidden_states[0], torch.arange(LENGTH)[None]),
            attention_mask=torch.full((LENGTH, LENGTH), -torch.inf, dtype=torch.float64).triu(1)[None, None],
        )
        ours, theirs = (
            first_block.mlp(first_block.post_attention_layernorm(body.embed_tokens(each) + read)) for each in (x, y)
        )
        stream = seen.hidden_states[23]
        before, after = (
            block.self_attn.v_proj(block.input_layernorm(each)).unflatten(-1, (SHARED, WIDTH))
            for each in (stream, stream + ours - theirs)
        )
        change = (after - before)[rows, at]  # [row, shared head, width]
        mixed = torch.zeros(ROWS, HEADS, WIDTH, dtype=torch.float64)
        for _, head in study.roles["twin"]["mover"]:
            weight = seen.attentions[23][rows, head, -1, at]
            mixed[:, head] = weight[:, None] * change[:, head // (HEADS // SHARED)]
        final = last[0][:, -1] + mixed.flatten(1) @ block.self_attn.o_proj.weight.T
        logits = twin.lm_head(body.norm(final))
    expected = -logits.log_softmax(-1)[rows, torch.from_numpy(pairs.tokens[:, -1])].mean()
    (row,) = (row for row in found.frame().itertuples() if row.part == "all")
    assert row.loss == pytest.approx(float(expected), abs=1e-9)
    assert abs(row.loss - found.losses["baseline"].estimate) > 1e-5


@pytest.mark.real
@pytest.mark.parametrize("data", ["ioi:names", "ioi:swapped"])
def test_most_of_it_comes_back_against_either_corruption(data: str) -> None:
    """Of SmolLM2 itself."""
    found = scrub.run("ioi_smollm2/refined_5", data=data, settings=scrub.Settings(sequences=64, progress=False))
    frame = found.frame().set_index(["hypothesis", "part"]).loc[(NAMES[-1], "all")]
    assert frame.low > 60
    assert frame.scrubs > 99
