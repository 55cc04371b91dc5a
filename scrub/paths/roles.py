"""Roles: names of sets of heads, which a model's config, or a study, gives them."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import TypeAlias

from scrub.text.errors import ScrubError
from scrub.text.wording import numbers

Roles: TypeAlias = Mapping[str, Sequence[tuple[int, int]]]  # role -> (layer, head)
OF_STUDY = "roles of the study"  # what a heading calls them
_NAME = re.compile(r"[A-Za-z][A-Za-z0-9_-]*")


def mistake_in(roles: Mapping[str, Iterable[Sequence[int]]]) -> str:
    """Say what is wrong with roles: what can't name one, or a head that has two; nothing where all is well.

    `mistake_in({"prev": [(0, 1)], "ind": [(1, 3)]})`.
    """
    owners: dict[tuple[int, ...], str] = {}
    for role, heads in roles.items():
        if role == "rest" or not _NAME.fullmatch(role):
            return f"{role!r} can't be the name of a role: use letters, digits, _ and -, and not 'rest'"
        for head in map(tuple, heads):
            if head in owners:
                twice = f"both {owners[head]!r} and {role!r}" if owners[head] != role else f"{role!r} twice"
                return f"roles give head {list(head)} {twice}: a head has one role"
            owners[head] = role
    return ""


def check_there(who: str, roles: Roles, there: Mapping[int, Sequence[int]]) -> None:
    """Raise ScrubError if a role names a layer or a head that the model doesn't have; `who` gives the roles.

    `check_there("config.json", {"prev": [(0, 1)]}, attention_heads(graph))`.
    """
    for role, heads in roles.items():
        for layer, head in heads:
            where = f"{who} gives the role {role!r} to head [{layer}, {head}]"
            if layer not in there:
                has = f"no layer {layer}: its layers are {numbers(there)}" if there else "no attention layer"
                raise ScrubError(f"{where}, but the model has {has}")
            if head not in there[layer]:
                has = f"layer {layer} has no head {head}: its heads are {numbers(there[layer])}"
                raise ScrubError(f"{where}, but {has}")


def roles_text(roles: Roles) -> str:
    """Say which heads have which role: `roles_text({"prev": [(0, 1), (0, 3)]})` is "prev = 0.1 0.3"."""
    told = (f"{role} = {' '.join(f'{layer}.{head}' for layer, head in heads)}" for role, heads in roles.items())
    return "; ".join(told)
