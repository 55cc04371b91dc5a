"""Fuzz: whatever the bytes, a reader gives what it promises, or a ScrubError of one line that names the file."""

import json
import struct
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from safetensors.torch import save

from scrub.models.checkpoints import open_checkpoint
from scrub.models.checkpoints.layouts.own import read_tensors
from scrub.models.checkpoints.stored import open_tensors
from scrub.models.checkpoints.tokenizer import read_tokenizer
from scrub.text.errors import ScrubError

SHAPES = {"a": (3,), "b": (2, 5)}
GOOD = save({name: torch.arange(float(torch.Size(shape).numel())).view(shape) for name, shape in SHAPES.items()})
HEADER = 8 + struct.unpack("<Q", GOOD[:8])[0]
fuzz = settings(suppress_health_check=list(HealthCheck))


def survives(read: Callable[[Path], object], path: Path, content: bytes) -> object:
    path.write_bytes(content)
    try:
        return read(path)
    except ScrubError as error:
        line = str(error)
    assert line.startswith(str(path.parent))
    assert len(line.splitlines()) == 1
    assert len(line) < len(str(path)) + 400
    return None


def read_folder(config: Path) -> object:
    return open_checkpoint(config.parent)


def tensors_survive(folder: Path, content: bytes) -> None:
    read = survives(
        lambda path: read_tensors(path, open_tensors(path), SHAPES, torch.float32), folder / "fuzz.safetensors", content
    )
    assert read is None or {name: tuple(value.shape) for name, value in read.items()} == SHAPES


@fuzz
@given(st.binary(max_size=200))
def test_random_bytes(tmp_path: Path, content: bytes) -> None:
    tensors_survive(tmp_path, content)
    survives(read_folder, tmp_path / "config.json", content)
    survives(lambda path: read_tokenizer(path, 3), tmp_path / "fuzz.json", content)


def test_every_truncation(tmp_path: Path) -> None:
    for size in range(len(GOOD)):
        path = tmp_path / "cut.safetensors"
        path.write_bytes(GOOD[:size])
        with pytest.raises(ScrubError, match="is no intact safetensors file"):
            read_tensors(path, open_tensors(path), SHAPES, torch.float32)


def test_every_flip_of_a_bit(tmp_path: Path) -> None:
    for bit in range(8 * HEADER):
        content = bytearray(GOOD)
        content[bit // 8] ^= 1 << bit % 8
        tensors_survive(tmp_path, bytes(content))


words = st.text('ab0.\n\0"\\/\x1b\u2028\U0001f600\ud800', max_size=9)
numbers = st.sampled_from([-1, 0, 1, 2, 3, 5, 12, 40, 52, 2**31, 2**62, 2**63, 2**64, 10**30, 1.5]) | st.integers()
texts = st.sampled_from(["", "a", "b", "__metadata__", "dtype", "shape", "data_offsets", "F32", "F64", "BF16"]) | words
json_values = st.recursive(
    st.none() | st.booleans() | numbers | texts,
    lambda inner: st.lists(inner) | st.dictionaries(texts, inner),
    max_leaves=5,
)
entries = st.fixed_dictionaries(
    {
        "dtype": st.sampled_from(["F32", "F16", "F64", "F8_E4M3", "F4", "BOOL", "?"]) | json_values,
        "shape": st.lists(numbers, max_size=4) | json_values,
        "data_offsets": st.lists(numbers, min_size=2, max_size=2) | json_values,
    }
)


@fuzz
@given(st.dictionaries(texts, entries | json_values, max_size=3), st.binary(max_size=60), st.integers(-9, 9))
@example({}, b"", 0)
def test_headers_that_lie(tmp_path: Path, header: dict[str, object], data: bytes, lie: int) -> None:
    text = json.dumps(header).encode()
    tensors_survive(tmp_path, struct.pack("<Q", max(0, len(text) + lie)) + text + data)


@fuzz
@given(st.data())
def test_one_entry_that_lies(tmp_path: Path, data: st.DataObject) -> None:
    header = json.loads(GOOD[8:HEADER])
    entry = header[data.draw(st.sampled_from("ab"))]
    entry[data.draw(st.sampled_from(sorted(entry)))] = data.draw(st.lists(numbers, max_size=3) | json_values)
    text = json.dumps(header).encode()
    tensors_survive(tmp_path, struct.pack("<Q", len(text)) + text + GOOD[HEADER:])


@fuzz
@given(data=st.data())
def test_configs_that_lie(tmp_path: Path, config, data: st.DataObject) -> None:
    fields = {"architecture": "attention_only", **json.loads(config.model_dump_json())}
    for name in data.draw(st.lists(st.sampled_from(sorted(fields)), min_size=1, max_size=3)):
        fields[name] = data.draw(json_values)
    fields |= data.draw(st.dictionaries(texts, json_values, max_size=2))
    survives(read_folder, tmp_path / "config.json", json.dumps(fields).encode())


@fuzz
@given(data=st.data())
def test_tokenizers_that_lie(tmp_path: Path, tokenizer, data: st.DataObject) -> None:
    fields = json.loads(tokenizer.to_str())
    inside = data.draw(st.sampled_from([fields, fields["model"], fields["model"]["vocab"], fields["pre_tokenizer"]]))
    inside[data.draw(st.sampled_from(sorted(inside)) | words)] = data.draw(json_values)
    survives(lambda path: read_tokenizer(path, 13), tmp_path / "fuzz.json", json.dumps(fields).encode())
