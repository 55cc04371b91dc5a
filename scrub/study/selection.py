"""Select the positions that a study scores."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np
from jaxtyping import Bool, Int
from tokenizers import Tokenizer

from scrub.data.examples import PROMPTS, Examples, Scored
from scrub.data.labels import READ_AT
from scrub.data.whitelist import WHITELIST as FILE
from scrub.data.whitelist import kept_whitelist, rank_in_group, whitelist_of
from scrub.models.find import locate
from scrub.models.kept import spelled
from scrub.models.model import Model
from scrub.study.settings import EVERY, POSITIONS, REPEATS, Positions, positions_said
from scrub.text.errors import ScrubError
from scrub.text.spans import END, names
from scrub.text.wording import few

_PLACED = inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD
_NAMED = inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY


def scored_at(positions: Positions, examples: Examples, study_data: str, model: Model | None = None) -> Scored:
    """Select the positions whose next token is scored, of those that may be.

    "all"; "repeats", those whose token stands earlier in its sequence, so that there is something to induct from; or
    "whitelist", those of the mask that the data come with, or else those whose token is whitelisted. The whitelist of
    the data is the one that is kept for the model, or else the data's own; where there is neither, that of the study's
    data, if the tokenizer is the one it was made with. Or spans, as in "303..402,-1"; or what a function of the tokens
    that the model reads says, with the tokenizer if it asks for that: a bool array [sequence, position], or [position]
    for all sequences. Raises ScrubError if there is none that fits, or no position is selected.
    """
    if positions == EVERY:
        return examples.scored_at(np.ones_like(examples.scored)).scored
    if callable(positions):
        listed = _by_function(positions, examples.inputs, None if model is None else model.tokenizer)
    elif positions in POSITIONS:
        listed = repeats(examples.inputs) if positions == REPEATS else _listed(examples, study_data, model)
    else:
        listed = _by_place(str(positions), examples)
    selected = examples.scored_at(listed).scored
    if not selected.any():
        if positions not in POSITIONS:
            raise ScrubError(
                f"no position of the data {examples.name!r} is selected by the positions {positions_said(positions)}: "
                "use --positions all, or others"
            )
        is_so = {REPEATS: "stands earlier in its sequence"}.get(positions, "is on the whitelist")
        raise ScrubError(
            f"no position of the data {examples.name!r} is selected: none of its {examples.tokens.size:,} tokens "
            f"{is_so}; use --positions all, or data with a whitelist of its own ('scrub whitelist')"
        )
    return selected


def positions_of(examples: Examples, asked: Positions | None, usual: Positions) -> Positions:
    """Choose which positions of examples are scored: those asked for, else a study's; of prompts the end of each.

    With labels it is where the class is read. Spans and functions of a study stand for prompts and labels too.
    """
    if asked is not None or not (isinstance(usual, str) and usual in POSITIONS):
        return usual if asked is None else asked
    return str(READ_AT) if examples.labels is not None else END if examples.kind == PROMPTS else usual


def repeats(inputs: Int[np.ndarray, "sequence position"]) -> Bool[np.ndarray, "sequence position"]:
    """Find the positions whose token stands earlier in its sequence."""
    rows = np.arange(len(inputs))[:, None]
    return rank_in_group(rows * (int(inputs.max(initial=0)) + 1) + inputs) > 0


def _by_place(positions: str, examples: Examples) -> Scored:
    try:
        return examples.at(positions)
    except ScrubError as error:
        if unknown := [name for name in names(positions) if name not in examples.positions]:
            known = ", ".join(map(repr, POSITIONS))
            there = few([*examples.positions, END])
            raise ScrubError(
                f"positions are {known} or spans such as 4..7,-1, or names that the data give, here {there}, and not "
                f"{unknown[0]!r}"
            ) from error
        raise


def _by_function(
    function: Callable[..., Any], inputs: Int[np.ndarray, "sequence position"], tokenizer: Tokenizer | None
) -> Scored:
    """Ask a function, which is the user's own code: what it raises becomes a ScrubError."""
    try:
        found = np.asarray(_with_tokenizer(function, tokenizer)(inputs.copy()))
    except ScrubError:
        raise
    except (Exception, SystemExit) as error:
        raise ScrubError(
            f"the positions {positions_said(function)} fail: {type(error).__name__}: {str(error) or 'raised'}: they "
            "are asked for as positions(tokens [sequence, position]), or with the tokenizer as a second argument"
        ) from error
    if found.dtype != bool or found.shape not in (inputs.shape, inputs.shape[1:]):
        raise ScrubError(
            f"the positions {positions_said(function)} are {found.dtype} {list(found.shape)}: give a bool mask "
            f"{list(inputs.shape)}, or {list(inputs.shape[1:])} for all sequences"
        )
    return np.array(np.broadcast_to(found, inputs.shape))


def _with_tokenizer(function: Callable[..., Any], tokenizer: Tokenizer | None) -> Callable[..., Any]:
    """Give a function the tokenizer that it asks for: in a second argument that it can't do without, or by that name.

    A second argument with a default is the user's own, and none of ours to fill; so is a tokenizer that is given there.
    """
    try:
        takes = inspect.signature(function).parameters
    except (TypeError, ValueError):  # it doesn't say what it takes
        return function
    named = takes.get("tokenizer")
    if named is not None and named.kind in _NAMED and (named.default is None or named.default is named.empty):
        return partial(function, tokenizer=tokenizer)
    second = [each for each in takes.values() if each.kind in _PLACED][1:2]
    asked = bool(second) and second[0].default is second[0].empty
    return (lambda tokens: function(tokens, tokenizer)) if asked else function


def _listed(examples: Examples, study_data: str, model: Model | None) -> Scored:
    origin = examples.origin
    if origin is not None and origin.masked:
        return examples.scored
    if origin is None:
        raise ScrubError(
            "tokens in memory have no whitelist: score others (--positions repeats, or all), or give a mask with them"
        )
    for name, folder in ((examples.name, origin.folder), (study_data, locate("data", study_data))):
        if model is not None and (kept := kept_whitelist(model, name)) is not None:
            return kept.select(examples.tokens)
        if folder is not None and (folder / FILE).is_file():
            break
    else:
        folder = None
    of = replace(origin, folder=folder)
    return whitelist_of(of, examples.name, spelled(model) if model else "MODEL").select(examples.tokens)
