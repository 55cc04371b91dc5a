"""The symbols of rows of parens in a model's vocabulary, and a tokenizer of nothing else."""

from __future__ import annotations

import numpy as np
from jaxtyping import Int
from tokenizers import AddedToken, Regex, Tokenizer, models, pre_tokenizers, processors

from scrub.data.parens.symbols import END, START, TEXTS
from scrub.text.errors import ScrubError
from scrub.text.wording import few


def make_tokenizer() -> Tokenizer:
    """Make a tokenizer that reads parens, each a token; what models of them have as their tokenizer.json.

    `make_tokenizer().encode("()").tokens` are [start], (, ), [end]. It reads nothing else: tokenizers raises Exception.
    """
    made = Tokenizer(models.WordLevel({text: token for token, text in enumerate(TEXTS)}, unk_token="[none]"))
    made.pre_tokenizer = pre_tokenizers.Split(Regex("[()]"), "isolated")
    made.add_special_tokens([AddedToken(text, special=True) for text in TEXTS if len(text) > 1])
    start, end = TEXTS[START], TEXTS[END]
    made.post_processor = processors.TemplateProcessing(
        f"{start} $A {end}", special_tokens=[(start, START), (end, END)]
    )
    return made


def ids_of(tokenizer: Tokenizer | None, vocab_size: int, where: str) -> Int[np.ndarray, " symbol"]:
    """Find the ids of the symbols: `ids_of(model.tokenizer, model.vocab_size, "parens")`, those of `symbols.TEXTS`.

    A model without a tokenizer has them in their order. Raises ScrubError for one that reads no parens.
    """
    if tokenizer is None:
        if vocab_size != len(TEXTS):
            raise ScrubError(
                f"the data {where} are rows of {', '.join(TEXTS)}, and the model, which has no tokenizer, reads "
                f"{vocab_size} tokens and not {len(TEXTS)}: take a model of parens"
            )
        return np.arange(len(TEXTS))
    found = [tokenizer.token_to_id(text) for text in TEXTS]
    lacking = [text for text, token in zip(TEXTS, found, strict=True) if token is None or token >= vocab_size]
    if lacking:
        raise ScrubError(
            f"the data {where} are rows of {', '.join(TEXTS)}, and the model's tokenizer lacks {few(lacking)}: take a "
            "model of parens, or name another --column"
        )
    if found != list(range(len(TEXTS))):
        raise ScrubError(
            f"the data {where} are rows of {', '.join(TEXTS)}, which features of them know as the tokens 0 to "
            f"{len(TEXTS) - 1}, and this model's tokenizer has others for them: number its vocabulary so"
        )
    return np.array(found, dtype=np.int64)
