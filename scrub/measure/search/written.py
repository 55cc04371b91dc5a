"""Writing a list of cells as a hypothesis that a person could have written: globs, roles, few lines."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator, Mapping, Sequence
from itertools import product
from textwrap import fill

from scrub.graph.node import Node
from scrub.measure.search.cells import HEADS, IN_MASKS, MASKED, REST, Cell, Cells, single_heads, slot_of
from scrub.paths.alternatives import folded
from scrub.paths.cut import cut
from scrub.paths.edges import EMB, either
from scrub.paths.pattern import Pattern
from scrub.paths.rules import Rule
from scrub.paths.sources import X, Y
from scrub.paths.splits import Split, attention_heads
from scrub.plan.plan import canonical
from scrub.study.experiments import Name, build
from scrub.study.hypothesis import ALL, Hypothesis
from scrub.text.errors import GateError
from scrub.text.files import one_line

WIDTH_CHARACTERS = 100
ALL_MASKS = "last three"  # what the masks of cells are together
TOGETHER = "entries"  # the part that is all slots, where entries read one another
_HEAD = re.compile(r"a(\d+)\.(\d+)")


def hypothesis_of(
    cells: Cells, kept: Collection[Cell], name: str, claim: str = "", study: str | None = None
) -> Hypothesis:
    """Write the hypothesis that keeps some cells: `hypothesis_of(cells, kept, "found")`.

    Rules are folded into alternatives, roles and `*` where these mean the same heads, so no number changes. Each slot
    is a part of it, unless an entry reads another: then the rules of a part would undo what those before it keep below
    both, and all are one part. Raises GateError unless it computes what the list of cells does.
    """
    model = cells.model
    apart = single_heads(model, cells.of, cells.places.labels) if {HEADS, MASKED} & {*cells.kinds} else []
    listed = _listed(cells, kept, name, apart)
    for parts in (tuple((part,) for part in cells.parts), (tuple(cells.parts),)):
        found = Hypothesis("\n".join(_sections(cells, kept, parts)), claim=claim, name=name, study=study)
        told = found.scrub(model.graph, model.roles, ALL, apart)
        if len(set(canonical([listed, told]))) == 1:
            return found
    raise GateError(f"the rules of {name} don't say what its list of cells does: no number of this can be trusted")


def _listed(cells: Cells, kept: Collection[Cell], name: str, apart: Sequence[Pattern]) -> Node:
    """Build the graph that keeps cells, cell by cell; the three masks of a head together are one there too."""
    labelled = list(_labelled(sorted(kept, key=cells.key)))
    if all(label == cell.label for cell, label in labelled):
        return cells.experiment(kept, name).resampled
    pairs = list(_masks(kept).items())
    splits = [Split.parse(f"{place}/{head} by mask {_quoted(of)}") for (place, head), of in pairs]
    rules = [rule for rule in cells.rules(()) if rule.source == Y]
    rules += [Rule.parse(f"{'/'.join(_path(cell, label))} -> {X}") for cell, label in labelled]
    of = cut(cells.model.graph, cells.model.roles, rules, splits, also=apart)
    return build(Name(name), of, rules).resampled


def module_of(hypothesis: Hypothesis, prose: Sequence[str]) -> str:
    """Write a hypothesis as a module, with prose above it: `Path("found.py").write_text(module_of(found, ["..."]))`.

    A paragraph that has lines of its own is left as it is.
    """
    paragraphs = [each if "\n" in each else fill(one_line(each), WIDTH_CHARACTERS) for each in prose]
    text = "\n\n".join(each.replace("\\", "\\\\").replace('"""', "'''") for each in paragraphs)
    lines = "".join(f"    {line}\n" for line in hypothesis.rules.splitlines())
    tested = f'    study="{hypothesis.study}",\n' if hypothesis.study else ""
    return (
        f'"""{text}\n"""\n\nfrom scrub import Hypothesis\n\nhypothesis = Hypothesis(\n    """\n'
        f'{lines}    """,\n{tested})\n'
    )


def _sections(cells: Cells, kept: Collection[Cell], parts: Sequence[Sequence[str]]) -> Iterator[str]:
    """Write the lines of the declaration, of slots that are one part together."""
    listed = sorted(kept, key=cells.key)
    splits = [f"{pattern} by mask {masks}" for pattern, masks in _splits(cells, listed)]
    resampled = {name: [line for part in of for line in cells.parts[part]] for name, of in _called(parts).items()}
    own = {name: [line for part in of for line in _rules(cells, part, listed)] for name, of in _called(parts).items()}
    width = max(len(line) for lines in (*resampled.values(), *own.values()) for line in lines)
    for at, line in enumerate(splits):
        yield f"{'' if at else 'splits':8}{line}"
    for name, patterns in resampled.items():
        lines = [f"{each:{width}} -> {Y}" for each in patterns] + [f"{each:{width}} -> {X}" for each in own[name]]
        for at, line in enumerate(lines):
            yield f"{'' if at else name:8}{line}"


def _called(parts: Sequence[Sequence[str]]) -> dict[str, Sequence[str]]:
    return {of[0] if len(of) == 1 else TOGETHER: of for of in parts}


def _rules(cells: Cells, part: str, kept: Sequence[Cell]) -> list[str]:
    """Write the patterns of what is kept of one part."""
    of = cells.part_of
    paths = [_path(cell, label) for cell, label in _labelled(kept) if of(cell) == part]
    return [line for path in folded(dict.fromkeys(paths)) for line in _written(cells, path)]


def _labelled(kept: Sequence[Cell]) -> Iterator[tuple[Cell, str]]:
    """Give each cell its step; the three masks of a head together are one."""
    parts: dict[tuple[str, str], set[str]] = {}
    for cell in kept:
        parts.setdefault((cell.place, cell.component), set()).add(cell.part)
    for cell in kept:
        whole = parts[cell.place, cell.component].issuperset(IN_MASKS)
        yield cell, f"{cell.component}[{ALL_MASKS}]" if whole and cell.part in IN_MASKS else cell.label


def _path(cell: Cell, label: str) -> tuple[str, ...]:
    inner = ("v", "**") if cell.part else () if cell.component == EMB else ("**",)
    return (*cell.place.split("/"), label, *inner)


def _splits(cells: Cells, kept: Sequence[Cell]) -> Iterator[tuple[str, str]]:
    """Write the splits that the kept parts of heads need, those with the same masks together."""
    masks: dict[tuple[str, ...], list[tuple[str, ...]]] = {}
    for (place, component), wanted in _masks(kept).items():
        masks.setdefault(wanted, []).append((*place.split("/"), component))
    for wanted, paths in masks.items():
        for path in folded(paths):
            for pattern in _written(cells, path):
                yield pattern, _quoted(wanted)


def _masks(kept: Collection[Cell]) -> dict[tuple[str, str], tuple[str, ...]]:
    """List the masks that the kept parts of each head need, by the place that reads it and the head."""
    parts: dict[tuple[str, str], set[str]] = {}
    for cell in kept:
        if cell.part:
            parts.setdefault((cell.place, cell.component), set()).add(cell.part)
    return {
        at: (ALL_MASKS,) if of.issuperset(IN_MASKS) else tuple(m for m in IN_MASKS if m in of or REST in of)
        for at, of in parts.items()
    }


def _quoted(masks: Sequence[str]) -> str:
    return " ".join(f'"{mask}"' for mask in masks)


def _written(cells: Cells, path: Sequence[Sequence[str]]) -> list[str]:
    """Write a path, each step of which is one of some: as one pattern, or as several where braces would be nested."""
    return ["/".join(steps) for steps in product(*(_step(cells, step) for step in path))]


def _step(cells: Cells, labels: Sequence[str]) -> list[str]:
    """Write alternatives of one step, heads of a layer by the roles that mean them, or all by `*`."""
    groups: dict[tuple[str, str], list[str]] = {}
    for label in labels:
        component, bracket, part = label.partition("[")
        head = _HEAD.fullmatch(component) if HEADS in cells.kinds or cells.splits else None
        groups.setdefault((f"a{head[1]}" if head else component, bracket + part), []).append(head[2] if head else "")
    plain: dict[str, list[str]] = {}
    steps = []
    for (component, part), heads in groups.items():
        names = _named(cells, int(component[1:]), [int(each) for each in heads]) if heads[0] else []
        if len(names) > 1:
            steps.append(f"{component}.{either(names)}{part}")
        else:
            plain.setdefault(part, []).append(f"{component}.{names[0]}{part}" if names else component)
    return [*steps, *(either(of) for of in plain.values())]


def _named(cells: Cells, layer: int, heads: Sequence[int]) -> list[str]:
    """Name some heads of a layer: all of it, roles all of whose heads there are among them, and numbers."""
    if set(heads) == set(attention_heads(cells.model.graph)[layer]):
        return ["*"]
    left, names = list(heads), []
    for role, of in cells.model.roles.items():
        there = [head for at, head in of if at == layer]
        if there and set(there) <= set(left):
            names.append(role)
            left = [head for head in left if head not in there]
    return [*names, *map(str, left)]


def said_cells(cells: Sequence[Cell]) -> Mapping[str, list[str]]:
    """List cells by the slot that reads them, for prose."""
    found: dict[str, list[str]] = {}
    for cell in cells:
        found.setdefault(slot_of(cell.place) or cell.place, []).append(cell.label)
    return found
