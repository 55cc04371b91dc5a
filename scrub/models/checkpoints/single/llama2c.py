"""A model of llama2.c (https://github.com/karpathy/llama2.c), version 0 of its layout: a Llama without a name.

Seven int32 (dim, hidden_dim, n_layers, n_heads, n_kv_heads, vocab_size, negative where the unembedding is a matrix of
its own, and seq_len), then float32 tensors, each of all layers. The tokenizer is a second file: an int32, then a
float32 score, an int32 length and the bytes of each token.
"""

from __future__ import annotations

import math
import struct
from collections.abc import Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from tokenizers import Tokenizer, decoders, models, normalizers
from torch import Tensor

from scrub.models.checkpoints.single.architectures import Turn, half_rotation
from scrub.models.checkpoints.single.content import Single
from scrub.models.checkpoints.single.words import finished, implied_merges, numbered
from scrub.models.checkpoints.stored import StoredTensor
from scrub.text.errors import ScrubError
from scrub.text.files import read_file, shown, unreadable
from scrub.text.wording import few

_HEADER, _LATER = struct.Struct("<7i"), b"24ka"  # the magic of later versions, "ak42" in memory
_MOST_TOKENS, _LONGEST = 2**20, 2**16
_UNKNOWN, _BEGIN, _END = range(3)  # the ids of the tokens that no text is made of, as SentencePiece calls them
_SPECIAL = ("<unk>", "<s>", "</s>")


def read(path: Path) -> Single:
    """Read such a file. Raises ScrubError if it is something else, or not exactly as long as its header says."""
    try:
        with path.open("rb") as file:
            start, size = file.read(_HEADER.size), path.stat().st_size
    except OSError as error:
        raise unreadable(path, error) from error
    fields = _fields(path, start)
    places = list(_places(fields))
    expected = _HEADER.size + 4 * sum(math.prod(shape) for _, shape, _ in places)
    if size != expected:
        raise ScrubError(
            f"{shown(path)} has {size:,} bytes, and as a model of llama2.c its header asks for {expected:,}: "
            "it was cut short, or is something else, such as a .bin of torch.save, of which scrub takes the folder"
        )
    tensors: dict[str, StoredTensor] = {}
    offset = _HEADER.size
    for name, shape, turn in places:
        if name:
            tensors |= _of_layers(path, name, shape, offset, turn)
        offset += 4 * math.prod(shape)
    beside, note = _tokenizer_file(path, fields["vocab_size"])
    tokenizer = partial(_tokenizer, beside, fields["vocab_size"]) if beside else lambda: None
    return Single(fields, tensors, tokenizer, (note,))


def _fields(path: Path, start: bytes) -> dict[str, Any]:
    """Read the header as the fields of Hugging Face's Llama, with llama2.c's own constants."""
    if start.startswith(_LATER):
        raise ScrubError(f"{shown(path)} is of a later version of llama2.c's layout: export it again with --version 0")
    if len(start) < _HEADER.size:
        raise ScrubError(f"{shown(path)} has {len(start)} bytes, which are no model of llama2.c: take another copy")
    width, hidden, layers, heads, kv_heads, vocab_size, positions = _HEADER.unpack(start)
    least = min(width, hidden, layers, heads, kv_heads, abs(vocab_size), positions)
    if least < 1 or layers > 4096 or width % heads or heads % kv_heads or width // heads % 2:
        raise ScrubError(
            f"{shown(path)} begins with {', '.join(map(str, _HEADER.unpack(start)))}, which are no sizes "
            "of a model of llama2.c: it is damaged, or something else; take another copy"
        )
    return {
        "model_type": "llama",
        "hidden_size": width,
        "intermediate_size": hidden,
        "num_hidden_layers": layers,
        "num_attention_heads": heads,
        "num_key_value_heads": kv_heads,
        "head_dim": width // heads,
        "vocab_size": abs(vocab_size),
        "max_position_embeddings": positions,
        "rms_norm_eps": 1e-5,
        "rope_theta": 1e4,
        "rope_scaling": None,
        "tie_word_embeddings": vocab_size > 0,
        "bos_token_id": _BEGIN,
        "eos_token_id": _END,
    }


def _places(fields: Mapping[str, Any]) -> Iterator[tuple[str, tuple[int, ...], Turn | None]]:
    """List the tensors as they follow each other: Hugging Face's name, with a place for a layer, and the shape."""
    width, hidden, vocabulary = (fields[name] for name in ("hidden_size", "intermediate_size", "vocab_size"))
    heads, kv_heads, d_head = (fields[name] for name in ("num_attention_heads", "num_key_value_heads", "head_dim"))
    layers, kv_width = fields["num_hidden_layers"], kv_heads * d_head
    of_layers: list[tuple[str, tuple[int, ...], Turn | None]] = [
        ("input_layernorm", (width,), None),
        ("self_attn.q_proj", (width, width), partial(half_rotation, heads)),
        ("self_attn.k_proj", (kv_width, width), partial(half_rotation, kv_heads)),
        ("self_attn.v_proj", (kv_width, width), None),
        ("self_attn.o_proj", (width, width), None),
        ("post_attention_layernorm", (width,), None),
        ("mlp.gate_proj", (hidden, width), None),
        ("mlp.down_proj", (width, hidden), None),
        ("mlp.up_proj", (hidden, width), None),
    ]
    yield "model.embed_tokens.weight", (vocabulary, width), None
    for name, shape, turn in of_layers:
        yield f"model.layers.{{}}.{name}.weight", (layers, *shape), turn
    yield "model.norm.weight", (width,), None
    for _ in ("cosines", "sines"):  # of the rotations, which follow from the config
        yield "", (fields["max_position_embeddings"], d_head // 2), None
    if not fields["tie_word_embeddings"]:
        yield "lm_head.weight", (vocabulary, width), None


def _of_layers(
    path: Path, name: str, shape: tuple[int, ...], offset: int, turn: Turn | None
) -> dict[str, StoredTensor]:
    """Make the tensors of each layer of what is stored as one, or the one."""
    each = shape[1:] if "{}" in name else shape
    size = 4 * math.prod(each)
    count = shape[0] if "{}" in name else 1
    names = [name.format(at) for at in range(count)]
    return {
        here: StoredTensor(here, str(path), "F32", each, partial(_values, path, offset + at * size, each, turn))
        for at, here in enumerate(names)
    }


def _values(path: Path, offset: int, shape: tuple[int, ...], turn: Turn | None) -> Tensor:
    try:
        with path.open("rb") as file:
            file.seek(offset)
            values = np.fromfile(file, "<f4", math.prod(shape))
    except OSError as error:
        raise unreadable(path, error) from error
    if values.size != math.prod(shape):
        raise ScrubError(f"{shown(path)} became shorter while it was read: take another copy")
    found = torch.from_numpy(values).view(shape)
    return found if turn is None else turn(found)


def _tokenizer_file(path: Path, vocab_size: int) -> tuple[Path | None, str]:
    """Find the tokenizer beside a model, by name and by the number of its tokens, and say which one it is."""
    named = [path.with_name(f"tok{vocab_size}.bin"), path.with_name("tokenizer.bin")]
    others = sorted(path.parent.glob("tok*.bin"))
    candidates = [each for each in dict.fromkeys([*named, *others]) if each.is_file() and each.name != path.name]
    fitting = [each for each in candidates if _has_tokens(each, vocab_size)]
    if not fitting:
        seen = f" ({few([shown(each.name) for each in candidates])}: none of {vocab_size:,} tokens)" * bool(candidates)
        return None, f"no tokenizer lies beside {shown(path)}{seen}: data for it are token ids"
    others_too = f", which {few([shown(each.name) for each in fitting[1:]])} has too" if fitting[1:] else ""
    found = f"{shown(fitting[0].name)} beside {shown(path)}"
    return fitting[0], f"the tokenizer is {found}, by its {vocab_size:,} tokens{others_too}"


def _has_tokens(path: Path, count: int) -> bool:
    try:
        return len(_tokens(path)) == count
    except ScrubError:
        return False


def _tokens(path: Path) -> list[tuple[str, float]]:
    """Read the tokens of a tokenizer, with their scores. Raises ScrubError if the file is anything else."""
    content, at, found = read_file(path, "give the tokenizer of the model"), 4, list[tuple[str, float]]()
    while at < len(content) and len(found) < _MOST_TOKENS:
        if at + 8 > len(content):
            break
        score, length = struct.unpack_from("<fi", content, at)
        if not 0 <= length <= min(_LONGEST, len(content) - at - 8) or not math.isfinite(score):
            break
        try:
            found.append((content[at + 8 : at + 8 + length].decode(), score))
        except UnicodeDecodeError:
            break
        at += 8 + length
    if at != len(content) or not found:
        raise ScrubError(f"{shown(path)} is no tokenizer of llama2.c, from byte {at:,} on: take another copy")
    return found


def _tokenizer(path: Path, vocab_size: int) -> Tokenizer:
    """Make the tokenizer, which puts a blank and the begin token in front of a text, as llama2.c does."""
    read = _tokens(path)
    texts = [*_SPECIAL, *(text for text, _ in read[len(_SPECIAL) :])]
    ids = numbered(path, texts)
    scores = {text: score for text, (_, score) in zip(texts[len(_SPECIAL) :], read[len(_SPECIAL) :], strict=True)}

    def make() -> Tokenizer:
        tokenizer = Tokenizer(models.BPE(ids, implied_merges(ids, scores), byte_fallback=True, unk_token=_SPECIAL[0]))
        tokenizer.normalizer = normalizers.Prepend(" ")
        tokenizer.decoder = decoders.Sequence([decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 1, 0)])
        return tokenizer

    return finished(path, make, vocab_size, _SPECIAL, begin=_SPECIAL[_BEGIN])
