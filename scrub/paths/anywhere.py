"""Draws for each position that are of any position: where nothing says to a value at which one it stands.

The stream of some models carries no position: queries and keys are told it (by embeddings that are added in front of
them alone, or by rotary ones), and nothing else. What is written into such a stream at one position may stand at any
other. So a draw that feeds nothing but that is of any position of any row, and not of the same one of another row.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

from scrub.graph.node import Node, walk
from scrub.paths.rules import Rule, resample
from scrub.paths.sources import Drawn
from scrub.text.errors import ScrubError

_TELLS = frozenset({"embed", "rotary"})  # where they read positions


def resample_anywhere(root: Node, rules: Sequence[Rule]) -> tuple[tuple[Rule, ...], Node]:
    """Resample a graph by rules whose draws for each position are of any position where they can be; give these too.

    Raises ScrubError as :func:`resample` does, and for a draw that feeds what is told its position and what isn't, or
    that feeds what is told and is of one that is of any. A draw that itself feeds nothing is of any where all that are
    of it are.
    """
    fed, draws = resample(root, rules), [rule.source for rule in rules if isinstance(rule.source, Drawn)]
    by_row = [draw for draw in draws if draw.by_row]
    if not by_row or knows_position(root, split=False):
        return tuple(rules), fed
    free = _free(fed, by_row)
    moved = {draw: _moved(draw, free) for draw in draws}
    made = tuple(replace(r, source=moved[r.source]) if isinstance(r.source, Drawn) else r for r in rules)
    return made, fed if made == tuple(rules) else resample(root, made)


def knows_position(of: Node, split: bool = True) -> bool:
    """Tell whether a value is told its position, but for where attention looks; or by what it was `split` at."""
    seen: set[Node] = set()
    stack = [of]
    while stack:
        current = stack.pop()
        if current in seen or current.op == "attention_pattern":
            continue
        seen.add(current)
        if current.op in _TELLS and any(each.op == "position" for each in current.inputs):
            return True
        if split and current.op == "at_positions":
            return True
        stack.extend(current.inputs)
    return False


def _free(fed: Node, found: Sequence[Drawn]) -> dict[Drawn, bool]:
    """Say of each draw, and of those above it, whether it is of any position."""
    free: dict[Drawn, bool] = {}
    for gathered in (each for each in walk([fed]) if each.op == "gather_rows"):
        source, own = gathered.inputs[1].arguments["source"], not knows_position(gathered.inputs[0])
        if not isinstance(source, Drawn):
            continue
        if free.setdefault(source, own) != own:
            raise ScrubError(
                f"the draw {source.name!r} feeds values that are told their position, as queries and keys are, and "
                "others that aren't, for which it is of any position: declare a draw for each"
            )
    every = dict.fromkeys(each for draw in found for each in reversed(draw.chain) if each.by_row)
    for draw in sorted(every, key=lambda each: -len(each.chain)):
        if draw not in free:
            below = [free[each] for each in every if each.of == draw]
            free[draw] = bool(below) and all(below)
    for draw in every:
        if draw.of is not None and free.get(draw.of) and not free[draw]:
            raise ScrubError(
                f"the draw {draw.name!r} feeds values that are told their position, so it is of the same one, and "
                f"{draw.of.name!r}, which it is of, is of any: declare it like its feature without 'of'"
            )
    return free


def _moved(draw: Drawn, free: Mapping[Drawn, bool]) -> Drawn:
    of = None if draw.of is None else _moved(draw.of, free)
    return replace(draw, of=of, anywhere=free.get(draw, False))
