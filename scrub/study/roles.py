"""Which heads the roles of a study's rules mean: the one place that decides whose roles are used."""

from __future__ import annotations

import re
from pathlib import Path

from scrub.graph.node import Node
from scrub.models.model import Bare, Model
from scrub.models.place import names_of
from scrub.paths.roles import Roles, check_there, roles_text
from scrub.paths.splits import attention_heads
from scrub.study.study import Study
from scrub.text.errors import ScrubError
from scrub.text.wording import few, short

_PATH = re.compile(r"(models|~|\.{1,2})?/")  # what no name on the hub begins with


def on_study(study: Study, model: Model) -> Model:
    """Give a model the roles that a study's rules mean: the study's own where it names the model, else the model's.

    `on_study(study, load_model("gpt2")).roles`. Whatever reads a study's hypotheses on a model reads this one. Raises
    ScrubError where the study gives a role to a head that the model doesn't have, or gives the model roles twice.
    """
    return model.with_roles(given_by(study, model.name, model.graph))


def roles_on(study: Study, bare: Bare) -> Roles:
    """Choose the roles as :func:`on_study` does, of a model without its parameters."""
    given = given_by(study, bare.name, bare.graph)
    return bare.roles if given is None else given


def given_by(study: Study, model: str, graph: Node) -> Roles | None:
    """Find the roles that a study gives a model's heads; None where it doesn't name the model."""
    called = names_of(model) if study.roles else ()
    found = [name for name in study.roles if name in called or _at_path(name) in called]
    if not found:
        return None
    if len(found) > 1:
        raise ScrubError(f"the study {study.name!r} gives roles of {short(model)} as {few(found)}: leave one of them")
    (name,) = found
    roles = study.roles_by_model[name]
    check_there(f"the study {study.name!r}", roles, attention_heads(graph))
    return roles


def _at_path(name: str) -> str:
    """Say what a model at a path is called; by the path alone, as a worker elsewhere has no such files."""
    return Path(name).name if _PATH.match(name) else name


def said_roles(study: Study, model: Model) -> str:
    """Say which heads a study's own roles mean on a model that :func:`on_study` gave; nothing where they aren't used.

    `said_roles(study, model)` is "mover = 9.9 9.6 10.0".
    """
    return "" if not study.roles or model.given_roles is None else roles_text(model.given_roles)


def roles_notes(study: Study, model: Model) -> tuple[str, ...]:
    """Note that a study has roles, and none of this model's heads, so that the model's own are used."""
    if not study.roles or model.given_roles is not None:
        return ()
    own = f"its own are used ({roles_text(model.roles)})" if any(model.roles.values()) else "it has none of its own"
    of = few([short(name, quoted=False) for name in study.roles])
    return (f"{study.name} gives roles to heads of {of}, and not of {model.name}: {own}",)
