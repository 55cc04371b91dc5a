"""Training learns, can be interrupted without a trace, and never shows a held-out text."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from test_loss import CONFIGS, small_config
from tokenizers import Tokenizer

from scrub.data.stdlib import SourceFile
from scrub.models.model import load_model
from scrub.text.errors import ScrubError
from scrub.training import corpus as corpora
from scrub.training.corpus import BEGIN, PreparedCorpus, WindowSampler, load_corpus, train_tokenizer
from scrub.training.settings import Settings
from scrub.training.train import Trainer

TINY = Settings(
    tokens=40 * 44,
    decay_tokens=10 * 44,
    warmup_tokens=44,
    batch=4,
    evaluate_every=10 * 44,
    inspect_every=20 * 44,
    save_every=0.0,
    validation_windows=5,
    lr=0.02,
)
FAMILIES = pytest.mark.parametrize("family", ["shortformer", "gpt2"])


@pytest.fixture
def corpus() -> PreparedCorpus:
    """Files that count up: what follows is certain."""
    files = [(1 + (np.arange(60) + start) % 22).astype(np.int32) for start in range(9)]
    return PreparedCorpus(files[:4], files[4:8], files[8:])


def trainer(folder: Path, corpus: PreparedCorpus, settings: Settings = TINY, family: str = "shortformer") -> Trainer:
    folder.mkdir(exist_ok=True)
    train_tokenizer([], vocab_size=257).save(str(folder / "tokenizer.json"))
    return Trainer(folder, settings, CONFIGS[family], corpus, "cpu")


def quiet(tokens: int, value: float) -> None:
    """No progress bar."""


@FAMILIES
def test_learns_and_logs(tmp_path: Path, corpus: PreparedCorpus, monkeypatch: pytest.MonkeyPatch, family: str) -> None:
    run = trainer(tmp_path / "run", corpus, family=family)
    monkeypatch.setattr(run, "export", lambda: None)  # the tokenizer of bytes is larger than this model's vocabulary
    before = run.validation_loss()
    run.run(quiet)
    entries = [json.loads(line) for line in (tmp_path / "run" / "log.jsonl").read_text().splitlines()]
    assert entries[0]["settings"]["batch"] == 4
    assert [entry["tokens"] for entry in entries if "validation" in entry] == [440, 880, 1320, 1760]
    assert [entry["tokens"] for entry in entries if "heads" in entry] == [880, 1760]
    assert entries[-1]["heads"].keys() == {"text", "repeated", "uniform"}
    assert run.validation_loss() < before - 1


@FAMILIES
def test_resumed_run_equals_an_uninterrupted_one(tmp_path: Path, corpus: PreparedCorpus, family: str) -> None:
    whole = trainer(tmp_path / "whole", corpus, family=family)
    for _ in range(9):
        whole.step()
    first = trainer(tmp_path / "parts", corpus, family=family)
    for _ in range(5):
        first.step()
    first.save("checkpoint.safetensors")
    second = trainer(tmp_path / "parts", corpus, family=family)
    second.resume("checkpoint.safetensors")
    for _ in range(4):
        second.step()
    assert second.tokens == whole.tokens == 9 * 44
    for name, value in whole.params.items():
        assert torch.equal(value, second.params[name]), name


def test_the_trained_folder_is_a_model(tmp_path: Path, corpus: PreparedCorpus) -> None:
    folder = tmp_path / "run"
    folder.mkdir()
    config = small_config().model_copy(update={"vocab_size": 257})
    train_tokenizer([], vocab_size=257).save(str(folder / "tokenizer.json"))
    run = Trainer(folder, TINY, config, corpus, "cpu")
    run.export()
    model = load_model(folder)
    assert model.tokenizer is not None
    assert torch.equal(model.params["layers.1.wo"], run.params["layers.1.wo"])


def test_mistakes(tmp_path: Path, corpus: PreparedCorpus) -> None:
    with pytest.raises(ScrubError, match=r"'sgd'.* muon or adamw"):
        Settings(optimiser="sgd")
    with pytest.raises(ScrubError, match=r"share.* 1\.5"):
        Settings(stdlib_share=1.5)
    with pytest.raises(ScrubError, match=r"batch.* 0"):
        Settings(batch=0)
    with pytest.raises(ScrubError, match="'none'"):
        trainer(tmp_path / "run", corpus).resume("none")
    trainer(tmp_path / "run", corpus, family="gpt2").save("other.safetensors")
    with pytest.raises(ScrubError, match="checkpoint of this shape"):
        trainer(tmp_path / "run", corpus).resume("other.safetensors")


def test_windows_lie_within_files_and_are_uniform() -> None:
    files = [np.arange(10, 15, dtype=np.int32), np.arange(3, dtype=np.int32), np.arange(20, 24, dtype=np.int32)]
    drawn = WindowSampler(files, length=4).draw(np.random.default_rng(0), 3000)
    starts, counts = np.unique(drawn[:, 0], return_counts=True)
    assert (np.diff(drawn, axis=1) == 1).all()
    assert starts.tolist() == [10, 11, 20]
    assert counts.min() > 900


def test_tokenizer_is_lossless_and_deterministic() -> None:
    texts = ["def naïve(x):\n\treturn '→' + x\n" * 20, "for name in names:\n    print(name)\n" * 20]
    first, second = train_tokenizer(texts, 280), train_tokenizer(texts, 280)
    assert isinstance(first, Tokenizer)
    assert first.to_str() == second.to_str()
    assert first.get_vocab_size() == 280
    assert first.token_to_id(BEGIN) == 0
    assert first.decode(first.encode(texts[0] + "\x00é").ids) == texts[0] + "\x00é"


def test_dependencies_that_copy_held_out_text_are_dropped(monkeypatch: pytest.MonkeyPatch) -> None:
    held_out = "\n".join(f"held_out_{'x' * line} = {line}" for line in range(20))
    own = "\n".join(f"own_{'y' * line} = {line}" for line in range(20))
    monkeypatch.setattr(
        corpora, "stdlib_split", lambda: ([SourceFile("a.py", "a = 1\nb = 2")], [SourceFile("b.py", held_out)])
    )

    class Package:
        name, version = "package", "1.0"

    sources = [SourceFile("package/copy.py", held_out + "\nmore = 1"), SourceFile("package/own.py", own)]
    monkeypatch.setattr(corpora, "distributions", lambda: [Package()])
    monkeypatch.setattr(corpora, "distribution_sources", lambda _: sources)
    found = load_corpus()
    assert [file.path for file in found.dependencies] == ["package/own.py"]
    assert found.packages == {"package 1.0": len(own)}
