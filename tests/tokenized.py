"""Tokenizers of five kinds that have given words as single tokens, made of nothing else, and one of letters alone."""

from __future__ import annotations

import string
from collections.abc import Callable, Sequence
from itertools import pairwise

from tokenizers import AddedToken, Tokenizer, decoders, models, normalizers, pre_tokenizers

from scrub.data.prompts.words import WORDS
from scrub.data.tasks.words import CENTURIES, CODE, ENDINGS, MONTHS, NAMES, NUMBERS, WEEKDAYS

ALL = tuple(
    dict.fromkeys([*NAMES, *WEEKDAYS, *MONTHS, *NUMBERS, *CENTURIES, *ENDINGS, *CODE, "param", *WORDS["words"]])
)
PUNCTUATION = "_:,.()[]={}\"#/?!-'\n"


def _merges(words: Sequence[str], blank: str) -> tuple[list[tuple[str, str]], list[str]]:
    """Make merges that build every word, with a blank in front and without, and list what they give.

    Each merge is made where those before it leave a word in pieces, and takes no earlier word apart, as it comes last.
    """
    ranks: dict[tuple[str, str], int] = {}
    for form in (each for word in words for each in (blank + word, word)):
        parts = list(form)
        while len(parts) > 1:
            pairs = list(pairwise(parts))
            best = min(pairs, key=lambda pair: ranks.get(pair, len(ranks)))
            ranks.setdefault(best, len(ranks))
            at = pairs.index(best)
            parts[at : at + 2] = ["".join(best)]
    return list(ranks), ["".join(pair) for pair in ranks]


def byte_level(words: Sequence[str] = ALL) -> Tokenizer:
    """As GPT-2's: a blank belongs to the word behind it, and a number is apart from other letters."""
    merges, made = _merges(words, "Ġ")
    tokens = dict.fromkeys([*sorted(pre_tokenizers.ByteLevel.alphabet()), *made])
    tokenizer = Tokenizer(models.BPE({token: at for at, token in enumerate(tokens)}, merges))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    return tokenizer


def runs_of_blanks(words: Sequence[str] = ALL) -> Tokenizer:
    """As GPT-NeoX's: several blanks are one token, and take the one in front of a word with them."""
    tokenizer = byte_level(words)
    tokenizer.add_tokens([AddedToken(" " * blanks, normalized=True) for blanks in range(24, 1, -1)])
    return tokenizer


def joined_blanks(words: Sequence[str] = ALL) -> Tokenizer:
    """As Gemma's: that, in one piece, and nothing is put in front of a text."""
    tokenizer = sentence_piece(words)
    tokenizer.normalizer = normalizers.Replace(" ", "▁")
    tokenizer.add_tokens([AddedToken("▁" * blanks, normalized=True) for blanks in range(16, 1, -1)])
    return tokenizer


def sentence_piece(words: Sequence[str] = ALL) -> Tokenizer:
    """As Llama's: a text gets a blank in front, so that " Mary" alone is a blank and then Mary; merges in one piece."""
    merges, made = _merges(words, "▁")
    letters = ["▁", *PUNCTUATION, *string.ascii_letters, *string.digits]
    tokens = dict.fromkeys(["<unk>", *(f"<0x{byte:02X}>" for byte in range(256)), *letters, *made])
    model = models.BPE({token: at for at, token in enumerate(tokens)}, merges, unk_token="<unk>", byte_fallback=True)
    tokenizer = Tokenizer(model)
    tokenizer.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
    steps = [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 1, 0)]
    tokenizer.decoder = decoders.Sequence(steps)
    return tokenizer


def metaspace(words: Sequence[str] = ALL) -> Tokenizer:
    """As T5's: pieces with scores, and blanks that are put in front of a text that has none."""
    pieces = [("<unk>", 0.0), ("▁", -3.0), *((each, -9.0) for each in (*string.ascii_letters, *PUNCTUATION))]
    pieces += [(f"▁{word}", -1.0) for word in words]
    pieces += [(word, -5.0) for word in words if word.isdigit() and len(word) == 2]
    tokenizer = Tokenizer(models.Unigram(pieces, unk_id=0, byte_fallback=False))
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace()
    tokenizer.decoder = decoders.Metaspace()
    return tokenizer


def lower_case(words: Sequence[str] = ALL) -> Tokenizer:
    """Whole words in small letters, the same wherever they stand, without blanks; all others are one unknown token."""
    tokens = dict.fromkeys(["[UNK]", *map(str.lower, words)])
    tokenizer = Tokenizer(models.WordLevel({token: at for at, token in enumerate(tokens)}, "[UNK]"))
    tokenizer.normalizer = normalizers.Lowercase()
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    return tokenizer


KINDS: dict[str, Callable[[Sequence[str]], Tokenizer]] = {
    each.__name__: each for each in (byte_level, sentence_piece, metaspace, lower_case, runs_of_blanks)
}


def letters() -> Tokenizer:
    """As GPT-2's: a letter with a blank in front is another token than without one."""
    alphabet = string.ascii_uppercase
    tokens = ["<|begin|>", "Ġ", *alphabet, *(f"Ġ{letter}" for letter in alphabet)]
    vocabulary = {token: at for at, token in enumerate(tokens)}
    tokenizer = Tokenizer(models.BPE(vocabulary, [("Ġ", letter) for letter in alphabet]))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_special_tokens(["<|begin|>"])
    return tokenizer
