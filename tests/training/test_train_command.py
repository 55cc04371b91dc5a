"""The training command trains what its options say, and turns down what it can't do before it does anything."""

import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from scrub.cli.train import train
from scrub.data.parens.recipe import draw_rows
from scrub.data.stdlib import SourceFile
from scrub.graph.node import walk
from scrub.models.families import gpt2
from scrub.models.model import load_model
from scrub.text.errors import ScrubError
from scrub.training import classifier, corpus
from scrub.training.corpus import Corpus
from scrub.training.parameters import EMBEDDING, SHAPES, sinusoids
from scrub.training.settings import SHAPED, Settings

FILES = [SourceFile(f"{name}.py", f"def {name}(x):\n    return [{name}, x]\n" * 9) for name in ("one", "two", "three")]


@pytest.fixture
def stand_in(monkeypatch: pytest.MonkeyPatch) -> gpt2.Config:
    """In place of gpt2-mini, a GPT-2 of 3 layers that reads 7 tokens of its vocabulary; and three files to read."""
    whole = SHAPES["gpt2-mini"]
    assert isinstance(whole, gpt2.Config)
    sizes = {"n_layers": 3, "n_heads": 5, "d_head": 2, "d_model": 10, "d_mlp": 13, "n_ctx": 7}
    config = whole.model_copy(update=sizes)
    monkeypatch.setitem(SHAPES, "gpt2-mini", config)
    monkeypatch.setattr(corpus, "load_corpus", lambda: Corpus(FILES, FILES[:1], FILES[1:], {}))
    return config


def test_a_classifier_of_parens(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its loss falls, its positions stay sinusoids, no step of any seed sees another's rows, its folder is a model."""
    seeds: list[int] = []
    monkeypatch.setattr(classifier, "draw_rows", lambda count, seed: (seeds.append(seed), draw_rows(count, seed))[1])
    settings = Settings(tokens=42 * 16 * 25, decay_tokens=42, batch=16, optimiser="adamw", lr=3e-3)
    for folder, each in (("one", settings), ("two", replace(settings, seed=1))):
        train(tmp_path / folder, shape="parens3l", settings=each)
    entries = [json.loads(line) for line in (tmp_path / "one" / "log.jsonl").read_text().splitlines()]
    assert entries[-2]["validation"] < 0.577  # nats, of who knows how many are balanced and nothing else
    assert 0.5 < entries[-1]["accuracy"] < 1
    trained = [seed for seed in seeds if seed >= classifier.UNSEEN]
    assert len(trained) == len(set(trained)) == 2 * 25
    one, two = load_model(tmp_path / "one"), load_model(tmp_path / "two")
    torch.testing.assert_close(one.params["pos.weight"], sinusoids(42, 56) * EMBEDDING)
    assert not torch.equal(one.params["embed.weight"], two.params["embed.weight"])
    assert (one.classes, one.masked_token) == (2, 1)
    with pytest.raises(ScrubError, match="a tokenizer of its own"):
        train(tmp_path / "three", shape="parens3l", tokenizer="attn2l", settings=settings)


def test_a_gpt2_with_the_tokenizer_of_another_model(tmp_path: Path, stand_in: gpt2.Config) -> None:
    from transformers import GPT2LMHeadModel

    folder = tmp_path / "run"
    settings = Settings(tokens=5 * 14, decay_tokens=14, batch=2)
    train(folder, shape="gpt2-mini", tokenizer="attn2l", settings=settings)
    entries = [json.loads(line) for line in (folder / "log.jsonl").read_text().splitlines()]
    assert [entry["tokens"] for entry in entries] == [0, 70, 70]
    assert 0 < entries[1]["validation"] < 20
    assert len(entries[2]["heads"]["text"]["previous"]) == stand_in.n_layers
    checkpoint = load_file(folder / "checkpoint.safetensors")
    shapes = {n.arguments["name"]: n.arguments["shape"] for n in walk([gpt2.lower(stand_in)]) if n.op == "param"}
    assert {name: tuple(checkpoint[name].shape) for name in shapes} == shapes
    model = load_model(folder)
    assert isinstance(model.config, gpt2.Config)
    for name in shapes:
        assert torch.equal(model.params[str(name)], checkpoint[str(name)]), name
    tokens = torch.randint(0, stand_in.vocab_size, (2, stand_in.n_ctx), generator=torch.Generator().manual_seed(0))
    with torch.no_grad():  # the folder is Hugging Face's own layout
        expected = GPT2LMHeadModel.from_pretrained(folder, dtype=torch.float32).eval()(tokens).logits
    torch.testing.assert_close(model(tokens), expected, rtol=0, atol=1e-4)
    theirs = load_model("attn2l").tokenizer
    assert model.tokenizer is not None
    assert theirs is not None
    assert model.tokenizer.to_str() == theirs.to_str()
    corpus = load_file(folder / "corpus.safetensors")
    texts = [theirs.encode(each.text, add_special_tokens=False).ids for each in FILES]
    assert corpus["stdlib"].tolist() == [token for ids in texts for token in ids]


@pytest.mark.usefixtures("stand_in")
def test_going_on_from_a_checkpoint(tmp_path: Path) -> None:
    for name, stops in (("whole", (56,)), ("parts", (28, 56))):
        for at, tokens in enumerate(stops):
            resume = "checkpoint.safetensors" if at else ""
            settings = Settings(tokens=tokens, decay_tokens=1, batch=2)
            train(tmp_path / name, shape="gpt2-mini", tokenizer="attn2l", settings=settings, resume=resume)
    whole, parts = (load_file(tmp_path / name / "checkpoint.safetensors") for name in ("whole", "parts"))
    assert whole.keys() == parts.keys()
    for name, value in whole.items():
        assert torch.equal(value, parts[name]), name


def test_the_shapes_are_those_that_help_names():
    assert list(SHAPES) == list(SHAPED)


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"device": "tpu"}, "device 'tpu'"),
        ({"shape": "gpt5"}, "shape 'gpt5'"),
        ({"shape": "gpt2-mini\n"}, "shape 'gpt2-mini"),
        ({"tokenizer": "nobody"}, "nobody"),
        ({"tokenizer": "short"}, "short"),
    ],
)
def test_mistakes(tmp_path: Path, options: dict[str, object], says: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "models" / "short").mkdir(parents=True)  # a model without a tokenizer
    with pytest.raises(ScrubError) as caught:
        train(tmp_path / "run", settings=Settings(), **options)
    assert says in str(caught.value)
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "run").exists()


def test_a_tokenizer_that_does_not_fit_the_shape(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    shutil.copytree(load_model("attn2l").folder or "", tmp_path / "models" / "mine")
    monkeypatch.setitem(SHAPES, "gpt2-mini", SHAPES["gpt2-mini"].model_copy(update={"vocab_size": 4095}))
    with pytest.raises(ScrubError, match="4095"):
        train(tmp_path / "run", shape="gpt2-mini", tokenizer="mine", settings=Settings())
    assert not (tmp_path / "run").exists()


def test_a_folder_that_cant_be_written(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(ScrubError, match="can't be made"):
        train(tmp_path / "file" / "run", settings=Settings())


@pytest.mark.parametrize("given", [{"stdlib_share": 0.25}, {"validation_windows": 3}])
def test_settings_of_text_are_refused_for_parens(tmp_path: Path, given: dict[str, Any]) -> None:
    option = "--" + next(iter(given)).replace("_", "-")
    with pytest.raises(ScrubError, match=rf"^parens3l is trained on parens that are drawn, of no text: leave {option}"):
        train(tmp_path / "run", shape="parens3l", settings=Settings(tokens=42, decay_tokens=1, **given))
    assert not (tmp_path / "run").exists()
