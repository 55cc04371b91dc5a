"""Find where a pattern matches in a graph, and which paths come nearest where it doesn't."""

from __future__ import annotations

from difflib import SequenceMatcher

from scrub.graph.node import Node
from scrub.paths.pattern import Pattern, State
from scrub.text.errors import ScrubError


def below(node: Node) -> list[Node]:
    """Find the labelled nodes one step further from the output, in order: residual additions are wires."""
    nodes: dict[Node, None] = {}
    seen: set[Node] = set()
    stack = list(reversed(node.inputs))
    while stack:
        current = stack.pop()
        if current.label is not None:
            nodes[current] = None
        elif current not in seen:
            seen.add(current)
            stack.extend(reversed(current.inputs))
    return list(nodes)


def locate(pattern: Pattern, root: Node, once: bool = False) -> list[str]:
    """Find one path for each place (node and state) that the pattern matches; with `once` the first one alone.

    Raises ScrubError, naming the nearest paths there are, if it matches none.
    """
    matched: list[str] = []
    missed: list[tuple[int, str]] = []
    start: tuple[Node, State] = (root, pattern.start)
    paths: dict[tuple[Node, State], str] = {start: ""}
    stack = [start]
    while stack:
        current, state = stack.pop()
        children = below(current)
        if not children:
            missed.append((max(state), paths[current, state]))
        for child in children:
            assert child.label is not None
            key = (child, pattern.advance(state, child.label))
            path = f"{paths[current, state]}/{child.label}".lstrip("/")
            if pattern.accepts(key[1]):
                matched.append(path)
                if once:
                    return matched
                continue
            if max(key[1], default=-1) <= max(state):
                missed.append((max(state), path))
            if key[1] and key not in paths:
                paths[key] = path
                stack.append(key)
    if not matched:
        raise ScrubError(_no_match(pattern, missed))
    return matched


def _no_match(pattern: Pattern, missed: list[tuple[int, str]]) -> str:
    furthest = max((at for at, _ in missed), default=0)
    candidates = dict.fromkeys(path for at, path in missed if at == furthest)
    wanted = pattern.text.split("/")[furthest:] or [""]

    def likeness(path: str) -> tuple[float, float]:
        step = SequenceMatcher(None, wanted[0], path.rpartition("/")[2]).ratio()
        return step, SequenceMatcher(None, pattern.text, path).ratio()

    nearest = sorted(candidates, key=likeness, reverse=True)[:3]
    of_out = "; leave out/ off, since only rules, splits and edges begin with it" if wanted[0] == "out" else ""
    return f"the pattern '{pattern}' matches no path: the nearest there are {', '.join(map(repr, nearest))}{of_out}"
