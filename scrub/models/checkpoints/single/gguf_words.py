"""The tokenizer of a GGUF file, made again of its metadata, so that it gives the ids of transformers' `gguf_file=`.

The file says how texts are cut before anything is merged by a name alone (`tokenizer.ggml.pre`): one that isn't in the
table is refused, since another cut gives other ids.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

from tokenizers import Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers

from scrub.models.checkpoints.single.header import Value
from scrub.models.checkpoints.single.said import Said
from scrub.models.checkpoints.single.words import finished, implied_merges, numbered
from scrub.text.errors import ScrubError
from scrub.text.files import shown
from scrub.text.wording import short

_BYTE_LEVEL, _PIECES = "gpt2", "llama"  # what llama.cpp calls byte-level BPE, and SentencePiece's
_NONE = ("none", "no_vocab")
_CONTROL, _ADDED = 3, 4  # types of tokens
_NAMED = ("bos_token_id", "eos_token_id", "unknown_token_id", "padding_token_id")
_SPACE = "\u2581"  # that SentencePiece writes for a blank

_LETTERS = r"[^\r\n\p{L}\p{N}]?\p{L}+"
_CASED = "|".join(
    rf"[^\r\n\p{{L}}\p{{N}}]?[\p{{Lu}}\p{{Lt}}\p{{Lm}}\p{{Lo}}\p{{M}}]{upper}[\p{{Ll}}\p{{Lm}}\p{{Lo}}\p{{M}}]{lower}"
    for upper, lower in ("*+", "+*")
)
_SHORTENED = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|"
_BLANKS = r"\s*[\r\n]+|\s+(?!\S)|\s+"
_LLAMA3 = rf"{_SHORTENED}{_LETTERS}|\p{{N}}{{1,3}}| ?[^\s\p{{L}}\p{{N}}]+[\r\n]*|{_BLANKS}"
_QWEN2 = rf"{_SHORTENED}{_LETTERS}|\p{{N}}| ?[^\s\p{{L}}\p{{N}}]+[\r\n]*|{_BLANKS}"
_TEKKEN = rf"{_CASED}|\p{{N}}| ?[^\s\p{{L}}\p{{N}}]+[\r\n/]*|{_BLANKS}"

_CUTS: dict[str, str | None] = {  # by what `tokenizer.ggml.pre` says; None: as GPT-2 does
    **dict.fromkeys(("gpt-2", "gpt2", "phi-2", "olmo", "mpt", "smollm"), None),
    **dict.fromkeys(("llama-bpe", "llama3", "llama-v3", "falcon3", "dbrx", "smaug-bpe"), _LLAMA3),
    **dict.fromkeys(("qwen2", "deepseek-r1-qwen"), _QWEN2),
    "tekken": _TEKKEN,
}
_BEGINS = ("llama-bpe", "llama3", "llama-v3")  # whose own library begins every text, though no file says so
_WHOLE = "takes what is a token by itself whole, whatever its merges say, so that some words are other tokens there"
_OTHERWISE = {  # by the same: what the model's own tokenizer does and gguf_file= doesn't, as no file says it
    "smollm": "cuts before each digit first, so that several blanks before a digit are other tokens there",
    "qwen2": "composes letters and accents first (NFC), so that an accent that stands apart is other tokens there",
    **dict.fromkeys((*_BEGINS, "smaug-bpe", "tekken"), _WHOLE),
}


class Words:
    """What a file says of tokens."""

    def __init__(self, path: Path, metadata: Mapping[str, Value], architecture: str, vocab_size: int) -> None:
        self._path, self._architecture, self._size = path, architecture, vocab_size
        self._said = Said(path, metadata, "tokenizer.ggml")
        self._kind = self._said.text("model", "none")
        self._cut = self._said.text("pre", "") if self._kind == _BYTE_LEVEL else ""

    @property
    def fields(self) -> dict[str, Any]:
        """The fields of a config: whether prompts begin with the begin token where the tokenizer won't put it."""
        silent = self._cut in _BEGINS and self._said.get("add_bos_token") is None
        return {"bos_before_prompts": True} if silent else {}

    @property
    def notes(self) -> tuple[str, ...]:
        """What is unusual about the tokenizer."""
        if self._kind in _NONE:
            return (f"{shown(self._path)} holds no tokenizer: data for it are token ids",)
        if (what := _OTHERWISE.get(self._cut)) is None:
            return ()
        made = "its tokenizer is made as transformers' gguf_file= makes it; the model's own one"
        return (f"{shown(self._path)}: {made} {what}",)

    def tokenizer(self) -> Tokenizer | None:
        """Make the tokenizer. Raises ScrubError if it is of another kind, or its metadata don't make one."""
        if self._kind in _NONE:
            return None
        if self._kind not in (_BYTE_LEVEL, _PIECES):
            raise self._unknown(f"a tokenizer of the kind {short(self._kind)}", (_BYTE_LEVEL, _PIECES))
        if self._kind == _BYTE_LEVEL and self._cut not in _CUTS:
            raise self._unknown(f"a tokenizer that cuts texts as {short(self._cut)} does", _CUTS)
        tokens, kinds = self._texts("tokens"), self._kinds()
        if self._kind == _BYTE_LEVEL:
            tokens = [_spelled(each) for each in tokens]
        elif self._architecture.startswith("gemma"):
            tokens = [_SPACE * len(each) if each and not each.strip(" ") else each for each in tokens]
        ids = numbered(self._path, tokens)
        named = {name: self._said.token(name, len(tokens)) for name in _NAMED}
        kind = {number: each for number, each in enumerate(kinds) if each in (_CONTROL, _ADDED)}
        special = {number for number, each in kind.items() if each == _CONTROL} | {*named.values()} - {None}
        begins = self._said.flag("add_bos_token", self._kind == _PIECES)
        ends = self._said.flag("add_eos_token", False)
        begin, end = (None if named[name] is None else tokens[named[name] or 0] for name in _NAMED[:2])
        return finished(
            self._path,
            partial(self._byte_level if self._kind == _BYTE_LEVEL else self._pieces, ids),
            self._size,
            [tokens[number] for number in sorted(each for each in special if each is not None)],
            [tokens[number] for number, each in kind.items() if each == _ADDED],
            begin if begins else None,
            end if ends else None,
        )

    def _unknown(self, what: str, known: Any) -> ScrubError:
        return ScrubError(
            f"{shown(self._path)} has {what}: scrub knows {', '.join(sorted(known))}; "
            "give a tokenizer, as in load_model(..., tokenizer=...)"
        )

    def _texts(self, name: str) -> list[str]:
        found = self._said.get(name)
        if not isinstance(found, list) or not found or not all(isinstance(each, str) for each in found):
            self._said.wrong(name, found, "a list of texts")
        return [each for each in found if isinstance(each, str)]

    def _kinds(self) -> list[int]:
        found = self._said.get("token_type")
        if found is None:
            return []
        if not isinstance(found, list) or not all(isinstance(each, int) for each in found):
            self._said.wrong("token_type", found, "a list of whole numbers")
        return [each for each in found if isinstance(each, int)]

    def _merges(self) -> list[tuple[str, str]]:
        pairs = [tuple(each.split(" ")) for each in self._texts("merges")]
        if wrong := next((each for each in pairs if len(each) != 2), None):
            self._said.wrong("merges", " ".join(wrong), "two tokens with a blank between them")
        return [(each[0], each[1]) for each in pairs]

    def _byte_level(self, ids: dict[str, int]) -> Tokenizer:
        tokenizer = Tokenizer(models.BPE(ids, self._merges()))
        tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
        if (cut := _CUTS[self._cut]) is not None:
            tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
                [
                    pre_tokenizers.Split(Regex(cut), behavior="isolated"),
                    pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
                ]
            )
        tokenizer.decoder = decoders.ByteLevel()
        return tokenizer

    def _pieces(self, ids: dict[str, int]) -> Tokenizer:
        """Make one of SentencePiece's kind, which has scores instead of merges; Gemma's are in order of the tokens."""
        gemma = self._architecture.startswith("gemma")
        scores = self._said.get("scores")
        if self._said.get("merges") is not None:
            merges = self._merges()
        elif gemma:
            merges = implied_merges(ids, {token: -float(number) for token, number in ids.items()})
        elif not isinstance(scores, list) or len(scores) != len(ids) or any(isinstance(each, str) for each in scores):
            self._said.wrong("scores", scores, f"a number for each of the {len(ids):,} tokens")
        else:
            merges = implied_merges(ids, {token: float(scores[number]) for token, number in ids.items()})
        unknown = self._said.token("unknown_token_id", len(ids))
        texts = list(ids)
        tokenizer = Tokenizer(
            models.BPE(
                ids, merges, fuse_unk=True, byte_fallback=True, unk_token=None if unknown is None else texts[unknown]
            )
        )
        if gemma:
            tokenizer.normalizer = normalizers.Replace(" ", _SPACE)
            tokenizer.decoder = decoders.Sequence(_undone())
            return tokenizer
        prefix = self._said.flag("add_space_prefix", True)
        tokenizer.pre_tokenizer = pre_tokenizers.Metaspace(_SPACE, "first" if prefix else "never", split=False)
        tokenizer.decoder = decoders.Sequence([*_undone(), *([decoders.Strip(" ", 1, 0)] if prefix else [])])
        return tokenizer


def _undone() -> list[Any]:
    return [decoders.Replace(_SPACE, " "), decoders.ByteFallback(), decoders.Fuse()]


def _alphabet() -> dict[int, str]:
    """Map each byte to the character that byte-level BPE writes for it: its own if it is visible, else a later one."""
    visible = [*range(33, 127), *range(161, 173), *range(174, 256)]
    others = [each for each in range(256) if each not in visible]
    return {each: chr(each) for each in visible} | {each: chr(256 + at) for at, each in enumerate(others)}


_BYTES = _alphabet()
_SPELLING = set(_BYTES.values())


def _spelled(token: str) -> str:
    """Spell a token in the characters that stand for bytes, unless it is."""
    return token if _SPELLING.issuperset(token) else "".join(_BYTES[each] for each in token.encode())
