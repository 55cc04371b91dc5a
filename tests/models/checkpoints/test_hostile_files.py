"""Files that are missing, damaged or hostile, whatever the layout: one line each, and no code of theirs runs."""

import json
import os
import pickle
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from made import Bomb, gpt2, lens, refusal, write_lens
from redwood import MASK, TOKENS
from safetensors.torch import load_file, save_file
from wording import tells

from scrub.data.fixed import read_fixed
from scrub.models.checkpoints import wanted_files
from scrub.models.checkpoints.stored import open_tensors
from scrub.models.model import load_model
from scrub.text.errors import ScrubError

pytestmark = pytest.mark.filterwarnings("ignore:HookedTransformer is deprecated:DeprecationWarning")


@pytest.fixture(autouse=True)
def _empty(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def shards(tmp_path: Path) -> Path:
    gpt2().save_pretrained(tmp_path / "m", max_shard_size="9KB")
    return tmp_path / "m"


INDEX = "model.safetensors.index.json"


def index(folder: Path) -> dict[str, str]:
    return json.loads((folder / INDEX).read_text())["weight_map"]


def write_index(folder: Path, places: object) -> None:
    (folder / INDEX).write_text(json.dumps({"metadata": {}, "weight_map": places}))


# shards


def test_a_missing_shard(shards: Path) -> None:
    gone = sorted(shards.glob("model-*.safetensors"))[1]
    gone.unlink()
    assert refusal(shards) == f"{INDEX} names the shard {gone.name!r}, which is not there: bring all shards"


@pytest.mark.parametrize(
    "place", ["../m/x.safetensors", "/etc/passwd", "sub/x.safetensors", "..", ".", "", "a\\b", "a\n/b"]
)
def test_an_index_that_leaves_the_folder(shards: Path, place: str) -> None:
    first, *_ = index(shards)
    for path in ("x.safetensors", "sub/x.safetensors"):
        (shards / path).parent.mkdir(exist_ok=True)
        (shards / path).write_bytes((shards / index(shards)[first]).read_bytes())
    write_index(shards, {**index(shards), first: place})
    assert tells(
        refusal(shards), f"{INDEX} names the file {place!r}: a shard lies beside its index, so take another copy"
    )


def test_a_shard_without_what_the_index_promises(shards: Path) -> None:
    places = index(shards)
    name, place = next(iter(places.items()))
    tensors = load_file(shards / place)
    save_file({key: value for key, value in tensors.items() if key != name}, shards / place)
    why = "but it doesn't: the files belong to different models"
    assert tells(refusal(shards), f"{INDEX} says that {place!r} holds {name!r}, {why}")
    del places[name]
    write_index(shards, places)
    assert tells(refusal(shards), f"{INDEX} misses {name.removeprefix('transformer.')}, which config.json ")


@pytest.mark.parametrize("content", ['{"weight_map": []}', '{"weight_map": {"a": 1}}', "{}", '{"weight_map": null}'])
def test_an_index_that_is_none(shards: Path, content: str) -> None:
    (shards / INDEX).write_text(content)
    how = "expected a field 'weight_map' with the file of each tensor; take another copy"
    assert tells(refusal(shards), f"{INDEX} is no index: {how}")


def test_an_index_that_is_no_object(shards: Path) -> None:
    (shards / INDEX).write_text("[]")
    assert tells(refusal(shards), f"{INDEX} is no index: expected a JSON object with fields, found a list")


def test_a_damaged_shard(shards: Path) -> None:
    cut = sorted(shards.glob("model-*.safetensors"))[0]
    cut.write_bytes(cut.read_bytes()[:-1])
    assert refusal(shards).startswith(f"{cut.name} is no intact safetensors file (")


# code in files


def pickled(**options: bool) -> bytes:
    torch.save({"embed.W_E": torch.zeros(2), "x": Bomb()}, "bomb", **options)
    content = Path("bomb").read_bytes()
    Path("bomb").unlink()
    return content


BOMBS = {
    "of torch.save": pickled,
    "of old torch.save": lambda: pickled(_use_new_zipfile_serialization=False),
    "pickle, protocol 2": lambda: pickle.dumps(Bomb(), protocol=2),
    "pickle, protocol 0": lambda: pickle.dumps(Bomb(), protocol=0),
    "pickle": lambda: pickle.dumps({"a": Bomb()}),
}


@pytest.mark.parametrize("name", ["model.safetensors", "pytorch_model.bin"])
@pytest.mark.parametrize("content", BOMBS.values(), ids=BOMBS)
def test_code_in_a_file_of_hugging_face(name: str, content: Callable[[], bytes]) -> None:
    gpt2().config.save_pretrained("m")
    Path("m", name).write_bytes(content())
    assert refusal(Path("m")).startswith(f"{name} ")
    assert not Path("exploded").exists()


@pytest.mark.parametrize("name", ["x_final.pth", "x.pt", "et_model_state_dict.pt", "x.safetensors"])
@pytest.mark.parametrize("content", BOMBS.values(), ids=BOMBS)
def test_code_in_a_file_of_transformer_lens(name: str, content: Callable[[], bytes]) -> None:
    write_lens(Path("m"), lens(), name=name)
    Path("m", name).write_bytes(content())
    assert refusal(Path("m")).startswith(f"{name} ")
    assert not Path("exploded").exists()


def test_code_in_a_shard() -> None:
    gpt2().config.save_pretrained("m")
    Path("m/pytorch_model.bin.index.json").write_text('{"weight_map": {"embed.W_E": "shard.bin"}}')
    Path("m/shard.bin").write_bytes(pickled())
    assert refusal(Path("m")) == (
        "shard.bin asks to run getattr, so nothing of it was loaded: scrub reads tensors only; take a safetensors copy"
    )
    assert not Path("exploded").exists()


@pytest.mark.parametrize("content", BOMBS.values(), ids=BOMBS)
def test_the_bombs_would_have_been_seen(content: Callable[[], bytes]) -> None:
    Path("x").write_bytes(content())
    try:
        torch.load("x", weights_only=False)
    except Exception:
        pickle.loads(content())
    assert Path("exploded").exists()


# other things in place of tensors


OTHERS = {
    "a list": [torch.zeros(2)],
    "a tensor": torch.zeros(2),
    "text": {"embed.W_E": "abc"},
    "numbers for names": {1: torch.zeros(2)},
    "nested": {"model": {"embed.W_E": torch.zeros(2)}},
    "sparse": {"embed.W_E": torch.ones(2, 2).to_sparse()},
    "without values": {"embed.W_E": torch.zeros(2, device="meta")},
}


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("content", OTHERS.values(), ids=OTHERS)
def test_something_else_than_tensors_by_name(content: object) -> None:
    torch.save(content, "x.pt")
    with pytest.raises(ScrubError) as caught:
        open_tensors(Path("x.pt"))
    how = "expected torch.save(model.state_dict())"
    assert str(caught.value) == f"x.pt holds something else than tensors by name: {how}"


DAMAGED = {
    "empty": (lambda _: b"", "EOFError"),
    "cut": (lambda good: good[:-40], ""),
    "text": (lambda _: b"hello world", "KeyError"),
    "safetensors": (lambda _: b"\x10\0\0\0\0\0\0\0{}              ", ""),
}


@pytest.mark.parametrize(("damage", "why"), DAMAGED.values(), ids=DAMAGED)
def test_a_damaged_file_of_torch(damage: Callable[[bytes], bytes], why: str) -> None:
    write_lens(Path("m"), lens())
    path = Path("m/tiny_final.pth")
    path.write_bytes(damage(path.read_bytes()))
    message = refusal(Path("m"))
    assert message.startswith(f"tiny_final.pth is no intact file of torch.save ({why}")
    assert message.endswith("): it is damaged, or something else; take another copy, best of safetensors")


def test_a_pointer_of_git_lfs() -> None:
    write_lens(Path("m"), lens())
    Path("m/tiny_final.pth").write_text("version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 12\n")
    pointer = "is a Git LFS pointer without its content, which 'git lfs pull' brings: bring the file itself"
    assert tells(refusal(Path("m")), f"tiny_final.pth {pointer}")


STATE = {"a": torch.arange(3.0), "b": torch.arange(10.0).view(2, 5)}


@pytest.mark.parametrize("zipped", [True, False])
@settings(suppress_health_check=list(HealthCheck))
@given(data=st.data())
def test_any_byte_may_be_wrong(tmp_path: Path, zipped: bool, data: st.DataObject) -> None:
    """The tensors of before, others of any shape, or one line."""
    torch.save(STATE, tmp_path / "x.pt", _use_new_zipfile_serialization=zipped)
    content = bytearray((tmp_path / "x.pt").read_bytes())
    for _ in range(data.draw(st.integers(1, 3))):
        content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    (tmp_path / "x.pt").write_bytes(content)
    try:
        for each in open_tensors(tmp_path / "x.pt").values():
            if torch.Size(each.shape).numel() < 1000:
                assert each.read().double().sum() is not None
    except ScrubError as error:
        line = str(error)
    else:
        return
    assert len(line.splitlines()) == 1
    assert len(line) < len(str(tmp_path)) + 400


# folders


def test_an_empty_folder() -> None:
    Path("m").mkdir()
    how = "a model is a folder with config.json, model.safetensors and, if it reads text, tokenizer.json"
    assert refusal(Path("m")) == f"config.json is not there: {how}"


def test_a_config_of_no_layout() -> None:
    Path("m").mkdir()
    Path("m/config.json").write_text('{"n_embd": 3}')
    known = "attention_only, gpt2, and the layouts hugging_face, own, redwood, transformer_lens"
    assert tells(refusal(Path("m")), f"config.json has no field 'architecture': scrub knows {known}")


def test_a_folder_that_may_not_be_read(monkeypatch: pytest.MonkeyPatch) -> None:
    Path("m").mkdir()

    def fail(_: Path) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "iterdir", fail)
    with pytest.raises(ScrubError, match=r"^m .*Permission denied"):
        load_model("./m")


# the files of a repository


COMMON = ["README.md", "config.json", "generation_config.json", "tokenizer.json", "tokenizer_config.json", "vocab.json"]
BRING = ["config.json", "tokenizer.json", "tokenizer_config.json"]
SHARDS = ["model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors"]
BINS = ["pytorch_model-00001-of-00002.bin", "pytorch_model-00002-of-00002.bin"]
REDWOOD = "et_model_state_dict.pt"
FOREIGN = ["tf_model.h5", "flax_model.msgpack", "rust_model.ot", "64.tflite", "onnx/model.onnx", "onnx/config.json"]
REPOSITORIES = [
    (["model.safetensors", "pytorch_model.bin"], ["model.safetensors"]),
    ([*SHARDS, INDEX, *BINS, "pytorch_model.bin.index.json"], [*SHARDS, INDEX]),
    (["model.safetensors", *SHARDS, INDEX], ["model.safetensors"]),
    (["pytorch_model.bin", "training_args.bin", "optimizer.pt"], ["pytorch_model.bin"]),
    ([*BINS, "pytorch_model.bin.index.json"], [*BINS, "pytorch_model.bin.index.json"]),
    (["x_final.pth", "checkpoints/x_1.pth", "checkpoints/x_final.pth"], ["x_final.pth"]),
    ([REDWOOD, "validation_data.pt", "mask_repeat_candidates.pkl", "x_final.pth"], [REDWOOD]),
    (["sub/model.safetensors"], []),
]  # fmt: skip


@pytest.mark.parametrize(("there", "wanted"), REPOSITORIES)
def test_the_files_that_are_wanted(there: list[str], wanted: list[str]) -> None:
    assert wanted_files([*there, *FOREIGN, *COMMON]) == sorted([*wanted, *BRING])
    assert wanted_files(iter(there)) == sorted(wanted)


# files that are small here and large in memory


def compress(path: Path) -> None:
    """The same archive, squeezed: a million zeros take a thousand bytes."""
    with zipfile.ZipFile(path) as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in members.items():
            archive.writestr(name, content)


def test_an_archive_that_is_larger_in_memory(tmp_path: Path) -> None:
    folder = write_lens(tmp_path / "m", lens())
    load_model(folder)
    compress(folder / "tiny_final.pth")
    assert refusal(folder).startswith("tiny_final.pth is no intact file of torch.save (it is compressed, which torch.")
    torch.save(torch.zeros(3, 1_000_000, dtype=torch.int64), folder / TOKENS)
    assert read_fixed(folder)[0].shape == (3, 1_000_000)
    compress(folder / TOKENS)
    with pytest.raises(ScrubError, match=r"compressed"):
        read_fixed(folder)


def test_tensors_that_say_more_than_they_store(tmp_path: Path) -> None:
    theirs = lens()
    folder = write_lens(tmp_path / "m", theirs)
    state = theirs.state_dict()
    for rows in (13, 10**12):
        torch.save(state | {"embed.W_E": state["embed.W_E"][:1].clone().expand(rows, -1)}, folder / "tiny_final.pth")
        assert refusal(folder).startswith("tiny_final.pth holds something else than tensors by name")
    row = torch.tensor([[1, 2, 3]])
    for bad in (row.expand(2**40, 3), row.to_sparse(), torch.empty(2, 3, dtype=torch.int64, device="meta")):
        torch.save(bad, folder / TOKENS)
        with pytest.raises(ScrubError, match="holds a tensor without all of its values"):
            read_fixed(folder)


@pytest.mark.parametrize("name", ["config.json", "tokenizer.json", "tiny_final.pth", MASK])
@pytest.mark.parametrize("kind", ["a pipe", "a device"])
def test_what_never_ends_is_not_read(tmp_path: Path, name: str, kind: str) -> None:
    """Nobody writes to the pipe, so that reading it would hang; the device gives zeros forever."""
    folder = write_lens(tmp_path / "m", lens())
    torch.save(torch.tensor([[1, 2, 3]]), folder / TOKENS)
    (folder / name).unlink(missing_ok=True)
    if kind == "a pipe":
        os.mkfifo(folder / name)
    else:
        (folder / name).symlink_to("/dev/zero")
    if name == MASK:
        with pytest.raises(ScrubError, match=MASK):
            read_fixed(folder)
    else:
        assert refusal(folder).startswith(f"{name} is no file: ")
