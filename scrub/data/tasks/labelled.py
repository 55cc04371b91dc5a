"""Tasks whose rows have a label, the class to predict, and no answer behind them: those that are drawn by a seed."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeAlias

if TYPE_CHECKING:
    from scrub.data.examples import Examples
    from scrub.data.prompts.table import Reader

# draws so many examples by a seed: by the name of the data, what is to be noted, and what reads them
DrawRows: TypeAlias = "Callable[[int, int, str, Sequence[str], Reader], Examples]"


@dataclass(frozen=True)
class Labelled:
    """Rows of one behaviour, each with a label: `Labelled("parens", drawn, {"rows": "strings of parens"})`.

    `variants` are what is drawn, by name, the first as is usual.
    """

    name: str
    draw: DrawRows
    variants: Mapping[str, str]


def _parens(count: int, seed: int, name: str, notes: Sequence[str], reader: Reader) -> Examples:
    from scrub.data.parens.reading import drawn  # not before: names of data are looked up without what reads them

    return drawn(count, seed, name, notes, reader)


PARENS = Labelled("parens", _parens, {"rows": "strings of parens, each labelled by whether it is balanced"})
