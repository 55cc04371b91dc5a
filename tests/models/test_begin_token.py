"""The begin token: the tokenizer's own, the config's, the user's choice, or none; and everything that reads it."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from project import byte_tokenizer, tiny_model
from tokenizers import Tokenizer
from tokenizers.processors import TemplateProcessing

import scrub
from scrub.data.for_model import examples_for
from scrub.data.prompts.generate import given_prompt, repeated_prompts
from scrub.data.repeated import repeated_tokens
from scrub.data.settings import RANDOM, Recipe
from scrub.measure.heads import roles
from scrub.measure.heads.roles import measure
from scrub.models.checkpoints.tokenizer import added_in_front
from scrub.models.model import Model, load_model, save_model
from scrub.store.sweeps.grid import Grid
from scrub.study.run import prepare_study
from scrub.study.settings import Settings
from scrub.study.study import Study, load_study
from scrub.text.errors import ScrubError

OWN = 3  # what a post-processor puts in front, where the config says another


def without(model: Model) -> Model:
    return replace(model, config=model.config.model_copy(update={"bos_token_id": None}))


def processed(template: str) -> Tokenizer:
    """The byte tokenizer, with a template around a text: [P] is the token OWN."""
    found = byte_tokenizer()
    name = found.id_to_token(OWN)
    found.post_processor = TemplateProcessing(single=template.replace("[P]", name), special_tokens=[(name, OWN)])
    return found


@pytest.mark.parametrize(
    ("template", "token"), [("[P] $A", OWN), ("[P] $A [P]", OWN), ("$A [P]", None), ("$A", None), ("[P] [P] $A", None)]
)
def test_the_token_that_a_tokenizer_puts_in_front(template: str, token: int | None) -> None:
    assert added_in_front(processed(template)) == token
    assert added_in_front(None) is None
    assert added_in_front(byte_tokenizer()) is None
    model = load_model(tiny_model(), tokenizer=processed(template))
    assert model.bos_token_id == (model.config.bos_token_id if token is None else token)
    bare = load_model(without(tiny_model()), tokenizer=processed(template))
    assert bare.bos_token_id == token
    assert (bare.begins(None), bare.begins(None, typed=True)) == (token is not None,) * 2


@pytest.mark.parametrize("said", [True, False])
def test_who_says_whether_there_is_one(said: bool) -> None:
    model = tiny_model()
    model = replace(model, config=model.config.model_copy(update={"bos_before_prompts": said}))
    assert (model.begins(None), model.begins(None, typed=True)) == (True, said)
    own = load_model(model, tokenizer=processed("[P] $A"))
    assert own.begins(None, typed=True), "as the tokenizer does"
    for typed in (True, False):
        assert (model.begins(True, typed), model.begins(False, typed)) == (True, False)
        assert not without(model).begins(None, typed)
        assert not without(model).begins(False, typed)
        with pytest.raises(ScrubError, match="no begin token"):
            without(model).begins(True, typed)


def test_a_model_without_one_is_saved_and_loaded(tmp_path: Path) -> None:
    save_model(without(tiny_model()).to(torch.float32), tmp_path / "m")
    assert json.loads((tmp_path / "m/config.json").read_text())["bos_token_id"] is None
    assert load_model(tmp_path / "m").bos_token_id is None


@pytest.mark.parametrize("said", [{}, {"bos_token_id": None}, {"bos_token_id": -1}, {"bos_token_id": 50256}])
def test_a_gpt2_whose_begin_token_is_none_of_its_own(said: dict[str, Any], tmp_path: Path) -> None:
    from transformers import GPT2Config, GPT2LMHeadModel

    theirs = GPT2LMHeadModel(GPT2Config(n_layer=1, n_head=2, n_embd=6, n_positions=11, vocab_size=23, **said))
    theirs.save_pretrained(tmp_path / "theirs")
    for each in (theirs, tmp_path / "theirs"):
        loaded = load_model(each)
        assert loaded.bos_token_id is None
        save_model(loaded, tmp_path / "saved")
        assert load_model(tmp_path / "saved").bos_token_id is None
        GPT2LMHeadModel.from_pretrained(tmp_path / "saved")


@pytest.mark.parametrize("said", [-1, 31, 1_000_000])
def test_a_config_whose_begin_token_is_none_of_the_vocabulary(said: int, tmp_path: Path) -> None:
    save_model(tiny_model().to(torch.float32), tmp_path)
    config = tmp_path / "config.json"
    config.write_text(json.dumps({**json.loads(config.read_text()), "bos_token_id": said}))
    model = load_model(tmp_path)
    assert (model.bos_token_id, model.begins(None)) == (None, False)
    assert model.vocab_size == 31


def test_documents_end_with_the_configs_token_and_not_with_one_that_a_tokenizer_begins_with(tmp_path: Path) -> None:
    """A layout drops an end token that is the begin token: what a tokenizer puts in front is no end of anything."""
    from transformers import GPT2Config, GPT2LMHeadModel

    sizes = {"n_layer": 1, "n_head": 2, "n_embd": 6, "n_positions": 11, "vocab_size": 31}
    theirs = GPT2LMHeadModel(GPT2Config(**sizes, bos_token_id=0, eos_token_id=0))
    model = load_model(theirs, tokenizer=processed("[P] $A"))
    assert (model.bos_token_id, model.end_token_id) == (OWN, 0)
    (tmp_path / "two.txt").write_text("abcdefghijklmno" + "<|begin|>" + "pqrstuvwxyzabcde")
    examples = examples_for(model, tmp_path / "two.txt", 2)
    assert not (examples.tokens == 0).any(), "it only says where a document ends"
    assert load_model(without(tiny_model()), tokenizer=processed("[P] $A")).end_token_id == OWN


def test_everything_that_reads_it_does_without(tmp_path: Path) -> None:
    model = without(tiny_model())
    rows = np.random.default_rng(0).integers(1, model.vocab_size, (70, model.n_ctx + 1))
    (tmp_path / "ids.jsonl").write_text("".join(json.dumps({"ids": row.tolist()}) + "\n" for row in rows))
    text = examples_for(model, tmp_path / "ids.jsonl", 64)
    assert set(map(tuple, text.tokens.tolist())) <= set(map(tuple, rows.tolist()))
    assert text.begin == "without a begin token"
    measured = measure(model, text.tokens)
    assert all(np.isfinite([each.estimate for each in pair]).all() for pair in measured.halves.values())
    drawn = repeated_prompts(model, RANDOM, 3, 3)
    assert drawn.context == 5, "a draw, and its repetition up to the last but one"
    typed = given_prompt(model, "abyab", expected="y")
    assert model.tokenizer is not None
    assert typed.inputs[0].tolist() == model.tokenizer.encode("abyab").ids
    with pytest.raises(ScrubError, match="no begin token"):
        given_prompt(model, "abyab", bos=True)
    found = scrub.run("induction/naive", model, tmp_path / "ids.jsonl", Settings(positions="all", progress=False))
    assert "without a begin token" in found.heading


@pytest.mark.parametrize("begin", [0, None])
def test_repeated_tokens_begin_as_the_text_beside_them(begin: int | None, monkeypatch: pytest.MonkeyPatch) -> None:
    model, drawn = tiny_model(), []

    def noted(*arguments: Any, **named: Any) -> Any:
        drawn.append(repeated_tokens(*arguments, **named))
        return drawn[-1]

    monkeypatch.setattr(roles, "repeated_tokens", noted)
    text = np.random.default_rng(0).integers(1, model.vocab_size, (20, 12))
    text[:, 0] = text[:, 0] if begin is None else begin
    measure(model, text)
    assert [bool((tokens[:, 0] == model.bos_token_id).all()) for tokens in drawn] == [begin is not None] * 2


def test_the_choice_is_the_users(in_project: None) -> None:
    del in_project
    model = load_model("tiny")
    study, hypotheses = load_study("induction/naive")
    found = {}
    for bos in (None, True, False):
        settings = Settings(positions="all", bos=bos, sequences=20, context=model.n_ctx - 1, progress=False)
        trial = scrub.prepare("induction/naive", model, "words", settings)
        found[bos] = trial.examples
        assert trial.examples.tokens.shape == (20, model.n_ctx), "context + 1, whatever they begin with"
        assert ((trial.examples.tokens[:, 0] == model.bos_token_id).all()) == (bos is not False)
        assert trial.run().to_dict()["begin"] == trial.examples.begin
    assert found[None].digest == found[True].digest != found[False].digest
    for bos, other in ((True, False), (False, True)):
        settings = Settings(positions="all", sequences=20, context=model.n_ctx - 1, progress=False)
        theirs = replace(study, bos=bos)
        said = prepare_study(theirs, hypotheses, model, "words", settings)
        assert said.examples.digest == found[bos].digest, "a study says it too"
        said = prepare_study(theirs, hypotheses, model, "words", replace(settings, bos=other))
        assert said.examples.digest == found[other].digest, "and the run has the last word"
    with pytest.raises(ScrubError, match="bos"):
        scrub.prepare("induction/naive", model, found[True].tokens, Settings(bos=True))
    with pytest.raises(ScrubError, match="bos"):
        Settings(bos="perhaps")  # type: ignore[arg-type]


@pytest.mark.parametrize("said", [True, False])
def test_auto_is_an_answer_of_its_own(said: bool, in_project: None) -> None:
    """Whoever says `auto` wants what is usual, and not what a study says."""
    del in_project
    model, (study, hypotheses) = tiny_model(), load_study("induction/naive")
    usual = model if said is False else without(model)
    theirs = replace(study, bos=said)
    settings = Settings(positions="all", bos="auto", sequences=20, progress=False)
    trial = prepare_study(theirs, hypotheses, usual, "words", settings)
    assert trial.examples.begin == ("without a begin token" if said else "behind '<|begin|>'")
    swept = Grid.make(studies=["induction/naive"], bos="auto")
    assert (swept.bos, swept.settings().bos) == ("auto", "auto")


@pytest.mark.parametrize(("answer", "said"), [("yes", True), ("no", False), ("auto", "auto"), (None, None)])
def test_an_answer_is_the_same_wherever_it_is_given(answer: Any, said: bool | str | None) -> None:
    model = tiny_model()
    for typed in (True, False):
        assert model.begins(answer, typed) is model.begins(None if said == "auto" else said, typed)  # type: ignore[arg-type]
    assert Settings(bos=answer).bos == Recipe(bos=answer).bos == Study("a1.ind/** -> y", bos=answer).bos == said
    begins = int(model.begins(answer, typed=True))
    assert model.tokens("abyab", answer).shape == (1, 5 + begins)
    assert repeated_prompts(model, RANDOM, 1, 3, 0, bos=answer).context == 5 + begins


@pytest.mark.parametrize("answer", ["maybe", "", 1, [True]])
def test_what_is_no_answer_is_told_by_whoever_is_given_it(answer: Any) -> None:
    model = tiny_model()
    asked: list[Callable[[], object]] = [
        lambda: model.begins(answer),
        lambda: examples_for(model, "nowhere", 8, bos=answer),
        lambda: Settings(bos=answer),
        lambda: Recipe(bos=answer),
        lambda: Study("a1.ind/** -> y", bos=answer),
        lambda: Grid.make(studies=["induction/naive"], bos=answer),
    ]
    for ask in asked:
        with pytest.raises(ScrubError, match=r"bos is .* but must be "):
            ask()
