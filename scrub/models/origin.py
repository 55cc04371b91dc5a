"""Where a model is from, and what its own files may say of other things: nothing but a name."""

from __future__ import annotations

import re
from dataclasses import dataclass, replace

from scrub.models.checkpoints import Checkpoint
from scrub.models.find import is_hub_id, locate
from scrub.text.files import one_line


@dataclass(frozen=True)
class Origin:
    """The source of a model: the commit, where it is from a hub; what is unusual; and whose folder says more of it.

    `own` is the user's project, or scrub itself; `data_said` is whether a pointer there names data. What any other
    model's files say is a suggestion.
    """

    commit: str | None = None
    notes: tuple[str, ...] = ()
    data_said: bool = False
    own: bool = False


def suggesting(checkpoint: Checkpoint, called: str, origin: Origin) -> tuple[Checkpoint, Origin]:
    """Leave out data that a model's own files name and that may be the user's: a stranger's model doesn't choose those.

    It may name a data set on the hub; one in the project's own models/ data of the project too, without a path.
    """
    data = checkpoint.config.data
    if data is None or origin.data_said:
        return checkpoint, origin
    plain = origin.own and origin.commit is None and re.fullmatch(r"\w[\w.-]*", data)
    if plain or (is_hub_id(data) and not data.startswith("data/") and locate("data", data) is None):
        return checkpoint, origin
    note = f"{called} suggests the data {one_line(data)[:100]!r}, which are no data set on the hub: they aren't taken"
    config = checkpoint.config.model_copy(update={"data": None})
    return replace(checkpoint, config=config), replace(origin, notes=(*origin.notes, note))
