"""The tokens after which induction helps: where earlier occurrences predict the next token better than bigrams do."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from pydantic import TypeAdapter, ValidationError
from tokenizers import Tokenizer

from scrub.data.bigram import Bigram, Floats, Tokens, pairs
from scrub.data.examples import Examples, Origin
from scrub.data.for_model import examples_for
from scrub.data.settings import WhitelistSettings
from scrub.models.kept import whitelist_places
from scrub.models.model import Model, Spec, load_model
from scrub.text.errors import ScrubError
from scrub.text.files import one_line, read_file, write_atomically

WHITELIST = "whitelist.json"  # beside the card of the data


def earlier_counts(tokens: Tokens) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Count for each pair AB the earlier A's of its sequence that were followed by B, and by something else.

    Both are int64 [sequences, tokens - 1].
    """
    first, second = pairs(np.asarray(tokens, dtype=np.int64))
    size = int(tokens.max(initial=0)) + 1
    rows = np.arange(len(first))[:, None]
    same_token = rank_in_group(rows * size + first)
    matching = rank_in_group((rows * size + first) * size + second)
    return matching, same_token - matching


def rank_in_group(keys: NDArray[np.int64]) -> NDArray[np.int64]:
    """Count the earlier entries, in reading order, that hold the same key."""
    flat = pd.Series(keys.ravel())
    ranks = flat.groupby(flat, sort=False).cumcount().to_numpy().astype(np.int64)
    return ranks.reshape(keys.shape)


def heuristic_losses(tokens: Tokens, bigram: Bigram, beta: float) -> Floats:
    """Compute the loss of the induction heuristic on each pair, in nats, float64 [sequences, tokens - 1].

    The log-odds of B against not-B start from the bigram's; every earlier A that was followed by B adds beta, every
    other earlier A takes beta away.
    """
    probability = bigram.probabilities(tokens)
    matching, others = earlier_counts(tokens)
    logit = np.log(probability) - np.log1p(-probability) + beta * (matching - others)
    losses: Floats = np.logaddexp(0.0, -logit)
    return losses


def gains(tokens: Tokens, bigram: Bigram, beta: float) -> tuple[Floats, NDArray[np.int64]]:
    """Average for each token A the bigram's loss less the heuristic's over all pairs AB, in nats, and count the pairs.

    float64 [vocabulary] and int64 [vocabulary]; the gain of a token that begins no pair is minus infinity.
    """
    first = pairs(np.asarray(tokens, dtype=np.int64))[0].ravel()
    difference = (bigram.losses(tokens) - heuristic_losses(tokens, bigram, beta)).ravel()
    counts = np.bincount(first, minlength=bigram.vocab_size)
    sums = np.bincount(first, weights=difference, minlength=bigram.vocab_size)
    return np.where(counts > 0, sums / np.maximum(counts, 1), -np.inf), counts


@dataclass(frozen=True)
class Whitelist:
    """The whitelisted tokens with all that made them."""

    tokens: list[int]
    strings: list[str]  # the tokens' names; their ids as text where there is no tokenizer
    beta: float
    threshold: float  # nats; a token is listed if its gain exceeds it
    sequences: int  # that the gains were measured on
    positions: int  # pairs of consecutive tokens in them
    selected: int  # positions among them whose token is listed

    def save(self, path: Path) -> None:
        """Write it as JSON. Raises ScrubError if that can't be done."""
        fields = [
            f" {json.dumps(name)}: {json.dumps(value, ensure_ascii=False)}" for name, value in asdict(self).items()
        ]
        write_atomically(path, "{\n" + ",\n".join(fields) + "\n}\n")

    @classmethod
    def load(cls, path: Path) -> "Whitelist":
        """Read what `save` wrote. Raises ScrubError if the file isn't that."""
        try:
            return TypeAdapter(cls).validate_json(read_file(path, "make it with `scrub whitelist`"))
        except ValidationError as error:
            raise ScrubError(f"{one_line(path)} is no whitelist: make it again with `scrub whitelist`") from error

    def fits(self, tokenizer: Tokenizer | None, vocab_size: int) -> bool:
        """Tell whether the list is about the tokens of this vocabulary."""
        names = [tokenizer.id_to_token(token) if tokenizer else str(token) for token in self.tokens]
        return names == self.strings and all(0 <= token < vocab_size for token in self.tokens)

    def select(self, tokens: Tokens) -> NDArray[np.bool_]:
        """Select the positions whose token is listed and whose successor is scored: bool [sequences, tokens - 1]."""
        return np.isin(np.asarray(tokens)[:, :-1], self.tokens)


def threshold_for(gain: Floats, counts: NDArray[np.int64], share: float) -> float:
    """Find the largest threshold, in nats and not below 0, that selects at least `share` of the positions."""
    order = np.argsort(-gain, kind="stable")
    reached = np.cumsum(counts[order]) >= share * counts.sum()
    last = order[int(np.argmax(reached))] if reached.any() else order[-1]
    below = gain[gain < gain[last]]
    # Half-way to the next token, so that rounding the threshold changes nothing.
    middle = (gain[last] + below.max()) / 2 if np.isfinite(below).any() else gain[last] - 1e-6
    return max(0.0, float(middle))


def build_whitelist(
    tokens: Tokens,
    bigram: Bigram,
    strings: list[str],
    beta: float = WhitelistSettings.beta,
    threshold: float | None = None,
    share: float = WhitelistSettings.share,
) -> Whitelist:
    """Build the whitelist of a corpus, int64 [sequences, tokens]; `strings` names every token of the vocabulary.

    Without a threshold, the one that selects about `share` of the positions.
    """
    gain, counts = gains(tokens, bigram, beta)
    chosen = threshold_for(gain, counts, share) if threshold is None else threshold
    listed = np.flatnonzero(gain > chosen)
    return Whitelist(
        tokens=listed.tolist(),
        strings=[strings[token] for token in listed],
        beta=beta,
        threshold=chosen,
        sequences=len(tokens),
        positions=int(counts.sum()),
        selected=int(counts[listed].sum()),
    )


def kept_whitelist(model: Model, data: str | Path) -> Whitelist | None:
    """Read the whitelist of some data that is kept for a model, or its tokenizer, if there is one."""
    for path in whitelist_places(model, data):
        if path.is_file() and (found := Whitelist.load(path)).fits(model.tokenizer, model.vocab_size):
            return found
    return None


def whitelist_of(origin: Origin | None, name: str, model: str = "MODEL") -> Whitelist:
    """Read the whitelist that some data have for all models. Raises ScrubError if there is none, or none that fits."""
    path = origin.folder / WHITELIST if origin is not None and origin.folder else None
    if origin is None or path is None or not path.is_file():
        raise ScrubError(
            f"the data {one_line(name)!r} have no {WHITELIST}: make one with "
            f"`scrub whitelist {one_line(name)} --model {model}`, or select others (--positions repeats, or all)"
        )
    whitelist = Whitelist.load(path)
    if not whitelist.fits(origin.tokenizer, origin.vocab_size):
        raise ScrubError(
            f"{one_line(path)} lists tokens of another tokenizer: make one for this model with "
            f"`scrub whitelist {one_line(name)} --model {model}`, or select others (--positions repeats, or all)"
        )
    return whitelist


def make_whitelist(data: str, model: Spec = "attn2l", settings: WhitelistSettings | None = None) -> Whitelist:
    """Make the whitelist of some data for a model's tokenizer: :func:`counted` text, and :func:`whitelist_in` it.

    Raises ScrubError for data that can't be had or are too few.
    """
    settings, loaded = settings or WhitelistSettings(), load_model(model)
    return whitelist_in(counted(data, loaded, settings), loaded, settings)


def counted(data: str, model: Model, settings: WhitelistSettings) -> Examples:
    """Load the text that a whitelist is counted in; its notes say what became of it. Raises ScrubError as data do."""
    s = settings
    found = examples_for(model, data, s.sequences, s.split, s.column, context=s.context, bos=s.bos)
    return found.as_running("a whitelist")


def whitelist_in(text: Examples, model: Model, settings: WhitelistSettings) -> Whitelist:
    """Make the whitelist of some text, for the tokenizer that made it.

    Bigram statistics come from every other sequence, gains from those between, so that no pair is judged by statistics
    that it is part of. Raises ScrubError if there are too few.
    """
    tokens, tokenizer = text.tokens, model.tokenizer
    if len(tokens) < 2:
        raise ScrubError(f"the data {one_line(text.name)!r} hold 1 sequence: a whitelist needs at least 2")
    ids = range(model.vocab_size)
    names = [(tokenizer.id_to_token(token) if tokenizer else None) or str(token) for token in ids]
    statistics = Bigram.fit(tokens[::2], model.vocab_size)
    return build_whitelist(tokens[1::2], statistics, names, settings.beta, settings.threshold, settings.share)
