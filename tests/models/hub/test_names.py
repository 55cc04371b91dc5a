"""Names of models: pointers, hub ids, copies of repositories; the hub's answers, of which every bad one is one line."""

from __future__ import annotations

import errno
import json
from collections.abc import Callable
from pathlib import Path

import huggingface_hub.constants
import pytest
import redwood
import torch
from fake_hub import Hub
from project import byte_tokenizer, tiny_model

from scrub import ScrubError, load_model
from scrub.models.checkpoints import write_config
from scrub.models.hub import bring as bringing
from scrub.models.hub.bring import bring
from scrub.models.hub.listing import Address
from scrub.models.model import save_model
from scrub.models.place import LOCAL, find_model, holds_model, on_hub, own_config

PUBLISHED = "ArthurConmy/redwood_attn_2l"
ROLES = {"prev": ((0, 0),), "self": ((0, 1), (0, 2), (0, 5)), "ind": ((1, 5), (1, 6))}


def line(call: Callable[..., object], *arguments: object) -> str:
    """The message of the ScrubError that a call raises, which is one line."""
    with pytest.raises(ScrubError) as caught:
        call(*arguments)
    assert len(str(caught.value).splitlines()) == 1
    return str(caught.value)


def write_pointer(folder: Path, **fields: object) -> Path:
    folder.mkdir(parents=True)
    (folder / "config.json").write_text(json.dumps(fields))
    return folder


@pytest.fixture
def tiny(hub: Hub, tmp_path: Path) -> str:
    """A model of scrub's own layout, on the hub."""
    save_model(tiny_model().to(torch.float32), tmp_path / "tiny")
    hub.add("some-one/tiny.model", tmp_path / "tiny")
    return "some-one/tiny.model"


def test_a_hub_id(hub: Hub, tiny: str) -> None:
    hub.repositories[tiny]["README.md"] = b"# A card"
    loaded = load_model(tiny)
    assert loaded.name == tiny
    assert torch.equal(loaded.params["embed.weight"], tiny_model().params["embed.weight"].float())
    assert loaded.tokenizer is not None
    brought = {path.rpartition("/")[2] for path in hub.asked if "/resolve/" in path}
    assert brought == {"config.json", "model.safetensors", "tokenizer.json"}, "nothing else is brought"


def test_a_pointer_of_ones_own_has_the_last_word(tiny: str) -> None:
    write_pointer(Path("models/mine"), hub=tiny, roles={"ind": [[1, 4]]}, bos_token_id=3, data="words")
    loaded = load_model("mine")
    assert (loaded.name, loaded.roles, loaded.bos_token_id, loaded.config.data) == (
        "mine",
        {"ind": ((1, 4),)},
        3,
        "words",
    )
    assert load_model("models/mine").roles == loaded.roles == load_model(Path("models/mine").absolute()).roles
    assert load_model(tiny).roles == loaded.roles, "the repository itself has what a pointer says of it"


LENS = {"n_layers": 2, "n_heads": 7, "d_model": 11, "d_head": 3, "n_ctx": 29, "d_vocab": 37, "attn_only": True}
LENS |= {"normalization": "LN", "shortformer_pos": True, "tokenizer_name": "some-one/not-asked-for"}
BESIDE: dict[str, object] = {  # what config.json says beside Redwood's file, where there is one
    "alone": None,
    "a config that says nothing": {},
    "a config and another file of TransformerLens": LENS,
    "a config of transformers": {"model_type": "gpt2"},
}


@pytest.fixture(params=BESIDE.values(), ids=list(BESIDE))
def source(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    """A copy of the published repository."""
    folder = redwood.write_model(tmp_path / "some where")
    if request.param is not None:
        (folder / "config.json").write_text(json.dumps(request.param))
        torch.save(redwood.state(seed=9), folder / "attn_2l_final.pth")
    return folder


def test_the_published_model(hub: Hub, source: Path) -> None:
    hub.add(PUBLISHED, source)
    for spec in ("redwood_attn_2l", PUBLISHED):
        loaded = load_model(spec)
        assert (loaded.name, loaded.roles, loaded.config.data) == (spec, ROLES, "redwood_attn_2l")
        assert loaded.bos_token_id == redwood.VOCABULARY - 2
        assert loaded.tokenizer is None
        assert torch.equal(loaded.params["embed.weight"], redwood.state()["embed.W_E"])
    assert not any("not-asked-for" in path for path in hub.asked)


def test_a_copy_of_the_published_repository_anywhere(hub: Hub, source: Path) -> None:
    loaded = load_model(source)
    assert (loaded.name, loaded.roles, loaded.config.data) == ("redwood_attn_2l", ROLES, "redwood_attn_2l")
    assert own_config(source)[0] == Path("models/redwood_attn_2l/config.json"), "its own config.json isn't read"
    assert hub.asked == []


def test_what_is_kept_needs_no_network(tiny: str, hub: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    before = load_model(tiny)
    hub.repositories.clear()
    assert load_model(tiny).folder == before.folder, "gone from the hub"
    monkeypatch.setattr(huggingface_hub.constants, "ENDPOINT", "http://127.0.0.1:9")
    assert load_model(tiny).folder == before.folder, "no hub at all"
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    assert load_model(tiny).folder == before.folder, "told not to ask"
    said = line(bring, Address(tiny), lambda names: [each for each in names if each == "other.pt"], LOCAL)
    assert said == f"{tiny} in the hub's cache has no files that scrub can read: {LOCAL}"
    assert (
        line(load_model, "a/b") == f"a/b is no path here and not in the hub's cache, and HF_HUB_OFFLINE is set: {LOCAL}"
    )


def test_a_tokenizer_from_another_repository(hub: Hub, tiny: str, tmp_path: Path) -> None:
    """By the pointer's field, or by the name that TransformerLens's configs have; it says what begins a sequence."""
    tokenizer = hub.repositories[tiny].pop("tokenizer.json")
    begins = json.dumps({"bos_token": "<|begin|>"}).encode()
    hub.repositories["some-one/words"] = {"tokenizer.json": tokenizer, "tokenizer_config.json": begins}
    assert load_model(tiny).tokenizer is None
    write_pointer(Path("models/mine"), hub=tiny, tokenizer="some-one/words")
    found = load_model("mine").tokenizer
    assert found is not None
    assert found.get_vocab() == byte_tokenizer().get_vocab()
    weights = redwood.state()
    fields = {"n_layers": 2, "n_heads": 7, "d_model": 11, "d_head": 3, "n_ctx": 29, "d_vocab": 37, "attn_only": True}
    fields |= {"normalization": "LN", "tokenizer_name": "some-one/words"}
    torch.save(weights, tmp_path / "model_final.pth")
    hub.repositories["some-one/lens"] = {
        "config.json": json.dumps(fields).encode(),
        "model_final.pth": (tmp_path / "model_final.pth").read_bytes(),
    }
    loaded = load_model("some-one/lens")
    assert loaded.tokenizer is not None
    assert loaded.bos_token_id == 0
    del hub.repositories["some-one/words"]["tokenizer.json"]
    assert "some-one/words on the hub has no files that scrub can read" in line(load_model, "models/mine")
    byte_tokenizer().model.save(str(tmp_path))
    theirs = {name: (tmp_path / name).read_bytes() for name in ("vocab.json", "merges.txt")}
    hub.repositories["some-one/pairs"] = theirs
    write_pointer(Path("models/pairs"), hub=tiny, tokenizer="some-one/pairs")
    found = load_model("pairs").tokenizer
    assert found is not None
    assert found.get_vocab() == byte_tokenizer().get_vocab()
    write_pointer(Path("models/other"), hub=tiny, tokenizer="some-one/no-words")
    assert line(load_model, "other").startswith("there is no model 'some-one/no-words': no such path here, and no such")


BAD = {
    "nowhere": (
        {"hub": "nobody/nothing"},
        f"'nobody/nothing'.* hub.*{LOCAL}",
    ),
    "itself": ({"hub": "mine"}, r"models/mine/config.json .*'mine'.* 'hub' .*OWNER/NAME"),
    "itself by path": (
        {"hub": "models/mine"},
        "config.json .*'models/mine'.* 'hub' .*OWNER/NAME",
    ),
    "no name": ({"hub": 3}, "config.json .* 3.* 'hub' .*OWNER/NAME"),
    "many lines": ({"hub": "a\nb/" * 99}, r"'a\\nb/a\\nb.* 'hub' "),
    "no tokenizer": (
        {"hub": "some-one/tiny.model", "tokenizer": "words"},
        "mine .*'words'",
    ),
    "roles of no layer": ({"hub": "some-one/tiny.model", "roles": {"ind": [[9, 0]]}}, r"'ind' .*\[9, 0\]"),
    "roles of no kind": ({"hub": "some-one/tiny.model", "roles": 3}, "'?roles'? is 3"),
    "a begin token of no kind": ({"hub": "some-one/tiny.model", "bos_token_id": "x"}, "bos_token_id"),
    "a repository without a model": (
        {"hub": "some-one/text"},
        f"some-one/text .*{LOCAL}",
    ),
}


@pytest.mark.usefixtures("tiny")
@pytest.mark.parametrize(("fields", "message"), BAD.values(), ids=list(BAD))
def test_a_pointer_that_is_wrong(hub: Hub, fields: dict[str, object], message: str) -> None:
    hub.repositories["some-one/text"] = {"README.md": b"words"}
    write_pointer(Path("models/mine"), **fields)
    with pytest.raises(ScrubError, match=message) as caught:
        load_model("mine")
    assert len(str(caught.value).splitlines()) == 1


def test_a_config_that_is_no_json_is_told_as_such() -> None:
    Path("models/mine").mkdir(parents=True)
    for text in ('{"hub": ', "[" * 10_000, "\xff"):
        Path("models/mine/config.json").write_text(text, encoding="latin-1")
        assert line(load_model, "mine").startswith("models/mine/config.json is no JSON: ")


def test_answers_of_the_hub_that_say_no(hub: Hub, tiny: str, monkeypatch: pytest.MonkeyPatch) -> None:
    hub.gated.add(tiny)
    asks = f"{tiny} on the hub asks for a licence first: accept it there and log in, or {LOCAL}"
    assert line(load_model, tiny) == asks
    hub.gated.clear()
    there_is_none = f"there is no model 'a/b': no such path here, and no such repository on the hub: {LOCAL}"
    assert line(load_model, "a/b") == there_is_none
    monkeypatch.setattr(huggingface_hub.constants, "ENDPOINT", "http://127.0.0.1:9")
    said = line(load_model, tiny)
    assert said.startswith(f"{tiny} is no path here and not in the hub's cache, and the hub can't be reached (")
    assert said.endswith(f"): {LOCAL}")


def raising(error: Exception) -> Callable[..., str]:
    def fail(*_: object, **__: object) -> str:
        raise error

    return fail


def test_no_space_and_no_rights(tiny: str, monkeypatch: pytest.MonkeyPatch) -> None:
    full = OSError(errno.ENOSPC, "No space left on device")
    monkeypatch.setattr(bringing, "download", raising(full))
    assert line(load_model, tiny).startswith(
        f"there is no space for {tiny} in the hub's cache: free some, or set HF_HOME"
    )
    locked = PermissionError(errno.EACCES, "Permission denied", "/cache/models")
    monkeypatch.setattr(bringing, "download", raising(locked))
    assert line(load_model, tiny).startswith("/cache/models can't be written: set HF_HOME to another folder")


def test_a_file_that_is_not_the_announced_one(hub: Hub, tiny: str) -> None:
    hub.repositories[tiny]["model.safetensors"] = b"<!doctype html><title>Sign in</title>"
    assert "model.safetensors is a web page" in line(load_model, tiny)


@pytest.mark.parametrize("spec", ["models/nope", "./a/b", "a/b/c", "../b", "/a/b", "a//b", "a/ b", "nope", "-/--/"])
def test_a_path_or_a_name_is_never_asked_of_the_hub(hub: Hub, spec: str) -> None:
    assert line(load_model, spec).startswith(f"there is no model {spec!r}: ")
    assert hub.asked == []


def test_shipped_pointers() -> None:
    """What they say is as the design has it; each has a card that names its repository."""
    from scrub.models.find import shipped

    theirs = shipped("models")
    assert theirs is not None
    repositories = {
        "gpt2": "openai-community/gpt2",
        "redwood_attn_2l": PUBLISHED,
        "attn-only-2l": "NeelNanda/Attn_Only_2L512W_C4_Code",
    }
    for name, hub_id in repositories.items():
        fields = json.loads((theirs / name / "config.json").read_text())
        assert fields["hub"] == hub_id
        assert hub_id in (theirs / name / "README.md").read_text()


def test_where_more_is_said_of_a_model(tiny: str, tmp_path: Path) -> None:
    """The config.json that `scrub roles --write` changes: the model's own, or a pointer in the user's project."""
    path, fields = own_config(tiny)
    assert (path, fields) == (Path("models/tiny.model/config.json"), {"hub": tiny})
    path, fields = own_config("gpt2")
    assert path == Path("models/gpt2/config.json")
    assert fields["hub"] == "openai-community/gpt2"
    assert fields["roles"]
    assert own_config("openai-community/gpt2") == (path, fields)
    write_pointer(Path("models/tiny.model"), hub=tiny, data="words")
    assert (
        own_config(tiny)
        == own_config("tiny.model")
        == (path.parents[1] / "tiny.model/config.json", {"hub": tiny, "data": "words"})
    )
    save_model(tiny_model().to(torch.float32), Path("models/gpt2"))
    assert own_config("gpt2")[1]["architecture"] == "attention_only", "one's own model of that name"
    assert line(own_config, "openai-community/gpt2") == (
        "models/gpt2 is another model than openai-community/gpt2, of which more is to be said there: rename it"
    )
    copy = redwood.write_model(tmp_path / "copy")
    path, fields = own_config(copy)
    assert path == Path("models/redwood_attn_2l/config.json")
    write_pointer(path.parent, **{**fields, "roles": {"ind": [[1, 0]]}})
    assert load_model(copy).roles == {"ind": ((1, 0),)}
    assert "there is no model 'nope'" in line(own_config, "nope")


def test_what_a_repository_holds(hub: Hub, tiny: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert on_hub(tiny) == on_hub("nobody/nothing") == "model"
    hub.gated.add(tiny)
    assert on_hub(tiny) == "model"
    assert holds_model(redwood.write_model(tmp_path / "copy"))
    (tmp_path / "broken").mkdir()
    (tmp_path / "broken" / "config.json").symlink_to("nowhere")
    assert holds_model(tmp_path / "broken"), "so that what is wrong with it is told"
    assert not holds_model(redwood.write_data(tmp_path / "rows", *redwood.tokens_and_mask()))
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    assert on_hub(tiny) == "model"
    assert find_model(tmp_path / "copy").name == "redwood_attn_2l"


def test_nothing_of_a_config_is_lost(tmp_path: Path) -> None:
    """What `scrub roles --write` does to one: as large as they may be, with texts that look like lists."""
    path = tmp_path / "m" / "config.json"
    fields = {
        "architecture": "attention_only",
        "note": "as in [ 1, 2 ]",
        "long": "x" * 2**21,
        "list": [[0, -1], [1e-05]],
    }
    path.parent.mkdir()
    write_config(path, fields)
    assert own_config(path.parent) == (path, fields)
    assert '"list": [\n    [0, -1],\n    [1e-05]\n  ]' in path.read_text()
    path.write_text("{")
    assert line(own_config, path.parent).startswith(f"{path} is no JSON")
