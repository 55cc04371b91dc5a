"""How results look, without results knowing it: whatever draws or prints a class registers its function here by name.

A result is computed on a floor where nobody has heard of tables, figures or pages. It still has `plot()`, prints as a
table and shows itself in a notebook: those methods ask here for the function that the floor of pictures registered,
which is imported then, and not before.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from importlib import import_module
from io import StringIO
from typing import Any

from rich.console import Console, ConsoleOptions, RenderableType

WIDTH = 112  # characters of a line in a notebook
_BLOCK = '<pre style="white-space:pre;overflow-x:auto;line-height:normal;font-family:monospace">{code}</pre>'
TABLES = "tables"  # the way in which terminals and notebooks show a result

_looks: dict[tuple[str, str], str] = {}


def register(shown: str, **ways: str) -> None:
    """Register how a class looks: `register("scrub.study.run.Trial", picture="scrub.show.picture:picture")`.

    Each way names a function, as MODULE:FUNCTION, that takes the object, and whatever its method takes besides.
    """
    _looks.update({(shown, way): function for way, function in ways.items()})


def look(shown: object, way: str) -> Callable[..., Any]:
    """Find the function that shows an object in one way. Raises KeyError if nothing is registered for its class."""
    kinds = (f"{kind.__module__}.{kind.__qualname__}" for kind in type(shown).__mro__)
    module, _, function = next(_looks[kind, way] for kind in kinds if (kind, way) in _looks).partition(":")
    found: Callable[..., Any] = getattr(import_module(module), function)
    return found


class TabularResult:
    """A result that a terminal and a notebook show as its tables, which are registered as `tables`.

    So does whatever prints it: its `repr` and its text are those tables without colour. A data class that is one says
    `repr=False`.
    """

    def __repr__(self) -> str:
        console = Console(file=StringIO(), width=WIDTH, force_jupyter=False, color_system=None)
        with console.capture() as written:
            console.print(self, highlight=False, markup=False)
        return written.get().rstrip("\n")

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> Iterator[RenderableType]:
        yield from look(self, TABLES)(self, console, options)

    def _repr_html_(self) -> str:
        """Show what a terminal of WIDTH would, its lines and colours. Its text is escaped."""
        console = Console(record=True, file=StringIO(), width=WIDTH, color_system="truecolor", force_jupyter=False)
        console.print(self, highlight=False, markup=False)
        return console.export_html(inline_styles=True, code_format=_BLOCK)
