"""`scrub fetch`: what it brings, checks and says; and that nothing more is needed afterwards."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
import redwood
import torch
from fake_hub import Hub
from huggingface_hub import constants
from huggingface_hub.utils import enable_progress_bars
from project import tiny_model
from redwood import POSITIONS, ROWS

from scrub import prepare
from scrub.cli import _status
from scrub.data import opening
from scrub.models.model import save_model

PUBLISHED = "ArthurConmy/redwood_attn_2l"
Fetch = Callable[[str], tuple[int, str, str]]


@pytest.fixture
def fetch(capsys: pytest.CaptureFixture[str]) -> Fetch:
    """Runs the command; gives its status and what it said."""

    def run(words: str) -> tuple[int, str, str]:
        status = _status(["fetch", *words.split()])
        return (status, *capsys.readouterr())

    return run


@pytest.fixture
def published(hub: Hub, tmp_path: Path) -> Hub:
    folder = redwood.write_model(tmp_path / "published")
    redwood.write_data(folder, *redwood.tokens_and_mask())
    (folder / "good_induction_candidates.pt").write_bytes(b"of no use here")
    hub.add(PUBLISHED, folder)
    return hub


@pytest.fixture(autouse=True)
def _bars(monkeypatch: pytest.MonkeyPatch) -> None:
    """The progress bars that other libraries turn on: none is to be in a file of errors."""
    monkeypatch.setattr(constants, "HF_HUB_DISABLE_PROGRESS_BARS", None)
    enable_progress_bars()


@pytest.mark.parametrize("name", ["redwood_attn_2l", PUBLISHED])
def test_the_published_experiment_without_a_network(
    published: Hub, fetch: Fetch, name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    status, out, err = fetch(name)
    assert (status, err) == (0, "")
    lines = out.splitlines()
    assert lines[0].startswith(f"model {name}: <Model {name}: 3,047 parameters, n_ctx 29, vocabulary 37, prev=0.0")
    scored = int(redwood.tokens_and_mask()[1][:, :-1].sum())
    assert lines[2] == (
        f"data redwood_attn_2l: validation_data.pt holds {ROWS} sequences of {POSITIONS + 1} tokens, "
        f"ids up to 35; {scored} positions by mask_repeat_candidates.pkl"
    )
    folder = tmp_path / "cache" / f"models--{PUBLISHED.replace('/', '--')}" / "snapshots"
    assert str(folder) in lines[1]
    assert str(folder) in lines[3]
    assert lines[1].endswith(" MB)")
    assert f"have a copy of {tmp_path}/cache there" in lines[4]
    assert "HF_HUB_OFFLINE=1" in lines[4]
    assert len(lines) == 5
    assert not any("good_induction" in path for path in published.asked), "what is not needed is not brought"
    published.repositories.clear()
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    ready = prepare("induction/naive", name)
    assert (ready.examples.name, ready.examples.context, len(ready.examples)) == ("redwood_attn_2l", POSITIONS, ROWS)


def test_data_alone(published: Hub, fetch: Fetch) -> None:
    status, out, _ = fetch("data/redwood_attn_2l")
    assert status == 0
    assert out.startswith(f"data data/redwood_attn_2l: validation_data.pt holds {ROWS} sequences")
    assert not any("et_model_state_dict" in path for path in published.asked if "/resolve/" in path)


def test_what_is_here_already(hub: Hub, fetch: Fetch, tmp_path: Path) -> None:
    copy = redwood.write_model(tmp_path / "copy")
    redwood.write_data(copy, *redwood.tokens_and_mask())
    status, out, err = fetch(f"{copy} stdlib attn2l")
    assert (status, err) == (0, "")
    assert f"model {copy}: <Model redwood_attn_2l" in out
    assert f"data redwood_attn_2l: validation_data.pt holds {ROWS}" in out, "those beside its weights"
    assert "data stdlib: the source of the standard library" in out
    assert "model attn2l: <Model attn2l: 2,699,776 parameters" in out
    assert hub.asked == []


def test_a_data_set(hub: Hub, fetch: Fetch, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_DATASETS_CACHE", str(tmp_path / "datasets"))
    rows = "".join(json.dumps({"text": f"row {number}"}) + "\n" for number in range(3)).encode()
    hub.datasets["some-one/rows"] = {"train.jsonl": rows, "README.md": b"---\nlicense: mit\n---\n# Rows"}
    status, out, err = fetch("some-one/rows")
    assert (status, err) == (0, "")
    assert out.startswith("data some-one/rows: the first row is text, 'row 0'")
    assert str(tmp_path / "cache/datasets--some-one--rows") in out
    monkeypatch.setattr(opening, "MAX_BYTES", 10)
    status, out, err = fetch("some-one/rows")
    assert (status, out, err.count("\n")) == (2, "", 1)
    assert "bring a part of it with 'hf download --repo-type dataset --include'" in err


def test_mistakes_are_one_line(published: Hub, fetch: Fetch, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    published.gated.add("some-one/gated")
    published.repositories["some-one/gated"] = {}
    published.repositories["some-one/text"] = {"README.md": b"words"}
    save_model(tiny_model().to(torch.float32), tmp_path / "broken")
    (tmp_path / "broken" / "model.safetensors").write_bytes(b"<html>")
    published.add("some-one/broken", tmp_path / "broken")
    published.repositories["some-one/rows"] = {"validation_data.pt": b"", "et_model_state_dict.pt": b""}
    cases = {
        "nothing": "there is no model and no data 'nothing': give a path, OWNER/NAME on the hub, or one of",
        "models/nothing": "there is no model 'models/nothing'",
        "data/nothing": "there are no data 'data/nothing'",
        "some-one/nothing": "there is no model 'some-one/nothing': no such path here, and no such repository on the",
        "some-one/gated": "some-one/gated on the hub asks for a licence first",
        "some-one/text": "some-one/text on the hub has no files that scrub can read",
        "some-one/broken": "model.safetensors is a web page",
        "some-one/rows": "et_model_state_dict.pt",
        "nobody/nothing:config": "there are no data .nobody/nothing.: no such path here".replace(".", chr(39)),
    }
    for name, message in cases.items():
        status, out, err = fetch(name)
        assert (status, out, err.count("\n")) == (2, "", 1), name
        assert message in err
    assert fetch("")[0] == 2
    del published.repositories[PUBLISHED]["mask_repeat_candidates.pkl"]
    published.repositories[PUBLISHED]["validation_data.pt"] = b"not what was announced"
    status, out, err = fetch("redwood_attn_2l")
    assert (status, err.count("\n")) == (2, 1)
    assert "validation_data.pt can't be read as a tensor of torch.save" in err
    assert out.startswith("model redwood_attn_2l: "), "what is right is told"
    monkeypatch.setattr(constants, "ENDPOINT", "http://127.0.0.1:9")
    status, out, err = fetch("gpt2")
    assert (status, out, err.count("\n")) == (2, "", 1)
    assert "openai-community/gpt2 is no path here and not in the hub's cache, and the hub can't be reached" in err
    assert "give --model the path of a local folder" in err
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    assert "HF_HUB_OFFLINE is set" in fetch("gpt2")[2]
