"""Make the whitelist of some data."""

from __future__ import annotations

from scrub.data.bigram import Bigram
from scrub.data.for_model import examples_for
from scrub.data.settings import WhitelistSettings
from scrub.data.whitelist import Whitelist, build_whitelist
from scrub.models.model import load_model
from scrub.text.errors import ScrubError
from scrub.text.files import one_line


def make_whitelist(data: str, model: str = "attn2l", settings: WhitelistSettings | None = None) -> Whitelist:
    """Make the whitelist of some data for a model's tokenizer.

    Bigram statistics come from every other sequence of the split, gains from those between, so that no pair is
    judged by statistics that it is part of. Raises ScrubError for data that can't be had or are too few.
    """
    settings = settings or WhitelistSettings()
    loaded = load_model(model)
    tokenizer = loaded.tokenizer
    tokens = examples_for(loaded, data, settings.sequences, settings.split, context=settings.context).tokens
    if len(tokens) < 2:
        raise ScrubError(f"the data {one_line(data)!r} hold 1 sequence: a whitelist needs at least 2")
    ids = range(loaded.vocab_size)
    names = [(tokenizer.id_to_token(token) if tokenizer else None) or str(token) for token in ids]
    statistics = Bigram.fit(tokens[::2], loaded.vocab_size)
    return build_whitelist(tokens[1::2], statistics, names, settings.beta, settings.threshold, settings.share)
