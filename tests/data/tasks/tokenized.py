"""Tokenizers of four kinds that have given words as single tokens, made of nothing else."""

from __future__ import annotations

import string
from collections.abc import Callable, Sequence

from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers

from scrub.data.prompts.vocabulary import WORDS
from scrub.data.tasks.words import CENTURIES, CODE, ENDINGS, MONTHS, NAMES, NUMBERS, WEEKDAYS

ALL = tuple(
    dict.fromkeys([*NAMES, *WEEKDAYS, *MONTHS, *NUMBERS, *CENTURIES, *ENDINGS, *CODE, "param", *WORDS["words"][:61]])
)
PUNCTUATION = "_:,.()[]={}\"#/?!-'\n"


def _merges(words: Sequence[str], blank: str) -> tuple[list[tuple[str, str]], list[str]]:
    """Build every word letter by letter, with a blank in front and without: the merges, and what they give."""
    found: dict[tuple[str, str], None] = {}
    for word in words:
        for form in (blank + word, word):
            found |= dict.fromkeys((form[:cut], form[cut]) for cut in range(1, len(form)))
    return list(found), ["".join(pair) for pair in found]


def byte_level(words: Sequence[str] = ALL) -> Tokenizer:
    """As GPT-2's: a blank belongs to the word behind it, and a number is apart from other letters."""
    merges, made = _merges(words, "Ġ")
    tokens = dict.fromkeys([*sorted(pre_tokenizers.ByteLevel.alphabet()), *made])
    tokenizer = Tokenizer(models.BPE({token: at for at, token in enumerate(tokens)}, merges))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
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
    each.__name__: each for each in (byte_level, sentence_piece, metaspace, lower_case)
}
