"""Where a model is from, and what its own files may say of other things: nothing but a name."""

from __future__ import annotations

import re
from dataclasses import dataclass

from scrub.models.find import is_hub_id, locate


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


def may_name(data: str, origin: Origin) -> bool:
    """Tell whether data that a model's own files name may be taken: a stranger's model doesn't choose the user's files.

    It may name a data set on the hub; one in the project's own models/ data of the project too, without a path.
    """
    if origin.data_said:
        return True
    if origin.own and origin.commit is None and re.fullmatch(r"\w[\w.-]*", data):
        return True
    return is_hub_id(data) and not data.startswith("data/") and locate("data", data) is None
