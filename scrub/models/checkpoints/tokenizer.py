"""Reading a model's tokenizer, and the token that begins every sequence."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers

from scrub.models.checkpoints.reading import (
    ADDED_TOKENS,
    CONFIG,
    MERGES,
    SPECIAL_TOKENS,
    TOKENIZER,
    TOKENIZER_CONFIG,
    VOCABULARY,
    parse,
    read_fields,
    read_text,
    tokenizer_files,
)
from scrub.text.encoding import without_row
from scrub.text.errors import ScrubError
from scrub.text.files import shown
from scrub.text.wording import short

MOST_PADDING_ROWS = 1024  # of an embedding, for no token: Megatron pads to multiples of 128 times its ranks
MOST_WITHOUT_ROW = 16  # tokens that were added, and the embedding not resized: a pad, a few marks of a fine-tune
_END = "<|endoftext|>"  # GPT-2's only special token
_FLAGS = ("special", "single_word", "lstrip", "rstrip", "normalized")  # of an added token
_OF_GPT2 = re.compile(r"(GPT2|CodeGen)Tokenizer(Fast)?")  # the classes that cut texts as GPT-2 does
_CUT_AS_GPT2 = ("gpt2", "gpt_neo", "gptj", "phi")  # the types of models whose class is one of these
_PROBE = "a"  # a text that any tokenizer has a token for


def tokenizer_file(folder: Path) -> Path | None:
    """Find the file that says what a folder's tokenizer is. A link to nothing is one, so that reading it fails."""
    files = tokenizer_files({each.name for each in folder.iterdir()})
    return folder / files[0] if files else None


def read_tokenizer(path: Path, vocab_size: int) -> Tokenizer:
    """Read a tokenizer.json, or a vocab.json with its merges.txt beside it, if it is of GPT-2's byte-level BPE.

    Its tokens are 0 to vocab_size - 1. People pad vocabularies to round numbers, so it may have fewer, but the ids
    that stand for no token are then the last ones, fewer than MOST_PADDING_ROWS and fewer than half. It may have up to
    MOST_WITHOUT_ROW more, the last ones, if they were added to it, as a `[PAD]` is: no text may then hold them, see
    :mod:`scrub.text.encoding`.
    What the file says of padding and truncation is left aside, as transformers does: all tokens are the text's own.
    Raises ScrubError if it can't be read, or if the tokens are others.
    """
    tokenizer = _parse_tokenizer(path)
    check_tokens(tokenizer, vocab_size, shown(path), f"{CONFIG} beside it")
    return tokenizer


def fitting_tokenizer(given: Any, vocab_size: int) -> Tokenizer:
    """Take a tokenizer in memory, of tokenizers, or of transformers, which has such a one inside.

    It is copied, without padding and truncation: what its owner switches on in it, then or later, reaches no model.
    Raises ScrubError if it is none, or has others than a model's tokens: see :func:`read_tokenizer`.
    """
    tokenizer = getattr(given, "backend_tokenizer", given)
    if not isinstance(tokenizer, Tokenizer):
        raise ScrubError(f"{short(given)} is no tokenizer: give one of tokenizers, or a fast one of transformers")
    check_tokens(tokenizer, vocab_size, "the tokenizer", "the model's config")
    try:
        return _whole(Tokenizer.from_str(tokenizer.to_str()))
    except Exception as error:  # parts of it are Python, which no text holds
        raise ScrubError(
            f"the tokenizer can't be copied: {short(error, quoted=False)}: give one whose parts are all of the "
            "tokenizers library"
        ) from error


def added_in_front(tokenizer: Tokenizer | None) -> int | None:
    """Find the token that a tokenizer puts in front of a text by itself; None if it puts none, or several.

    None too for one that reads no such text, as of parens alone.
    """
    if tokenizer is None:
        return None
    try:
        plain, whole = (tokenizer.encode(_PROBE, add_special_tokens=added).ids for added in (False, True))
    except Exception as error:
        if type(error) is not Exception:  # which is what the library raises
            raise
        return None
    for front in range(len(whole) - len(plain) + 1):
        if whole[front : front + len(plain)] == plain:
            return whole[0] if front == 1 else None
    return None


def _whole(tokenizer: Tokenizer) -> Tokenizer:
    """Switch off padding and truncation."""
    tokenizer.no_padding()
    tokenizer.no_truncation()
    return tokenizer


def check_tokens(tokenizer: Tokenizer, vocab_size: int, called: str, config: str) -> None:
    """Raise ScrubError unless a tokenizer has a model's tokens, which `config` says: see :func:`read_tokenizer`."""
    known = tokenizer.get_vocab(with_added_tokens=True)
    size, last = len(set(known.values())), max(known.values(), default=-1)
    beyond, own = without_row(tokenizer, vocab_size), tokenizer.get_vocab(with_added_tokens=False)
    added = len(beyond) <= MOST_WITHOUT_ROW and not any(text in own for text in beyond)
    most = vocab_size + len(beyond) if added else vocab_size
    if not max(vocab_size - MOST_PADDING_ROWS, vocab_size // 2) < size <= most or last != size - 1:
        gaps = f" with ids up to {last}" if last != size - 1 else ""
        raise ScrubError(
            f"{called} has {size} tokens{gaps}, but {config} says vocab_size {vocab_size}: "
            "take the tokenizer that the model was trained with"
        )
    if beyond and (front := added_in_front(tokenizer)) is not None and front >= vocab_size:
        raise ScrubError(
            f"{called} puts {short(tokenizer.id_to_token(front))} in front of every text, but {config} says vocab_size "
            f"{vocab_size}, so the model has no row for it: take the tokenizer that the model was trained with"
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
    beside = _added(path.parent) if merges is not None else {}
    prefix = _cut_as_gpt2(path) if merges is not None else False
    try:
        tokenizer = Tokenizer.from_str(text) if merges is None else _byte_level(parsed, merges, beside, prefix)
        tokenizer.get_vocab(with_added_tokens=True)
        _whole(tokenizer)
    except BaseException as error:  # a panic of the Rust library is no Exception
        if isinstance(error, KeyboardInterrupt | SystemExit):
            raise
        raise ScrubError(
            f"{shown(path)} is no tokenizer: {short(error, quoted=False)}: "
            "expected a file as the Hugging Face tokenizers library saves it"
        ) from error
    for content, (token, _) in beside.items():
        if tokenizer.token_to_id(content) != token:
            raise ScrubError(
                f"{shown(path)} and what is beside it don't fit: {short(content)} would be the token "
                f"{tokenizer.token_to_id(content)}, and is said to be {token}: take the files of one tokenizer"
            )
    return tokenizer


def _cut_as_gpt2(path: Path) -> bool:
    """Tell whether a blank goes in front of every text that a vocab.json is for, as tokenizer_config.json may say.

    Neither vocab.json nor merges.txt says how texts are cut, composed and changed before anything is merged: that is
    known of GPT-2's classes alone. Raises ScrubError for another, since its ids would be others.
    """
    said, config = _beside(path.with_name(TOKENIZER_CONFIG)), _beside(path.with_name(CONFIG))
    called = said.get("tokenizer_class") or config.get("tokenizer_class")
    kind = config.get("model_type")
    known = _OF_GPT2.fullmatch(str(called)) if called else kind is None or kind in _CUT_AS_GPT2
    if not known:
        whose = f"a {short(called, quoted=False)}" if called else f"a model of the type {short(kind, quoted=False)}"
        raise ScrubError(
            f"{shown(path)} is of {whose}, and doesn't say how that cuts texts: save it as {TOKENIZER}, as "
            "transformers' AutoTokenizer.from_pretrained(F).save_pretrained(F) does in a folder F, or give one, as in "
            "load_model(..., tokenizer=...)"
        )
    return said.get("add_prefix_space") is True


def _byte_level(
    vocabulary: Any, merges: str, added: Mapping[str, tuple[int, AddedToken]], prefix: bool = False
) -> Tokenizer:
    """Make a tokenizer of GPT-2's kind of its tokens' ids, and lines of two tokens to merge, the first ones first.

    `added` are tokens that text isn't made of, with their ids: the vocabulary may lack them. With a `prefix`, a blank
    goes in front of a text.
    """
    lines = (line.rstrip("\r") for line in merges.split("\n"))
    pairs: Any = [tuple(line.split(" ")) for line in lines if line and not line.startswith("#version")]
    tokenizer = Tokenizer(models.BPE(vocabulary, pairs))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=prefix)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_special_tokens([_END] if _END in vocabulary else [])
    tokenizer.add_tokens([each for _, each in sorted(added.values(), key=lambda pair: pair[0])])
    return tokenizer


def _added(folder: Path) -> dict[str, tuple[int, AddedToken]]:
    """Read the tokens that stand beside a vocab.json, by their text: their ids, and how they are looked for.

    added_tokens.json says their ids, special_tokens_map.json and tokenizer_config.json which of them are special; what
    tokenizer_config.json says of each in `added_tokens_decoder`, as transformers saves it, wins.
    Raises ScrubError for a file that is no such thing.
    """
    said = {name: _beside(folder / name) for name in (ADDED_TOKENS, SPECIAL_TOKENS, TOKENIZER_CONFIG)}
    special = {text for name in (SPECIAL_TOKENS, TOKENIZER_CONFIG) for text in _special(said[name])}
    found: dict[str, tuple[int, AddedToken]] = {}
    for content, token in said[ADDED_TOKENS].items():
        if not isinstance(token, int) or isinstance(token, bool):
            raise ScrubError(f"{shown(folder / ADDED_TOKENS)} says no id of {short(content)}: give a whole number")
        found[content] = token, AddedToken(content, special=content in special, normalized=content not in special)
    decoder = said[TOKENIZER_CONFIG].get("added_tokens_decoder")
    for number, each in decoder.items() if isinstance(decoder, dict) else ():
        text = each.get("content") if isinstance(each, dict) else None
        if isinstance(text, str) and number.isdecimal():
            flags = {name: each[name] for name in _FLAGS if isinstance(each.get(name), bool)}
            found[text] = int(number), AddedToken(text, **flags)
    return found


def _beside(path: Path) -> dict[str, object]:
    return read_fields(path, "file of a tokenizer") if path.exists() else {}


def _special(fields: Mapping[str, object]) -> Iterator[str]:
    """List the texts of the special tokens that a file names: each alone, or in a list."""
    for name, value in fields.items():
        if name.endswith(("_token", "_special_tokens")):
            for each in value if isinstance(value, list) else [value]:
                text = each.get("content") if isinstance(each, dict) else each
                if isinstance(text, str):
                    yield text
