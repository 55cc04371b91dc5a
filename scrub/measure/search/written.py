"""Writing a list of cells as a hypothesis that a person could have written: globs, roles, few lines."""

from __future__ import annotations

import json
import re
from collections.abc import Collection, Iterator, Sequence
from itertools import product
from textwrap import fill, wrap

from scrub.measure.search.asked import HEADS, MASKED
from scrub.measure.search.cells import Cell, Cells
from scrub.paths.alternatives import folded
from scrub.paths.edges import either
from scrub.paths.sources import X, Y
from scrub.paths.splits import attention_heads
from scrub.plan.plan import canonical
from scrub.study.hypothesis import ALL, Hypothesis
from scrub.text.errors import GateError
from scrub.text.files import one_line

WIDTH_CHARACTERS = 100
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
    listed = cells.experiment(kept, name).resampled
    for parts in (tuple((part,) for part in cells.parts), (tuple(cells.parts),)):
        found = Hypothesis("\n".join(_sections(cells, kept, parts)), claim=claim, name=name, study=study)
        told = found.scrub(model.graph, model.roles, ALL, cells.single_heads)
        if len(set(canonical([listed, told]))) == 1:
            return found
    raise GateError(f"the rules of {name} don't say what its list of cells does: no number of this can be trusted")


def module_of(hypothesis: Hypothesis, prose: Sequence[str]) -> str:
    """Write a hypothesis as a module, with prose above it: `Path("found.py").write_text(module_of(found, ["..."]))`.

    A paragraph that has lines of its own is left as it is.
    """
    paragraphs = [each if "\n" in each else fill(one_line(each), WIDTH_CHARACTERS) for each in prose]
    text = "\n\n".join(each.replace("\\", "\\\\").replace('"""', "'''") for each in paragraphs)
    lines = "".join(f"    {line}\n" for line in hypothesis.rules.splitlines())
    tested = f"    study={json.dumps(hypothesis.study)},\n" if hypothesis.study else ""
    said = "".join(f"        {json.dumps(line)}\n" for line in _lines(hypothesis.claim))
    claim = f"    claim=(\n{said}    ),\n" if said else ""
    return (
        f'"""{text}\n"""\n\nfrom scrub import Hypothesis\n\nhypothesis = Hypothesis(\n    """\n'
        f'{lines}    """,\n{claim}{tested})\n'
    )


def _lines(text: str) -> list[str]:
    """Cut a text into lines that are as long as those of prose, each with the blank behind it."""
    lines = wrap(one_line(text), WIDTH_CHARACTERS)
    return [f"{line} " for line in lines[:-1]] + lines[-1:]


def _sections(cells: Cells, kept: Collection[Cell], parts: Sequence[Sequence[str]]) -> Iterator[str]:
    """Write the lines of the declaration, of slots that are one part together."""
    splits = [f"{pattern} by {by}" for pattern, by in _splits(cells, kept)]
    resampled = {name: [line for part in of for line in cells.parts[part]] for name, of in _called(parts).items()}
    own = {name: [line for part in of for line in _rules(cells, part, kept)] for name, of in _called(parts).items()}
    width = max(len(line) for lines in (*resampled.values(), *own.values()) for line in lines)
    for at, line in enumerate(splits):
        yield f"{'' if at else 'splits':8}{line}"
    for name, patterns in resampled.items():
        lines = [f"{each:{width}} -> {Y}" for each in patterns] + [f"{each:{width}} -> {X}" for each in own[name]]
        for at, line in enumerate(lines):
            yield f"{'' if at else name:8}{line}"


def _called(parts: Sequence[Sequence[str]]) -> dict[str, Sequence[str]]:
    return {of[0] if len(of) == 1 else TOGETHER: of for of in parts}


def _rules(cells: Cells, part: str, kept: Collection[Cell]) -> list[str]:
    """Write the patterns of what is kept of one part."""
    told = ((cell, each) for cell, each in cells.told(kept) if cells.part_of(cell) == part)
    paths = [(*cell.place.split("/"), each.label, *each.inner) for cell, each in told]
    return [line for path in folded(paths) for line in _written(cells, path)]


def _splits(cells: Cells, kept: Collection[Cell]) -> Iterator[tuple[str, str]]:
    """Write the splits that the kept parts of components need, those of one kind together."""
    paths: dict[str, dict[tuple[str, ...], None]] = {}
    for cell, told in cells.told(kept):
        if told.by:
            paths.setdefault(told.by, {})[(*cell.place.split("/"), cell.component)] = None
    for by, some in paths.items():
        yield from ((pattern, by) for path in folded(some) for pattern in _written(cells, path))


def _written(cells: Cells, path: Sequence[Sequence[str]]) -> list[str]:
    """Write a path, each step of which is one of some: as one pattern, or as several where braces would be nested."""
    return ["/".join(steps) for steps in product(*(_step(cells, step) for step in path))]


def _step(cells: Cells, labels: Sequence[str]) -> list[str]:
    """Write alternatives of one step, heads of a layer by the roles that mean them, or all by `*`."""
    groups: dict[tuple[str, str], list[str]] = {}
    for label in labels:
        component, bracket, part = label.partition("[")
        head = _HEAD.fullmatch(component) if HEADS in cells.kinds or MASKED in cells.kinds else None
        groups.setdefault((f"a{head[1]}" if head else component, bracket + part), []).append(head[2] if head else "")
    plain: dict[str, list[str]] = {}
    steps = []
    for (component, part), heads in groups.items():
        names = _named(cells, int(component[1:]), [int(each) for each in heads]) if heads[0] else []
        if len(names) > 1:
            steps.append(f"{component}.{either(names)}{part}")
        else:
            plain.setdefault(part, []).append(".".join([component, *names]))
    return [*steps, *(f"{either(of)}{part}" for part, of in plain.items())]  # a part may have commas of its own


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
