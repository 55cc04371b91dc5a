"""Boundaries: what somebody hands over is checked here, by its kind, before anything is done with it.

Fields are checked against their types where the object is made, arguments where the function is called; code is called
where whatever it raises is told in one line. What a file must be is scrub/text/files.py's.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import is_dataclass
from functools import cache, wraps
from numbers import Integral, Real
from types import FunctionType, UnionType
from typing import Annotated, Any, TypeAlias, TypeVar, Union, cast, get_args, get_origin, get_type_hints

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


Called = TypeVar("Called", bound=Callable[..., Any])
Check: TypeAlias = tuple[Any, Callable[[object], object]]  # a type, and what raises pydantic's error for another
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
    of: Any = type(given)
    for name, check in _of_fields(of).items():
        value = getattr(given, name)
        plain = _taken(value, check, f"{whose}{name}")
        if plain is not value:
            object.__setattr__(given, name, plain)


def asks_for(function: Any, parameter: str) -> bool:
    """Tell whether somebody's function has a parameter of that name."""
    try:
        return parameter in inspect.signature(function).parameters
    except (TypeError, ValueError):  # what is written in C has no signature, at times
        return False


def check_arguments(function: Called) -> Called:
    """Check the arguments of every call of a function against its annotations, as :func:`check_fields` does fields.

    Annotations are looked at in the first call. Arrays may be anything that makes one: whoever takes them looks.
    """
    signature, called = inspect.signature(function), function.__qualname__.removesuffix(".__init__")

    @cache
    def checks() -> dict[str, Check]:
        hints = {
            name: each.annotation for name, each in signature.parameters.items() if each.annotation is not each.empty
        }
        bare = FunctionType(
            (lambda: None).__code__, inspect.unwrap(function).__globals__
        )  # what it returns is nobody's argument
        bare.__annotations__ = hints
        found = get_type_hints(bare, include_extras=True)
        return {name: _check(_instances(hint)) for name, hint in found.items() if hint is not Any}

    @wraps(function)
    def run(*args: Any, **kwargs: Any) -> Any:
        bound = signature.bind(*args, **kwargs)
        for name, check in checks().items():
            if name in bound.arguments:
                bound.arguments[name] = _taken(bound.arguments[name], check, f"{called}: {name}")
        return function(*bound.args, **bound.kwargs)

    return cast("Called", run)


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
def _of_fields(of: type) -> dict[str, Check]:
    hints = get_type_hints(of, include_extras=True)
    return {name: _check(hints[name]) for name in of.__dataclass_fields__}  # type: ignore[attr-defined]


def _check(hint: Any) -> Check:
    """Make what checks a value. Numbers and texts are taken as they are, never made of one another."""
    from pydantic import ConfigDict, TypeAdapter

    config = ConfigDict(strict=True, arbitrary_types_allowed=True, allow_inf_nan=False)
    # in a tuple, since a class that has settings of its own can't be given these
    return hint, TypeAdapter(tuple[hint], config=config).validate_python


def _taken(value: object, check: Check, what: str) -> object:
    """Take a value, plain. Raises ScrubError for one that fails its check."""
    from pydantic import ValidationError

    plain = _plain(value, check[0])
    try:
        check[1]((plain,))
    except ValidationError as error:
        raise ScrubError(f"{what} is {short(value)}, but must be {_expected(check[0], error)}") from None
    return plain


def _instances(hint: Any) -> Any:
    """Take data classes' instances as they are, since they were checked when they were made, and arrays anyhow."""
    if isinstance(hint, type) and hint.__module__.startswith("jaxtyping"):
        return Any
    if isinstance(hint, type) and (is_dataclass(hint) or hasattr(hint, "model_fields")):
        return Annotated[hint, ITSELF]
    of, parts = get_origin(hint), get_args(hint)
    if of is None or of in (Annotated, Callable):
        return hint
    inside = tuple(map(_instances, parts))
    return Union[inside] if of in (Union, UnionType) else of[inside]  # noqa: UP007


def _plain(value: object, hint: object) -> object:
    if type(value) is not bool and isinstance(value, Integral):
        return int(value)
    if isinstance(value, Real) and hasattr(value, "dtype"):  # numpy's
        return float(value)
    wanted = {get_origin(each) for each in (hint, *get_args(hint))}
    if not wanted & LISTED:
        return value
    value = value.tolist() if hasattr(value, "dtype") and hasattr(value, "tolist") else value  # an array
    return tuple(_plain(each, None) for each in value) if isinstance(value, list) or type(value) is tuple else value


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
    said = said.replace("an instance of Sequence", "a list or a tuple")
    return words.get(wrong["type"], said.removeprefix("an instance of "))
