"""Reading a model's tokenizer, and the token that begins every sequence."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from tokenizers import Tokenizer, decoders, models, pre_tokenizers

from scrub.models.checkpoints.reading import (
    CONFIG,
    MERGES,
    TOKENIZER_CONFIG,
    VOCABULARY,
    parse,
    read_fields,
    read_text,
    tokenizer_files,
)
from scrub.text.errors import ScrubError
from scrub.text.files import shown
from scrub.text.wording import short

MOST_PADDING_ROWS = 1024  # of an embedding, for no token: Megatron pads to multiples of 128 times its ranks
_END = "<|endoftext|>"  # GPT-2's only special token


def tokenizer_file(folder: Path) -> Path | None:
    """Find the file that says what a folder's tokenizer is. A link to nothing is one, so that reading it fails."""
    files = tokenizer_files({each.name for each in folder.iterdir()})
    return folder / files[0] if files else None


def read_tokenizer(path: Path, vocab_size: int) -> Tokenizer:
    """Read a tokenizer.json, or a vocab.json with its merges.txt beside it: GPT-2's byte-level BPE.

    Its tokens are 0 to vocab_size - 1. People pad vocabularies to round numbers, so it may have fewer, but the ids
    that stand for no token are then the last ones, fewer than MOST_PADDING_ROWS and fewer than half.
    Raises ScrubError if it can't be read, or if the tokens are others.
    """
    tokenizer = _parse_tokenizer(path)
    _check(tokenizer, vocab_size, shown(path), f"{CONFIG} beside it")
    return tokenizer


def fitting_tokenizer(given: Any, vocab_size: int) -> Tokenizer:
    """Take a tokenizer in memory, of tokenizers, or of transformers, which has such a one inside.

    Raises ScrubError if it is none, or has others than a model's tokens: see :func:`read_tokenizer`.
    """
    tokenizer = getattr(given, "backend_tokenizer", given)
    if not isinstance(tokenizer, Tokenizer):
        raise ScrubError(f"{short(given)} is no tokenizer: give one of tokenizers, or a fast one of transformers")
    _check(tokenizer, vocab_size, "the tokenizer", "the model's config")
    return tokenizer


def _check(tokenizer: Tokenizer, vocab_size: int, called: str, config: str) -> None:
    ids = tokenizer.get_vocab(with_added_tokens=True).values()
    size, last = len(set(ids)), max(ids, default=-1)
    if not max(vocab_size - MOST_PADDING_ROWS, vocab_size // 2) < size <= vocab_size or last != size - 1:
        gaps = f" with ids up to {last}" if last != size - 1 else ""
        raise ScrubError(
            f"{called} has {size} tokens{gaps}, but {config} says vocab_size {vocab_size}: "
            "take the tokenizer that the model was trained with"
        )


def begin_token(folder: Path) -> int | None:
    """Read the id of the token that tokenizer_config.json says is in front of every sequence, or None."""
    path, tokenizer = folder / TOKENIZER_CONFIG, tokenizer_file(folder)
    if tokenizer is None or not path.exists():
        return None
    token = read_fields(path, "config of a tokenizer").get("bos_token")
    text = token.get("content") if isinstance(token, dict) else token
    if not isinstance(text, str):
        return None
    found: int | None = _parse_tokenizer(tokenizer).token_to_id(text)
    return found


def _parse_tokenizer(path: Path) -> Tokenizer:
    text = read_text(path)
    parsed = parse(path, text)
    merges = read_text(path.with_name(MERGES), "text") if path.name == VOCABULARY else None
    try:
        tokenizer = Tokenizer.from_str(text) if merges is None else _byte_level(parsed, merges)
        tokenizer.get_vocab(with_added_tokens=True)
    except BaseException as error:  # a panic of the Rust library is no Exception
        if isinstance(error, KeyboardInterrupt | SystemExit):
            raise
        raise ScrubError(
            f"{shown(path)} is no tokenizer: {short(error, quoted=False)}: "
            "expected a file as the Hugging Face tokenizers library saves it"
        ) from error
    return tokenizer


def _byte_level(vocabulary: Any, merges: str) -> Tokenizer:
    """Make a tokenizer of GPT-2's kind of its tokens' ids, and lines of two tokens to merge, the first ones first."""
    lines = (line.rstrip("\r") for line in merges.split("\n"))
    pairs: Any = [tuple(line.split(" ")) for line in lines if line and not line.startswith("#version")]
    tokenizer = Tokenizer(models.BPE(vocabulary, pairs))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_special_tokens([_END] if _END in vocabulary else [])
    return tokenizer
