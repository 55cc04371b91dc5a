"""Folding paths that differ in one step into one, with alternatives of it."""

from __future__ import annotations

from collections.abc import Iterable

Alternatives = tuple[tuple[str, ...], ...]  # of a path: what each of its steps may be


def folded(paths: Iterable[tuple[str, ...]]) -> list[Alternatives]:
    """Fold paths into fewer that have alternatives: `folded([("k", "a"), ("k", "b")])` is `[(("k",), ("a", "b"))]`.

    Those that differ in one step alone become one, step by step from the first; all together mean what all mean.
    """
    found: list[Alternatives] = [tuple((step,) for step in path) for path in paths]
    for at in range(max(map(len, found), default=0)):
        alike: dict[object, Alternatives] = {}
        for path in found:
            key = (len(path), path[:at], path[at + 1 :], at < len(path))
            if at < len(path) and key in alike:
                alike[key] = (*path[:at], (*alike[key][at], *path[at]), *path[at + 1 :])
            else:
                alike[key if at < len(path) else path] = path
        found = list(alike.values())
    return found
