"""Tensors in files, by their headers, or in memory: safetensors, files of torch.save, shards of either, state dicts.

Nothing is unpickled. Values are read one tensor at a time, when they are asked for, so that a large model is in memory
once.
"""

from __future__ import annotations

import errno
import re
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any
from zipfile import ZIP_STORED, ZipFile

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from scrub.models.checkpoints.reading import INDEX, TENSORS, check_file, read_fields, weights_file
from scrub.text.errors import ScrubError
from scrub.text.files import shown, unreadable
from scrub.text.wording import dtype_name, few, short

_POINTER = rb"version https://git-lfs"
_FOREIGN = {  # what a file begins with that is something else; a safetensors file has a '{' after 8 bytes
    rb"PK\x03\x04": "a zip archive, such as a pickle of torch.save",
    rb"\x80[\x01-\x05][^\0]": "a pickle",
    _POINTER: "a Git LFS pointer without its content, which 'git lfs pull' brings",
    rb"(?i)<!doctype|<html": "a web page",
    rb"\x93NUMPY": "a numpy array",
    rb"\x89HDF": "an HDF5 file",
    rb"GGUF": "a GGUF file",
}
_ZIP = b"PK\x03\x04"
_QUANTISED = ("quant_state", "SCB")  # of the parameters of bitsandbytes in 4 bits, and in 8
_PACKED = re.compile(  # what stands beside weights of bitsandbytes, GPTQ and AWQ
    r".*\.((nested_)?(absmax|quant_map)|quant_state\..*|SCB|weight_format|qweight|qzeros|g_idx)"
)
_ADAPTED = re.compile(r"(.*\.)?(lora_\w+|base_layer|ia3_l|modules_to_save)(\..*)?")  # that peft puts into a model

Where = Path | str  # a file, or what an error calls something in memory


@dataclass(frozen=True)
class StoredTensor:
    """A tensor in a file or in memory. `read` gives its values; it raises ScrubError if a file is damaged there."""

    name: str
    path: Where
    dtype: str  # as the file calls it
    shape: tuple[int, ...]
    read: Callable[[], Tensor]


def open_weights(folder: Path) -> tuple[Path, dict[str, StoredTensor]]:
    """Open a folder's weights: their file, or their index, and the tensors in it by name.

    Raises ScrubError if there is none, if there are several and nothing says which, if a shard is missing, or if a
    file is damaged, or is something else.
    """
    path = folder / (weights_file(each.name for each in folder.iterdir()) or TENSORS)
    return path, _open_shards(path) if path.name.endswith(INDEX) else open_tensors(path)


def open_tensors(path: Path) -> dict[str, StoredTensor]:
    """Open the tensors of one file: safetensors if its name says so, else of torch.save. Raises ScrubError."""
    check_file(path)
    return _open_safetensors(path) if path.suffix == ".safetensors" else _open_torch(path)


def _open_shards(path: Path) -> dict[str, StoredTensor]:
    places = read_fields(path, "index").get("weight_map")
    if not isinstance(places, Mapping) or not all(isinstance(place, str) for place in places.values()):
        raise ScrubError(
            f"{shown(path)} is no index: expected a field 'weight_map' with the file of each tensor; take another copy"
        )
    shards: dict[str, dict[str, StoredTensor]] = {}
    for name in sorted(set(places.values())):
        if Path(name).name != name or "\\" in name or name in {"", ".", ".."}:
            raise ScrubError(
                f"{shown(path)} names the file {short(name)}: a shard lies beside its index, so take another copy"
            )
        if not (path.parent / name).exists():
            raise ScrubError(f"{shown(path)} names the shard {short(name)}, which is not there: bring all shards")
        shards[name] = open_tensors(path.parent / name)
    if lost := [name for name, place in places.items() if name not in shards[place]]:
        raise ScrubError(
            f"{shown(path)} says that {short(places[lost[0]])} holds {few([short(name) for name in lost])}, "
            "but it doesn't: the files belong to different models"
        )
    return {name: shards[place][name] for name, place in places.items()}


def _open_safetensors(path: Path) -> dict[str, StoredTensor]:
    with _intact(path):
        file: Any = safe_open(path, framework="pt")  # open as long as a tensor may be read
        headers = {name: file.get_slice(name) for name in file.keys()}  # noqa: SIM118 - no dict
        return {
            name: StoredTensor(name, path, each.get_dtype(), tuple(each.get_shape()), partial(_read, path, file, name))
            for name, each in headers.items()
        }


def _read(path: Path, file: Any, name: str) -> Tensor:
    with _intact(path):
        value: Tensor = file.get_tensor(name)
        return value


@contextmanager
def _intact(path: Path) -> Iterator[None]:
    try:
        yield
    except PermissionError as error:
        raise unreadable(path, error) from error
    except (SafetensorError, OSError, ValueError, RuntimeError, OverflowError, MemoryError) as error:
        raise ScrubError(f"{shown(path)} {_not_safetensors(path, error)}") from error


def _start(path: Path) -> bytes:
    if not path.is_file():  # a pipe that nobody writes to, or a device without an end
        raise OSError(errno.EINVAL, "it is no file")
    with path.open("rb") as file:
        return file.read(32)


def foreign(start: bytes) -> str | None:
    """Say what a file is that begins so, if it is something known that holds no tensors of safetensors."""
    return next((what for magic, what in _FOREIGN.items() if re.match(magic, start)), None)


def _not_safetensors(path: Path, error: BaseException) -> str:
    start = _start(path)
    what = foreign(start)
    if what and start[8:9] != b"{":
        return f"is {what}: expected a safetensors file, as its name says, since reading one runs no code"
    why = short(str(error).removeprefix("Error while deserializing header: "), quoted=False)
    return f"is no intact safetensors file ({why}): it is damaged or truncated; take another copy"


def _open_torch(path: Path) -> dict[str, StoredTensor]:
    try:
        data = load_torch(path)
    except PermissionError as error:
        raise unreadable(path, error) from error
    except Exception as error:  # every kind of damage has its own class
        raise ScrubError(f"{shown(path)} {not_torch(path, error)}") from error
    return open_state(path, data, "expected torch.save(model.state_dict())")


def open_state(where: Where, state: object, expected: str) -> dict[str, StoredTensor]:
    """Open the tensors of a state dict. Raises ScrubError for anything else, which tells what is `expected`."""
    if isinstance(state, Mapping):
        check_whole(where, state)
    if not isinstance(state, Mapping) or not all(isinstance(name, str) and is_plain(state[name]) for name in state):
        raise ScrubError(f"{shown(where)} holds something else than tensors by name: {expected}")
    return {
        name: StoredTensor(name, where, dtype_name(value.dtype), tuple(value.shape), value.detach)
        for name, value in state.items()
    }


def check_whole(where: Where, state: Mapping[Any, object]) -> None:
    """Raise ScrubError if the values of a tensor aren't in memory, or are quantised, and say what to do."""
    for name, value in state.items():
        if any(hasattr(value, each) for each in _QUANTISED):
            raise _packed(where, short(name, quoted=False), f"a {type(value).__name__}")
        if isinstance(where, str) and isinstance(value, Tensor) and value.device.type == "meta":
            raise ScrubError(
                f"{shown(where)} has {short(name, quoted=False)} on the meta device, so its values aren't in memory: "
                "load the model without device_map, and not under torch.device('meta')"
            )


def check_names(where: Where, stored: Mapping[str, StoredTensor]) -> None:
    """Raise ScrubError if tensors are there that say how others are quantised, or of an adapter."""
    for name in stored:
        if _ADAPTED.fullmatch(name):
            raise ScrubError(
                f"{shown(where)} has {short(stored[name].name, quoted=False)} of an adapter that isn't merged: take "
                "what peft's model.merge_and_unload() gives"
            )
        if _PACKED.fullmatch(name):
            raise _packed(where, short(stored[name].name, quoted=False), "")


def _packed(where: Where, name: str, what: str) -> ScrubError:
    said = f" ({what})" if what else ""
    return ScrubError(
        f"{shown(where)} has {name}{said} of a quantised model, whose weights are packed: take the model before that, "
        "or load it without load_in_4bit, load_in_8bit and quantization_config"
    )


def load_torch(path: Path) -> object:
    """Read a file of torch.save: tensors, numbers, containers of them. Values stay in the file until used.

    Raises whatever torch does, or RuntimeError for an archive that is compressed, which may be huge in memory, and
    whose bytes torch would take for values.
    """
    archive = _start(path).startswith(_ZIP)
    if archive:
        with ZipFile(path) as file:
            members = file.infolist()
            size = sum(each.file_size for each in members)
            if size > path.stat().st_size or any(each.compress_type != ZIP_STORED for each in members):
                raise RuntimeError("it is compressed, which torch.save never does")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch's, of its own formats
        found: object = torch.load(path, map_location="cpu", weights_only=True, mmap=archive)
        return found


def is_plain(value: object) -> bool:
    """Tell whether it is an ordinary tensor: no subclass, not sparse or quantized, all of its values stored."""
    if type(value) not in {Tensor, torch.nn.Parameter}:
        return False
    assert isinstance(value, Tensor)
    if value.layout is not torch.strided or value.device.type == "meta" or value.is_quantized:
        return False
    return value.numel() * value.element_size() <= value.untyped_storage().nbytes()


def not_torch(path: Path, error: Exception, better: str = "safetensors") -> str:
    """Say why :func:`load_torch` couldn't read a file, and of which layout a copy is better."""
    if re.match(_POINTER, _start(path)):
        return f"is {_FOREIGN[_POINTER]}: bring the file itself"
    if code := re.search(r"GLOBAL (\S+)", str(error)):
        asked = short(code[1], quoted=False)
        return f"asks to run {asked}, so nothing of it was loaded: scrub reads tensors only; take a {better} copy"
    said = str(error).rpartition("WeightsUnpickler error: ")[2].strip().partition("\n")[0]
    why = short(said, quoted=False) if isinstance(error, RuntimeError) else type(error).__name__
    return (
        f"is no intact file of torch.save ({why}): it is damaged, or something else; "
        f"take another copy, best of {better}"
    )
