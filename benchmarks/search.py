"""How good a search for hypotheses is, beside other ways to choose as many cells: `python benchmarks/search.py`.

Every method chooses on the search fold alone. Prints, in percent recovered on the report fold over all `--draws`
pairings, with 95 % intervals: each method at each size, how much more the search recovers (paired), and the study's
hypotheses beside the search at their own sizes, or at a smaller one. Costs are lists that were measured exactly (in
all, and when each size was decided), scores of all cells, and time in plain forward passes over the search fold in the
same process; the gates, which every run passes once, are left out.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, astuple, dataclass, field, replace
from functools import partial
from pathlib import Path
from resource import RUSAGE_SELF, getrusage
from typing import Any

import numpy as np
import torch
from measuring import clock, timed
from rich.console import Console

from scrub import Settings
from scrub.data.settings import FOLDS
from scrub.measure.search.asked import CHECKED
from scrub.measure.search.cells import Cell, Cells
from scrub.measure.search.exact import Exact, Kept, Record
from scrub.measure.search.fold import WHOLE, Fold, Sums
from scrub.measure.search.found import REPORT, SEARCH
from scrub.measure.search.screen import Screen
from scrub.measure.search.steps import BEYOND, Search, Step
from scrub.paths.hashes import hash_of
from scrub.study.draws import generator
from scrub.study.metric import ROLES
from scrub.study.run import prepare_study
from scrub.study.study import load_study
from scrub.text.numbers import Interval
from scrub.training.loss import Objective

SIZES = (4, 8, 16, 32)
POINTS = 5  # of EAP-IG
AT_ONCE = 24  # lists that are measured on the report fold as one plan
GIBI = 1 << 30
SEARCHED, RANDOM = "search", "random"


@dataclass
class Chosen:
    """What a method chose: a list of cells by size; what it had cost when each size was decided, and in all."""

    lists: dict[int, Kept] = field(default_factory=dict)
    exact: dict[int, int] = field(default_factory=dict)
    measured: int = 0
    screens: int = 0
    seconds: float = 0.0

    def written(self) -> dict[str, Any]:
        """Write it as what JSON can hold."""
        lists = [[size, sorted(map(astuple, kept))] for size, kept in self.lists.items()]
        return asdict(replace(self, lists={})) | {"lists": lists, "exact": list(self.exact.items())}

    @classmethod
    def read(cls, written: Mapping[str, Any]) -> Chosen:
        """Read what was written."""
        lists = {size: frozenset(Cell(*each) for each in kept) for size, kept in written["lists"]}
        return cls(**{**written, "lists": lists, "exact": dict(written["exact"])})


@dataclass
class Keeper:
    """A file with what methods chose, if there is one, and of which examples and cells that was."""

    path: Path | None
    about: list[object]

    def chosen(self, method: str, sizes: Sequence[int], choose: Callable[[], Chosen]) -> Chosen:
        """Give what was chosen before of lists of these sizes, or choose, and keep it."""
        if self.path is None:
            return choose()
        kept = json.loads(self.path.read_text()) if self.path.is_file() else {}
        key = hash_of(method, self.about, list(sizes))
        if key not in kept:
            kept[key] = choose().written()
            self.path.write_text(json.dumps(kept))
        return Chosen.read(kept[key])


@dataclass(frozen=True)
class Wanted:
    """What is searched for on the search fold: lists of these sizes."""

    fold: Fold
    sizes: tuple[int, ...]

    def ranked(self, **how: object) -> Chosen:
        """Score all cells once, at the empty list, and take the best so many."""
        start, totals = clock(), dict[Cell, float]()
        for pairing in self.fold.pairings:
            screen = Screen(self.fold.cells, self.fold.metric, pairing, self.fold.trial.settings, **how)  # type: ignore[arg-type]
            scored = screen(frozenset())
            for cell, gains in zip(scored.cells, scored.gains, strict=True):
                totals[cell] = totals.get(cell, 0.0) + float(gains.sum())
        order = sorted(totals, key=lambda cell: -totals[cell])
        lists = {size: frozenset(order[:size]) for size in self.sizes}
        return Chosen(lists, dict.fromkeys(lists, 0), 0, 1, clock() - start)

    def stepped(self, checked: int | None, most: int | None = None, backward: bool = False) -> Chosen:
        """Go from the empty list, or from all cells, step by step; `most` is the largest size."""
        sizes = [size for size in self.sizes if most is None or size <= most]
        begin = frozenset(self.fold.cells.every) if backward else frozenset[Cell]()
        found, exact = Chosen(), Exact(self.fold, Record(None, {}))
        ahead = 0 if checked is None or backward else BEYOND

        def watch(_: str, step: Step) -> None:
            for size in sizes:
                decided = len(step.kept) == (size if backward else min(size + ahead, len(self.fold.cells)))
                if decided and size not in found.exact:
                    found.exact[size] = exact.count

        looking = Search(self.fold.cells, exact, Record(None, {}), checked, watch)
        start = clock()
        way = looking.grown("way", min(sizes) if backward else max(sizes), begin)
        found.seconds, found.measured, found.screens = clock() - start, exact.count, looking.screens
        found.lists = {size: way.lists[size][0] for size in sizes}
        return found


@dataclass(frozen=True)
class Reported:
    """What lists give on the report fold, each measured once."""

    fold: Fold
    exact: Exact

    def sums(self, lists: Iterable[Kept]) -> dict[Kept, Sums]:
        """Measure some lists."""
        each = list(dict.fromkeys(lists))
        found: dict[Kept, Sums] = {}
        for start in range(0, len(each), AT_ONCE):
            some = each[start : start + AT_ONCE]
            found |= {kept: own for kept, (own, _) in zip(some, self.exact(some), strict=True)}
        return found

    def written(self) -> dict[str, tuple[int, Sums]]:
        """Measure the hypotheses of the study, all their parts together: at their size in the same cells."""
        trial, cells = self.fold.trial, self.fold.cells
        of = [each for each in trial.experiments if each.hypothesis and each.part == "all"]
        measured = self.fold.measure(of, self.fold.anchors.gates).sums
        sums = {name: each for (role, name), each in measured.items() if role == ROLES[0]}
        sizes = {h.name: (len(cells.kept_by(h, each.part)), str(each.name)) for each in of if (h := each.hypothesis)}
        return {name: (size, sums[called]) for name, (size, called) in sizes.items()}


def said(interval: Interval) -> str:
    """Write an interval as a cell of a table."""
    return f"{interval.estimate:.1f} [{interval.low:.1f}, {interval.high:.1f}]"


def row(*cells: object) -> str:
    """Write a row of a table."""
    return "| " + " | ".join(map(str, cells)) + " |"


def head(*cells: object) -> str:
    """Write the first two rows of a table."""
    return f"{row(*cells)}\n{row(*('---' for _ in cells))}"


def folds_of(options: argparse.Namespace) -> dict[str, Fold]:
    """Divide the examples of a study as a search does."""
    study, hypotheses = load_study(options.study)
    settings = Settings(sequences=options.sequences, seed=options.seed, progress=False)
    trials = {}
    for fold in FOLDS:
        draws = options.draws if fold == REPORT else options.search_draws
        on = replace(settings, fold=fold, draws=draws)
        trials[fold] = prepare_study(study, hypotheses if fold == REPORT else [], options.model, None, on)
    of = trials[SEARCH]
    cells = Cells.made(of.study, of.model, options.candidates, depth=options.depth)
    return {fold: Fold(cells, trial) for fold, trial in trials.items()}


def plain_seconds(fold: Fold, repeats: int) -> float:
    """Time a forward pass over the examples of a fold, once for each pairing, with the loss of every position."""
    model, trial = fold.cells.model, fold.trial
    tokens = torch.from_numpy(trial.examples.tokens).to(model.device)
    objective, batch = Objective(model.graph), trial.settings.at_once(trial.examples.context)

    def work() -> None:
        with torch.inference_mode():
            for start in range(0, len(tokens), batch):
                objective.token_losses(model.params, tokens[start : start + batch])

    work()
    return float(np.median([timed(work) for _ in range(repeats)])) * len(fold.pairings)


def methods_of(wanted: Wanted, options: argparse.Namespace) -> Mapping[str, Callable[[], Chosen]]:
    """List the methods, the search first."""
    many = {"opened": len(wanted.fold.cells)} if options.open_all else {}
    ig = [point / POINTS for point in range(POINTS)]
    found: dict[str, Callable[[], Chosen]] = {
        SEARCHED: partial(wanted.stepped, CHECKED),
        "EAP": partial(wanted.ranked, recomputed=False, fractions=[1.0], **many),
        "EAP-IG": partial(wanted.ranked, recomputed=False, fractions=ig, **many),
        "screen alone": partial(wanted.ranked, **many),
    }
    if options.greedy:
        found["all-exact greedy"] = partial(wanted.stepped, None, options.greedy)
    if options.backward:
        checked = None if options.backward == "all" else int(options.backward)
        of = "all" if checked is None else str(checked)
        found[f"backward ({of} checked)"] = partial(wanted.stepped, checked, None, True)
    return {name: method for name, method in found.items() if name == SEARCHED or name not in options.without}


def drawn(cells: Cells, sizes: Sequence[int], lists: int, seed: int) -> dict[int, list[Kept]]:
    """Draw random lists of each size."""
    rng = generator(seed, 0, "random lists of cells")
    return {size: [cells.drawn(size, rng) for _ in range(lists)] for size in sizes}


def table(
    say: Callable[[str], None],
    reported: Reported,
    chosen: Mapping[str, Chosen],
    shown: Sequence[int],
    random: Mapping[int, Sequence[Kept]],
    plain: float,
) -> None:
    """Print what each method recovers, how much more the search does, and what it cost."""
    fold = reported.fold
    every = [kept for each in chosen.values() for kept in each.lists.values()]
    sums = reported.sums([*every, *(kept for of in random.values() for kept in of)])
    means = {size: np.mean([sums[kept] for kept in of], 0) for size, of in random.items()}
    ranges = {size: [float(fold.percent(sums[kept])[0]) for kept in of] for size, of in random.items()}
    say(head("recovered, %", *shown, "exact runs", "screens", "plain forwards"))
    for name, each in chosen.items():
        cells = [said(fold.interval(sums[each.lists[size]])) if size in each.lists else "" for size in shown]
        counts = ", ".join(str(each.exact.get(size, "")) for size in shown if size in each.lists)
        exact = f"{each.measured} ({counts})" if each.measured else "0"
        say(row(name, *cells, exact, each.screens, f"{each.seconds / plain:.1f}"))
    said_random = [f"{said(fold.interval(means[s]))}; {min(ranges[s]):.1f} to {max(ranges[s]):.1f}" for s in shown]
    say(row(f"{RANDOM}, mean; range", *said_random, "", "", ""))
    say("")
    say(head("search more than", *shown))
    own = chosen[SEARCHED].lists
    for name, each in chosen.items():
        if name != SEARCHED:
            less = {size: sums[kept] for size, kept in each.lists.items()}
            say(row(name, *(said(fold.interval(sums[own[s]], less[s])) if s in less else "" for s in shown)))
    say(row(f"{RANDOM}, mean", *(said(fold.interval(sums[own[s]], means[s])) for s in shown)))
    say("")
    say(head("cells in common with search (Jaccard)", *shown))
    for name, each in chosen.items():
        if name != SEARCHED:
            pairs = {s: (kept, own[s]) for s, kept in each.lists.items()}
            say(row(name, *(f"{len(a & b) / len(a | b):.2f}" for a, b in (pairs[s] for s in shown if s in pairs))))
    say("")
    say(head("hypothesis", "cells", "recovered, %", "cells of search", "recovered, %", "more by"))
    for name, (size, written) in reported.written().items():
        same = max((each for each in own if each <= size), default=None)
        beside = ["", "", ""]
        if same is not None:
            beside = [str(same), said(fold.interval(sums[own[same]])), said(fold.interval(sums[own[same]], written))]
        say(row(name, size, said(fold.interval(written)), *beside))
    whole = fold.anchors.sums[ROLES[0], WHOLE]
    say(row("all cells", len(fold.cells), said(fold.interval(whole)), "", "", ""))


def main(arguments: Sequence[str] | None = None) -> None:
    """Print the tables of a study."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("study", nargs="?", default="induction")
    parser.add_argument("--model", help="another than the study's")
    parser.add_argument("--candidates", nargs="+", help="heads, mlps, masks")
    parser.add_argument("--depth", type=int)
    parser.add_argument("--sequences", type=int, default=72, help="examples in all three folds")
    parser.add_argument("--draws", type=int, default=3, help="pairings of the report fold")
    parser.add_argument("--search-draws", type=int, default=1, help="pairings of the search fold")
    parser.add_argument("--sizes", type=int, nargs="+", default=SIZES)
    parser.add_argument("--most", type=int, default=32, help="beside larger hypotheses stands a list of fewer cells")
    parser.add_argument("--greedy", type=int, default=max(SIZES), help="the largest size all-exact; 0: not at all")
    parser.add_argument("--backward", help="from all cells: how many are measured in each step, or all")
    parser.add_argument("--without", nargs="+", default=(), help="methods that aren't wanted")
    parser.add_argument("--open-all", action="store_true", help="single scores reach all cells of depth 2")
    parser.add_argument("--lists", action="store_true", help="print what was found")
    parser.add_argument("--random", type=int, default=20, help="random lists of each size")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--repeats", type=int, default=3, help="of a plain forward pass")
    parser.add_argument(
        "--kept",
        type=Path,
        help="a file with what methods chose: what is there isn't chosen again, whatever changed in the code",
    )
    options = parser.parse_args(arguments)
    torch.set_num_threads(1)
    say = partial(Console(highlight=False, width=250, soft_wrap=True, markup=False).print)
    folds = folds_of(options)
    cells, fold, report = folds[SEARCH].cells, folds[SEARCH], folds[REPORT]
    reported = Reported(report, Exact(report, Record(None, {})))
    _ = fold.anchors, report.anchors  # the gates
    plain = plain_seconds(fold, options.repeats)
    say(
        f"{options.study}, {cells.model.name}: {len(cells):,} cells ({', '.join(cells.kinds)}; depth {cells.depth}); "
        f"{len(fold.trial.examples)} examples in the search fold, {len(report.trial.examples)} in the report fold, "
        f"{options.search_draws} and {options.draws} pairings; plain forward {1000 * plain:.0f} ms"
    )
    shown = [size for size in options.sizes if size < len(cells)]
    hypotheses = {size for size, _ in reported.written().values() if size <= min(options.most, len(cells) - 1)}
    wanted = Wanted(fold, tuple(sorted({*shown, *hypotheses})))
    chosen: dict[str, Chosen] = {}
    asked = [options.seed, options.search_draws, options.greedy, options.open_all]
    about = [cells.model.weights_hash, fold.trial.examples.digest, *cells.kinds, cells.depth, *cells.roots, *asked]
    keeper = Keeper(options.kept, about)
    for name, method in methods_of(wanted, options).items():
        each = chosen[name] = keeper.chosen(name, wanted.sizes, method)
        say(f"{name}: {each.seconds / plain:.1f} plain forwards, {each.measured} exact runs, {each.screens} screens")
    if options.lists:
        for size, kept in chosen[SEARCHED].lists.items():
            say(f"{size}: {' '.join(map(str, sorted(kept, key=cells.key)))}")
    say("")
    table(say, reported, chosen, shown, drawn(cells, shown, options.random, options.seed), plain)
    say(f"\npeak memory {getrusage(RUSAGE_SELF).ru_maxrss * 1024 / GIBI:.1f} GiB")


if __name__ == "__main__":
    main()
