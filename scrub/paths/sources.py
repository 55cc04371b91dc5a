"""What feeds the inputs at the ends of paths: their order, and their names in words."""

from __future__ import annotations

from collections.abc import Iterable

from scrub.paths.rules import OTHER, REFERENCE


def ordered(sources: Iterable[str]) -> tuple[str, ...]:
    """The reference first, then the other, then the draws by name."""
    return tuple(sorted(set(sources), key=lambda s: ({REFERENCE: 0, OTHER: 1}.get(s, 2), s)))


def meaning(source: str) -> str:
    """What a source is, in words."""
    kind, _, feature = source.rpartition("like ")
    known = {REFERENCE: "reference", OTHER: "other"}
    return known.get(source) or f"{'each row' if kind else 'a draw that'} agrees with x on {feature}"


def input_name(source: str) -> str:
    """What the literature's drawings call the input: `emb` for the reference, `emb2` for the other."""
    return {REFERENCE: "emb", OTHER: "emb2"}.get(source, source)
