"""Files that are wrong, damaged or hostile: one exact line each."""

import json
import pickle
import struct
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from tokenizers import Tokenizer, models
from torch import Tensor
from wording import tells

from scrub.models.checkpoints.layouts import layouts
from scrub.models.checkpoints.tokenizer import MOST_PADDING_ROWS, read_tokenizer
from scrub.models.families import architectures
from scrub.models.model import load_model
from scrub.text.errors import ScrubError

WEIGHTS, CONFIG, TOKENIZER = (f"models/tiny/{name}" for name in ("model.safetensors", "config.json", "tokenizer.json"))
KNOWN = f"{', '.join(sorted(architectures()))}, and the layouts {', '.join(sorted(each.NAME for each in layouts()))}"
OTHERS = "the two files belong to different models"
ASKS = f"which config.json beside it asks for: {OTHERS}"
NO_PLACE = f"which config.json beside it has no place for: {OTHERS}"
TYPES = "expected float64, float32, bfloat16 or float16, so convert it first"


def refusal() -> str:
    """The line with which ./models/tiny is refused."""
    with pytest.raises(ScrubError) as caught:
        load_model("tiny")
    assert len(str(caught.value).splitlines()) == 1
    return str(caught.value)


# tensors


def without(*names: str) -> Callable[[dict[str, Tensor]], dict[str, Tensor]]:
    return lambda tensors: {name: value for name, value in tensors.items() if name not in names}


def changed(name: str, change: Callable[[Tensor], Tensor]) -> Callable[[dict[str, Tensor]], dict[str, Tensor]]:
    return lambda tensors: {**tensors, name: change(tensors[name]).contiguous()}


def poisoned(value: float) -> Callable[[Tensor], Tensor]:
    def poison(tensor: Tensor) -> Tensor:
        tensor = tensor.clone()
        tensor.view(-1)[3] = value
        return tensor

    return poison


DIVERGED = "values that are NaN or infinite: training diverged, or the file is damaged; take another checkpoint"
BELONGS = f"{OTHERS}, or an axis is transposed"
BAD_TENSORS = [
    (without("embed.weight"), f" misses embed.weight, {ASKS}"),
    (without("embed.weight", "layers.0.wq"), f" misses embed.weight, layers.0.wq, {ASKS}"),
    (lambda _: {}, f" misses embed.weight, layers.0.ln.weight, layers.0.ln.bias and 14 more, {ASKS}"),
    (
        lambda t: t | {"layers.2.wq": torch.zeros(1)},
        f" holds 'layers.2.wq', {NO_PLACE}",
    ),
    (lambda t: t | {"a\nb": torch.zeros(0)}, rf" holds 'a\nb', {NO_PLACE}"),
    (
        changed("layers.1.wo", lambda t: t.mT),
        f": layers.1.wo is [3, 5, 7], but config.json beside it asks for [3, 7, 5]: {BELONGS}",
    ),
    (
        changed("pos.weight", lambda t: t[:0]),
        f": pos.weight is [0, 7], but config.json beside it asks for [11, 7]: {BELONGS}",
    ),
    (
        changed("final_ln.bias", lambda t: t[None]),
        f": final_ln.bias is [1, 7], but config.json beside it asks for [7]: {BELONGS}",
    ),
    (changed("embed.weight", lambda t: t.long()), f": embed.weight is stored as I64: {TYPES}"),
    (changed("embed.weight", lambda t: t.to(torch.float8_e4m3fn)), f": embed.weight is stored as F8_E4M3: {TYPES}"),
    (changed("layers.0.wk", poisoned(torch.nan)), f": layers.0.wk holds 1 of 105 {DIVERGED}"),
    (changed("layers.0.wk", poisoned(torch.inf)), f": layers.0.wk holds 1 of 105 {DIVERGED}"),
    (changed("embed.weight", lambda t: t.bfloat16() / 0), f": embed.weight holds 91 of 91 {DIVERGED}"),
]


@pytest.mark.parametrize(("change", "expected"), BAD_TENSORS)
def test_tensors_that_do_not_fit(folder: Path, change, expected: str) -> None:
    save_file(change(load_file(folder / "model.safetensors")), folder / "model.safetensors")
    assert tells(refusal(), WEIGHTS + expected)


def test_values_that_the_type_cannot_hold(folder: Path) -> None:
    tensors = load_file(folder / "model.safetensors")
    save_file(tensors | {"pos.weight": torch.full((11, 7), 1e30)}, folder / "model.safetensors")
    load_model(folder)
    with pytest.raises(ScrubError) as caught:
        load_model(folder, dtype=torch.float16)
    assert str(caught.value) == f"{WEIGHTS}: pos.weight has values that float16 can't hold: load it as float32"


def with_header(header: object, data: bytes = b"") -> bytes:
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return struct.pack("<Q", len(text)) + text + data


class Bomb:
    """A pickle that leaves a file behind if anybody opens it."""

    def __reduce__(self) -> tuple[Callable[..., object], tuple[object, ...]]:
        return Path.touch, (Path("exploded"),)


def torch_file(**options: bool) -> bytes:
    torch.save(Bomb(), "bomb", **options)
    content = Path("bomb").read_bytes()
    Path("bomb").unlink()
    return content


ONLY = "expected a safetensors file, as its name says, since reading one runs no code"
OVERLAP = {name: {"dtype": "F32", "shape": [2], "data_offsets": at} for name, at in [("a", [0, 8]), ("b", [4, 12])]}
DAMAGED = [
    (lambda _: b"", "header too small"),
    (lambda good: good[:7], "header too small"),
    (lambda good: good[:50], "invalid header length"),
    (lambda good: good[:-1], "incomplete metadata, file not fully covered"),
    (lambda good: good + b"\0", "incomplete metadata, file not fully covered"),
    (lambda good: struct.pack("<Q", 2**64 - 1) + good[8:], "header too large"),
    (lambda good: struct.pack("<Q", 10**8) + good[8:], "invalid header length"),
    (lambda _: with_header(OVERLAP, bytes(12)), "invalid offset for tensor `b`"),
    (
        lambda _: with_header({"a": {"dtype": "F32", "shape": [2**62, 2**62], "data_offsets": [0, 4]}}, bytes(4)),
        "overflow computing buffer size from shape and/or element type",
    ),
    (
        lambda _: with_header({"a": {"dtype": "F32", "shape": [9], "data_offsets": [0, 4]}}, bytes(4)),
        "invalid shape, data type, or offset for tensor",
    ),
]


@pytest.mark.parametrize(("damage", "reason"), DAMAGED)
def test_a_damaged_file(folder: Path, damage: Callable[[bytes], bytes], reason: str) -> None:
    weights = folder / "model.safetensors"
    weights.write_bytes(damage(weights.read_bytes()))
    damaged = f"{WEIGHTS} is no intact safetensors file ({reason}): it is damaged or truncated; take another copy"
    assert tells(refusal(), damaged)


def test_a_json_bomb_in_the_header(folder: Path) -> None:
    for text in (b"[" * 1_000_000, b'{"a":' * 1_000_000, b'{"__metadata__":' + b"[" * 1_000_000):
        (folder / "model.safetensors").write_bytes(with_header(text))
        assert tells(refusal(), f"{WEIGHTS} is no intact safetensors file (invalid JSON in header: ")


DISGUISED = [
    (lambda: pickle.dumps(Bomb()), "a pickle"),
    (lambda: pickle.dumps(Bomb(), protocol=2), "a pickle"),
    (torch_file, "a zip archive, such as a pickle of torch.save"),
    (lambda: torch_file(_use_new_zipfile_serialization=False), "a pickle"),
    (lambda: b"<!DOCTYPE html><html>404", "a web page"),
    (
        lambda: b"version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 12\n",
        "a Git LFS pointer without its content, which 'git lfs pull' brings",
    ),
]


@pytest.mark.parametrize(("content", "what"), DISGUISED)
def test_something_else_in_disguise(folder: Path, content: Callable[[], bytes], what: str) -> None:
    (folder / "model.safetensors").write_bytes(content())
    assert refusal() == f"{WEIGHTS} is {what}: {ONLY}"
    assert not Path("exploded").exists(), "nothing is unpickled"


@pytest.mark.usefixtures("folder")
def test_the_bomb_would_have_been_seen() -> None:
    pickle.loads(pickle.dumps(Bomb()))
    assert Path("exploded").exists()


# files that are not there


HOW = "a model is a folder with config.json, model.safetensors and, if it reads text, tokenizer.json"


@pytest.mark.parametrize("name", ["config.json", "model.safetensors", "tokenizer.json"])
def test_a_folder_or_a_dead_link_in_place_of_a_file(folder: Path, name: str) -> None:
    (folder / name).unlink()
    (folder / name).symlink_to("gone")
    assert refusal() == f"models/tiny/{name} is not there: {HOW}"
    (folder / name).unlink()
    (folder / name).mkdir()
    assert refusal() == f"models/tiny/{name} is a folder: {HOW}"
    (folder / name).rmdir()
    (folder / name).symlink_to("/dev/null")
    assert refusal() == f"models/tiny/{name} is no file: {HOW}"


@pytest.mark.parametrize("name", ["config.json", "model.safetensors"])
def test_a_missing_file(folder: Path, name: str) -> None:
    (folder / name).unlink()
    assert refusal() == f"models/tiny/{name} is not there: {HOW}"


@pytest.mark.usefixtures("folder")
def test_a_file_in_place_of_the_folder() -> None:
    Path("models/flat").write_text("{}")
    with pytest.raises(ScrubError) as caught:
        load_model("flat")
    expected = "models/flat is no folder: a model is a folder with config.json and its weights, "
    expected += "a .gguf file, or a .bin of llama2.c"
    assert str(caught.value) == expected


@pytest.mark.parametrize("name", ["config.json", "model.safetensors", "tokenizer.json"])
@pytest.mark.parametrize("call", ["stat", "open"])
@pytest.mark.usefixtures("folder")
def test_a_file_that_may_not_be_read(name: str, call: str, monkeypatch) -> None:
    def fail(*_: object, **__: object) -> None:
        raise PermissionError(13, "Permission denied")

    if name == "model.safetensors" and call == "open":
        monkeypatch.setattr("scrub.models.checkpoints.stored.safe_open", fail)
    true = getattr(Path, call)
    monkeypatch.setattr(Path, call, lambda path, *a, **k: fail() if path.name == name else true(path, *a, **k))
    assert refusal() == f"models/tiny/{name} can't be read: Permission denied: check that you may read it"


def test_a_path_with_a_line_break(folder: Path) -> None:
    folder.rename("models/ti\nny")
    Path("models/ti\nny/config.json").unlink()
    with pytest.raises(ScrubError) as caught:
        load_model("models/ti\nny")
    assert str(caught.value) == rf"models/ti\nny/config.json is not there: {HOW}"


# config.json


NO_CONFIG = " is no config of a model of the family attention_only: "
BAD_FIELDS = [
    ({"d_head": None}, "'d_head' is None: Input should be a valid integer"),
    ({"d_head": "5"}, "'d_head' is '5': Input should be a valid integer"),
    ({"d_head": 5.0}, "'d_head' is 5.0: Input should be a valid integer"),
    ({"d_head": True}, "'d_head' is True: Input should be a valid integer"),
    ({"d_head": 0}, "'d_head' is 0: Input should be greater than or equal to 1"),
    ({"n_layers": 10**9}, "'n_layers' is 1000000000: Input should be less than or equal to 4096"),
    ({"layer_norm_eps": -1e-5}, "'layer_norm_eps' is -1e-05: Input should be greater than 0"),
    ({"positions": "rotary"}, "'positions' is 'rotary': Input should be 'shortformer' or 'standard'"),
    ({"bos_token_id": "0"}, "'bos_token_id' is '0': Input should be a valid integer"),
    ({"roles": [[0, 0]]}, "'roles' is [[0, 0]]: Input should be an object"),
    ({"roles": {"prev": [0, 0]}}, "'roles.prev.0' is 0: Input should be a valid array (and 1 more)"),
    ({"roles": {"prev": [[0]]}}, "the field 'roles.prev.0.1' is missing"),
    ({"roles": {"prev": [[0, 0.5]]}}, "'roles.prev.0.1' is 0.5: Input should be a valid integer"),
    ({"roles": {"a": [[0, 0]], "b": [[0, 0]]}}, "roles give head [0, 0] both 'a' and 'b': a head has one role"),
    ({"roles": {"a": [[0, 0], [0, 0]]}}, "roles give head [0, 0] 'a' twice: a head has one role"),
    ({"roles": {"rest": [[0, 0]]}}, "'rest' can't be the name of a role: use letters, digits, _ and -, and not 'rest'"),
    (
        {"roles": {"a/\n": [[0, 0]]}},
        r"'a/\n' can't be the name of a role: use letters, digits, _ and -, and not 'rest'",
    ),
    ({"n_ctx": "\n" * 999}, "'n_ctx' is '" + r"\n" * 49 + r"\...: Input should be a valid integer"),
]


@pytest.mark.parametrize(("fields", "expected"), BAD_FIELDS)
def test_fields_that_are_wrong(folder: Path, fields: dict[str, object], expected: str) -> None:
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | fields))
    assert tells(refusal(), CONFIG + NO_CONFIG + expected)


def test_fields_that_are_missing(folder: Path) -> None:
    config = json.loads((folder / "config.json").read_text())
    del config["d_head"]
    (folder / "config.json").write_text(json.dumps(config))
    assert tells(refusal(), f"{CONFIG}{NO_CONFIG}the field 'd_head' is missing")
    (folder / "config.json").write_text('{"architecture": "attention_only"}')
    assert tells(refusal(), f"{CONFIG}{NO_CONFIG}the field 'n_ctx' is missing (and 8 more)")
    del config["architecture"]
    (folder / "config.json").write_text(json.dumps(config))
    assert tells(refusal(), f"{CONFIG} has no field 'architecture': scrub knows {KNOWN}")


BAD_ROLES = [
    ([2, 0], "[2, 0], but the model has no layer 2: its layers are 0 to 1"),
    ([0, 3], "[0, 3], but layer 0 has no head 3: its heads are 0 to 2"),
    ([-1, 0], "[-1, 0], but the model has no layer -1: its layers are 0 to 1"),
    ([1, -1], "[1, -1], but layer 1 has no head -1: its heads are 0 to 2"),
]


@pytest.mark.parametrize(("head", "expected"), BAD_ROLES)
def test_roles_of_heads_that_are_not_there(folder: Path, head: list[int], expected: str) -> None:
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | {"roles": {"prev": [head]}}))
    assert tells(refusal(), f"{CONFIG} gives the role 'prev' to head {expected}")


BAD_CONFIGS = [
    (b"", " is no JSON: Expecting value: line 1 column 1 (char 0){}"),
    (
        b"{'a': 1}",
        " is no JSON: Expecting property name enclosed in double quotes: line 1 column 2 (char 1){}",
    ),
    (b"\xff\xfe", " is no JSON: byte 0 isn't UTF-8; take another copy"),
    (b"[1]", " is no config: expected a JSON object with fields, found a list"),
    (b"null", " is no config: expected a JSON object with fields, found null"),
    (b"NaN", " is no JSON: NaN is no number{}"),
    (b'{"n_ctx": 1, "n_ctx": 2}', " is no JSON: the field 'n_ctx' is there twice{}"),
    (b'{"architecture": "gpt\\n5"}', rf" is of the unknown architecture 'gpt\n5': scrub knows {KNOWN}"),
    (
        b'{"architecture": ["attention_only"]}',
        f" is of the unknown architecture ['attention_only']: scrub knows {KNOWN}",
    ),
]


@pytest.mark.parametrize(("content", "expected"), BAD_CONFIGS)
def test_configs_that_are_none(folder: Path, content: bytes, expected: str) -> None:
    (folder / "config.json").write_bytes(content)
    assert tells(refusal(), CONFIG + expected.replace("{}", "; repair or replace it"))


@pytest.mark.parametrize("name", ["config.json", "tokenizer.json"])
def test_a_json_bomb(folder: Path, name: str) -> None:
    (folder / name).write_bytes(b"[" * 1_000_000)
    assert tells(refusal(), f"models/tiny/{name} is no JSON: ")


@pytest.mark.parametrize("name", ["config.json", "tokenizer.json"])
def test_a_json_file_of_a_monstrous_size(folder: Path, name: str) -> None:
    with (folder / name).open("wb") as file:
        file.truncate(2**40)  # sparse
    assert refusal() == f"models/tiny/{name} has over 64 MiB, so it is something else: replace it"


def test_a_config_with_a_byte_order_mark_is_fine(folder: Path) -> None:
    (folder / "config.json").write_bytes(b"\xef\xbb\xbf" + (folder / "config.json").read_bytes())
    load_model("tiny")


# tokenizer.json


def test_a_tokenizer_of_another_size(folder: Path) -> None:
    tokenizer = json.loads((folder / "tokenizer.json").read_text())
    says, take = "config.json beside it says vocab_size 13", "take the tokenizer that the model was trained with"
    for vocab, has in [
        ({"a": 0} | {f"t{i}": i for i in range(1, 6)}, "6 tokens"),
        ({f"t{i}": i for i in range(14)} | {"a": 0}, "14 tokens"),
        ({f"t{i}": i for i in range(12)} | {"a": 0, "z": 13}, "13 tokens with ids up to 13"),
        ({f"t{i}": i for i in range(13) if i != 5} | {"a": 0}, "12 tokens with ids up to 12"),
    ]:
        tokenizer["model"]["vocab"] = vocab
        (folder / "tokenizer.json").write_text(json.dumps(tokenizer))
        assert tells(refusal(), f"{TOKENIZER} has {has}, but {says}: {take}")


def test_a_vocabulary_may_be_padded_at_the_end(folder: Path) -> None:
    tokenizer = json.loads((folder / "tokenizer.json").read_text())
    tokenizer["model"]["vocab"] = {"a": 0} | {f"t{i}": i for i in range(1, 7)}
    (folder / "tokenizer.json").write_text(json.dumps(tokenizer))
    loaded = load_model("tiny")
    assert (loaded.vocab_size, loaded.tokenizer.get_vocab_size()) == (13, 7)


def test_a_much_smaller_tokenizer_is_another_models(tmp_path: Path) -> None:
    path = tmp_path / "tokenizer.json"
    for size in (4096 - 1023, 4096 - 1024):
        path.write_text(Tokenizer(models.WordLevel({f"t{i}": i for i in range(size)}, unk_token="t0")).to_str())
        if size > 4096 - MOST_PADDING_ROWS:
            assert read_tokenizer(path, 4096).get_vocab_size() == size
        else:
            with pytest.raises(ScrubError, match=f" {size} tokens.* config.json .*vocab_size 4096"):
                read_tokenizer(path, 4096)


@pytest.mark.parametrize("content", ["{}", "[]", '{"version": "1.0", "model": {"type": "None"}}'])
def test_a_broken_tokenizer(folder: Path, content: str) -> None:
    (folder / "tokenizer.json").write_text(content)
    line = refusal()
    assert line.startswith(f"{TOKENIZER} is no tokenizer: ")
    assert line.endswith(": expected a file as the Hugging Face tokenizers library saves it")


def test_a_tokenizer_that_is_no_json(folder: Path) -> None:
    (folder / "tokenizer.json").write_text("[1, 2")
    assert tells(refusal(), f"{TOKENIZER} is no JSON: Expecting ',' delimiter: line 1 column 6")
