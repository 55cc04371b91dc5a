"""Options that are derived from the class that they fill: its fields say their types and defaults.

A command has a parameter such as `settings: Annotated[Settings, Options(SETTINGS, "sequences seed")]`. On the command
line an option stands for each of these fields, and the command is given the filled object. What an option is called,
and its help, are the words for its field: one table for a class, from which a command may differ.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator, Mapping
from dataclasses import MISSING, dataclass, field, fields
from functools import wraps
from typing import Annotated, Any, get_args, get_origin, get_type_hints

import typer


@dataclass(frozen=True)
class Words:
    """How an option is explained: what stands for its value, its help, and its name if it isn't the field's.

    `kind` is the type of what is typed, where that isn't the field's, and `read` makes the field's value of it.
    """

    metavar: str | None
    help: str
    name: str | None = None
    kind: Any = None
    read: Callable[[Any], Any] | None = None

    def called(self, field: str) -> str:
        """Name the option for a field."""
        return self.name or f"--{field}"

    @property
    def option(self) -> Any:
        """The option as typer has it, for a parameter that fills no object."""
        return typer.Option(*([self.name] if self.name else []), metavar=self.metavar, help=self.help)

    def parameter(self, field: str, kind: Any, default: object) -> inspect.Parameter:
        """Make the parameter of a command that stands for a field of some type."""
        typed = self.kind or (kind if self.read is None else str)
        hint: Any = Annotated[typed | None if default is None else typed, self.option]
        return inspect.Parameter(field, inspect.Parameter.KEYWORD_ONLY, default=default, annotation=hint)

    def value(self, typed: Any) -> Any:
        """Make the field's value of what is typed."""
        return typed if self.read is None or typed is None else self.read(typed)


@dataclass(frozen=True)
class Options:
    """An object that options fill: all fields of the table, or those named, in that order.

    `defaults` win over those of the class, `words` over those of the table.
    """

    table: Mapping[str, Words]
    names: str = ""
    defaults: Mapping[str, object] = field(default_factory=dict)
    words: Mapping[str, Words] = field(default_factory=dict)

    def parameters(self, of: type) -> Iterator[inspect.Parameter]:
        """Make what typer makes the options of."""
        kinds, defaults = get_type_hints(of), {each.name: each.default for each in fields(of)}
        for name, words in self._wanted.items():
            default = self.defaults.get(name, defaults[name])
            yield words.parameter(name, kinds.get(name), inspect.Parameter.empty if default is MISSING else default)

    def fill(self, of: type, typed: Mapping[str, Any]) -> Any:
        """Make the object. Raises ScrubError for what is wrong in it."""
        return of(**{name: words.value(typed[name]) for name, words in self._wanted.items()})

    @property
    def _wanted(self) -> dict[str, Words]:
        words = {**self.table, **self.words}
        return {name: words[name] for name in self.names.split()} if self.names else words


@dataclass(frozen=True)
class Overrides(Options):
    """The fields that are given, by name, of an object that is also filled from elsewhere.

    `like` has fields of the same names and types: so the object's own class needn't be imported for its help.
    """

    like: type = object

    def parameters(self, of: type) -> Iterator[inspect.Parameter]:
        """Make what typer makes the options of, none of which need be given."""
        del of
        kinds = get_type_hints(self.like)
        for name, words in self._wanted.items():
            yield words.parameter(name, kinds.get(name), None)

    def fill(self, of: type, typed: Mapping[str, Any]) -> Any:
        """Take those that are given."""
        found = {name: words.value(typed[name]) for name, words in self._wanted.items()}
        return of((name, value) for name, value in found.items() if value is not None)


def command(function: Callable[..., None]) -> Callable[..., None]:
    """Give a command the options of the objects that it takes, and it the filled objects."""
    hints = get_type_hints(function, include_extras=True)
    parameters: list[inspect.Parameter] = []
    filled: dict[str, tuple[Options, type]] = {}
    for name, each in inspect.signature(function).parameters.items():
        by = next((each for each in getattr(hints[name], "__metadata__", ()) if isinstance(each, Options)), None)
        if by is None:
            parameters.append(each.replace(annotation=hints[name], kind=inspect.Parameter.KEYWORD_ONLY))
        else:
            kind = get_args(hints[name])[0]
            filled[name] = by, get_origin(kind) or kind
            parameters += by.parameters(filled[name][1])

    @wraps(function)
    def run(**typed: Any) -> None:
        own = {name: value for name, value in typed.items() if name in hints}
        function(**own, **{name: by.fill(kind, typed) for name, (by, kind) in filled.items()})

    run.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
    run.__annotations__ = {each.name: each.annotation for each in parameters}
    return run
