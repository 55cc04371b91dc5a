"""Values at paths against hooks in transformers, tokens as text, and what is drawn and listed of a run by itself."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from doubles import Double
from project import tiny_model

import scrub
from scrub import ScrubError, Settings
from scrub.models.model import Model
from scrub.models.values import tokens_of

TOKENS = torch.from_numpy(np.random.default_rng(5).integers(2, 54, (3, 7)))
HEAD = 2


def test_values_are_those_of_transformers(model: Model, theirs: Double) -> None:
    with torch.no_grad():
        whole = theirs.run(TOKENS)
        d_head, last = model.config.d_head, theirs.layers - 1
        columns = slice(HEAD * d_head, (HEAD + 1) * d_head)
        wanted = {
            f"a{last}.{HEAD}/pattern": whole.patterns[last][:, HEAD],
            f"a{last}/pattern": whole.patterns[last],
            f"a{last}.{HEAD}/z": whole.at["z", last][..., columns],
            f"a{last}.{HEAD}": theirs.written(whole, last, HEAD),
            f"stream {last}": whole.at["stream", last],
            "out": whole.logits,
        }
        block = theirs.theirs.transformer.h[last]
        qkv = whole.at["qkv", last].split(model.config.d_model, -1)
        wanted |= {f"a{last}.{HEAD}/{slot}": of[..., columns] for slot, of in zip("qkv", qkv, strict=True)}
        read = block.mlp.c_fc(block.ln_2(whole.at["ln_2", last]))
        wanted |= {f"m{last}/in": read, f"m{last}/mid": block.mlp.act(read), f"m{last}": whole.at["mlp", last]}
    for path, value in wanted.items():
        found = model.values(TOKENS, path)
        assert found.shape == value.shape, path
        torch.testing.assert_close(found, value, rtol=0, atol=1e-9, msg=path)


@pytest.mark.parametrize(
    ("path", "says"),
    [
        ("a9.1", "matches no path"),
        ("stream 9", "stream 0 .* to stream"),
        ("a*.1", "means 3 values"),
        ("m0/pattern", "heads have a pattern"),
        ("a0.1/mid", "MLPs in and mid"),
        ("emb/z", "heads have a pattern"),
    ],
)
def test_a_path_that_is_none_is_a_mistake(model: Model, path: str, says: str) -> None:
    with pytest.raises(ScrubError, match=says):
        model.values(TOKENS, path)


def test_tokens_and_text(model: Model) -> None:
    tokens = model.tokens("A B", bos=True)
    assert tokens.shape == (1, 3)
    assert model.strings(tokens[0]) == ["<|begin|>", "A", " B"]
    assert model.strings(model.tokens("A B", bos=False)[0]) == ["A", " B"]
    torch.testing.assert_close(model.values("A B", "out"), model(model.tokens("A B")))
    top = model.top("A B", 4)
    logits = model(model.tokens("A B"))[0, -1]
    assert top.token.tolist() == logits.argsort(descending=True)[:4].tolist()
    assert top.probability.tolist() == pytest.approx(logits.softmax(-1).sort(descending=True).values[:4].tolist())
    assert [model.strings([token]) for token in top.token] == [[text] for text in top.text]
    assert model.top(TOKENS[0], 1, position=2).logit.item() == pytest.approx(float(model(TOKENS[:1])[0, 2].max()))
    with pytest.raises(ScrubError, match="no position 9"):
        model.top("A B", position=9)
    with pytest.raises(ScrubError, match="no tokenizer"):
        tokens_of(_mute(), "A")


def _mute() -> Model:
    from dataclasses import replace

    return replace(tiny_model(), tokenizer=None)


def test_what_a_model_is_made_of(model: Model) -> None:
    assert model.layers == ["emb", "a0", "m0", "a1", "m1", "a2", "m2"]
    assert model.heads == dict.fromkeys(range(3), model.config.n_heads)
    assert model.sizes["d_model"] == model.config.d_model
    assert model.sizes["parameters"] == sum(value.numel() for value in model.params.values())


def test_token_losses_of_a_run() -> None:
    model = tiny_model()
    tokens = np.random.default_rng(0).integers(1, 20, (5, 9))
    hypothesis = scrub.Hypothesis("v a1.ind/v/a0 -> y", name="cut")
    study = scrub.Study(baseline="a1.ind/** -> y", positions="all", hypotheses=(hypothesis,))
    trial = scrub.prepare(study, model, tokens, Settings(progress=False, dtype="float64"))
    result, frame = trial.run(), trial.token_losses("cut/v")
    assert list(frame.columns) == ["sequence", "position", "token", "target", "unscrubbed", "cut/v"]
    for name in ("unscrubbed", "cut/v"):
        np.testing.assert_allclose(frame.groupby("sequence")[name].sum(), result.loss[name], atol=1e-9)
    assert frame.target.tolist() == model.strings(tokens[frame.sequence, frame.position + 1])
    with pytest.raises(ScrubError, match=r"'cut/q'.*cut/v"):
        trial.token_losses("cut/q")


def test_charts_of_ones_own(model: Model) -> None:
    chart = scrub.attention_chart(model, "A B C A", "a1.1+0", query=-1, key=1)
    pattern = model.values("A B C A", "a1/pattern")[0]
    for row in chart.values.itertuples():
        assert row.attention == pytest.approx(float(pattern[int(row.head.partition(".")[2]), row.query, row.key]))
    assert set(chart.values["head"]) <= {"1.0", "1.1"}
    assert chart.content(".svg")
    assert scrub.bar_chart(["a", "b"], [0.25, -1.0], "nats").values.estimate.tolist() == [0.25, -1.0]
    grid = scrub.heat_map(np.array([[0.25, 1.0]]), ["row"], ["a", "b"])
    assert grid.values["value"].tolist() == [0.25, 1.0]
    with pytest.raises(ScrubError, match="'a7'"):
        scrub.attention_chart(model, "A B", "a7")
