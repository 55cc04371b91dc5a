"""A hypothesis that was found by a search as a module, with prose: what it keeps, what that recovers, what speaks
against it, and how its number is had once more."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from scrub.data.windows import counted
from scrub.measure.search.found import REPORT, SEARCH, STOP, Beside, Found, Point
from scrub.measure.search.written import module_of
from scrub.study.metric import LOSS
from scrub.text.numbers import PLAIN, Interval

MOST_LINES = 6  # of what changed in one step
MOST_STEPS = 40  # of a table in prose


def found_module(of: Found) -> str:
    """Write the module of what was found."""
    return module_of(of.hypothesis, list(_paragraphs(of)))


def claim_of(of: Found) -> str:
    """Say what a found hypothesis keeps, and what that recovers."""
    best = of.best
    said = "; ".join(f"{place} reads {_listed(labels)}" for place, labels in _by_place(best).items())
    over = "these parts resample" if of.partly else "the baseline resamples"
    return (
        f"Found by a search of {of.study} on {of.model}. On the sequence itself {said or 'nothing is read'}; all else "
        f"that {over} comes from another. {best.size:,} of {of.count:,} cells "
        f"{'recovers' if best.size == 1 else 'recover'} {_percent(best.recovered[REPORT])} of {called(of)}."
    )


def called(of: Found) -> str:
    """Name what percentages are of."""
    return "the loss" if of.metric == LOSS.name else of.metric


def _paragraphs(of: Found) -> Iterator[str]:
    best = of.best
    yield claim_of(of)
    yield (
        f"That is of {of.data} on the fold {REPORT}, {of.sizes[REPORT]}, which the search hasn't seen. On the fold "
        f"{SEARCH}, {of.sizes[SEARCH]}, on which it chose, they recover {_percent(best.recovered[SEARCH])}; on the "
        f"fold {STOP}, {of.sizes[STOP]}, {_percent(best.recovered[STOP])}; all {of.count:,} cells together, on the "
        f"fold {REPORT}, {_percent(of.whole)}. Candidates are {', '.join(of.kinds)} at depth {of.depth}; "
        f"{of.exact:,} lists of cells were measured, the others only scored to first order."
    )
    if of.stopped:
        yield f"The search ended there: {of.stopped}."
    yield from (f"Warning: {warning}." for warning in of.warnings)
    yield "\n".join(_table(of.points))
    if chance := _chance(of):
        yield chance
    if of.overlap is not None:
        yield (
            f"Stability: on {counted(len(of.overlaps), 'bootstrap resample')} of its {of.over} the same search finds "
            f"lists that share {PLAIN.number(100 * of.overlap, 0)} % of the cells with this one on average (Jaccard)."
        )
    if of.rival is not None:
        yield f"Rival: the best list found without any of these cells recovers {_beside(of.rival)}."
    if of.hypotheses:
        others = "; ".join(f"{each.name}, of {counted(each.size, 'cell')}, {_beside(each)}" for each in of.hypotheses)
        yield f"Beside it, on the fold {REPORT}: {others}."
    yield _again(of)


def _again(of: Found) -> str:
    if of.command:
        return f"The same number:\n\n    {of.command}"
    if of.hypothesis.study is None:
        return (
            "Its study was in memory, so it names none, and no command line gives the number: run the study with this "
            f"hypothesis in it, run(replace(study, hypotheses=(hypothesis,)), settings=Settings(fold={REPORT!r}, ...))."
        )
    return (
        "The model, data, metric or positions were in memory, so no command line gives the number: "
        f"run(hypothesis, model, data, Settings(fold={REPORT!r}, ...)) does."
    )


def _chance(of: Found) -> str:
    same = [each.recovered.estimate for each in of.random if each.size == of.best.size]
    if not same:
        return ""
    mean, least, most = (PLAIN.number(each, 1) for each in (sum(same) / len(same), min(same), max(same)))
    return (
        f"Chance: {len(same)} lists of {counted(of.best.size, 'cell')}, drawn uniformly, recover {mean} % in the "
        f"mean, from {least} to {most}."
    )


def _beside(each: Beside) -> str:
    return f"{_percent(each.recovered)}" + (f" ({_less(each.less)})" if each.less is not None else "")


def _less(less: Interval) -> str:
    return f"the list found of that size recovers {PLAIN.with_interval(less, 1)} points more"


def _percent(interval: Interval) -> str:
    return PLAIN.with_interval(interval, 1, unit="%")


def _listed(labels: Sequence[str]) -> str:
    *first, last = labels
    return f"{', '.join(first)} and {last}" if first else last


def _by_place(point: Point) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    for cell in point.cells:
        found.setdefault(cell.place, []).append(cell.label)
    return found


def changed(point: Point) -> list[str]:
    """List what a list has more than the one before it, and what less; of many the first, and how many more."""
    signs = [("+", cell) for cell in point.added] + [("-", cell) for cell in point.dropped]
    lines = [f"{sign} {cell.place}/{cell.label}" for sign, cell in signs]
    left = len(lines) - MOST_LINES
    return lines if left <= 0 else [*lines[:MOST_LINES], f"and {left} more"]


def _table(points: Sequence[Point]) -> Iterator[str]:
    """Write the steps: what changed, and what it brought."""
    shown = points[-MOST_STEPS:]
    rows = [("cells", "step", "expected", "gain", "further gain")]
    for point in shown:
        first, *more = changed(point) or [""]
        further = point.further
        said = PLAIN.with_interval(further, 1) if further.known else PLAIN.number(further.estimate, 1)
        rows.append((str(point.size), first, PLAIN.number(point.expected, 1), PLAIN.number(point.gain, 1), said))
        rows += [("", each, "", "", "") for each in more]
    widths = [max(len(row[at]) for row in rows) for at in range(len(rows[0]))]
    for number, step, *numbers, last in rows:
        cells = [number.rjust(widths[0]), step.ljust(widths[1])]
        cells += [each.rjust(width) for each, width in zip(numbers, widths[2:-1], strict=True)]
        yield "    " + "  ".join([*cells, last]).rstrip()
    left = len(points) - len(shown)
    if left:
        yield f"The last {len(shown)} of {len(points)} steps."
    yield (
        "In percent of what there is to recover: what one cell was expected to bring to first order, what the\n"
        f"list gains over the one before it on the fold {SEARCH}, and on the fold {STOP}, with the 95 % interval."
    )
