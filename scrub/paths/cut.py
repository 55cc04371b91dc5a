"""The heads that the steps of patterns mean, and layers that are cut as finely as some patterns tell heads apart.

A layer (`a0`), a role (`a0.prev`), a number (`a0.3`) and `rest` (`a0.rest`: the heads of the layer without a role) are
names of sets of heads. A layer is cut into the largest groups of heads that every pattern means all or nothing of. So
a name means the same heads whatever else is named, and a role that nobody names changes nothing.

`by heads 3 4` names heads too, of the layers where it stands, and takes them out of `rest` there.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from scrub.graph.heads import head_indices, restrict
from scrub.graph.node import Node, node, rewrite, walk
from scrub.paths.locate import below, locate
from scrub.paths.pattern import INPUTS, Names, Pattern, glob
from scrub.paths.roles import Roles
from scrub.paths.rules import Rule
from scrub.paths.splits import Split, attention_heads, heads_of
from scrub.paths.unmatched import Unmatched
from scrub.text.errors import ScrubError

if TYPE_CHECKING:
    from scrub.graph.ops import Heads

REST = "rest"
FEW_READERS = 4  # that a warning names
_ANY = "\0"  # what `*` alone can be in a0.*: whatever the layer's heads are called
Sets = dict[str, frozenset[int]]  # of heads of one layer, by name


@dataclass(frozen=True)
class Cut:
    """A model that is cut so that some patterns tell heads apart, and split further: the same numbers."""

    graph: Node
    names: Names = field(default_factory=dict)  # of each group of heads, by its label
    warnings: tuple[str, ...] = ()
    unmatched: tuple[Unmatched, ...] = ()  # what is left out, as nothing in this model matches it

    def read(self, pattern: Pattern) -> Pattern:
        """Give the pattern that knows what the heads of this model are called."""
        return replace(pattern, names=self.names)

    def rules(self, rules: Iterable[Rule]) -> tuple[Rule, ...]:
        """Give the rules whose patterns know what the heads of this model are called."""
        return tuple(replace(rule, pattern=self.read(rule.pattern)) for rule in rules)


def cut(
    model: Node,
    roles: Roles,
    rules: Iterable[Rule],
    splits: Sequence[Split] = (),
    *,
    also: Iterable[Pattern] = (),
    generated: bool = False,
    elsewhere: Collection[Unmatched] = (),
) -> Cut:
    """Cut the layers of an unsplit model as finely as rules and splits tell heads apart, then split it along paths.

    `cut(graph, roles, [Rule.parse("a1.3/k/** -> y")]).graph` has a1.3 and the other heads of layer 1. Whoever needs
    heads told apart for patterns of other rules names those in `also`.
    Raises ScrubError for a split that can't be made, and for a rule or an alternative of it that matches no path; an
    alternative with `*` is a warning, since other models may have it. Those of `generated` rules aren't looked at.
    What is named in `elsewhere` matches on another of several models: here it may match nothing, and is left out then.
    """
    asked = tuple(dict.fromkeys(rules)), splits, generated, elsewhere
    try:
        return _cut(model, roles, *asked, tuple(also))
    except ScrubError:
        every = [Pattern(f"**/a*.{role}") for role in roles]
        _cut(model, roles, *asked, (*also, *every))  # names what comes nearest, among heads with any role
        raise


def _cut(
    model: Node,
    roles: Roles,
    rules: Sequence[Rule],
    splits: Sequence[Split],
    generated: bool,
    elsewhere: Collection[Unmatched],
    also: Sequence[Pattern],
    nowhere: frozenset[Unmatched] = frozenset(),
) -> Cut:
    """Cut and split a model; `nowhere` is what is known of its splits to be left out."""
    patterns = [*(rule.pattern for rule in rules), *(split.pattern for split in splits)]
    steps = {each for pattern in (*patterns, *also) for of in pattern.alternatives for each in of}
    components = {step.partition("[")[0] for step in steps} - {"*", "**"}
    left_out = sorted((each for each in nowhere if not each.alternative), key=str)
    there = [split for split in splits if Unmatched("split", str(split)) not in nowhere]
    pieces: dict[str, dict[str, Heads]] = {}
    names: dict[str, tuple[str, ...]] = {}
    before: dict[str, tuple[str, ...]] = {}  # where a split `by heads` is looked for, which takes nothing from rest yet
    for number, heads in attention_heads(model).items():
        layer = _Layer(number, heads, roles, there, nowhere)
        pieces[layer.label] = layer.pieces(components)
        for label, piece in pieces[layer.label].items():
            names[label] = layer.names(piece, layer.sets)
            before[label] = layer.names(piece, layer.sets | layer.whole_rest)
    graph = _in_pieces(model, pieces)
    warnings: list[str] = []
    for split in there:
        by_heads = split.kind == "heads"
        read = replace(split, pattern=replace(split.pattern, names=before if by_heads else names))
        missing = _missing(Unmatched("split", str(split)), read.pattern, graph, generated, elsewhere)
        # heads that are named where the split isn't are taken out of no rest
        found = {each for each in missing if not each.warned and (by_heads or not each.alternative)}
        if found - nowhere:
            return _cut(model, roles, rules, splits, generated, elsewhere, also, nowhere | found)
        warnings += _warnings(missing, read.pattern)
        left_out += missing
        if by_heads:
            left_out += _check_heads(read, graph, roles, elsewhere)
        else:
            graph = read.apply(graph, roles)
    anchored: dict[str, Pattern] = {}  # the first pattern that begins at what others read too, and nothing of the rest
    read_by = _readers(graph) if rules and not generated else {}
    for rule in rules:
        pattern, whole = replace(rule.pattern, names=names), Unmatched("rule", str(rule))
        missing = _missing(whole, pattern, graph, generated, elsewhere)
        left_out += missing
        if whole in missing:
            continue
        warnings += _warnings(missing, pattern)
        if other := _read_elsewhere(pattern, graph, read_by):
            anchored.setdefault(other, pattern)
        warnings += _parts_left(pattern, graph) if splits and not generated else ()
    warnings += [f"'{pattern}' is only where {other}" for other, pattern in anchored.items()]
    return Cut(graph, names, tuple(dict.fromkeys(warnings)), tuple(dict.fromkeys(left_out)))


def _missing(
    whole: Unmatched, pattern: Pattern, graph: Node, generated: bool, elsewhere: Collection[Unmatched]
) -> list[Unmatched]:
    """List what matches no path: all of a pattern, or alternatives of it.

    Raises ScrubError for what doesn't match elsewhere either, unless it is an alternative with `*`.
    """
    try:
        locate(pattern, graph, once=True)
    except ScrubError as error:
        if whole.excused(pattern, elsewhere):
            return [whole.because(error)]
        raise
    missing = []
    for text, alone in () if generated else pattern.each_alternative():
        try:
            locate(alone, graph, once=True)
        except ScrubError as error:
            one = replace(whole, alternative=text)
            if not one.warned and one not in elsewhere:
                raise ScrubError(f"{text!r} is nothing that '{pattern}' could mean: {error}") from error
            missing.append(one.because(error))
    return missing


def _warnings(missing: Iterable[Unmatched], pattern: Pattern) -> Iterator[str]:
    """Warn of every alternative with `*` that matches no path."""
    for each in missing:
        if each.warned:
            yield f"the alternative {each.alternative!r} of '{pattern}' matches no path of this model"


def meant(text: str, model: Node, roles: Roles) -> dict[int, Heads]:
    """List the heads that one step of a pattern means, by layer: `meant("a0.prev", graph, roles)` is `{0: (1,)}`."""
    return {
        number: kept
        for number, heads in attention_heads(model).items()
        if (kept := _Layer(number, heads, roles).meant(Pattern(text).alternatives[0]))
    }


def heads_text(model: Node, roles: Roles) -> str:
    """Say which heads every name means, rest where others of the layer have a role: `prev = a0.1; rest = a0.0 a0.2`."""
    layers = {at: _Layer(at, there, roles).sets for at, there in attention_heads(model).items()}
    told = []
    for name in (*roles, REST):
        of = {at: kept for at, sets in layers.items() if (kept := sets.get(name)) and sets.keys() & roles.keys()}
        if of:
            told.append(f"{name} = " + ", ".join(" ".join(f"a{at}.{head}" for head in sorted(of[at])) for at in of))
    return "; ".join(told) or "no head has a role"


def _readers(graph: Node) -> dict[str, list[str]]:
    """List what reads each component besides the output, by their labels."""
    found: dict[str, dict[str, None]] = {}
    for reader in walk([graph]):
        if reader.label is not None and reader is not graph and reader.label not in INPUTS:
            for each in below(reader):
                for component in below(each) if each.label in INPUTS else [each]:
                    found.setdefault(component.label or "", {})[reader.label.partition(".")[0]] = None
    return {component: list(readers) for component, readers in found.items()}


def _read_elsewhere(pattern: Pattern, graph: Node, readers: Mapping[str, Sequence[str]]) -> str:
    """Say what else reads the component that a pattern begins with; nothing where only the output does."""
    if pattern.of_out or pattern.alternatives[0] == ("**",) or not readers:
        return ""
    first = [c.label or "" for c in below(graph) if pattern.advance(pattern.start, c.label or "")]
    others = list(dict.fromkeys(reader for component in first for reader in readers.get(component, ())))
    if not others:
        return ""
    some = ", ".join(others[:FEW_READERS]) + (", ..." if len(others) > FEW_READERS else "")
    return (
        f"the output itself reads {', '.join(first)}, as are others that begin so; it is also read by {some}: begin "
        "with '**/' to mean every place, or with 'out/' to mean this one"
    )


def _parts_left(pattern: Pattern, graph: Node) -> Iterator[str]:
    """Warn of a pattern that names a component which a split has taken apart at some of the places that it means."""
    steps = pattern.text.split("/")
    for at, step in enumerate(steps):
        if "*" in step or "[" in step:
            continue
        parts = replace(pattern, text="/".join([*steps[:at], f"{step}[*]", *steps[at + 1 :]]))
        try:
            (place, *_) = locate(parts, graph)
        except ScrubError:
            continue
        yield f"'{pattern}' doesn't mean {place!r}, a part of {step}: write '{step}*' to mean its parts too"


class _Layer:
    """The heads of a layer, and the names of sets of them."""

    def __init__(
        self,
        number: int,
        heads: Heads,
        roles: Roles,
        splits: Sequence[Split] = (),
        nowhere: Collection[Unmatched] = (),
    ) -> None:
        self.label, self.heads, self._nowhere = f"a{number}", frozenset(heads), nowhere
        of_roles = {role: frozenset(heads_of(number, role, roles)) for role in roles}
        self.sets: Sets = {role: of for role, of in of_roles.items() if of}
        self.sets |= {str(head): frozenset([head]) for head in heads}
        rest = self.heads.difference(*of_roles.values())
        self.whole_rest: Sets = {REST: rest} if rest else {}
        named = [name for split in splits if split.kind == "heads" and self._matched(split) for name in split.names]
        self._named = set(named)
        rest -= {head for name in named for head in heads_of(number, name, roles)}
        if rest:
            self.sets[REST] = rest

    def _matched(self, split: Split) -> bool:
        sets = self.sets | self.whole_rest
        there = (
            last for last in split.pattern.alternatives[-1] if Unmatched("split", str(split), last) not in self._nowhere
        )
        return any(self._called(last.partition("[")[0], sets) is not None for last in there)

    def _called(self, component: str, sets: Sets) -> list[str] | None:
        """List the names of sets that a component of a pattern is; none if it is the layer; None if it is neither."""
        matches = re.compile(glob(component)).fullmatch
        if matches(self.label) or matches(f"{self.label}.{_ANY}"):
            return []
        return [name for name in sets if matches(f"{self.label}.{name}")] or None

    def meant(self, alternatives: Iterable[str]) -> Heads:
        """List the heads that the alternatives of a step mean."""
        called = [self._called(each, self.sets) for each in alternatives]
        sets = [self.sets[name] for names in called for name in names or ()]
        return tuple(sorted(self.heads if [] in called else frozenset[int]().union(*sets)))

    def pieces(self, components: Iterable[str]) -> dict[str, Heads]:
        """Cut the layer into the largest groups of heads that components of patterns mean all or nothing of."""
        words = set(self._named)
        for component in components:
            words.update(self._called(component, self.sets) or (), self._called(component, self.whole_rest) or ())
        sets = [*self.whole_rest.values()] if REST in words else []
        sets += [of for name, of in self.sets.items() if name in words]
        groups: dict[tuple[bool, ...], list[int]] = {}
        for head in sorted(self.heads):
            groups.setdefault(tuple(head in of for of in sets), []).append(head)
        by_name = [*self.sets.values()]
        order = sorted(groups.values(), key=lambda of: next(at for at, s in enumerate(by_name) if of[0] in s))
        return {self._name(frozenset(of), words): tuple(of) for of in order}

    def _name(self, piece: frozenset[int], words: set[str]) -> str:
        """Name some of the heads so that the name means them: by a word that was written, if one does."""
        same = [name for name, of in self.sets.items() if of == piece]
        if written := [name for name in same if name in words]:
            return f"{self.label}.{written[0]}"
        if piece == self.heads:
            return self.label
        if same:
            return f"{self.label}.{same[0]}"
        whole = [name for name, of in self.sets.items() if of <= piece and not name.isdecimal()]
        left = piece.difference(*(self.sets[name] for name in whole))
        return f"{self.label}." + "+".join([*whole, *map(str, sorted(left))])

    def names(self, piece: Heads, sets: Sets) -> tuple[str, ...]:
        """List all that a piece is called, and is thus a part of."""
        of = (name for name, heads in sets.items() if heads.issuperset(piece))
        return (self.label, *(f"{self.label}.{name}" for name in (_ANY, *of)))


def _in_pieces(model: Node, pieces: Mapping[str, Mapping[str, Heads]]) -> Node:
    """Write each layer as the sum of its pieces."""

    def build(here: Node) -> Node:
        cut_into = pieces.get(here.label or "")
        if cut_into is None:
            return here
        there = head_indices(here)
        if len(cut_into) == 1:
            return here.labelled(next(iter(cut_into)))
        parts = (restrict(here, tuple(map(there.index, heads))).labelled(label) for label, heads in cut_into.items())
        return node("add", *parts)

    return rewrite([model], build)[model]


def _check_heads(split: Split, graph: Node, roles: Roles, elsewhere: Collection[Unmatched]) -> Iterator[Unmatched]:
    """List the heads that a split by heads names and that aren't where it stands, though they are elsewhere.

    Raises ScrubError for those that aren't there either.
    """
    labels = {path.rpartition("/")[2] for path in locate(split.pattern, graph)}
    groups: dict[int, set[int]] = {}
    for current in walk([graph]):
        if current.label in labels:
            layer = re.match(r"a(\d+)", current.label or "")
            if layer is None or current.op != "output":
                raise ScrubError(
                    f"'{split}' can't split {current.label!r}: only attention heads split, and 'a0' is a layer of them"
                )
            groups.setdefault(int(layer[1]), set()).update(head_indices(current))
    place = split.pattern.text.rpartition("/")[2]
    for number, there in groups.items():
        for name in split.names:
            if wrong := _no_such_head(name, number, there, place, roles):
                one = Unmatched("split", str(split), name)
                if one not in elsewhere:
                    raise wrong
                yield one.because(wrong)


def _no_such_head(name: str, layer: int, there: Collection[int], place: str, roles: Roles) -> ScrubError | None:
    """Say what is wrong with a name of heads that a split finds at a place; None where nothing is."""
    if not (wanted := heads_of(layer, name, roles)):
        return ScrubError(
            f"no head of a{layer} has the role {name!r}: this model's roles are {', '.join(roles) or 'none'}"
        )
    if missing := sorted(set(wanted) - set(there)):
        known = ", ".join(map(str, sorted(there)))
        return ScrubError(f"{place} has no head {missing[0]}: its heads are {known}")
    return None
