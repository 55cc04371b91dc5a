"""What experiments recover where nothing was drawn for itself: a draw may be the very position that it is drawn for.

It is of its own class as any other that agrees, and often so where classes are small: at such a position what the draw
feeds isn't resampled. So beside every percentage with such draws stand their share, and the percentage of the others.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from jaxtyping import Float, Int

from scrub.data.examples import Examples
from scrub.paths.sources import Draw, Drawn, ordered
from scrub.study.draws import Pairing
from scrub.study.experiments import BASELINE, UNSCRUBBED, Experiments, Name
from scrub.study.statistics import Bootstrap, recovered
from scrub.text.numbers import PLAIN


class Apart:
    """The sums of a metric over scored positions at which no draw of an experiment drew the position itself.

    For experiments that draws of a hypothesis feed for each position, of text: a class is read at one position alone.
    """

    def __init__(self, experiments: Experiments, examples: Examples) -> None:
        of = {e.name: [d for d in ordered(e.draws) if isinstance(d, Drawn) and d.by_row] for e in experiments}
        self._of: Mapping[Name, list[Drawn]] = {
            name: draws for name, draws in of.items() if draws and examples.labels is None
        }
        self._examples = examples
        self._positions = {name: np.zeros(len(examples), dtype=np.int64) for name in self._of}
        self._sums = {name: np.zeros((3, len(examples))) for name in self._of}
        self._own: dict[Draw, list[float]] = {}

    def __bool__(self) -> bool:
        return bool(self._of)

    def add(self, pairing: Pairing, values: Mapping[Name, Float[np.ndarray, " scored"]]) -> None:
        """Add what was measured of a pairing at every scored position."""
        scored, count = self._examples.scored, len(self._examples)
        sequence = scored.nonzero()[0]
        itself = {d: pairing.drew_itself(d)[scored] for draws in self._of.values() for d in draws}
        for draw, own in itself.items():
            self._own.setdefault(draw, []).append(float(own.mean()))
        for each, draws in self._of.items():
            other = ~np.any([itself[draw] for draw in draws], axis=0)
            self._positions[each] += np.bincount(sequence[other], minlength=count)
            for at, name in enumerate((each, BASELINE, UNSCRUBBED)):
                self._sums[each][at] += np.bincount(sequence, weights=values[name] * other, minlength=count)

    def notes(self, positions: Int[np.ndarray, " example"], seed: int) -> list[str]:
        """Say of each hypothesis how often its draws drew a position itself, and what it recovers at the others.

        `positions` are all that were measured of each example.
        """
        found: dict[str, list[Name]] = {}
        for each in self._of:
            found.setdefault(each.hypothesis, []).append(each)
        return [self._note(name, of, int(positions.sum()), seed) for name, of in found.items()]

    def _note(self, hypothesis: str, of: Sequence[Name], positions: int, seed: int) -> str:
        draws = sorted({draw for each in of for draw in self._of[each]}, key=str)
        shares = ", ".join(f"{np.mean(self._own[draw]):.1%} of {draw.called}" for draw in draws)
        where = {self._where(draw) for draw in draws}
        parts = ", ".join(self._said(each, positions, seed) for each in of)
        return (
            f"{hypothesis} draws {' and '.join(sorted(where))}: at selected positions that is the position itself in "
            f"{shares}; where none of a part's draws is, it recovers {parts}"
        )

    @staticmethod
    def _where(draw: Drawn) -> str:
        return "any position of any row" if draw.anywhere else "the same position of any row"

    def _said(self, of: Name, positions: int, seed: int) -> str:
        counts = self._positions[of]
        if not counts.any():
            return f"{of.part} nothing that can be said"
        boot = Bootstrap(counts, seed, self._examples.documents)
        percent = boot.interval(recovered(*boot.means(self._sums[of])))
        return f"{of.part} {PLAIN.with_interval(percent)} % at {counts.sum() / positions:.1%} of them"
