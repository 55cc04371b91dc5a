"""What a model writes, unchanged and under interventions, token after token, and whether that is right.

Sequences are causal, so what stands behind a token changes nothing of it: an ablation holds at every position, also of
what is written by then. A patch, a mean and what is resampled come from other prompts, which end where the prompt does:
they hold at its positions alone, and what is written behind reads them there.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Annotated, Any

import numpy as np
import pandas as pd
from annotated_types import Interval as Range
from jaxtyping import Bool, Int

from scrub.data.card import WIDEST
from scrub.data.examples import Examples
from scrub.data.prompts.prompts import token_text, token_texts
from scrub.data.repeated import NOWHERE
from scrub.measure.generation.asked import HOTTEST
from scrub.measure.generation.comparison import compared_with, count_of, notes_of, same_of
from scrub.measure.generation.experiments import check_positions, interventions_of
from scrub.measure.generation.prompts import started
from scrub.measure.generation.writing import UNCHANGED, Choice, Task, Writer, Written, with_written
from scrub.measure.interventions.effects import experiments_of
from scrub.models.model import Model, Spec, as_model
from scrub.study.draws import Pairing, check_named, pair_up
from scrub.study.evaluate import Evaluator
from scrub.study.experiments import Experiments
from scrub.study.gates import Gates
from scrub.study.held import Arrays
from scrub.study.looks import POSITIONS
from scrub.study.settings import AS_USUAL, COARSE, Computed, Settings, obeyed
from scrub.study.statistics import Bootstrap
from scrub.text.begin import Bos
from scrub.text.errors import ScrubError
from scrub.text.fields import COUNT, check_arguments
from scrub.text.frames import interval_columns
from scrub.text.looks import TabularResult
from scrub.text.numbers import Interval
from scrub.text.progress import bar_of

IN_ONE_PASS = "written tokens and the most probable ones in one pass"
_OR_NONE = ("right", "right tokens", "exact", "first wrong", "wrote", "instead of")
EXACT, TOKENS = "exact match", "right tokens"  # in percent of the rows, and of the tokens that are compared


@dataclass(frozen=True, repr=False)
class Generation(TabularResult):
    """What a model wrote behind each prompt, the unchanged model first, and what is right.

    `generate(model, "J A M P R X J A", what="layers", right=" M P").frame()` is a row for each experiment, and
    `rows()` one for each prompt of each. `written` is [experiment, row, step], NOWHERE behind the token that ended a
    row; `right` what is compared with, [row, step], where `compared`: without anything that is known to be right it is
    what the unchanged model wrote. Intervals are 95 % bootstraps over documents; of one row, or one document,
    there is none: its ends are NaN, in JSON null.
    """

    model: Model
    prompts: Examples
    names: tuple[str, ...]
    written: Int[np.ndarray, "experiment row step"]
    right: Int[np.ndarray, "row step"]
    compared: Bool[np.ndarray, "row step"]
    also: Int[np.ndarray, "row some"] | None
    known: bool
    how: tuple[str, ...]  # what was done, a line for each kind of it
    choice: Choice
    ends: tuple[int, ...]  # the tokens at which a row ended
    gates: Gates
    width: int | None = None
    span: str | None = None
    computed: Computed = AS_USUAL
    notes: tuple[str, ...] = ()

    @property
    def steps(self) -> int:
        """How many tokens were asked for."""
        return int(self.right.shape[1])

    @cached_property
    def matches(self) -> Bool[np.ndarray, "experiment row step"]:
        """The tokens that are right, of those that are compared."""
        found: np.ndarray = np.equal(self.written, self.right[None])
        if self.also is not None:
            others = np.equal(self.written[:, :, :1], self.also[None]) & np.not_equal(self.also, NOWHERE)[None]
            found[:, :, 0] |= others.any(-1)
        return np.asarray(found & self.compared[None])

    @cached_property
    def exact(self) -> Bool[np.ndarray, "experiment row"]:
        """Whether all that is compared in a row is right; of a row of which nothing is, no."""
        there = np.asarray(self.compared.any(1))[None]
        right = self.matches | ~self.compared[None]
        return np.asarray(right.all(-1) & there)

    def first_wrong(self, experiment: int, row: int) -> int | None:
        """Find the step of the first token that isn't right."""
        wrong = np.flatnonzero(self.compared[row] & ~self.matches[experiment, row])
        return int(wrong[0]) if wrong.size else None

    def exact_match(self) -> list[Interval]:
        """Estimate for each experiment the percent of the rows that are right in all that is compared."""
        return self._percent(self.exact, self.compared.any(1).astype(np.int64))

    def right_tokens(self) -> list[Interval]:
        """Estimate for each experiment the percent of the compared tokens that are right."""
        return self._percent(self.matches.sum(-1), self.compared.sum(1))

    def _percent(self, sums: Any, counts: Any) -> list[Interval]:
        bootstrap = Bootstrap(counts, self.choice.seed, self.prompts.documents)
        means: np.ndarray = bootstrap.means(100.0 * sums)
        if bootstrap.documents == 1:
            return [Interval(float(each[0]), np.nan, np.nan) for each in means]
        return [bootstrap.interval(each) for each in means]

    def commonest(self, experiment: int) -> tuple[int, int, int] | None:
        """Find what is written most often instead of the first token that isn't right: the token, how often, of how
        many rows; None where every row is right.
        """
        wrong = ((row, self.first_wrong(experiment, row)) for row in range(len(self.prompts)))
        instead = [int(self.written[experiment, row, step]) for row, step in wrong if step is not None]
        if not instead:
            return None
        tokens, counts = np.unique(instead, return_counts=True)
        most = int(np.argmax(counts))
        return int(tokens[most]), int(counts[most]), len(instead)

    def tokens(self, experiment: int, row: int) -> list[int]:
        """List the tokens that were written."""
        return [int(token) for token in self.written[experiment, row] if token != NOWHERE]

    def text(self, tokens: Iterable[int]) -> str:
        """Write tokens as text, or as numbers where the model has no tokenizer."""
        return "".join(self.pieces(tokens))

    def pieces(self, tokens: Iterable[int]) -> list[str]:
        """Say what each token adds to a text."""
        return token_texts([int(token) for token in tokens if token != NOWHERE], self.model.tokenizer)

    def frame(self) -> pd.DataFrame:
        """List for each experiment the percent of rows that are right, and of tokens, with intervals, and what is
        written most often instead of the first token that isn't right.
        """
        common = [self.commonest(at) for at in range(len(self.names))]
        return pd.DataFrame(
            {
                "experiment": self.names,
                **interval_columns(EXACT, self.exact_match()),
                **interval_columns(TOKENS, self.right_tokens()),
                "right rows": self.exact.sum(1),
                "rows": int(self.compared.any(1).sum()),
                "instead": pd.Series([None if c is None else self._named(c[0]) for c in common], dtype=object),
                "times": [0 if each is None else each[1] for each in common],
            }
        )

    def rows(self) -> pd.DataFrame:
        """List for each experiment and row what was written, what is right, and the first token that isn't.

        Of a row of which nothing is compared `exact` is None.
        """
        found = []
        for at, name in enumerate(self.names):
            for row in range(len(self.prompts)):
                wrong, there = self.first_wrong(at, row), bool(self.compared[row].any())
                found.append(
                    {
                        "experiment": name,
                        "row": row,
                        "tokens": self.tokens(at, row),
                        "text": self.text(self.tokens(at, row)),
                        "right": self.text(self.right[row]) if self.known else None,
                        "right tokens": [int(t) for t in self.right[row] if t != NOWHERE] if self.known else None,
                        "exact": bool(self.exact[at, row]) if there else None,
                        "first wrong": wrong,
                        "wrote": None if wrong is None else self._named(int(self.written[at, row, wrong])),
                        "instead of": None if wrong is None else self._named(int(self.right[row, wrong])),
                    }
                )
        exactly = {name: [row[name] for row in found] for name in _OR_NONE}  # as they are beside None
        return pd.DataFrame(found).assign(**{name: pd.Series(each, dtype=object) for name, each in exactly.items()})

    def _named(self, token: int) -> str:
        return "nothing" if token == NOWHERE else token_text(token, self.model.tokenizer)


@check_arguments
def generate(
    model: Spec,
    on: str | Examples | Any,
    tokens: Annotated[int, COUNT] | None = None,
    what: str | Sequence[str] | None = None,
    *,
    how: str = "zero",
    positions: str | None = None,
    attend: Mapping[str, str] | None = None,
    only: bool = False,
    patch: str | Sequence[str] | None = None,
    corrupted: str | None = None,
    arrays: Arrays | None = None,
    temperature: Annotated[float, Range(gt=0, le=HOTTEST)] | None = None,
    stop: bool = True,
    after: Annotated[int, COUNT] | None = None,
    right: Any = None,
    span: str | None = None,
    width: Annotated[int, Range(ge=1, le=WIDEST)] | None = None,
    bos: Bos = None,
    settings: Settings | None = None,
) -> Generation:
    """Go on from prompts with an unchanged model, and under interventions: `generate(model, "def f(x):", 5, ["a0"])`.

    `on` is a prompt, a list of them or of token ids, or data as `ablate` and `patch` take them (a path, a table of
    prompts, examples); `after` so many tokens of each row of text or ids the rest of it is right. So many `tokens` are
    written, by default as many as `right` or the longest completion has, or 20: the most probable ones or, at a
    `temperature`, drawn by the seed, up to an end token of the model unless not to `stop` there. `what`, `how`,
    `positions`, `attend`, `only` and `arrays` are an ablation's, an experiment for each site of `what`; `patch` are
    sites of other experiments, each of which is there what it is on the `corrupted` prompt, or on the other that the
    data give each.

    An ablation holds at every position, also of what is written by then, unless it names positions. A patch, a mean
    and what is resampled hold at the positions of the prompt. Names of positions, and counts from the end, are
    the prompt's.

    `right` is what is right behind each prompt; of data it is the rest of each row (until another document begins), or
    the answer, which is the first token. `span` ("3..7") says which of the tokens that are written are compared with
    it. `width` is how many symbols a row of a grid has, for pictures, from the first token that is written. Raises
    ScrubError for what doesn't fit or computes no numbers, and GateError if a gate fails.
    """
    asked = obeyed(settings, "generate")
    if corrupted is not None and patch is None and how != "resample":
        raise ScrubError("nothing takes anything from the corrupted prompt: patch sites, or ablate by 'resample'")
    model = as_model(model, asked.torch_dtype).to(asked.torch_dtype, asked.where)
    given = started(model, on, after=after, right=right, corrupted=corrupted, bos=bos)
    count = count_of(tokens, given, model)
    made, said = interventions_of(model, what, how, positions, attend or {}, only, patch, given.prompts)
    experiments = experiments_of(model, made, arrays)
    examples = given.with_room(int(given.lengths.max()) + count - 1)
    check_positions(experiments, examples)
    check_named(examples, [each.graph for each in experiments])
    pairing = pair_up(examples, experiments.drawn, seed=asked.seed)
    known, compared = compared_with(given, count, span)
    task = Task(
        pairing,
        count,
        Choice(temperature and float(temperature), asked.seed),
        model.stop_token_ids if stop else (),
        asked,
    )
    written, gates = _written(task, model, experiments, arrays)
    return Generation(
        model,
        given.prompts,
        (UNCHANGED, *map(str, experiments.names[1:])),
        written,
        written[0] if known is None else known,
        compared,
        given.also,
        given.known,
        said,
        task.choice,
        task.ends,
        gates,
        width or given.width,
        span,
        Computed(None, asked.dtype) if asked.dtype in COARSE else AS_USUAL,
        (*given.notes, *notes_of(given, count, compared), *same_of(pairing)),
    )


def _written(
    task: Task, model: Model, experiments: Experiments, arrays: Arrays | None
) -> tuple[Int[np.ndarray, "experiment row step"], Gates]:
    """Write with each experiment, once all have passed the gates on the prompts and what is written unchanged.

    What is written greedily is then gone through in one pass.
    """
    with bar_of("tokens", task.settings.progress) as bar:
        total = len(experiments) * len(task.pairing.examples) * task.steps
        shown = bar, bar.add_task(f"{len(experiments)} experiments", total=total)
        first = Writer(task, model, experiments.unscrubbed.graph)
        unchanged = first.write(shown)
        seen = _seen(task.pairing, unchanged)
        evaluator = Evaluator(model, experiments, (), task.settings, arrays=arrays, quiet=True)
        gates, held = evaluator.check(seen), evaluator.held(seen)
        greedy = task.choice.temperature is None
        written, furthest = [unchanged], first.check(unchanged) if greedy else 0.0
        for each in experiments.scrubbed:
            writer = Writer(task, model, each.graph, held, str(each.name))
            written.append(writer.write(shown))
            furthest = max(furthest, writer.check(written[-1])) if greedy else furthest
    if greedy:
        gates = replace(gates, deviations={**gates.deviations, IN_ONE_PASS: furthest})
    return np.stack(written), gates


def _seen(pairing: Pairing, written: Written) -> Pairing:
    """Show the gates the prompts with what is written behind them, and their ends with the first tokens of that."""
    of, few = pairing.examples, POSITIONS // 2
    behind = np.arange(of.context)[None] - of.ends[:, None] - 1
    return with_written(pairing, written, (behind >= -few) & (behind < few))
