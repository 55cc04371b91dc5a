"""Direct attribution and the logit lens against transformers' GPT-2, whose values hooks see; and that all adds up."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from doubles import double
from small import small, small_gpt2

from scrub.data.examples import PROMPTS, Examples
from scrub.data.repeated import NOWHERE
from scrub.graph.node import node
from scrub.measure.stream.direct import REST, direct_attribution
from scrub.measure.stream.lens import logit_lens
from scrub.models.model import Model, make_model
from scrub.study.settings import Settings
from scrub.text.errors import GateError, ScrubError

LAYERS, HEADS, D_HEAD, POSITIONS, ROWS, VOCAB = 2, 3, 5, 11, 7, 13
EXACT = Settings(dtype="float64", device="cpu", progress=False)
SHAPE: dict[str, Any] = {
    "n_heads": HEADS, "d_head": D_HEAD, "d_model": HEADS * D_HEAD, "n_ctx": POSITIONS, "vocab_size": VOCAB,
}  # fmt: skip
OURS = small_gpt2(LAYERS, seed=4, **SHAPE)
MODEL, THEIRS = make_model("random", OURS.config, OURS.params), double(OURS)
RNG = np.random.default_rng(7)
LENGTHS, S2 = np.array([11, 6, 8, 7, 11, 9, 6]), np.array([8, 3, 5, 2, 4, 6, 4])
ENDS, EVERY = LENGTHS - 1, np.arange(ROWS)
TOKENS = RNG.integers(VOCAB, size=(ROWS, POSITIONS + 1))
RIGHT, WRONG = np.array([[1, 2]] * ROWS), np.array([[3, 4, 5]] * ROWS)
RIGHT[2, 1], WRONG[4, 1:] = NOWHERE, NOWHERE
TOKENS[EVERY, LENGTHS] = RIGHT[:, 0]
PROMPT = Examples(
    TOKENS, np.arange(POSITIONS)[None] == ENDS[:, None], PROMPTS, "made", lengths=LENGTHS, answers=RIGHT, wrong=WRONG,
    positions={"S2": S2}, texts=("made",) * ROWS,
)  # fmt: skip
RUN = THEIRS.run(torch.from_numpy(TOKENS[:, :-1]))


def difference(logits: torch.Tensor, row: int) -> float:
    """Of right and wrong answers to a row, in plain Python."""
    right, wrong = ([float(logits[t]) for t in of[row] if t != NOWHERE] for of in (RIGHT, WRONG))
    return sum(right) / len(right) - sum(wrong) / len(wrong)


def added(written: torch.Tensor, row: int) -> float:
    """What something that is written at a row's end adds, by their LayerNorm's own scale."""
    body, end = THEIRS.theirs.transformer, ENDS[row]
    stream = RUN.at["stream", LAYERS][row, end]
    scale = (stream.var(unbiased=False) + body.ln_f.eps).sqrt()
    normed = (written[row, end] - written[row, end].mean()) / scale * body.ln_f.weight
    return difference((normed @ THEIRS.theirs.lm_head.weight.T).detach(), row)


def test_each_component_adds_what_hooks_see() -> None:
    found = direct_attribution(MODEL, PROMPT, EXACT)
    written = {"emb": RUN.at["emb", 0]}
    for layer in range(LAYERS):
        written |= {f"a{layer}.{head}": THEIRS.written(RUN, layer, head) for head in range(HEADS)}
        written |= {f"m{layer}": RUN.at["mlp", layer]}
    assert list(found.names) == ["emb", "a0.0", "a0.1", "a0.2", "m0", "a1.0", "a1.1", "a1.2", "m1", REST]
    for name, each in written.items():
        wanted = [added(each, row) for row in range(ROWS)]
        np.testing.assert_allclose(found.sums[found.names.index(name)], wanted, rtol=0, atol=1e-9, err_msg=name)
    whole = [difference(RUN.logits[row, ENDS[row]], row) for row in range(ROWS)]
    np.testing.assert_allclose(found.total, whole, rtol=0, atol=1e-9)
    np.testing.assert_allclose(found.sums.sum(0), whole, rtol=0, atol=1e-9)
    frame = found.frame().set_index("component")
    assert frame.contribution.sum() == pytest.approx(np.mean(whole), abs=1e-9)
    assert frame["percent of all"].sum() == pytest.approx(100, abs=1e-6)
    assert (frame["contribution, low"] < frame.contribution).all()


@pytest.mark.parametrize(
    "fields",
    [{"positions": "standard"}, {"positions": "shortformer", "biases": ("q", "v", "o", "unembed")}],
    ids=lambda fields: str(fields["positions"]),
)
def test_all_adds_up_to_the_answers_logit_in_any_family(fields: dict[str, Any]) -> None:
    """Of text too, over all scored positions."""
    made = small(n_layers=3, **SHAPE, **fields)
    model = make_model("random", made.config, made.params)
    scored = RNG.random((ROWS, POSITIONS)) < 0.4
    found = direct_attribution(model, Examples(TOKENS, scored), EXACT)
    logits = model(torch.from_numpy(TOKENS[:, :-1]))
    wanted = [
        float(logits[row].gather(-1, torch.from_numpy(TOKENS[row, 1:, None]))[scored[row]].sum()) for row in EVERY
    ]
    assert found.of == "logit"
    np.testing.assert_allclose(found.sums.sum(0), wanted, rtol=0, atol=1e-9)
    assert np.abs(found.sums[-1]).max() > 0.1


def test_terms_that_do_not_add_up_are_no_numbers() -> None:
    """As of a model whose graph has a term that is read as something else."""
    made = small_gpt2(1, **SHAPE)
    model = make_model("random", made.config, made.params)
    norm, table = model.graph.inputs
    stream = norm.inputs[0]
    twice = norm.with_inputs((node("add", stream, stream.inputs[1]), *norm.inputs[1:]))
    broken: Model = replace(model, graph=node("unembed", twice, table, label="out"))
    with pytest.raises(GateError, match="own"):
        direct_attribution(broken, PROMPT, EXACT)


def seen_through(layer: int) -> torch.Tensor:
    """Logits of what enters a layer, through their own last modules."""
    with torch.no_grad():
        stream = RUN.at["stream", layer]
        body, head = THEIRS.theirs.transformer, THEIRS.theirs.lm_head
        return head(
            torch.nn.functional.layer_norm(stream, stream.shape[-1:], body.ln_f.weight, body.ln_f.bias, body.ln_f.eps)
        )


def test_the_lens_sees_what_their_last_modules_make_of_each_layer() -> None:
    found = logit_lens(MODEL, PROMPT, ["logit_diff", "prob", "loss", "kl"], settings=EXACT)
    assert (list(found.sites), list(found.columns)) == (["stream 0", "stream 1", "stream 2"], ["S2", "end"])
    for layer in range(LAYERS + 1):
        logits = seen_through(layer)
        for column, places in enumerate((S2, ENDS)):
            here = [logits[row, at] for row, at in enumerate(places)]
            chances = [each.softmax(-1) for each in here]
            own = [RUN.logits[row, at].log_softmax(-1) for row, at in enumerate(places)]
            wanted = {
                "logit_diff": [difference(each, row) for row, each in enumerate(here)],
                "prob": [sum(float(chances[row][t]) for t in RIGHT[row] if t != NOWHERE) for row in EVERY],
                "loss": [-float(each.log_softmax(-1)[RIGHT[row, 0]]) for row, each in enumerate(here)],
                "kl": [float((o.exp() * (o - e.log_softmax(-1))).sum()) for o, e in zip(own, here, strict=True)],
            }
            for metric, each in wanted.items():
                np.testing.assert_allclose(found.sums[metric][layer, column], each, rtol=0, atol=1e-9, err_msg=metric)
    assert found.grid("kl").loc["stream 2"].tolist() == pytest.approx([0, 0], abs=1e-12)
    assert found.frame()["logit_diff, low"].lt(found.frame()["logit_diff, high"]).all()


def test_of_one_prompt_every_position_and_its_top_token_is_seen() -> None:
    one = PROMPT.some(np.array([3]))
    found = logit_lens(MODEL, one, settings=EXACT)
    assert list(found.columns) == [str(at) for at in range(LENGTHS[3])]
    for layer in range(LAYERS + 1):
        logits = seen_through(layer)[3, : LENGTHS[3]]
        assert list(found.top[layer]) == [str(int(token)) for token in logits.argmax(-1)]
        wanted = [difference(each, 3) for each in logits]
        np.testing.assert_allclose(found.grid().loc[f"stream {layer}"], wanted, rtol=0, atol=1e-9)
    two = logit_lens(MODEL, PROMPT, positions="-2, S2-1", settings=EXACT)
    assert list(two.columns) == ["-2", "S2-1"]
    wanted = [difference(seen_through(1)[row, at], row) for row, at in enumerate(S2 - 1)]
    np.testing.assert_allclose(two.sums["logit_diff"][1, 1], wanted, rtol=0, atol=1e-9)


def test_of_text_the_lens_sees_the_next_tokens_where_they_are_scored() -> None:
    scored = RNG.random((ROWS, POSITIONS)) < 0.4
    found = logit_lens(MODEL, Examples(TOKENS, scored), "loss", settings=EXACT)
    assert list(found.columns) == ["scored"]
    losses = -seen_through(1).log_softmax(-1).gather(-1, torch.from_numpy(TOKENS[:, 1:, None]))[..., 0]
    assert found.grid().loc["stream 1", "scored"] == pytest.approx(float(losses[scored].mean()), abs=1e-9)


@pytest.mark.parametrize(
    ("more", "says"),
    [
        ({"positions": "S2..end"}, "one position at a time"),
        ({"positions": "IO"}, "'IO'"),
        ({"metric": "logits"}, "'logits'"),
    ],
)
def test_mistakes_are_one_line(more: dict[str, Any], says: str) -> None:
    with pytest.raises(ScrubError) as raised:
        logit_lens(MODEL, PROMPT, settings=EXACT, **more)
    assert says in str(raised.value)
    assert "\n" not in str(raised.value)
