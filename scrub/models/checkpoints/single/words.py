"""What the tokenizers of files of one kind have in common: byte-pair encoding, with the merges said or implied."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from tokenizers import AddedToken, Tokenizer, processors

from scrub.models.checkpoints.tokenizer import check_tokens
from scrub.text.errors import ScrubError
from scrub.text.files import shown
from scrub.text.wording import short


def numbered(path: Path, tokens: Sequence[str]) -> dict[str, int]:
    """Number the tokens of a file. Raises ScrubError if two are the same text, one of which would never be found."""
    ids: dict[str, int] = {}
    for number, token in enumerate(tokens):
        if (other := ids.setdefault(token, number)) != number:
            raise ScrubError(
                f"{shown(path)} has the token {short(token)} twice, as {other} and {number}: take another copy"
            )
    return ids


def implied_merges(ids: Mapping[str, int], scores: Mapping[str, float]) -> list[tuple[str, str]]:
    """List the pairs of tokens that are a token together, the best score first.

    Of one token's, those with the longest first part come first. Only what has a score is merged into.
    """
    found = [
        (-score, -at, at - len(token), ids[token], ids[token[:at]], ids[token[at:]])
        for token, score in scores.items()
        for at in range(1, len(token))
        if token[:at] in ids and token[at:] in ids
    ]
    texts = list(ids)
    return [(texts[left], texts[right]) for *_, left, right in sorted(found)]


def finished(
    path: Path,
    tokenizer: Callable[[], Tokenizer],
    vocab_size: int,
    special: Sequence[str],
    plain: Sequence[str] = (),
    begin: str | None = None,
    end: str | None = None,
) -> Tokenizer:
    """Make a tokenizer, which finds special and other added tokens whole, and puts tokens in front and behind.

    Raises ScrubError if it can't be made, or its tokens aren't the model's.
    """
    try:
        made = tokenizer()
        known = made.get_vocab()
        made.add_special_tokens([AddedToken(each, special=True, normalized=False) for each in special if each in known])
        made.add_tokens([AddedToken(each, special=False, normalized=False) for each in plain if each in known])
        around = [each for each in (begin, end) if each is not None and each in known]
        made.post_processor = processors.TemplateProcessing(
            single=[each for each in (begin, "$A", end) if each is not None],
            pair=None,
            special_tokens=[(each, known[each]) for each in around],
        )
    except BaseException as error:  # a panic of the Rust library is no Exception
        if isinstance(error, KeyboardInterrupt | SystemExit | ScrubError):
            raise
        raise ScrubError(
            f"{shown(path)} has no tokenizer that can be made ({short(error, quoted=False)}): take another copy, "
            "or give one, as in load_model(..., tokenizer=...)"
        ) from error
    check_tokens(made, vocab_size, shown(path), "its embedding")
    return made
