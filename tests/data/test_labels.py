"""Examples with labels: the class of each is predicted, at position 0, and nothing of it is read."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from small import small_decoder
from torch.nn import functional

import scrub
from scrub.data.for_model import notes_on
from scrub.store.results.read import _examples
from scrub.store.sweeps.work import _inputs
from scrub.text.errors import ScrubError

TOKENS = np.array([[2, 3, 4, 1, 1, 1, 1], [2, 5, 1, 1, 1, 1, 1], [3, 6, 7, 8, 9, 1, 1], [4, 4, 4, 4, 4, 4, 12]])
LABELS = [3, 0, 4, 3]


def examples() -> scrub.Examples:
    return scrub.Examples.of(TOKENS, labels=LABELS)


def test_what_they_are() -> None:
    found = examples()
    assert repr(found) == ("<Examples 4 of text, tokens, with labels of 3 classes: 7 positions each, 4 scored>")
    assert (found.inputs == TOKENS).all()
    assert (found.tokens[:, -1] == LABELS).all()
    assert (found.following == np.array(LABELS)[:, None]).all()
    assert found.expected.tolist() == LABELS
    assert (found.scored.sum(0) == [4, 0, 0, 0, 0, 0, 0]).all()
    assert found.real.all()
    assert not found.has_bigram


def test_nothing_else_is_ever_scored() -> None:
    found = examples()
    assert (found.scored_at(np.ones_like(found.scored)).scored == found.scored).all()
    assert not found.later(1).scored.any()
    elsewhere = np.zeros_like(found.scored)
    elsewhere[1, 2] = True
    with pytest.raises(ScrubError, match=r"^examples with labels are scored at position 0 alone"):
        replace(found, scored=elsewhere)


def test_some_of_them_and_their_hashes() -> None:
    found = examples()
    some = found.some(np.array([2, 0]))
    assert some.labels is not None
    assert some.labels.tolist() == [4, 3]
    assert (some.inputs == TOKENS[[2, 0]]).all()
    others = scrub.Examples.of(TOKENS, labels=[3, 0, 4, 2])
    same_tokens = replace(others, tokens=found.tokens)  # whatever stands in the column that isn't read, labels do
    without = scrub.Examples(found.tokens, found.scored)
    assert len({each.digest for each in (found, others, without)}) == 3
    assert same_tokens.digest == others.digest
    assert found.digest == examples().digest
    joined = found.followed_by(some)
    assert joined.labels is not None
    assert joined.labels.tolist() == [*LABELS, 4, 3]
    other = replace(found, other=found.tokens[::-1].copy())
    assert (other.changed == (TOKENS[::-1] != TOKENS)).all()
    with pytest.raises(ScrubError, match="nothing says the class of their others"):
        other.swapped()


@pytest.mark.parametrize(
    ("labels", "says"),
    [
        ([1, 0, 1], r"^the labels are int64 \[3\], and there are 4 examples: give the class of each, a whole number$"),
        ([0.5] * 4, r"^the labels are float64 \[4\], and there are 4 examples"),
        ([[0], [1, 2], [3], [4]], r"^the labels are no array \(.*\): give the class of each example$"),
        ([0, 1, -2, 1], r"^the label of example 2 is -2: classes are 0 and more$"),
    ],
)
def test_labels_that_are_none(labels: Any, says: str) -> None:
    with pytest.raises(ScrubError, match=says):
        scrub.Examples.of(TOKENS, labels=labels)


def test_labels_beside_what_they_exclude() -> None:
    with pytest.raises(ScrubError, match="leave lengths, answers and completions out"):
        replace(examples(), lengths=np.array([3, 2, 5, 7]))
    with pytest.raises(ScrubError, match="these are examples already"):
        scrub.Examples.of(examples(), labels=LABELS)


def study(*metrics: str) -> dict[str, Any]:
    hypothesis = scrub.Hypothesis("v  a1/v/** -> y\nm  **/mask -> y", name="h")
    of = scrub.Study(baseline="** -> y", positions="0", name="s", hypotheses=(hypothesis,))
    settings = scrub.Settings(progress=False, dtype="float64", seed=3)
    return {"wanted": of, "settings": settings, **({"metric": list(metrics)} if metrics else {})}


def test_what_is_measured_is_the_class() -> None:
    """Beside torch's own cross entropy, and the two classes' logits at position 0."""
    model, found = small_decoder("encoder"), examples()
    logits, classes = model(TOKENS)[:, 0], torch.tensor(LABELS)
    result = scrub.run(model=model, data=found, **study("loss", "accuracy", "logit_diff", "prob"))
    measured = {name: each.loss["unscrubbed"] for name, each in result.by_metric.items()}
    wrong = torch.stack([logits[at, [c for c in (0, 3, 4) if c != label]].mean() for at, label in enumerate(LABELS)])
    own = logits.gather(1, classes[:, None])[:, 0]
    expected = {
        "loss": functional.cross_entropy(logits, classes, reduction="none"),
        "accuracy": (logits.argmax(1) == classes).double(),
        "logit_diff": own - wrong,
        "prob": logits.softmax(1).gather(1, classes[:, None])[:, 0],
    }
    for name, values in expected.items():
        np.testing.assert_allclose(measured[name], values, rtol=0, atol=1e-12)
    frame = scrub.prepare(model=model, data=found, **study()).token_losses("h/v")
    assert frame["target"].tolist() == list(map(str, LABELS))
    assert frame["token"].tolist() == ["2", "2", "3", "4"]


@pytest.mark.parametrize(
    ("model", "data", "says"),
    [
        ("encoder", TOKENS, "^encoder predicts one of 5 classes, and the text say none: give examples with labels"),
        (
            "encoder",
            scrub.Examples.of(TOKENS, labels=[1, 0, 5, 2]),
            "^the label of example 2 is 5, and encoder tells 5",
        ),
        (
            "rotary encoder",
            scrub.Examples(np.pad(TOKENS, ((0, 0), (0, 1))), TOKENS == 3, "prompts", lengths=np.array([3, 2, 7, 7])),
            "^the prompts are of several lengths, and every position of rotary encoder reads the pads behind them",
        ),
    ],
)
def test_models_and_examples_that_do_not_fit(model: str, data: Any, says: str) -> None:
    with pytest.raises(ScrubError, match=says):
        scrub.run(model=small_decoder(model), data=data, **study())


def test_an_encoder_that_predicts_tokens_is_told_to_read_them() -> None:
    said = "rotary encoder reads later positions too, and so the very tokens that it is to predict"
    for data, wanted in ((np.pad(TOKENS, ((0, 0), (0, 1))), True), (examples(), False)):
        notes = scrub.prepare(model=small_decoder("rotary encoder"), data=data, **study()).notes
        assert any(note.startswith(said) for note in notes) == wanted
    assert not notes_on(scrub.Examples.of(TOKENS), small_decoder("llama"))


def test_a_causal_model_sees_nothing_where_a_class_is_read() -> None:
    says = r"^the text have labels, and llama is causal: its position 0, where a class is read, sees the first token"
    with pytest.raises(ScrubError, match=says):
        scrub.ablate(small_decoder("llama"), examples(), "heads")


def test_all_of_one_class_have_no_wrong_one() -> None:
    with pytest.raises(ScrubError, match=r"^all examples are of the class 2, and no other is wrong"):
        scrub.Examples.of(TOKENS, labels=[2] * 4).choices("wrong")


def test_scores_of_tokens_are_refused() -> None:
    with pytest.raises(ScrubError, match=r"^scores of heads are about the tokens that are predicted"):
        scrub.score_heads(small_decoder("encoder"), examples())


def test_a_folder_of_results_keeps_them() -> None:
    """And the class of no example is taken for a token."""
    table = _inputs(examples(), small_decoder("encoder"))
    setting = type("Setting", (), {"data": "tokens"})()
    found, texts = _examples(table, setting, "text")
    assert found.digest == examples().digest
    assert sorted(texts) == sorted(set(TOKENS.ravel().tolist()))


def test_wrong_classes_of_ones_own_are_where_the_class_is_read() -> None:
    wrong = np.array([[1, 2], [2, 3], [0, -1], [1, 0]])
    tokens, weights = replace(examples(), wrong=wrong).choices("wrong")
    assert tokens.shape == weights.shape == (4, 7, 2)
    assert (np.where(weights[:, 0] != 0, tokens[:, 0], -1) == wrong).all()


def test_others_that_are_pads_alone_are_refused() -> None:
    other = np.pad(TOKENS, ((0, 0), (0, 1)))[::-1].copy()
    other[2, :-1] = 1
    with pytest.raises(ScrubError, match=r"^sequence 2 is pads alone, the token 1, which encoder masks"):
        scrub.ablate(small_decoder("encoder"), replace(examples(), other=other), "heads")
