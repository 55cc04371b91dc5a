"""The single-path hypotheses of a head: all that a slot reads is resampled, but for what comes along one path.

For the keys of head 1.3 and the value path of head 0.1 that is the declaration

    splits  **/a1              by heads 3
            **/a1.3/k/a0       by heads 0 1 2 3
    k       **/a1.3/k/**          -> y
            **/a1.3/k/a0.1/v/emb  -> x

The paths come from walking the graph in which what lies below is split into heads. A path through the values of the
component that reads the input may also be held to a part of that head's attention: `a0.1[previous]/v/emb`.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import cached_property

from scrub.graph.heads import head_indices
from scrub.graph.node import Node, walk
from scrub.measure.heads.score import Head, head_name
from scrub.paths.locate import below
from scrub.paths.pattern import Pattern
from scrub.paths.rules import Rule
from scrub.paths.scope import SLOTS
from scrub.paths.sources import Source, X, Y
from scrub.paths.splits import Split
from scrub.study.experiments import UNSCRUBBED, Experiment, Name, build
from scrub.text.errors import ScrubError

MOST = 5000  # paths of a slot, above which they take hours
Paths = Mapping[str, str]  # slot -> the path below it that is real


def paths_below(node: Node, depth: int) -> Iterator[str]:
    """Every path from a node to an input through at most `depth` components, the input's own counted."""
    for each in below(node):
        label, left = each.label or "", depth - (each.label not in SLOTS)
        if not below(each):
            if left >= 0:
                yield label
        elif left > 0:
            for path in paths_below(each, left):
                yield f"{label}/{path}"


class SinglePaths:
    """The single-path hypotheses of one head of a model's graph, as experiments."""

    def __init__(self, graph: Node, head: Head, depth: int = 2, masks: Sequence[str] = ()) -> None:
        self._depth, self._masks = depth, tuple(masks)
        layer = Split(Pattern(f"**/a{head[0]}"), "heads", (str(head[1]),))
        self.entry = f"**/a{head_name(head)}"
        self._whole = layer.apply(graph, {})
        self._head = next(n for n in walk([self._whole]) if n.label == f"a{head_name(head)}")
        self._split: dict[tuple[str, ...], Node] = {(): self._whole}

    @cached_property
    def unscrubbed(self) -> Experiment:
        """The model, with the head apart from the others of its layer."""
        return build(UNSCRUBBED, self._whole)

    def resampled(self, slots: Iterable[str]) -> Experiment:
        """All that some slots read is resampled: what single paths start from."""
        return build(resampled_name(slots), self._whole, [self._rule(f"{slot}/**", Y) for slot in slots])

    def paths(self, slot: str) -> list[str]:
        """Every path below a slot, those along a part of a head's attention too.

        Raises ScrubError if there are more than can be measured.
        """
        node = next(each for each in below(self._head_of((slot,))) if each.label == slot)
        found: list[str] = []
        for path in paths_below(node, self._depth):
            found += [path, *self._masked(path)]
            if len(found) > MOST:
                raise ScrubError(
                    f"{self.entry.removeprefix('**/')}/{slot} has more than {MOST} paths of at most {self._depth} "
                    "components: lower the depth"
                )
        return found

    def keeping(self, paths: Paths) -> Experiment:
        """What some slots read is resampled, but for one path of each."""
        before = self._graph(tuple(paths))
        for slot, path in paths.items():
            if (masked := _mask(path)) is not None:
                component, mask = masked
                before = Split(Pattern(f"{self.entry}/{slot}/{component}"), "mask", (mask,)).apply(before, {})
        rules = [self._rule(f"{slot}/**", Y) for slot in paths]
        rules += [self._rule(f"{slot}/{path}", X) for slot, path in paths.items()]
        return build(path_name(paths), before, rules)

    def _masked(self, path: str) -> list[str]:
        steps = path.split("/")
        if len(steps) < 3 or steps[-2] != "v":
            return []
        return ["/".join([*steps[:-3], f"{steps[-3]}[{mask}]", *steps[-2:]]) for mask in self._masks]

    def _graph(self, slots: tuple[str, ...]) -> Node:
        """The model with every attention layer that these slots' paths pass split into single heads, there only."""
        if slots not in self._split:
            graph = self._graph(slots[:-1])
            slot = next(each for each in below(self._head) if each.label == slots[-1])
            direct = self._depth <= 2  # of paths that pass one component, only that is split
            for layer in below(slot) if direct else walk([slot]):
                if layer.op == "output" and self._depth > 1:
                    between = "" if direct else "**/"
                    heads = tuple(map(str, head_indices(layer)))
                    pattern = Pattern(f"{self.entry}/{slots[-1]}/{between}{layer.label}")
                    graph = Split(pattern, "heads", heads).apply(graph, {})
            self._split[slots] = graph
        return self._split[slots]

    def _head_of(self, slots: tuple[str, ...]) -> Node:
        return next(n for n in walk([self._graph(slots)]) if n.label == self._head.label)

    def _rule(self, path: str, source: Source) -> Rule:
        return Rule(Pattern(f"{self.entry}/{path}"), source)


def resampled_name(slots: Iterable[str]) -> Name:
    """The name of the experiment that resamples all that some slots read."""
    return Name(f"{' '.join(slots)} resampled")


def path_name(paths: Paths) -> Name:
    """`k/a0.1/v/emb`, or several."""
    return Name(" ".join(f"{slot}/{path}" for slot, path in paths.items()))


def _mask(path: str) -> tuple[str, str] | None:
    """The path down to a component of which only a part is meant, and the mask of that part."""
    before, bracket, after = path.partition("[")
    return (before, after.partition("]")[0]) if bracket else None
