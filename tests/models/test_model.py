"""Loading, running, moving and saving models that are all right."""

import json
import os
import pickle
from dataclasses import FrozenInstanceError, replace
from pathlib import Path

import numpy as np
import pytest
import torch
from small import small
from wording import tells

from scrub.models import families
from scrub.models import find as finding
from scrub.models.families.attention_only import Config
from scrub.models.model import Model, load_model, make_model, save_model
from scrub.text.errors import ScrubError


def line(call, *arguments, **named) -> str:
    """The message of the ScrubError that a call raises, which is one line."""
    with pytest.raises(ScrubError) as caught:
        call(*arguments, **named)
    assert len(str(caught.value).splitlines()) == 1
    return str(caught.value)


def same(one: Model, other: Model) -> bool:
    assert one.params.keys() == other.params.keys()
    return all(
        value.dtype == other.params[name].dtype and value.equal(other.params[name])
        for name, value in one.params.items()
    )


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_a_round_trip_is_exact(model: Model, dtype: torch.dtype, tmp_path: Path) -> None:
    before = model.to(dtype)
    save_model(before, tmp_path / "new/tiny")
    after = load_model(tmp_path / "new/tiny", dtype=dtype)
    assert same(before, after)
    assert (after.config, after.graph, after.name) == (before.config, before.graph, "tiny")
    assert after.folder == tmp_path / "new/tiny"
    assert after.tokenizer is not None
    assert after.tokenizer.to_str() == before.tokenizer.to_str()
    assert sorted(path.name for path in after.folder.iterdir()) == [
        "config.json",
        "model.safetensors",
        "tokenizer.json",
    ]


def test_the_layout_on_disk(folder: Path, config: Config) -> None:
    written = json.loads((folder / "config.json").read_text())
    said = json.loads(
        config.model_dump_json(exclude={"biases", "norm", "data", "bos_before_prompts"})
    )  # which say nothing here
    assert written == {"architecture": "attention_only", **said}
    assert "[1, 1],\n" in (folder / "config.json").read_text(), "a head is on one line"


def test_fields_for_people_survive(folder: Path, tmp_path: Path) -> None:
    config = json.loads((folder / "config.json").read_text()) | {"note": "trained on a train", "scores": {"prev": 0.5}}
    (folder / "config.json").write_text(json.dumps(config))
    save_model(load_model("tiny"), tmp_path / "copy")
    assert json.loads((tmp_path / "copy/config.json").read_text()) == config


@pytest.mark.parametrize("said", [True, False])
def test_whether_prompts_begin_with_the_begin_token(folder: Path, tmp_path: Path, said: bool) -> None:
    """They do, unless config.json says no."""
    fields = json.loads((folder / "config.json").read_text())
    without = {name: value for name, value in fields.items() if name != "bos_before_prompts"}
    (folder / "config.json").write_text(json.dumps(without if said else without | {"bos_before_prompts": False}))
    loaded = load_model("tiny")
    assert loaded.config.bos_before_prompts is said
    save_model(loaded, tmp_path / "copy")
    assert load_model(tmp_path / "copy").config == loaded.config
    (folder / "config.json").write_text(json.dumps(without | {"bos_before_prompts": "no"}))
    assert "bos_before_prompts" in line(load_model, "tiny")


def test_saving_again_replaces_all_three_and_nothing_else(folder: Path, model: Model) -> None:
    (folder / "README.md").write_text("a card")
    save_model(replace(model, tokenizer=None), folder)
    assert load_model(folder).tokenizer is None
    assert (folder / "README.md").read_text() == "a card"


def test_parameters_may_be_views_tied_or_strided(model: Model, tmp_path: Path) -> None:
    strided = model.params["layers.0.wq"].mT.contiguous().mT
    tied = {"embed.weight": model.params["unembed.weight"], "layers.0.wq": strided}
    before = replace(model, params={**model.params, **tied})
    save_model(before, tmp_path / "tiny")
    assert same(load_model(tmp_path / "tiny"), before)


@pytest.mark.usefixtures("folder")
def test_stored_in_one_type_and_run_in_another(model: Model) -> None:
    loaded = load_model("tiny", dtype=torch.float64)
    assert loaded.dtype == torch.float64
    assert same(loaded, model.to(torch.float64))


def test_a_loaded_model_does_not_hang_on_its_file(folder: Path) -> None:
    loaded = load_model(folder)
    before = {name: value.clone() for name, value in loaded.params.items()}
    with (folder / "model.safetensors").open("r+b") as file:
        file.seek(-40, os.SEEK_END)
        file.write(b"\xff" * 40)
    assert all(value.equal(before[name]) for name, value in loaded.params.items())


@pytest.mark.usefixtures("folder")
def test_ones_own_model_wins_over_the_shipped_one(model: Model, tmp_path, monkeypatch) -> None:
    monkeypatch.setattr(finding, "_PACKAGE", tmp_path / "package")
    other = replace(model, params={name: value + 1 for name, value in model.params.items()})
    save_model(other, tmp_path / "package/shipped/models/tiny")
    save_model(other, tmp_path / "package/shipped/models/second")
    assert same(load_model("tiny"), model)
    assert same(load_model("second"), other)
    assert line(load_model, "secnd").endswith("did you mean second? give a path or one of second, tiny")


@pytest.mark.parametrize("spec", ["tiny", "models/tiny", "./models/tiny/", Path("models/tiny"), "../{}/models/tiny"])
@pytest.mark.usefixtures("folder")
def test_the_name_of_a_model(spec) -> None:
    assert load_model(spec.format(Path.cwd().name) if isinstance(spec, str) else spec).name == "tiny"


def test_the_name_of_the_working_directory(folder: Path, monkeypatch) -> None:
    monkeypatch.chdir(folder)
    assert load_model(".").name == "tiny"


def test_what_a_model_says_of_itself(model: Model) -> None:
    assert (model.n_ctx, model.vocab_size, model.bos_token_id) == (11, 13, 1)
    assert model.roles == {"prev": ((0, 0),), "ind": ((1, 1), (1, 2))}
    assert (
        repr(model) == "<Model tiny: 1,141 parameters, n_ctx 11, vocabulary 13, prev=0.0 ind=1.1,1.2; float32 on cpu>"
    )
    with pytest.raises(FrozenInstanceError):
        model.name = "other"  # type: ignore[misc]


def by_hand(model: Model, tokens: torch.Tensor) -> torch.Tensor:
    """The shortformer of the fixture, written out."""
    p, x = model.params, model.params["embed.weight"][tokens]
    place, later = p["pos.weight"][: tokens.shape[1]], torch.ones(tokens.shape[1], tokens.shape[1]).triu(1).bool()
    for at in ("layers.0", "layers.1"):
        into = torch.nn.functional.layer_norm(x, (7,), p[f"{at}.ln.weight"], p[f"{at}.ln.bias"], 1e-5)
        for head in range(3):
            q, k = ((into + place) @ p[f"{at}.{slot}"][head].T for slot in ("wq", "wk"))
            pattern = (q @ k.mT / 5**0.5).masked_fill(later, -torch.inf).softmax(-1)
            x = x + pattern @ into @ p[f"{at}.wv"][head].T @ p[f"{at}.wo"][head].T
    return (
        torch.nn.functional.layer_norm(x, (7,), p["final_ln.weight"], p["final_ln.bias"], 1e-5) @ p["unembed.weight"].T
    )


@pytest.mark.parametrize("positions", [1, 11])
def test_running_a_model(model: Model, positions: int) -> None:
    exact = model.to(torch.float64)
    tokens = torch.randint(13, (2, positions), generator=torch.Generator().manual_seed(0))
    logits = exact(tokens)
    assert logits.shape == (2, positions, 13)
    torch.testing.assert_close(logits, by_hand(exact, tokens), rtol=1e-9, atol=1e-9)
    torch.testing.assert_close(exact(tokens.to(torch.int32)), logits)


BAD_TOKENS = [
    (torch.zeros(2, 12, dtype=torch.long), "the sequences have 12 tokens, but tiny reads at most 11"),
    (torch.full((2, 3), 13), "a token is outside the vocabulary of tiny: its ids are 0 to 12"),
    (torch.full((2, 3), -1), "a token is outside the vocabulary of tiny: its ids are 0 to 12"),
    (torch.zeros(3, dtype=torch.long), "tokens are torch.int64 [3]: expected token ids [batch, position]"),
    (torch.zeros(2, 3), "tokens are torch.float32 [2, 3]: expected token ids [batch, position]"),
    (torch.zeros(2, 3).bool(), "tokens are torch.bool [2, 3]: expected token ids [batch, position]"),
]


@pytest.mark.parametrize(("tokens", "expected"), BAD_TOKENS)
def test_tokens_that_no_model_reads(model: Model, tokens, expected) -> None:
    assert tells(line(model, tokens), expected)


def test_moving_a_model_gives_another(model: Model) -> None:
    moved = model.to(torch.bfloat16)
    assert (model.dtype, moved.dtype, moved.device) == (torch.float32, torch.bfloat16, torch.device("cpu"))
    assert moved.to(device="cpu").dtype == torch.bfloat16


@pytest.mark.usefixtures("folder")
def test_types_and_devices_that_are_not_there(model: Model) -> None:
    expected = "models don't run in int64: take one of float32, float64, bfloat16, float16"
    assert line(model.to, torch.int64) == line(load_model, "tiny", dtype=torch.int64) == expected
    assert line(model.to, device="nowhere").startswith("the model can't be put on the device 'nowhere' (")
    assert line(load_model, "tiny", device="nowhere").endswith("): try 'cpu'")


def test_a_model_of_other_parameters_is_not_made(config: Config, model: Model) -> None:
    transposed = {**model.params, "pos.weight": model.params["pos.weight"].T}
    assert (
        line(make_model, "x", config, transposed)
        == "the parameter 'pos.weight' of x is [7, 11]: its config asks for [11, 7]"
    )
    more = {**model.params, "bias": torch.zeros(1)}
    assert line(make_model, "x", config, more) == "the parameter 'bias' of x is [1]: its config asks for nothing"
    fewer = {name: value for name, value in model.params.items() if name != "embed.weight"}
    assert (
        line(make_model, "x", config, fewer)
        == "the parameter 'embed.weight' of x is nothing: its config asks for [13, 7]"
    )


def test_what_cannot_be_saved(model: Model, tmp_path: Path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    message = line(save_model, model.to(torch.float64), "new")
    holds = "a checkpoint holds float32, bfloat16 or float16: convert the model first, with .to(torch.float32)"
    assert message == f"embed.weight is float64, but {holds}"
    assert not Path("new/config.json").exists()
    Path("file").write_text("")
    assert line(save_model, model, "file").startswith("the folder file can't be made: File exists")
    assert line(save_model, model, "file/x").startswith("the folder file/x can't be made: Not a directory")
    Path("full/model.safetensors").mkdir(parents=True)
    assert (
        line(save_model, model, "full")
        == "full/model.safetensors can't be written: it is a folder: give the path of a file"
    )
    assert [path.name for path in Path("full").iterdir()] == ["model.safetensors"]


# any family


BIGRAMS = """
from scrub.models.families import ModelConfig
from scrub.graph.node import node

NAME = "bigrams"

class Config(ModelConfig):
    width: int

def lower(config):
    table = node("param", name="table", shape=(config.vocab_size, config.width))
    return node("unembed", node("embed", node("tokens", source="x"), table, label="emb"), table, label="out")
"""


def test_a_family_is_one_file(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("families").mkdir()
    Path("families/bigrams_of_a_test.py").write_text(BIGRAMS)
    monkeypatch.setattr(families, "__path__", [*families.__path__, str(tmp_path / "families")])
    family = families.architectures()["bigrams"]
    config = family.Config(n_ctx=5, vocab_size=3, bos_token_id=0, width=2)
    made = make_model("b", config, {"table": torch.tensor([[1.0, 0.0], [0.0, 2.0], [1.0, 1.0]])})
    save_model(made, "models/b")
    loaded = load_model("b")
    assert loaded.config == config
    assert loaded(torch.tensor([[1, 2]])).tolist() == [[[0.0, 4.0, 2.0], [1.0, 2.0, 2.0]]]
    config_file = Path("models/b/config.json")
    config_file.write_text(config_file.read_text().replace('"roles": {}', '"roles": {"prev": [[0, 0]]}'))
    expected = "models/b/config.json gives the role 'prev' to head [0, 0], but the model has no attention layer"
    assert line(load_model, "b") == expected


def test_a_model_without_text_needs_no_tokenizer(folder: Path) -> None:
    (folder / "tokenizer.json").unlink()
    assert load_model("tiny").tokenizer is None


def test_parameters_that_arrive_anywhere_in_memory_begin_where_torch_lets_them() -> None:
    """Else the last bits of a product depend on how a process came by the model."""
    model, buffers = make_model("m", small().config, small().params), list[pickle.PickleBuffer]()
    content = pickle.dumps(model, protocol=5, buffer_callback=buffers.append)
    shifted = []
    for each in (buffer.raw() for buffer in buffers):
        room = bytearray(len(each) + 256)
        start = 8 + -np.frombuffer(room, np.uint8).ctypes.data % 64
        room[start : start + len(each)] = each
        shifted.append(memoryview(room)[start : start + len(each)])
    found = pickle.loads(content, buffers=shifted)
    assert all(value.data_ptr() % 64 == 0 for value in found.params.values())
    assert all(torch.equal(value, model.params[name]) for name, value in found.params.items())
