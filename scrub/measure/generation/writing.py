"""Writing token after token with one experiment, and how the next token is chosen.

A model reads no further than the last token, whatever lies behind it: so sequences have room behind them from the
start, and one plan computes every step, the logits of one position of each row alone. Rows grow in a few stretches,
since a step of a short one costs less.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np
import torch
from jaxtyping import Float, Int
from rich.progress import Progress, TaskID
from torch import Tensor

from scrub.data.examples import Scored
from scrub.data.repeated import NOWHERE
from scrub.graph.node import Node
from scrub.models.model import Model
from scrub.paths.rules import held_by
from scrub.paths.sources import Attend
from scrub.plan.memory import fitting
from scrub.plan.plan import compile_plan
from scrub.plan.runner import Runner
from scrub.study.binding import Members, bind
from scrub.study.draws import Pairing
from scrub.study.evaluate import enough_memory
from scrub.study.gates import TOLERANCE_NATS
from scrub.study.settings import COARSE, TF32, Settings
from scrub.text.errors import GateError, ScrubError

UNCHANGED = "unchanged"  # the name of the model to which nothing is done
STRETCH = 16  # tokens that are written before rows grow
MOST_LOGITS = 1 << 26  # that are held at once where whole rows are looked at
Written = Int[np.ndarray, "row step"]  # NOWHERE behind the end


@dataclass(frozen=True)
class Choice:
    """How the next token is chosen: the most probable one, the first of several, or drawn at a temperature.

    A draw looks up a number that the seed, the row and the step determine, so that experiments differ by what they
    make of the prompt, and not by luck.
    """

    temperature: float | None = None
    seed: int = 0

    def lots(self, rows: int, steps: int) -> Float[np.ndarray, "row step"]:
        """Draw a number from 0 to 1 for each token."""
        each = (np.random.default_rng([self.seed, *b"generate", row]).random(steps) for row in range(rows))
        return np.stack(list(each))

    def of(self, logits: Float[Tensor, "row vocab"], lots: Float[np.ndarray, " row"]) -> Int[np.ndarray, " row"]:
        """Choose a token for each row."""
        if self.temperature is None:
            return np.asarray(logits.argmax(-1).cpu().numpy())
        exact = logits.double()
        each = ((exact - exact.amax(-1, keepdim=True)) / self.temperature).softmax(-1)
        chances = each.cpu().cumsum(-1)  # a card adds up in another order each time
        wanted = torch.from_numpy(lots)[:, None] * chances[:, -1:]
        found = torch.searchsorted(chances, wanted, right=True)[:, 0]
        return np.asarray(found.clamp(max=logits.shape[-1] - 1).numpy())


@dataclass(frozen=True)
class Task:
    """What is written: so many tokens behind each prompt of a pairing, as chosen, up to one that ends a row."""

    pairing: Pairing  # of the prompts, with room for all that is read
    steps: int
    choice: Choice
    ends: tuple[int, ...]
    settings: Settings

    @property
    def positions(self) -> int:
        """How many positions are read at most."""
        return self.pairing.examples.context


class Writer:
    """One experiment's graph of logits, whose plan is compiled once for all that is written and looked at with it.

    `held` are the values of held components at all positions that are read; errors call it by its `name`.
    """

    def __init__(
        self, task: Task, model: Model, graph: Node, held: Mapping[Node, Tensor] | None = None, name: str = UNCHANGED
    ) -> None:
        self.task, self.model, self.name = task, model, name
        self.plan = compile_plan({"logits": graph})
        leaves = {step.node for step in self.plan.steps}
        self.held = {leaf: value for leaf, value in (held or {}).items() if leaf in leaves}
        self._runners: dict[int, Runner] = {}

    def runner(self, positions: int) -> Runner:
        """Make the plan ready for rows of so many positions; the last one is kept."""
        if positions not in self._runners:
            self._runners.clear()
            values = {leaf: _cut(leaf, value, positions) for leaf, value in self.held.items()}
            tf32 = self.task.settings.dtype == TF32
            model = self.model
            self._runners[positions] = Runner(self.plan, model.params, positions, model.device, values, tf32=tf32)
        return self._runners[positions]

    def write(self, bar: tuple[Progress, TaskID] | None = None) -> Written:
        """Write token after token.

        Raises ScrubError if the logits are no numbers, or if a batch needs more memory than there is.
        """
        task, of = self.task, self.task.pairing.examples
        pool, scored = task.pairing.pool.copy(), np.zeros_like(of.scored)
        tokens, lengths = pool[: len(of)], of.ends + 1
        found = np.full((len(of), task.steps), NOWHERE)
        lots = task.choice.lots(len(of), task.steps)

        def cut(positions: int) -> Pairing:
            """Show so many positions of what is there by then: the arrays are those that are written into."""
            seen = replace(
                of,
                tokens=tokens[:, : positions + 1],
                scored=scored[:, :positions],
                other=None if of.other is None else of.other[:, : positions + 1],
            )
            return replace(task.pairing, examples=seen, pool=pool[:, : positions + 1])

        order = np.argsort(lengths, kind="stable")
        scored[np.arange(len(of)), lengths - 1] = True
        size = _at_once(task, self.runner(task.positions), cut(task.positions), order)
        for first in range(0, len(order), size):
            members = order[first : first + size]
            for start in range(0, task.steps, STRETCH):
                stop = min(task.steps, start + STRETCH)
                positions = int(lengths[members].max()) + stop - 1
                seen, run = cut(positions), self.runner(positions)
                for step in range(start, stop):
                    going = members[~np.isin(found[members], task.ends).any(1)]
                    if len(going):
                        found[going, step] = self._next(run, seen, going, step, lots)
                        at = lengths[going] + step
                        scored[going, at - 1] = False
                        scored[going[at < task.positions], at[at < task.positions]] = True
                        tokens[going, at] = found[going, step]
                    if bar:
                        bar[0].advance(bar[1], len(members))
        return found

    def _next(
        self, run: Runner, seen: Pairing, going: Members, step: int, lots: Float[np.ndarray, "row step"]
    ) -> Int[np.ndarray, " going"]:
        """Choose the next token of some rows, each behind its scored position."""
        with run.place.current(), enough_memory(len(going)):
            bound, _ = bind(run.leaves, seen, going, run.place.device)
            logits = run(bound)["logits"][:, 0]
        if (lost := ~logits.amax(-1).isfinite()).any():
            where = seen.examples.row(int(going[int(lost.int().argmax())]))
            raise ScrubError(
                f"{self.name} computes no finite numbers behind {where}, at token {step} of those that are written, so "
                "none can be chosen: say smaller values, or compute in float64"
            )
        return self.task.choice.of(logits, lots[going, step])

    def check(self, written: Written) -> float:
        """Compute in one pass over what was written greedily how far any token is from the most probable one, in nats.

        Raises GateError beyond what rounding does: the tolerance of the other gates, in a dtype that isn't coarse times
        how far the largest logit lies above their mean.
        """
        task, of, furthest = self.task, self.task.pairing.examples, 0.0
        behind = np.arange(task.positions)[None] - of.ends[:, None]
        counts = (written != NOWHERE).sum(1)
        seen = with_written(task.pairing, written, (behind >= 0) & (behind < counts[:, None]))
        run, dtype = self.runner(task.positions), task.settings.dtype
        size = max(1, min(task.settings.at_once(task.positions), MOST_LOGITS // (task.steps * self.model.vocab_size)))
        for start in range(0, len(of), size):
            members = np.arange(start, min(start + size, len(of)))
            with run.place.current(), enough_memory(len(members)):
                bound, real = bind(run.leaves, seen, members, run.place.device)
                logits = run(bound)["logits"][real.to(run.place.device)]
            chosen = torch.from_numpy(written[members][written[members] != NOWHERE]).to(logits.device)
            most = logits.amax(-1)
            below = most - logits.gather(-1, chosen[:, None])[:, 0]
            furthest = max(furthest, float(below.max()))
            spread = 1 if dtype in COARSE else (most - logits.mean(-1)).clamp(min=1)
            if (wrong := ~(below <= TOLERANCE_NATS[dtype] * spread)).any():
                row, step = (int(at) for at in np.argwhere(written[members] != NOWHERE)[int(wrong.int().argmax())])
                raise GateError(
                    f"{self.name} wrote token {step} behind {of.row(int(members[row]))}, though it is "
                    f"{float(below.max()):.1e} nats less probable than another in one pass over all that was written: "
                    "no text of this run can be trusted"
                )
        return furthest


def with_written(pairing: Pairing, written: Written, scored: Scored) -> Pairing:
    """Show prompts with what is written behind them, scored at some positions."""
    of = pairing.examples
    tokens = of.tokens.copy()
    for row, (end, own) in enumerate(zip(of.ends, written, strict=True)):
        there = own[own != NOWHERE]
        tokens[row, end + 1 : end + 1 + len(there)] = there
    pool = np.concatenate([tokens, pairing.pool[len(tokens) :]])
    return replace(pairing, examples=replace(of, tokens=tokens, scored=scored), pool=pool)


def _at_once(task: Task, runner: Runner, seen: Pairing, order: Members) -> int:
    """Count the rows that are written together: as many as a card has room for, unless it is said."""
    room = runner.place.bytes_for_a_batch
    if task.settings.batch is not None or room is None:
        return task.settings.at_once(task.positions)
    return fitting(runner, lambda count: bind(runner.leaves, seen, order[:count], "cpu")[0], len(order), room)


def _cut(leaf: Node, value: Tensor, positions: int) -> Tensor:
    """Cut what is held to the first positions: rows of a component, rows and columns of a pattern."""
    value = value[..., :positions, :]
    return value[..., :positions] if isinstance(held_by(leaf), Attend) else value
