"""Search for a hypothesis of a given size, and say how good it is on examples that the search has not seen.

Three folds of the examples, which share no document and no template, each with pairings of its own: on the first the
search chooses, the second says where what it gains is no longer clearly above nothing, and the third is looked at once,
when all is decided.
"""

from __future__ import annotations

import shlex
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Annotated

import numpy as np
from rich.progress import Progress, TaskID

from scrub.data.examples import PROMPTS
from scrub.data.for_model import Data
from scrub.data.prompts.prompts import documents_called
from scrub.data.settings import FOLDS
from scrub.measure.search.asked import (
    CHECKED,
    FOUND,
    FROM_MODEL,
    POSITIONS,
    RESAMPLES,
    check_candidates,
    check_searched,
)
from scrub.measure.search.beside import Report, points_of
from scrub.measure.search.cells import Cells
from scrub.measure.search.exact import Exact, Kept, Record
from scrub.measure.search.fold import Fold
from scrub.measure.search.found import REPORT, SEARCH, STOP, Found, Point
from scrub.measure.search.parts import names_of
from scrub.measure.search.steps import Search, Step, Way, check_start
from scrub.measure.search.written import hypothesis_of
from scrub.models.model import Spec
from scrub.study.draws import generator
from scrub.study.evaluate import Evaluator
from scrub.study.fitting import fitting
from scrub.study.hypothesis import ALL, Hypothesis
from scrub.study.metric import KL, GivenMetric, as_metrics
from scrub.study.modules import check_new_name, named_study
from scrub.study.result import Result
from scrub.study.run import Trial, prepare_study
from scrub.study.settings import Settings, typed
from scrub.study.study import Wanted, load_study
from scrub.text.errors import ScrubError
from scrub.text.fields import COUNT, check_arguments
from scrub.text.files import shown
from scrub.text.numbers import PLAIN
from scrub.text.progress import bar_of
from scrub.text.wording import few


@check_arguments
def search(
    wanted: Wanted,
    size: Annotated[int, COUNT],
    model: Spec | None = None,
    data: Data | None = None,
    settings: Settings | None = None,
    *,
    start: str | Hypothesis | None = None,
    candidates: Sequence[str] | None = None,
    depth: Annotated[int, COUNT] | None = None,
    check: Annotated[int, COUNT] | None = CHECKED,
    metric: GivenMetric = None,
    name: str = FOUND,
    stop: bool = True,
    resamples: int = RESAMPLES,
    rival: bool = True,
    record: str | Path | None = None,
) -> Found:
    """Search for the hypothesis of a study that keeps so many cells and recovers most: `search("induction", 8)`.

    Cells are what the study's baseline resamples, one for each component that an input of its entries reads:
    `candidates` are "heads", "mlps", "masks", which takes heads' attention apart, and "positions", which takes what is
    read apart by the positions that the data name. `depth` 2 goes on to what those components read. Each step scores
    all cells in reach to first order, measures the `check` best exactly (of few candidates a tenth, or three; all of
    them, if that is None), and takes the best. It begins with no cell, or at `start`: a hypothesis of the study, or
    "model" for all cells, and goes forward or backward from there. Forward it ends before `size` where what a cell
    gains on the second fold isn't clearly above zero, unless `stop` is False. Then it is done again on so many
    bootstrap `resamples` of the documents, and for a `rival` without the cells that were found. What is measured is
    kept in the file `record`, if there is one, and not measured again. `settings.parts` are the slots that are
    searched.
    Raises ScrubError for what doesn't fit, and GateError if a gate fails.
    """
    settings = settings or Settings()
    if resamples < 0:
        raise ScrubError(f"{resamples} resamples: take 0 or more")
    study, hypotheses = load_study(wanted, empty=True)
    check_searched(study, settings)
    check_candidates(candidates, depth)
    check_new_name(name, [each.name for each in hypotheses if name != FOUND])
    metrics = as_metrics(metric, study.metric)
    if len(metrics) > 1:
        raise ScrubError("a search is for one metric: name one")
    trials: dict[str, Trial] = {}
    for fold in FOLDS:
        on, some = replace(settings, parts=None, fold=fold), hypotheses if fold == REPORT else []
        trials[fold] = prepare_study(study, some, trials[SEARCH].model if trials else model, data, on, metrics)
    first = trials[SEARCH]
    names = names_of(first.examples) if POSITIONS in (candidates or ()) else ()
    cells = Cells.made(first.study, first.model, candidates, settings.parts, depth, names)
    begin = _start(start, hypotheses, cells)
    check_start(cells, begin, size)
    folds = {fold: Fold(cells, trial) for fold, trial in trials.items()}
    searching = _Searching(cells, folds, settings, check, size, begin, None if record is None else Path(record))
    declared = named_study(wanted)
    found = searching.found(name, declared, stop, resamples, rival)
    return replace(found, command=_command(found, declared, model, data, metric, settings))


def _command(
    found: Found, study: str | None, model: Spec | None, data: Data | None, metric: GivenMetric, settings: Settings
) -> str:
    """Write the command line that gives the number of what was found once more; nothing where no words can."""
    words = ["scrub", "run", f"{found.hypothesis.name}.py"]
    for option, given in (("--model", model), ("--data", data), ("--metric", metric)):
        if given is not None and not isinstance(given, str | Path):
            return ""
        words += [] if given is None else [option, str(given)]
    if study is None or callable(settings.positions):
        return ""
    return shlex.join([*words, *typed(replace(settings, parts=None, progress=True, fold=REPORT))])


def _start(start: str | Hypothesis | None, hypotheses: Sequence[Hypothesis], cells: Cells) -> Kept:
    """Find the cells that a search begins with. Raises ScrubError for a name that no hypothesis has."""
    if start is None:
        return frozenset()
    if start == FROM_MODEL:
        return frozenset(cells.every)
    if isinstance(start, Hypothesis):
        return cells.kept_by(start)
    names = {each.name: each for each in hypotheses}
    if (plain := start.rpartition("/")[2]) not in names:
        raise ScrubError(f"there is no {start!r} to start from: there are {', '.join(names)}, and {FROM_MODEL!r}")
    return cells.kept_by(names[plain])


@dataclass
class _Ends:
    """Where a search forward ends, if it is to `stop`: what a cell gains on the stop fold isn't clearly above zero."""

    exact: Exact
    size: int
    stop: bool
    why: str = ""
    _seen: set[int] = field(default_factory=set)

    def __call__(self, way: Way) -> bool:
        """Look at the best list of a size that wasn't come to before."""
        size = len(way.steps[-1].kept)
        new, before = size not in self._seen, way.lists.get(size - 1)
        self._seen.add(size)
        if not (self.stop and way.grows and new and 1 < size <= self.size) or before is None:
            return False
        (now, _), (last, _) = self.exact([way.lists[size][0], before[0]])
        gain = self.exact.fold.interval(now, last)
        if gain.low > 0:
            return False
        self.size = size - 1
        self.why = f"cell {size} gains {gain} % on the fold {STOP}, which isn't clearly above zero"
        return True


@dataclass(frozen=True)
class _Searching:
    """A search among cells, from one list of them to another size."""

    cells: Cells
    folds: Mapping[str, Fold]
    settings: Settings
    check: int | None
    size: int
    start: Kept
    path: Path | None

    @property
    def _grows(self) -> bool:
        return self.size > len(self.start)

    @cached_property
    def record(self) -> Record:
        """What is kept of what is measured, and of which search."""
        trials = [fold.trial for fold in self.folds.values()]
        bases = [Evaluator(self.cells.model, t.experiments, [], t.settings).basis(t.examples) for t in trials]
        study = trials[0].study
        about = {"format": 2, "bases": bases, "metric": study.metric.digest, "baseline": study.baseline}
        about |= {
            "roles": repr(self.cells.model.roles),
            "candidates": list(self.cells.kinds),
            "depth": self.cells.depth,
        }
        about |= {"parts": list(self.cells.parts), "check": self.check, "seed": self.settings.seed}
        return Record(self.path, about | {"draws": self.settings.draws})

    def found(self, name: str, study: str | None, stop: bool, resamples: int, rival: bool) -> Found:
        """Search, then measure what was found, and what is held against it."""
        exact = {fold: Exact(self.folds[fold], self.record) for fold in (SEARCH, STOP)}
        for fold in exact.values():
            _ = fold.fold.anchors  # the gates, before anything takes its time
        ends = _Ends(exact[STOP], self.size, stop)
        with bar_of("steps", self.settings.progress) as bar:
            looking = Search(self.cells, exact[SEARCH], self.record, self.check, self._watched(bar))
            way = looking.grown(FOUND, self.size, self.start, until=ends)
            lists = self._lists(way, ends.size)
            best = next(reversed(lists.values()))
            overlaps = [self._overlap(looking, best, number) for number in range(resamples)]
            enough = rival and 2 * len(best) <= len(self.cells)
            other = looking.grown("rival", len(best), without=best).list(len(best)) if enough else frozenset()
        hypothesis = hypothesis_of(self.cells, best, name, study=study)
        report = Report(self.folds[REPORT], lists, best, other)
        trial, metric = self.folds[REPORT].trial, self.folds[REPORT].metric
        ran = _ran(trial, hypothesis)
        *smaller, last = points_of(report, self.folds, way.by, self.start)
        last = replace(last, recovered={**last.recovered, REPORT: ran.recovered(f"{name}/{ALL}")})
        return Found(
            study=trial.study.plain_name,
            model=trial.model.name,
            data=trial.examples.name,
            metric=metric.name,
            unit=metric.unit,
            kinds=self.cells.kinds,
            depth=self.cells.depth,
            count=len(self.cells),
            partly=set(self.cells.parts) != set(self.cells.all_parts),
            points=[*smaller, last],
            hypothesis=hypothesis,
            whole=report.whole,
            random=report.each_random(),
            hypotheses=report.each_hypothesis(),
            overlaps=tuple(overlaps),
            rival=report.as_rival(),
            rival_cells=tuple(sorted(other, key=self.cells.key)),
            digest=trial.examples.digest,
            over=documents_called(trial.examples),
            sizes={fold: _size(of) for fold, of in self.folds.items()},
            exact=self.record.measured(SEARCH),
            screens=len(self.record.scored),
            stopped=ends.why,
            seed=self.settings.seed,
            draws=self.settings.draws,
            gates=report.measured.gates,
            computed=report.measured.computed,
            notes=(*self._notes(report, rival and not enough), *looking.notes),
            warnings=(*ran.warnings, *_beyond(last, metric.unit)),
        )

    def _lists(self, way: Way, size: int) -> dict[int, Kept]:
        """Take the best list of each size up to the last, or down to it, in the order of the search."""
        sizes = sorted(at for at in way.lists if at and (at <= size if way.grows else at >= size))
        return {at: way.lists[at][0] for at in (sizes if way.grows else reversed(sizes))}

    def _watched(self, bar: Progress) -> Callable[[str, Step], None]:
        """Show each step on the bar, with the best so far."""
        tasks: dict[str, TaskID] = {}
        fold = self.folds[SEARCH]

        def watch(name: str, step: Step) -> None:
            if name not in tasks:
                tasks[name] = bar.add_task(name, total=abs(self.size - len(self.start)))
            percent = float(fold.percent(Exact(fold, self.record)([step.kept])[0][0])[0])
            bar.update(tasks[name], advance=1, description=f"{name}: {len(step.kept)} cells, {percent:.1f} %")

        return watch

    def _overlap(self, looking: Search, best: Kept, number: int) -> float:
        """Search on a bootstrap resample of the documents, and compare the cells (Jaccard)."""
        documents = self.folds[SEARCH].trial.examples.documents
        of = np.arange(len(self.folds[SEARCH].positions)) if documents is None else documents
        each, which = np.unique(of, return_inverse=True)
        rng = generator(self.settings.seed, number, "resampled documents of a search")
        counts = rng.multinomial(len(each), np.full(len(each), 1 / len(each)))
        way = looking.grown(f"resample {number + 1}", len(best), self.start, counts[which].astype(float))
        kept = way.list(len(best))
        return len(kept & best) / len(kept | best)

    def _notes(self, report: Report, no_rival: bool) -> list[str]:
        """Say what is left out, and what all of it is of."""
        trial = self.folds[REPORT].trial
        kept = [note for note in (*trial.examples.notes, *trial.notes) if not note.startswith("fold ")]
        if self.cells.left:
            kept.append(f"no candidates, so always resampled: {few(self.cells.left)}")
        if report.part is None:
            kept.append(
                f"of the parts {', '.join(self.cells.parts)} together the study has no hypotheses, so none stand beside"
            )
        if no_rival:
            kept.append("no rival: it would need as many other cells, and there are fewer")
        if self.record.replaced and self.path is not None:
            kept.append(f"{shown(self.path)} was of another search, and is of this one now")
        if self.record.found:
            kept.append(f"{self.record.found:,} lists were measured before, and weren't again")
        return kept


def _ran(trial: Trial, hypothesis: Hypothesis) -> Result:
    """Run a hypothesis by itself, as `scrub run` does: in another plan float32 rounds otherwise."""
    hypotheses, built, notes = fitting(trial.study, [hypothesis], trial.model, None)
    return replace(trial, hypotheses=hypotheses, experiments=built, notes=tuple(notes)).run()


def _beyond(last: Point, unit: str) -> list[str]:
    """Warn of a list that recovers surely more than there is to recover."""
    recovered = last.recovered[REPORT]
    if not recovered.low > 100:
        return []
    return [
        f"the list recovers more than all that the baseline takes away, {PLAIN.with_interval(recovered, 1, unit='%')}: "
        f"it leaves out what makes the model worse at this, and is {PLAIN.number(last.change, 2)} {unit} from the "
        f"model in the mean. A search by the metric {KL.name} finds the list that is nearest to the model"
    ]


def _size(fold: Fold) -> str:
    """Say how many examples a fold has."""
    examples = fold.trial.examples
    units = fold.bootstrap.of("documents")
    return f"{len(examples):,} {'prompts' if examples.kind == PROMPTS else 'sequences'}{units}"
