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
from scrub.paths.cut import Cut
from scrub.paths.locate import below
from scrub.paths.pattern import INPUTS, MASK, Pattern
from scrub.paths.rules import Rule
from scrub.paths.sources import Source, X, Y
from scrub.paths.splits import Split
from scrub.study.experiments import UNSCRUBBED, Experiment, Name, build
from scrub.text.errors import ScrubError

MAX_PATHS = 5000  # of a slot: more take hours
Paths = Mapping[str, str]  # slot -> the path below it that is real


def paths_below(node: Node, depth: int) -> Iterator[str]:
    """List every path from a node to an input through at most `depth` components, the input's own counted."""
    for lower in below(node):
        if lower.label == MASK:  # which reads no component
            continue
        label, left = lower.label or "", depth - (lower.label not in INPUTS)
        if not below(lower):
            if left >= 0:
                yield label
        elif left > 0:
            for path in paths_below(lower, left):
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
        return build(UNSCRUBBED, Cut(self._whole))

    def resampled(self, slots: Iterable[str]) -> Experiment:
        """Resample all that some slots read, which is what single paths start from."""
        return build(resampled_name(slots), Cut(self._whole), [self._rule(f"{slot}/**", Y) for slot in slots])

    def paths(self, slot: str) -> list[str]:
        """List every path below a slot, those along a part of a head's attention too.

        Raises ScrubError if there are more than can be measured.
        """
        node = next(n for n in below(self._head_of((slot,))) if n.label == slot)
        paths: list[str] = []
        for path in paths_below(node, self._depth):
            paths += [path, *self._masked(path)]
            if len(paths) > MAX_PATHS:
                raise ScrubError(
                    f"{self.entry.removeprefix('**/')}/{slot} has more than {MAX_PATHS} paths of at most {self._depth} "
                    "components: lower the depth"
                )
        return paths

    def keeping(self, paths: Paths) -> Experiment:
        """Resample what some slots read, but for one path of each."""
        before = self._graph(tuple(paths))
        for slot, path in paths.items():
            if (masked := _mask(path)) is not None:
                component, mask = masked
                before = Split(Pattern(f"{self.entry}/{slot}/{component}"), "mask", (mask,)).apply(before, {})
        rules = [self._rule(f"{slot}/**", Y) for slot in paths]
        rules += [self._rule(f"{slot}/{path}", X) for slot, path in paths.items()]
        return build(path_name(paths), Cut(before), rules)

    def _masked(self, path: str) -> list[str]:
        steps = path.split("/")
        if len(steps) < 3 or steps[-2] != "v":
            return []
        return ["/".join([*steps[:-3], f"{steps[-3]}[{mask}]", *steps[-2:]]) for mask in self._masks]

    def _graph(self, slots: tuple[str, ...]) -> Node:
        """Split every attention layer that these slots' paths pass into single heads, there only."""
        if slots not in self._split:
            graph = self._graph(slots[:-1])
            slot = next(n for n in below(self._head) if n.label == slots[-1])
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
    """Name the experiment that resamples all that some slots read."""
    return Name(f"{' '.join(slots)} resampled")


def path_name(paths: Paths) -> Name:
    """Name the experiment of these paths: `k/a0.1/v/emb`, or several."""
    return Name(" ".join(f"{slot}/{path}" for slot, path in paths.items()))


def _mask(path: str) -> tuple[str, str] | None:
    """Find the path down to a component of which only a part is meant, and the mask of that part."""
    before, bracket, after = path.partition("[")
    return (before, after.partition("]")[0]) if bracket else None
