"""Reading a model's tokenizer, and the token that begins every sequence."""

from __future__ import annotations

from pathlib import Path

from tokenizers import Tokenizer

from scrub.checkpoints.names import CONFIG, TOKENIZER, TOKENIZER_CONFIG
from scrub.checkpoints.reading import parse, read_fields, read_text
from scrub.checkpoints.wording import short
from scrub.errors import ScrubError
from scrub.files import shown

MOST_PADDING = 1024  # rows of an embedding that stand for no token: Megatron pads to multiples of 128 times its ranks


def read_tokenizer(path: Path, vocab_size: int) -> Tokenizer:
    """The tokenizer of a tokenizer.json.

    Its tokens are 0 to vocab_size - 1. People pad vocabularies to round numbers, so it may have fewer, but the ids
    that stand for no token are then the last ones, fewer than MOST_PADDING and fewer than half.
    Raises ScrubError if it can't be read, or if the tokens are others.
    """
    tokenizer = _parse_tokenizer(path)
    ids = tokenizer.get_vocab(with_added_tokens=True).values()
    size, last = len(set(ids)), max(ids, default=-1)
    if not max(vocab_size - MOST_PADDING, vocab_size // 2) < size <= vocab_size or last != size - 1:
        gaps = f" with ids up to {last}" if last != size - 1 else ""
        raise ScrubError(
            f"{shown(path)} has {size} tokens{gaps}, but {CONFIG} beside it says vocab_size {vocab_size}: "
            "take the tokenizer that the model was trained with"
        )
    return tokenizer


def begin_token(folder: Path) -> int | None:
    """The id of the token that tokenizer_config.json says is in front of every sequence, or None."""
    path = folder / TOKENIZER_CONFIG
    if not path.exists() or not (folder / TOKENIZER).exists():
        return None
    token = read_fields(path, "config of a tokenizer").get("bos_token")
    text = token.get("content") if isinstance(token, dict) else token
    if not isinstance(text, str):
        return None
    found: int | None = _parse_tokenizer(folder / TOKENIZER).token_to_id(text)
    return found


def _parse_tokenizer(path: Path) -> Tokenizer:
    text = read_text(path)
    parse(path, text)
    try:
        tokenizer = Tokenizer.from_str(text)
        tokenizer.get_vocab(with_added_tokens=True)
    except BaseException as error:  # a panic of the Rust library is no Exception
        if isinstance(error, KeyboardInterrupt | SystemExit):
            raise
        raise ScrubError(
            f"{shown(path)} is no tokenizer: {short(error, quoted=False)}: "
            "expected a file as the Hugging Face tokenizers library saves it"
        ) from error
    return tokenizer
