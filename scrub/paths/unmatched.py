"""What matches nothing in a model: rules, splits and edges, and alternatives of them.

Alone that is a mistake. On one of several models it is what tells them apart: whatever matches on another is left out
here, and said. It feeds no path and splits nothing, so leaving it out changes no number.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass, field, replace
from typing import Any, Literal, get_args

from scrub.paths.pattern import Pattern
from scrub.text.errors import ScrubError

UnmatchedKind = Literal["rule", "split", "edge"]
MARK = "†"  # of a number of a part from which something was left out
WITHOUT = f"{MARK}: without what matches nothing on that model"


@dataclass(frozen=True)
class Unmatched:
    """A rule, a split or an edge that matches no path, or one `alternative` of it.

    `Unmatched("rule", "a1.ind/q/{emb,m0} -> x", "m0")`. Of a split by heads an alternative may be one of these. `why`
    and the `parts` whose rules have it don't tell two apart.
    """

    kind: UnmatchedKind
    text: str
    alternative: str = ""
    why: str = field(default="", compare=False)
    parts: tuple[str, ...] = field(default=(), compare=False)

    def __str__(self) -> str:
        what = f"the {self.kind} '{self.text}'"
        return f"{self.alternative!r} of {what}" if self.alternative else what

    @property
    def warned(self) -> bool:
        """Whether it is an alternative with `*`, which is no mistake on one model alone either, but warned of."""
        return "*" in self.alternative

    @classmethod
    def each(cls, kind: UnmatchedKind, text: str, pattern: Pattern) -> Iterator[Unmatched]:
        """List all that a rule, split or edge can have unmatched: the whole, and each alternative of its pattern."""
        yield cls(kind, text)
        for alternative, _ in pattern.each_alternative():
            yield cls(kind, text, alternative)

    def excused(self, pattern: Pattern, elsewhere: Collection[Unmatched]) -> bool:
        """Tell whether all of something may match nothing: it matches elsewhere, each alternative without `*` too."""
        every = self.each(self.kind, self.text, pattern)
        return all(each in elsewhere for each in every if not each.warned)

    def because(self, error: ScrubError) -> Unmatched:
        """Say why it matches nothing."""
        return replace(self, why=str(error))


def matched(every: Iterable[Unmatched], missing: Collection[Unmatched]) -> frozenset[Unmatched]:
    """Keep what does match, of all rules and alternatives: no alternative of what matches nothing as a whole."""
    whole = {(each.kind, each.text) for each in missing if not each.alternative}
    return frozenset(each for each in every if each not in missing and (each.kind, each.text) not in whole)


@dataclass(frozen=True)
class LeftOut:
    """What of a hypothesis is left out on a model: what matches nothing there, and parts of which nothing is left.

    `parts` have the reason by their names.
    """

    unmatched: tuple[Unmatched, ...] = ()
    parts: Mapping[str, str] = field(default_factory=dict)

    def __bool__(self) -> bool:
        return bool(self.unmatched or self.parts)

    def of(self, part: str) -> tuple[Unmatched, ...]:
        """List what is left out of the rules of one part."""
        return tuple(each for each in self.unmatched if part in each.parts)

    @property
    def named(self) -> str:
        """Name what is left out, but for what is warned of: splits, rules and edges, then alternatives of them."""
        some = [each for each in self.unmatched if not each.warned]
        found = []
        for kind in get_args(UnmatchedKind):
            texts = dict.fromkeys(f"'{each.text}'" for each in some if each.kind == kind and not each.alternative)
            found += [f"the {kind}{'s' * (len(texts) > 1)} {', '.join(texts)}"] if texts else []
        return "; ".join([*found, *dict.fromkeys(str(each) for each in some if each.alternative)])

    @property
    def said(self) -> str:
        """Say what is left out, and which parts have no number; nothing where all of it is warned of."""
        gone = [f"{part} has no number: {why}" for part, why in self.parts.items()]
        some = [f"left out, as nothing in this model matches: {self.named}"] if self.named else []
        return "; ".join([*some, *gone])

    def to_dict(self) -> dict[str, Any]:
        """Give what a results folder keeps, and --json writes."""
        unmatched = [{**asdict(each), "parts": list(each.parts)} for each in self.unmatched]
        return {"unmatched": unmatched, "parts": dict(self.parts)}

    @classmethod
    def read(cls, kept: Mapping[str, Any]) -> LeftOut:
        """Read what a results folder keeps. Raises ScrubError for something else."""
        try:
            unmatched = tuple(Unmatched(**{**each, "parts": tuple(each["parts"])}) for each in kept["unmatched"])
            parts = {str(part): str(why) for part, why in kept["parts"].items()}
        except (TypeError, KeyError, AttributeError) as error:
            raise ScrubError(f"what is left out can't be read ({error}): sweep it again") from error
        if any(each.kind not in get_args(UnmatchedKind) for each in unmatched):
            raise ScrubError("what is left out can't be read (an unknown kind): sweep it again")
        return cls(unmatched, parts)
