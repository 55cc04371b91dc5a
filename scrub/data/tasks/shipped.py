"""The tasks that there are, and what a name of data says of them: `ioi`, `ioi:names`, `successor:months,seed=3`."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from tokenizers import Tokenizer

from scrub.data.card import TASK, Source, declared_source
from scrub.data.prompts.names import Row
from scrub.data.settings import SEED
from scrub.data.tasks.code import DOCSTRING, LOOP_VARIABLE
from scrub.data.tasks.english import GREATER_THAN, IOI
from scrub.data.tasks.labelled import PARENS, Labelled
from scrub.data.tasks.lexicon import Lexicon
from scrub.data.tasks.series import REPEATED_LIST, SUCCESSOR
from scrub.data.tasks.task import MOST_IN_VAIN, Task
from scrub.data.windows import counted
from scrub.models.find import HUB_NAME, locate
from scrub.text.errors import ScrubError
from scrub.text.wording import short

TASKS: Mapping[str, Task] = {
    task.name: task for task in (IOI, GREATER_THAN, DOCSTRING, SUCCESSOR, REPEATED_LIST, LOOP_VARIABLE)
}
ALL_TASKS: Mapping[str, Task | Labelled] = {**TASKS, PARENS.name: PARENS}  # with those whose rows have labels
PROMPTS = 128  # that are drawn where nobody says how many
SEEDS = 1 << 32
IN_VAIN = f"{MOST_IN_VAIN:,} draws in a row gave no other"


@dataclass(frozen=True)
class Drawn:
    """A task as it is asked for: in which variant, and by which seed."""

    task: Task | Labelled
    variant: str
    seed: int

    @classmethod
    def parse(cls, name: str, options: str) -> Drawn:
        """Read what stands behind the name of a task: `Drawn.parse("ioi", "names,seed=3")`, or nothing.

        Raises ScrubError for a task that there isn't, a variant that it hasn't, and what is no seed.
        """
        if name not in ALL_TASKS:
            raise ScrubError(
                f"there is no task {short(name)}: a card with `source: task` names one as `task`, of "
                f"{', '.join(ALL_TASKS)}"
            )
        task = ALL_TASKS[name]
        said = [each.strip() for each in options.split(",") if each.strip()]
        seeds = [each.removeprefix(SEED) for each in said if each.startswith(SEED)]
        variants = [each for each in said if not each.startswith(SEED)]
        if len(seeds) > 1 or len(variants) > 1 or any(each not in task.variants for each in variants):
            raise ScrubError(
                f"{name}:{short(options, quoted=False)} is none of the task's: write one of "
                f"{', '.join(f'{name}:{each}' for each in task.variants)}, with a seed as in "
                f"{name}:{next(iter(task.variants))},seed=3"
            )
        if seeds and not (re.fullmatch(r"\d{1,10}", seeds[0], re.ASCII) and int(seeds[0]) < SEEDS):
            raise ScrubError(f"the seed {short(seeds[0])} of {name} is none: give a whole number from 0 to {SEEDS - 1}")
        return cls(task, (variants or [*task.variants])[0], int(seeds[0]) if seeds else 0)

    def rows(
        self, tokenizer: Tokenizer, vocab_size: int, count: int | None, notes: list[str], usual: int = PROMPTS
    ) -> list[Row]:
        """Draw so many prompts, or as many as is `usual`; `notes` say what was left out, and by which seed it was.

        Raises ScrubError where the tokenizer lacks the words.
        """
        assert isinstance(self.task, Task)  # what has labels draws examples
        lexicon = Lexicon(self.task.name, tokenizer, vocab_size, notes)
        rows = self.task.rows(lexicon, self.variant, self.seed, count or usual)
        vain = f": {IN_VAIN}" if len(rows) < (count or usual) else ""
        notes.append(f"{counted(len(rows), 'prompt')} drawn, by the seed {self.seed}{vain}")
        return rows


def another_draw(spec: str) -> str:
    """Name another draw of a task than this one, by the next seed: `another_draw("ioi")` is "ioi:seed=1".

    For other data it is nothing.
    """
    found = named_task(spec) or _task_at(spec)
    if found is None:
        return ""
    name, _, options = spec.partition(":")
    said = [each.strip() for each in options.split(",") if each.strip() and not each.strip().startswith(SEED)]
    seed = (Drawn.parse(found[1].task, found[1].options).seed + 1) % SEEDS
    return f"{name}:{','.join([*said, f'{SEED}{seed}'])}"


def whichever_draw(spec: str) -> str:
    """Name a task and its variant, whichever the seed: `whichever_draw("ioi:seed=3")` is "ioi:swapped".

    Other data are called as they are.
    """
    try:
        found = named_task(spec) or _task_at(spec)
    except ScrubError:  # the name of other data, which needs to be none of a task
        return spec
    if found is None:
        return spec
    drawn = Drawn.parse(found[1].task, found[1].options)
    return f"{drawn.task.name}:{drawn.variant}"


def named_task(spec: str) -> tuple[Path, Source] | None:
    """Find the folder of a task whose name says how it is drawn, as in `ioi:names,seed=3`, and what its card says.

    Raises ScrubError for what no such task knows, and where other data that are here are named so, unless that may be
    a configuration on the hub.
    """
    name, colon, options = spec.partition(":")
    if not colon and "," in spec and _task_at(spec.partition(",")[0]) is not None:
        raise ScrubError(f"{short(spec)} is no name of data: write {spec.replace(',', ':', 1)}")
    if not colon or locate("data", spec) is not None:
        return None
    if (found := _task_at(name)) is not None:
        folder, source = found
        if not all(map(str.strip, options.split(","))):
            raise ScrubError(
                f"nothing stands behind a colon or a comma of {short(spec)}: write {name}, or {name}:seed=3"
            )
        Drawn.parse(source.task, options)
        return folder, replace(source, options=options)
    other = locate("data", name)
    if other is None or not other.is_dir():
        return None
    if name.startswith("data/") or not HUB_NAME.fullmatch(spec):
        raise ScrubError(f"the data {short(name)} take nothing behind a colon, as tasks do: leave :{options} out")
    return None


def goes_on(spec: str, part: str) -> bool:
    """Tell whether what is behind a comma belongs to the name of a task before it: `goes_on("ioi:seed=3", "names")`.

    It doesn't where data that are here are called so.
    """
    name, colon, _ = spec.partition(":")
    if not colon or part.startswith(SEED):
        return bool(colon)
    found = _task_at(name)
    known = ALL_TASKS.get(found[1].task) if found is not None else None
    return known is not None and part in known.variants and locate("data", part) is None


def _task_at(name: str) -> tuple[Path, Source] | None:
    folder = locate("data", name)
    source = declared_source(folder) if folder is not None and folder.is_dir() else None
    return (folder, source) if folder is not None and source is not None and source.kind == TASK else None
