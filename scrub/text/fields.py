"""Boundaries: what somebody hands over is checked here, by its kind, before anything is done with it.

Fields are checked against their types where the object is made; code is called where whatever it raises is told in
one line. What a file must be is scrub/text/files.py's.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import cache
from numbers import Integral
from typing import Annotated, Any, get_args, get_origin, get_type_hints

from annotated_types import Interval, Predicate

from scrub.text.errors import ScrubError
from scrub.text.files import one_line
from scrub.text.wording import said, short


def _says_something(text: str) -> bool:
    return bool(text.strip())


class _Itself:
    """Marks a class of whose instances no field is looked at again."""

    def __get_pydantic_core_schema__(self, source: Any, handler: object) -> Any:
        from pydantic_core.core_schema import is_instance_schema

        del handler
        return is_instance_schema(source)


ITSELF = _Itself()
LISTED = {tuple, Sequence}  # kinds of fields that become tuples
Named = Annotated[str, Predicate(_says_something)]  # a text that isn't blank
SEED = Interval(ge=0, le=(1 << 32) - 1)  # what numpy's generators take
COUNT = Interval(ge=1, le=10**9)
ID = Interval(ge=0, le=2**31 - 1)  # of a token


def check_fields(given: Any, whose: str = "") -> None:
    """Check the fields of a dataclass against their types, from its `__post_init__`; `whose` begins the message.

    A number of numpy's becomes Python's, and a list a tuple where that is expected. Raises ScrubError for a field of
    another type, a number outside its `Interval`, one that is not finite, or a blank where there must be a name.
    """
    from pydantic import ValidationError

    of: Any = type(given)
    for name, (hint, check) in _checks(of).items():
        value = getattr(given, name)
        plain = _plain(value, hint)
        try:
            check((plain,))
        except ValidationError as error:
            what = f"{whose}{name} is {short(value)}, but must be {_expected(hint, error)}"
            raise ScrubError(what) from None
        if plain is not value:
            object.__setattr__(given, name, plain)


@contextmanager
def theirs(what: str, advice: str) -> Iterator[None]:
    """Run somebody's own code: whatever it raises, but an interrupt and what scrub says, is told in one line."""
    try:
        yield
    except (ScrubError, KeyboardInterrupt):
        raise
    except BaseException as error:  # it may be of any class
        raise ScrubError(f"{what}: {type(error).__name__}: {said(error) or 'raised'}: {advice}") from error


@cache
def _checks(of: type) -> dict[str, tuple[Any, Callable[[object], object]]]:
    """Make what checks each field of a class. Numbers and texts are taken as they are, never made of one another."""
    from pydantic import ConfigDict, TypeAdapter

    config = ConfigDict(strict=True, arbitrary_types_allowed=True, allow_inf_nan=False)
    hints = get_type_hints(of, include_extras=True)
    return {
        # in a tuple, since a class that has settings of its own can't be given these
        name: (hints[name], TypeAdapter(tuple[hints[name]], config=config).validate_python)  # type: ignore[valid-type]
        for name in of.__dataclass_fields__  # type: ignore[attr-defined]
    }


def _plain(value: object, hint: object) -> object:
    if type(value) is not bool and isinstance(value, Integral):
        return int(value)
    wanted = {get_origin(each) for each in (hint, *get_args(hint))}
    plain = isinstance(value, list) or type(value) is tuple
    return tuple(_plain(each, None) for each in value) if plain and wanted & LISTED else value


def _expected(hint: Any, error: Any) -> str:
    """Say what a field takes: the numbers from one to another, or else what pydantic says."""
    parts = (hint, *get_args(hint))
    limits = next((m for part in parts for m in getattr(part, "__metadata__", ()) if isinstance(m, Interval)), None)
    none = " or None" if type(None) in get_args(hint) else ""
    if limits is not None:
        whole = any(part is int or (get_args(part) or (None,))[0] is int for part in parts)
        low = f"from {limits.ge}" if limits.gt is None else f"above {limits.gt}"
        high = (
            f" to {limits.le}" if limits.le is not None else f" and below {limits.lt}" if limits.lt is not None else ""
        )
        return f"{'a whole number ' if whole else 'a number '}{low}{high}{none}"
    wrong = error.errors(include_url=False, include_input=False)
    told = dict.fromkeys(_wanted(each) for each in wrong if each["type"] != "none_required")
    inside = any(isinstance(step, int) for each in wrong for step in each["loc"][1:])  # past the tuple around it
    return ("made of " if inside else "") + one_line(" or ".join(told)) + none


def _wanted(wrong: Any) -> str:
    words = {"predicate_failed": "a text that isn't blank", "sequence_str": "a list or a tuple"}
    said = str(wrong["msg"]).removeprefix("Input should be ").replace("valid ", "").replace("a integer", "an integer")
    said = f"a number {said}" if said.startswith(("greater", "less")) else said
    return words.get(wrong["type"], said.replace("an instance of Sequence", "a list or a tuple"))
