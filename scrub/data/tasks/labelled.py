"""Tasks whose rows have a label, the class to predict, and no answer behind them: those that are drawn by a seed."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeAlias

from scrub.data.examples import Examples
from scrub.data.parens.reading import drawn
from scrub.data.prompts.table import Reader

# draws so many examples by a seed: by the name of the data, what is to be noted, and what reads them
DrawRows: TypeAlias = Callable[[int, int, str, Sequence[str], Reader], Examples]


@dataclass(frozen=True)
class Labelled:
    """Rows of one behaviour, each with a label: `Labelled("parens", drawn, {"rows": "strings of parens"})`.

    `variants` are what is drawn, by name, the first as is usual.
    """

    name: str
    draw: DrawRows
    variants: Mapping[str, str]


PARENS = Labelled("parens", drawn, {"rows": "strings of parens, each labelled by whether it is balanced"})
