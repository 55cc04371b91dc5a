"""Sources, which feed the inputs at the ends of paths, or stand for a component that is held at a value.

Two families. A `Draw` feeds sequences: another row for each reference sequence, or for each of its positions. A `Held`
source stands for whatever a component, a slot or an attention pattern gives. A kind is a class that reads and writes
its own text, and says how it draws, or which value it has: making it adds the kind.
"""

from __future__ import annotations

import re
from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, Protocol, TypeVar, runtime_checkable

import numpy as np
from jaxtyping import Float, Int

from scrub.graph.masks import MASKS
from scrub.text.errors import ScrubError

if TYPE_CHECKING:
    from torch import Tensor

Kind = TypeVar("Kind", bound="Source")
Rows = Int[np.ndarray, "sequence *position"]  # which row stands in for each sequence, or for each of its positions


@runtime_checkable
class Pool(Protocol):
    """The sequences of one pairing, as far as a draw has to know them (scrub/study/draws.py)."""

    def itself(self) -> Rows:
        """Draw every sequence for itself."""
        ...

    def other(self) -> Rows:
        """Draw the other of every sequence."""
        ...

    def agreeing(self, feature: str, by_row: bool) -> Rows:
        """Draw a donor that agrees with each sequence on a feature, or `by_row` with each of its positions."""
        ...

    def drawn(self, draw: Drawn) -> Rows:
        """Draw from all rows, each sequence's own among them, what a draw of a hypothesis says."""
        ...

    def places(self, draw: Drawn) -> Rows:
        """Say at which position each of the rows stands that such a draw drew."""
        ...


@runtime_checkable
class Stand(Protocol):
    """The place of a held value, and what it may be made of (scrub/study/held.py)."""

    @property
    def like(self) -> Float[Tensor, "1 ..."]:
        """A tensor of its shape and type."""
        ...

    def mean(self) -> Float[Tensor, "1 ..."]:
        """Give what the component itself gives, in the mean that its source is."""
        ...

    def array(self, name: str, attends: bool) -> Float[Tensor, "1 ..."]:
        """Look up an array of the user's. Raises ScrubError if it doesn't fit there."""
        ...


class Source:
    """A source, which a rule feeds. `written` is its kind's text in a rule, `rank` where it stands among others."""

    kinds: ClassVar[list[type[Source]]] = []
    written: ClassVar[str] = ""
    rank: ClassVar[int] = 2

    def __init_subclass__(cls) -> None:
        if cls.written:
            cls.kinds.append(cls)

    @staticmethod
    def parse(text: str) -> Source:
        """Read a source: `Source.parse("like typicality")`. Raises ScrubError if it is none."""
        said = " ".join(text.split())
        for kind in Source.kinds:
            if (source := kind.read(said)) is not None:
                return source
        known = [kind for kind in Source.kinds if kind is not Drawn]  # which a hypothesis declares
        draws, holds = (_either(kind for kind in known if issubclass(kind, of)) for of in (Draw, Held))
        raise ScrubError(f"there is no source {said!r}: use {draws}, and in an intervention {holds}")

    @classmethod
    def read(cls, text: str) -> Source | None:
        """Read a source of this kind; None for any other text. Kinds with an argument read more than their name."""
        return cls() if text == cls.written else None

    def __str__(self) -> str:
        return self.written

    def __repr__(self) -> str:
        return repr(str(self))  # hashes of graphs are made of it

    @property
    def called(self) -> str:
        """What a rule calls it."""
        return str(self)

    @property
    def meaning(self) -> str:
        """The meaning in words."""
        return str(self)

    @property
    def input_name(self) -> str:
        """The name of the input in the literature's drawings: `emb` for the reference, `emb2` for the other."""
        return str(self)


class Draw(Source, ABC):
    """A source of sequences. What it draws agrees on its `feature`, if it has one, in each row if it is `by_row`."""

    by_row: bool = False
    feature: str = ""

    @property
    def features(self) -> tuple[str, ...]:
        """The features that say what it draws: its own, and of a draw from another's rows, the other's."""
        return (self.feature,) if self.feature else ()

    @abstractmethod
    def rows(self, pool: Pool) -> Rows:
        """Draw from the pool what stands in for each sequence."""


class Held(Source, ABC):
    """A source that stands for a component, whatever that reads. `arrays` are the names of those that it looks up.

    What is a mean is one `over` the sequences of a draw, at each position or `placed_by` a "name", at those of a name
    together, or a "template", at each position of those of one template.
    """

    arrays: tuple[str, ...] = ()
    over: Draw | None = None
    placed_by: str = ""

    @abstractmethod
    def value(self, stand: Stand) -> Float[Tensor, "1 ..."]:
        """Make the value, the same for every sequence."""


@dataclass(frozen=True, repr=False)
class Reference(Draw):
    """The sequence that is scored."""

    written = "x"
    rank = 0
    meaning = "reference"
    input_name = "emb"

    def rows(self, pool: Pool) -> Rows:
        return pool.itself()


@dataclass(frozen=True, repr=False)
class Other(Draw):
    """The sequence that the reference is paired with: resample ablation, or the other run of a patch."""

    written = "y"
    rank = 1
    meaning = "other"
    input_name = "emb2"

    def rows(self, pool: Pool) -> Rows:
        return pool.other()


@dataclass(frozen=True, repr=False)
class Like(Draw):
    """A sequence that agrees with the reference on a feature."""

    written = "like FEATURE"
    feature: str

    @classmethod
    def read(cls, text: str) -> Like | None:
        match = re.fullmatch(cls.written.replace("FEATURE", r"([A-Za-z_]\w*)"), text)
        return cls(match[1]) if match else None

    def __str__(self) -> str:
        return self.written.replace("FEATURE", self.feature)

    @property
    def meaning(self) -> str:
        return f"{'each row' if self.by_row else 'a draw that'} agrees with x on {self.feature}"

    def rows(self, pool: Pool) -> Rows:
        return pool.agreeing(self.feature, self.by_row)


@dataclass(frozen=True, repr=False)
class RowsLike(Like):
    """For whole attention patterns: each row from a sequence that agrees with the reference at that position.

    A feature for rows should have few classes: the rarer a class, the more donors a batch computes.
    """

    written = "rows like FEATURE"
    by_row = True


_NAME = r"[A-Za-z_]\w*"
_ANYWHERE = "anywhere"  # nobody writes it: see scrub/paths/anywhere.py
_DRAWN = re.compile(rf"({_NAME})\s+(rows\s+(?:{_ANYWHERE}\s+)?)?(?:any|like\s+({_NAME})(?:\s+of\s+(\S.*))?)")
_FRESH = "any"  # one that nothing conditions, by the pattern whose paths it feeds
_TAKEN = frozenset({"x", "y", _FRESH, "like", "rows", "of", "zero", "mean", "array", "attend"})  # are no draw's names


@dataclass(frozen=True, repr=False)
class Drawn(Draw):
    """A draw that a hypothesis declares: any row of the data, or one that agrees on a feature with x or `of` another's.

    The row that it agrees with is among those that it is drawn from. What it draws hangs on its name and that of every
    draw above it, and on their features, and on nothing else. `by_row` it draws one for each position: of the same one,
    or of any, `anywhere`, where what it feeds knows of none (scrub/paths/anywhere.py).
    """

    written = "DRAW"
    name: str
    feature: str = ""
    of: Drawn | None = None
    by_row: bool = False
    anywhere: bool = False

    @classmethod
    def read(cls, text: str) -> Drawn | None:
        fresh = re.fullmatch(rf"{_FRESH} (\S+)", text)
        if fresh:
            return cls(text)
        match = _DRAWN.fullmatch(text)
        if match is None or match[1] in _TAKEN:
            return None
        above = None if match[4] is None else cls.read(match[4])
        if match[4] and above is None:
            return None
        return cls(match[1], match[3] or "", above, match[2] is not None, _ANYWHERE in (match[2] or ""))

    @classmethod
    def declared(cls, text: str, above: Mapping[str, Drawn]) -> Drawn:
        """Read a line of a hypothesis' draws, as in "A1 like count_open of A", behind those that stand `above` it.

        Raises ScrubError for what is none, a name that is taken, a draw that isn't above, and a row of rows.
        """
        said = " ".join(text.split())
        match = _DRAWN.fullmatch(said)
        if match is None or _ANYWHERE in (match[2] or ""):
            raise ScrubError(
                f"{said!r} is no draw: write 'NAME like FEATURE', 'NAME like FEATURE of DRAW', 'NAME any', or "
                "'NAME rows …' for each position"
            )
        name, by_row, feature, of = match[1], match[2] is not None, match[3] or "", match[4]
        if name in _TAKEN or name in above:
            why = "stands twice" if name in above else "means something else in a rule"
            raise ScrubError(f"the draw {said!r}: the name {name!r} {why}: give it another")
        if of is not None and of not in above:
            raise ScrubError(
                f"the draw {said!r} is of {of!r}, and above it stand {', '.join(above) or 'none'}: declare that before"
            )
        parent = None if of is None else above[of]
        if parent is not None and parent.by_row and not by_row:
            raise ScrubError(
                f"the draw {said!r} is of one for each position, so it is one for each too: write '{name} rows like …'"
            )
        return cls(name, feature, parent, by_row)

    @classmethod
    def fresh(cls, pattern: str) -> Drawn:
        """Make the draw that `any` is in a rule."""
        return cls(f"{_FRESH} {''.join(pattern.split())}")

    def __str__(self) -> str:
        if not self.feature:
            return self.name if self.name.startswith(f"{_FRESH} ") else f"{self.name} {'rows ' * self.by_row}{_FRESH}"
        of = "" if self.of is None else f" of {self.of}"
        rows = "rows " * self.by_row + f"{_ANYWHERE} " * self.anywhere
        return f"{self.name} {rows}like {self.feature}{of}"

    @property
    def called(self) -> str:
        return self.name.partition(" ")[0]

    @property
    def meaning(self) -> str:
        if not self.feature:
            return f"{'at each position ' * self.by_row}a draw from all rows"
        with_ = "x" if self.of is None else self.of.name
        where = "" if self.anywhere else " there"
        what = f"at each position a draw that agrees{where}" if self.by_row else "a draw that agrees"
        return f"{what} with {with_} on {self.feature}"

    @property
    def input_name(self) -> str:
        return self.called

    @property
    def chain(self) -> tuple[Drawn, ...]:
        """It and the draws above it, the furthest first."""
        return (*(() if self.of is None else self.of.chain), self)

    @property
    def features(self) -> tuple[str, ...]:
        return tuple(dict.fromkeys(each.feature for each in self.chain if each.feature))

    def rows(self, pool: Pool) -> Rows:
        return pool.drawn(self)


@dataclass(frozen=True, repr=False)
class Zero(Held):
    """Zero ablation."""

    written = "zero"

    def value(self, stand: Stand) -> Float[Tensor, "1 ..."]:
        import torch

        return torch.zeros_like(stand.like)


@dataclass(frozen=True, repr=False)
class Mean(Held):
    """Mean ablation: what the component itself gives, in the mean over some sequences, at each position by itself."""

    written = "mean"

    def value(self, stand: Stand) -> Float[Tensor, "1 ..."]:
        return stand.mean()


@dataclass(frozen=True, repr=False)
class MeanOther(Mean):
    """The mean over the other sequences: what the component itself gives on them, at each position by itself."""

    written = "mean y"
    meaning = "mean over the others"


@dataclass(frozen=True, repr=False)
class MeanOtherByName(Mean):
    """The same, but all positions of one name are one: at S2, it is the mean of what the others give at theirs."""

    written = "mean y by name"
    meaning = "mean over the others, by named position"
    placed_by = "name"


@dataclass(frozen=True, repr=False)
class MeanOtherByTemplate(Mean):
    """The same at each position of the others of one template: what differs at positions with names alone."""

    written = "mean y by template"
    meaning = "mean over the others, by position of their template"
    placed_by = "template"


@dataclass(frozen=True, repr=False)
class Array(Held):
    """An array of the user's."""

    written = "array NAME"
    name: str

    @classmethod
    def read(cls, text: str) -> Array | None:
        match = re.fullmatch(r"array ([A-Za-z_]\w*)", text)
        return cls(match[1]) if match else None

    def __str__(self) -> str:
        return f"array {self.name}"

    @property
    def arrays(self) -> tuple[str, ...]:  # type: ignore[override]
        """The array's name."""
        return (self.name,)

    def value(self, stand: Stand) -> Float[Tensor, "1 ..."]:
        return stand.array(self.name, attends=False)


@dataclass(frozen=True, repr=False)
class Attend(Held):
    """A pattern to attend by: of the keys of a mask, `uniform` over all so far, `identity`, or an array.

    It stands for a whole attention pattern, so a rule feeds it to both q and k of a head and to nothing else. Where a
    mask has no key (`lag 100` at the first hundred positions), the first position is attended to.
    """

    written = "attend MASK"
    by: str

    @classmethod
    def read(cls, text: str) -> Attend | None:
        word, _, by = text.partition(" ")
        if word != "attend" or not by:
            return None
        if by not in {"uniform", "identity"} and Array.read(by) is None:
            MASKS[by]  # which says what there is
        return cls(by)

    def __str__(self) -> str:
        return f"attend {self.by}"

    @property
    def arrays(self) -> tuple[str, ...]:  # type: ignore[override]
        """The name of the array that it attends by, if it does by one."""
        array = Array.read(self.by)
        return () if array is None else array.arrays

    def value(self, stand: Stand) -> Float[Tensor, "1 ..."]:
        if (array := Array.read(self.by)) is not None:
            return stand.array(array.name, attends=True)
        return self.pattern(stand.like.shape[-1]).to(stand.like).expand_as(stand.like)

    def pattern(self, positions: int) -> Float[Tensor, "query key"]:
        """Spread attention evenly over the keys that are attended to."""
        import torch

        if self.by == "uniform":
            return torch.ones(positions, positions).double().tril() / torch.arange(1, positions + 1)[:, None]
        if self.by == "identity":
            return torch.eye(positions).double()
        keys, inside = MASKS[self.by].keys(torch.arange(positions)[None])
        pattern = torch.zeros(positions, positions).double().scatter_add_(1, keys[0], inside[0].double())
        pattern[pattern.sum(1) == 0, 0] = 1
        return pattern / pattern.sum(1, keepdim=True)


X, Y = Reference(), Other()
Mean.over, MeanOther.over, MeanOtherByName.over, MeanOtherByTemplate.over = X, Y, Y, Y


def ordered(sources: Iterable[Kind]) -> tuple[Kind, ...]:
    """Sort sources: the reference first, then the other, then the rest by name."""
    return tuple(sorted(set(sources), key=lambda source: (source.rank, str(source))))


def _either(kinds: Iterable[type[Source]]) -> str:
    texts = [kind.written if " " not in kind.written else f"'{kind.written}'" for kind in kinds]
    return " or ".join(filter(None, (", ".join(texts[:-1]), texts[-1])))
