"""Small tokenizers of several kinds that read words, and a model for each."""

from __future__ import annotations

import string
from collections.abc import Sequence

from small import random_params
from tokenizers import AddedToken, Tokenizer, decoders, models, normalizers, pre_tokenizers

from scrub.models.families.attention_only import Config
from scrub.models.model import Model, make_model

BEGIN = "<|begin|>"
N_CTX = 53
LETTERS = [*string.ascii_uppercase[:17]]
WORDS = ["time", "house", "water", "world", "paper", "music", "river"]


def byte_level(words: Sequence[str] = (*LETTERS, *WORDS, *string.digits), bare: Sequence[str] = ()) -> Tokenizer:
    """As GPT-2's: a blank belongs to the word behind it. Of `bare` words there is no token without one."""
    tokens = [BEGIN, *sorted(pre_tokenizers.ByteLevel.alphabet())]
    merges: dict[tuple[str, str], None] = {}
    for word in words:
        whole = [f"Ġ{word}"] if word in bare else [f"Ġ{word}", word]
        for form in whole:
            merges |= dict.fromkeys((form[:cut], form[cut]) for cut in range(1, len(form)))
    tokens = list(dict.fromkeys([*tokens, *("".join(pair) for pair in merges)]))
    tokenizer = Tokenizer(models.BPE({token: at for at, token in enumerate(tokens)}, list(merges)))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_special_tokens([BEGIN])
    return tokenizer


def word_level(words: Sequence[str] = (*LETTERS, *WORDS, *string.digits)) -> Tokenizer:
    """Whole words, in small letters, the same everywhere; all others are one unknown token."""
    vocabulary = {token: at for at, token in enumerate([BEGIN, "[UNK]", *map(str.lower, words)])}
    tokenizer = Tokenizer(models.WordLevel(vocabulary, "[UNK]"))
    tokenizer.normalizer = normalizers.Lowercase()
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer.add_special_tokens([AddedToken(BEGIN, normalized=False)])
    return tokenizer


def metaspace(words: Sequence[str] = (*LETTERS, *WORDS, *string.digits)) -> Tokenizer:
    """As SentencePiece's: a text gets a blank in front, so that a word is the same token everywhere."""
    pieces = [(BEGIN, 0.0), ("<unk>", 0.0), ("▁", -9.0), *((f"▁{word}", -1.0) for word in words)]
    tokenizer = Tokenizer(models.Unigram(pieces, unk_id=1, byte_fallback=False))
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace()
    tokenizer.decoder = decoders.Metaspace()
    tokenizer.add_special_tokens([BEGIN])
    return tokenizer


TOKENIZERS = {"byte level": byte_level, "word level": word_level, "metaspace": metaspace}


def reading(tokenizer: Tokenizer | None, vocab_size: int = 0, bos_before_prompts: bool = True) -> Model:
    """A random model that reads with a tokenizer, or token ids of which there are `vocab_size`."""
    size = tokenizer.get_vocab_size() if tokenizer else vocab_size
    fields = {"n_layers": 1, "n_heads": 2, "d_head": 3, "d_model": 5, "n_ctx": N_CTX, "layer_norm_eps": 1e-5}
    begins = {"bos_token_id": 0, "positions": "standard", "bos_before_prompts": bos_before_prompts}
    config = Config.model_validate({**fields, **begins, "vocab_size": size})
    return make_model("reader", config, random_params(config, 7), tokenizer)
