"""A model in a GGUF file, or in several that belong together, as llama.cpp writes and quantises it.

Weights are turned into floating point when they are read, one tensor at a time, by the package `gguf`.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from functools import lru_cache, partial
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from scrub.models.checkpoints.single.architectures import ARCHITECTURES, HEAD, Architecture, Fields, Turn
from scrub.models.checkpoints.single.content import Single
from scrub.models.checkpoints.single.gguf_words import Words
from scrub.models.checkpoints.single.header import MAGIC, Header, Place, read_header
from scrub.models.checkpoints.single.said import Said
from scrub.models.checkpoints.stored import StoredTensor
from scrub.text.errors import ScrubError
from scrub.text.files import shown, unreadable
from scrub.text.wording import few, short

__all__ = ["MAGIC", "read"]

_PART = re.compile(r"(.+)-(\d{5})-of-(\d{5})\.gguf")
_EMBEDDING, _FACTORS = "token_embd.weight", "rope_freqs.weight"
_BLOCK = re.compile(r"blk\.(\d+)\.(.+)")
_LLAMA3 = {"low_freq_factor": 1.0, "high_freq_factor": 4.0, "original_max_position_embeddings": 8192}


def read(path: Path) -> Single:
    """Read a GGUF file. Raises ScrubError for another architecture or type, or anything that is wrong with it."""
    header = _all_parts(path, read_header(path))
    name = _architecture(path, header)
    said, known, places = Said(path, header.metadata, name), ARCHITECTURES[name], dict(header.places)
    fields = known.fields(said)
    if (factors := places.pop(_FACTORS, None)) is not None:
        fields["rope_scaling"] = _llama3_scaling(fields, factors)
    said.check_all_taken()
    fields |= _ends(path, header)
    fields |= {
        field: any(f"blk.0.{each}" in places for each in names) for field, names in (known.optional or {}).items()
    }
    names = _names(known, fields)
    _check_there(path, name, names, places)
    tensors = {names[each]: _stored(place, _turn(known, fields, each)) for each, place in places.items()}
    words = Words(path, header.metadata, name, fields["vocab_size"])
    return Single(fields | words.fields, tensors, words.tokenizer, words.notes)


def _all_parts(path: Path, header: Header) -> Header:
    """Read the other files of a model that is in several: the first one has the metadata."""
    split = Said(path, header.metadata, "split")
    count = split.whole("count", 1, least=0)
    if count <= 1:
        return header
    named = _PART.fullmatch(path.name)
    if named is None or int(named[3]) != count:
        raise ScrubError(
            f"{shown(path)} is one of {count:,} files of a model: give them the names that they were made with, "
            f"as in NAME-00001-of-{count:05}.gguf"
        )
    headers = []
    for number in range(1, count + 1):
        part = path.with_name(f"{named[1]}-{number:05}-of-{count:05}.gguf")
        if not part.is_file():
            raise ScrubError(f"{shown(path)} is one of {count:,} files of a model, and {short(part.name)} is not there")
        found = read_header(part)
        theirs = Said(part, found.metadata, "split")
        if theirs.whole("no", least=0) != number - 1 or theirs.whole("count") != count:
            theirs.wrong("no", theirs.get("no"), f"{number - 1}, of {count:,}, as its name says")
        headers.append(found)
    places = {name: place for each in headers for name, place in each.places.items()}
    if len(places) != split.whole("tensors.count", len(places), least=0):
        split.wrong("tensors.count", split.get("tensors.count"), f"the {len(places):,} of the {count:,} files")
    return Header(headers[0].metadata, places)


def _architecture(path: Path, header: Header) -> str:
    general = Said(path, header.metadata, "general")
    general.refuse("type", "model", "anything else than a model")
    if (name := general.text("architecture")) not in ARCHITECTURES:
        raise ScrubError(
            f"{shown(path)} is of the architecture {short(name)}: of GGUF files, scrub reads "
            f"{', '.join(sorted(ARCHITECTURES))}; take the model as a folder of Hugging Face's"
        )
    return name


def _ends(path: Path, header: Header) -> Fields:
    """Read what the embedding and the tokenizer's metadata say: the vocabulary, and whether both ends share it."""
    if (embedding := header.places.get(_EMBEDDING)) is None:
        raise ScrubError(f"{shown(path)} misses the tensor {_EMBEDDING}: take another copy")
    vocab_size = embedding.shape[0]
    words = Said(path, header.metadata, "tokenizer.ggml")
    return {
        "vocab_size": vocab_size,
        "tie_word_embeddings": HEAD not in header.places,
        "bos_token_id": words.token("bos_token_id", vocab_size),
        "eos_token_id": words.token("eos_token_id", vocab_size),
    }


def _llama3_scaling(fields: Fields, place: Place) -> Fields | None:
    """Find the scaling of Llama 3 that a tensor of factors comes from, which divide the frequencies.

    Raises ScrubError if there is none: the factors of other models have no name in a config.
    """
    d_head, theta = fields.get("head_dim", 0), fields.get("rope_theta", 0)
    other = ScrubError(
        f"{shown(place.path)}: {place.name} scales rotary positions otherwise than Llama 3 does, "
        "and scrub reads no other factors: take the model as a folder of Hugging Face's"
    )
    if place.shape != (d_head // 2,) or fields.get("rope_scaling") is not None:
        raise other
    found = _stored(place, None).read().double()
    waves = 2 * math.pi * theta ** (torch.arange(0, d_head, 2).double() / d_head)
    low, high = _LLAMA3["low_freq_factor"], _LLAMA3["high_freq_factor"]
    kept = ((_LLAMA3["original_max_position_embeddings"] / waves - low) / (high - low)).clamp(0, 1)
    if bool((found == 1).all()):
        return None
    factor = float((1 - kept[-1]) / (1 / found[-1] - kept[-1]))
    # what was float32 is a plain number again, such as 8 or 32
    factor = round(factor) if abs(factor - round(factor)) < 1e-3 else factor
    if not 1 <= factor < math.inf or not torch.allclose(found, 1 / ((1 - kept) / factor + kept), rtol=1e-5, atol=0):
        raise other
    return {"rope_type": "llama3", "factor": float(factor), **_LLAMA3}


def _names(known: Architecture, fields: Fields) -> dict[str, str]:
    """List Hugging Face's names by ggml's, of all tensors of a model of this config."""
    layers = fields["n_layer" if "n_layer" in fields else "num_hidden_layers"]
    inner = dict(known.layer)
    for field, names in (known.optional or {}).items():
        inner |= names if fields[field] else {}
    found = {ours: theirs for ours, theirs in known.model.items() if ours != HEAD or not fields["tie_word_embeddings"]}
    return found | {
        f"blk.{at}.{ours}": f"{known.inside}.{at}.{theirs}" for at in range(layers) for ours, theirs in inner.items()
    }


def _check_there(path: Path, architecture: str, names: Mapping[str, str], places: Mapping[str, Place]) -> None:
    """Raise ScrubError unless these are the tensors that the metadata ask for."""
    if missing := [name for name in names if name not in places]:
        raise ScrubError(f"{shown(path)} misses {few(missing)}, which its metadata ask for: take another copy")
    if extra := [short(name, quoted=False) for name in places if name not in names]:
        raise ScrubError(
            f"{shown(path)} holds {few(extra)}, which scrub doesn't know of the architecture {architecture} "
            "and won't leave out: take the model as a folder of Hugging Face's"
        )


def _turn(known: Architecture, fields: Fields, name: str) -> Turn | None:
    inside = _BLOCK.fullmatch(name)
    return known.turn(fields, inside[2] if inside else name) if known.turn else None


def _stored(place: Place, turn: Turn | None) -> StoredTensor:
    """Make a tensor that is read when it is asked for. Raises ScrubError for a type that nothing here can read."""
    if not _is_readable(place.type):
        raise ScrubError(
            f"{shown(place.path)}: {place.name} is of ggml's type {place.type}, which the package gguf doesn't turn "
            "into numbers: take a file with another quantisation, such as Q8_0, or F16"
        )
    where, dtype = str(place.path), "F16" if place.type == "F16" else "F32"
    if turn is None:
        return StoredTensor(place.name, where, dtype, place.shape, partial(_values, place))
    try:
        shape = tuple(turn(torch.empty(place.shape, device="meta")).shape)
    except RuntimeError as error:
        raise ScrubError(
            f"{shown(place.path)}: {place.name} is {list(place.shape)}, which the heads of its metadata don't share: "
            "take another copy"
        ) from error
    return StoredTensor(place.name, where, dtype, shape, lambda: turn(_values(place)))


@lru_cache
def _is_readable(kind: str) -> bool:
    from gguf.constants import GGML_QUANT_SIZES, GGMLQuantizationType
    from gguf.quants import dequantize

    known = GGMLQuantizationType[kind]
    try:
        dequantize(np.zeros((1, GGML_QUANT_SIZES[known][1]), np.uint8), known)
    except NotImplementedError:
        return False
    return True


def _values(place: Place) -> Tensor:
    """Read a tensor. Raises ScrubError if its file can't be read, or isn't as long as it was."""
    from gguf.constants import GGMLQuantizationType
    from gguf.quants import dequantize

    try:
        with place.path.open("rb") as file:
            file.seek(place.offset)
            stored = np.fromfile(file, np.uint8, place.size)
    except OSError as error:
        raise unreadable(place.path, error) from error
    if stored.size != place.size:
        raise ScrubError(f"{shown(place.path)} became shorter while it was read: take another copy")
    if place.type == "F16":
        return torch.from_numpy(stored.view("<f2")).view(place.shape)
    with np.errstate(all="ignore"):  # a NaN is told by who reads it
        values = dequantize(stored.reshape(place.bytes_shape), GGMLQuantizationType[place.type])
    return torch.from_numpy(values).view(place.shape)
