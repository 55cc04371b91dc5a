"""Published numbers beside ours: `python benchmarks/published.py [--only induction,heads] [--out FILE]`.

For machines that reach the Hugging Face hub, or have its cache: runs the published studies on the published models, and
writes Markdown to be pasted. `induction` is Redwood's study on Redwood's model and rows, `ioi` the circuit of indirect
objects in GPT-2 small, also under both corruptions, `heads` the study of GPT-2's heads, `roles` what the heads of three
models attend to and do, beside the roles that the literature gives them. A part that can't run is a line that says why,
the others go on, and the exit status is 1. Whether a published number lies inside our interval is said in its row.
"""

from __future__ import annotations

import argparse
import platform
import shlex
import subprocess
import sys
import traceback
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pandas as pd
import torch

import scrub
from scrub import GateError, ScrubError, Settings, load_model, load_study, study_heads
from scrub.cli.outputs import check_outputs, warnings_as_lines, write_outputs
from scrub.data.for_model import examples_for
from scrub.data.prompts.prompts import resampled
from scrub.measure.heads.roles import RULES, measure
from scrub.measure.heads.score import head_name
from scrub.measure.study.heads import DRAWN_PROMPTS, METRICS
from scrub.models.find import shipped
from scrub.models.place import read_pointer
from scrub.show.page import Block, Code, Fold, Grid, Page, Prose, Section
from scrub.study.experiments import Name
from scrub.study.result import Result
from scrub.study.settings import COMPUTING, DTYPES
from scrub.text.clipping import brief
from scrub.text.files import one_line
from scrub.text.numbers import PAGE, Interval
from scrub.text.tables import Column, FrameTable
from scrub.text.wording import gates_line

HERE = Path(__file__).resolve().parent
sys.path.append(
    str(HERE.parent / "tests")
)  # where what was published stands once: tests marked `hub` hold models to it
from published_numbers import INDUCTION_LOSSES, IOI_RATIO, Beside, beside, published  # noqa: E402

PARTS = ("induction", "ioi", "heads", "roles")
STUDIED = "gpt2"  # whose heads a study was published of
ROLES_OF = ("redwood_attn_2l", "gpt2", "attn-only-2l")
AS_PUBLISHED = "ioi/as_published"
NODES = "as_published/nodes"
WHOLE = ["ioi", AS_PUBLISHED]
IOI = {  # what all else is fed from: which hypotheses, data, and what y stands for
    "means over three other names": (AS_PUBLISHED, "ioi:names", "mean by template"),
    "means over swapped names": (AS_PUBLISHED, "ioi:swapped", "mean by template"),
    "three other names": (WHOLE, "ioi:names", "y"),
    "swapped names": (WHOLE, "ioi:swapped", "y"),
}
TEXT_SEQUENCES, TEXT_POSITIONS = 64, 300  # that attention is measured on, unless it is said otherwise
INTERRUPTED = "interrupted"
YES = {True: "yes", False: "no", None: ""}


@dataclass(frozen=True)
class Asked:
    """What the options say: settings of runs on text, how many prompts, and which parts."""

    settings: Settings
    prompts: int | None
    parts: tuple[str, ...]

    @property
    def drawn(self) -> int:
        """How many prompts heads are studied on."""
        return self.prompts or DRAWN_PROMPTS

    @property
    def computing(self) -> Settings:
        """How to compute, for what measures prompts."""
        return self.settings.only(COMPUTING)


@dataclass(frozen=True)
class Found:
    """What a part found, in short and as blocks of a page."""

    short: str
    blocks: Sequence[Block]


@dataclass(frozen=True)
class Unit:
    """A part of the page, which runs or fails by itself; `command` is what it does, with its usual options."""

    part: str
    title: str
    command: str
    run: Callable[[Asked], Found]


def table(rows: Sequence[Mapping[str, str]], label: str, left: bool = False) -> Grid:
    """A table of texts, the first column at the left, and the others too if they are no numbers."""
    first, *others = rows[0]
    return Grid(FrameTable(pd.DataFrame(rows), [Column(first), *(Column(name, left=left) for name in others)]), label)


def row(what: str, number: float | None, ours: Interval | None, digits: int = 1, given: int = 0) -> dict[str, str]:
    """A published number with its digits beside our interval, how far apart they are, and whether it lies inside."""
    apart = inside = None
    if number is not None and ours is not None:
        apart, inside = ours.estimate - number, ours.low <= number <= ours.high
    return {
        "what": what,
        "published": PAGE.number(number, given),
        "ours": "not run" if ours is None else PAGE.with_ends(ours, digits),
        "apart": PAGE.number(apart, digits, sign=True),
        "published inside": YES[inside],
    }


def inside(rows: Sequence[Mapping[str, str]]) -> str:
    """How many published numbers lie inside our intervals."""
    said = [each["published inside"] for each in rows if each["published"]]
    return f"{said.count('yes')} of {len(said)} published numbers inside our intervals"


def ran(result: Result) -> list[Block]:
    """What a study ran on, and what its gates said of it."""
    told = result.to_dict()
    facts = {name: value for name, value in told.items() if name != "format" and not isinstance(value, dict | list)}
    return [
        Prose(f"{result.heading}."),
        Prose(gates_line(result.gates.deviations, result.documents_called)),
        *(Prose(f"Warning: {text}", "warning") for text in result.warnings),
        *notes(result.notes),
        about(facts),
    ]


def notes(texts: Iterable[str]) -> list[Block]:
    """Notes, a line each."""
    return [Prose(f"Note: {text}") for text in texts]


def about(of: Mapping[str, Any]) -> Fold:
    """What numbers rest on: commits, hashes, sizes."""
    rows = [{"what": name.replace("_", " "), "value": str(value)} for name, value in of.items()]
    return Fold("What it ran on", [table(rows, "What it ran on", left=True)])


def induction(asked: Asked) -> Found:
    """Redwood's study of induction, on its model and rows."""
    study, hypotheses = load_study("induction")
    result = scrub.run("induction", study.published_model, settings=asked.settings)
    rows = [
        row(name, percent, result.recovered(name) if name in result.loss else None)
        for each in hypotheses
        for name, percent in ((Name(each.name, part), percent) for part, percent in each.published.items())
    ]
    losses = [row(f"loss, {name}, nats", nats, result.losses[name], 3, 3) for name, nats in INDUCTION_LOSSES.items()]
    said = "Percent of the loss recovered; what is published is rounded to whole percents."
    return Found(inside([*rows, *losses]), [Prose(said), table([*rows, *losses], "Percent recovered"), *ran(result)])


def ioi(asked: Asked) -> Found:
    """The circuit of indirect objects as its authors measure it, and every hypothesis under both corruptions."""
    how = replace(asked.settings, sequences=asked.prompts)
    runs = {
        words: scrub.run(wanted, STUDIED, data, replace(how, other=other))
        for words, (wanted, data, other) in IOI.items()
    }
    first, *_ = runs.values()  # that is as published
    rows = [row(words, IOI_RATIO if each is first else None, each.ratio(NODES)) for words, each in runs.items()]
    names = dict.fromkeys(of.name for each in runs.values() for of in each.table)
    recovered = [
        {
            "hypothesis": name,
            **{words: PAGE.with_ends(of.recovered(name)) if name in of.loss else "" for words, of in runs.items()},
        }
        for name in names
    ]
    prose = (
        f"F is the mean difference of logits: {PAGE.with_ends(first.losses['unscrubbed'], 2)} in the model. The "
        "sentences are this project's own, so what is published is of other prompts of the same kind. "
        f"F(circuit) / F(model) in percent, where all that is not in the circuit ({NODES}) is fed from:"
    )
    blocks = [Prose(prose), table(rows, "The published circuit"), Prose("Percent recovered, where it is fed from:")]
    blocks += [table(recovered, "Percent recovered"), *(block for each in runs.values() for block in ran(each))]
    return Found(inside(rows), blocks)


def heads(asked: Asked) -> Found:
    """The published study of GPT-2's heads, on its prompt, and over more prompts of that layout."""
    study = study_heads(STUDIED, count=asked.drawn, settings=asked.computing)
    every = beside(study, published())
    same = sum(each.same for each in every)
    rows = [_beside(each) for each in every]
    over = resampled(study.many.prompts, "prompts")
    return Found(
        f"{same} of {len(every)} published numbers the same but for rounding",
        [
            Prose(
                f"{study.heading}. What is published is of the one prompt, so intervals over others needn't hold it."
            ),
            Prose(gates_line(study.gates.deviations, over)),
            table(rows, "Published numbers of one prompt"),
            *notes([*study.many.prompts.notes, *study.notes]),
            about({**study.model.about, "prompts": study.many.on, "digest": study.many.prompts.digest}),
        ],
    )


def _beside(each: Beside) -> dict[str, str]:
    over = row(each.what, each.published, each.over, each.digits, each.digits)
    return {
        "what": each.what,
        "published": over["published"],
        "ours, the same prompt": PAGE.number(each.ours, each.digits),
        "the same": YES[each.same],
        "ours, over prompts": over["ours"] if each.over else "",
        "published inside": over["published inside"],
    }


def roles(asked: Asked, name: str) -> Found:
    """What the heads of a model attend to, beside the roles that its pointer has from the literature.

    Of models whose heads no study was published of, what they do on drawn prompts too.
    """
    theirs = shipped("models")
    pointer = read_pointer(theirs / name) if theirs else None
    said: Any = (pointer.overrides.get("roles") if pointer else None) or {}
    given = {tuple(head): role for role, those in said.items() for head in those}
    model = load_model(name, asked.settings.torch_dtype, asked.settings.where)
    count, positions = asked.settings.sequences or TEXT_SEQUENCES, min(TEXT_POSITIONS, model.n_ctx)
    text = examples_for(model, None, count, fewer=True, context=positions)
    measured = measure(model, text, len(text))
    ours = {tuple(head): role for role, those in measured.roles().items() for head in those}
    study = None if name == STUDIED else study_heads(model, None, count=asked.drawn, settings=asked.computing)
    frame, rows = measured.frame(), []
    for head, values in zip(measured.attention["text"]["previous"].heads, frame.to_dict("records"), strict=True):
        if head in given or head in ours:
            there = {"published": given.get(head, ""), "ours": ours.get(head, "")}
            agree = YES[there["published"] == there["ours"]] if given else ""
            seen = {str(n): PAGE.with_ends(v, 2) for n, v in values.items() if isinstance(v, Interval)}
            if study is not None:
                seen |= {f"{n}, prompts": PAGE.with_ends(study.many.scores[n].interval(head), 3) for n in METRICS}
            rows.append({"head": head_name(head), **there, "the same": agree, **seen})
    same = sum(ours.get(head) == role for head, role in given.items())
    rules = "; ".join(f"{role}: {target} on {on} at least {least}" for role, (target, on, least) in RULES.items())
    return Found(
        f"{same} of {len(given)} published roles found" if given else "no roles are published",
        [
            Prose(f"{model.called} on {text.heading}. Attention as a fraction, with 95 % intervals; {rules}."),
            *([] if study is None else [Prose(f"Prompts: {study.heading}.")]),
            table(rows, f"Heads of {name}") if rows else Prose("No head has a role, published or here."),
            *notes([*text.notes, *(study.many.prompts.notes if study is not None else ())]),
            about({**model.about, **{k: v for k, v in text.about.items() if k != "notes"}}),
        ],
    )


UNITS = (
    Unit("induction", "Redwood's study of induction", "scrub run induction --model redwood_attn_2l", induction),
    Unit(
        "ioi",
        "The circuit of indirect objects in GPT-2 small",
        f"scrub run {AS_PUBLISHED} --other 'mean by template'",
        ioi,
    ),
    Unit("heads", "The published study of GPT-2's heads", f"scrub heads {STUDIED}", heads),
    *(
        Unit(
            "roles",
            f"Roles of the heads of {name}",
            f"scrub roles {name}" + ("" if name == STUDIED else f", scrub heads {name}"),
            partial(roles, name=name),
        )
        for name in ROLES_OF
    ),
)


def attempt(unit: Unit, asked: Asked) -> Found | str:
    """Run a part; or say on one line why it didn't."""
    try:
        return unit.run(asked)
    except ScrubError as error:
        return one_line(error)
    except GateError as error:
        return f"a gate failed: {one_line(error)}"
    except KeyboardInterrupt:
        return INTERRUPTED
    except Exception as error:  # a fault of ours, or of a library: the other parts needn't suffer
        traceback.print_exc()
        return f"{type(error).__name__}: {one_line(error)}"


def machine(settings: Settings) -> dict[str, str]:
    """The versions, the device and the type of the numbers."""
    try:
        git = ["git", "-C", str(HERE), "describe", "--always", "--dirty", "--abbrev=40", "--exclude=*"]
        commit = subprocess.run(git, capture_output=True, text=True, check=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        commit = "of no repository"
    where = settings.where
    card = f" ({torch.cuda.get_device_name(where)})" if where.startswith("cuda") else ""
    threads = f"{torch.get_num_threads()} threads, {platform.machine()}"
    return {
        "scrub": f"{scrub.__version__}, commit {commit}",
        **{name: version(name) for name in ("torch", "numpy", "tokenizers", "safetensors", "huggingface-hub")},
        "python": f"{platform.python_version()}, {platform.system()}",
        "device": f"{where}{card}, {threads}",
        "dtype": settings.dtype,
    }


def page(asked: Asked, command: str) -> tuple[str, int]:
    """Run the parts, and write what they found as Markdown; and how many failed."""
    sections, summary, failed, stopped = [], [], 0, False
    for unit in UNITS:
        if unit.part not in asked.parts:
            outcome = f"skipped: --only leaves {unit.part} out"
        elif stopped:
            outcome = "skipped: interrupted before"
        else:
            sys.stderr.write(f"{unit.title} ...\n")
            found = attempt(unit, asked)
            stopped = found == INTERRUPTED
            if isinstance(found, str):
                failed += 1
                outcome = f"failed: {brief(found)}"
            else:
                outcome = found.short
                sections.append(Section(f"part-{len(summary) + 1}", unit.title, found.blocks))
        summary.append({"part": unit.title, "command": unit.command, "outcome": outcome})
    intro = [
        table(summary, "What was run", left=True),
        table(
            [{"what": name, "value": value} for name, value in machine(asked.settings).items()], "Versions", left=True
        ),
        Code(command, "sh"),
    ]
    return Page("Published numbers beside ours", sections, intro=intro).markdown(""), failed


def read(arguments: Sequence[str] | None) -> tuple[Asked, Path | None]:
    """Read the options; a mistake ends with status 2."""
    parser = argparse.ArgumentParser(
        prog="published.py", description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--only", default=",".join(PARTS), metavar="PART,...", help=f"of {', '.join(PARTS)}")
    parser.add_argument(
        "--sequences", type=int, metavar="N", help="of the study of induction (512), and of text that heads read (64)"
    )
    parser.add_argument(
        "--prompts", type=int, metavar="N", help="that are drawn: of the circuit (128), of each study of heads (64)"
    )
    parser.add_argument("--batch", type=int, metavar="N", help="sequences at once")
    parser.add_argument("--seed", type=int, default=0, metavar="N", help="of pairs and prompts (0)")
    parser.add_argument("--device", default="auto", help="auto, cpu or cuda")
    parser.add_argument("--dtype", default="float32", help=f"of {', '.join(DTYPES)}")
    parser.add_argument("--out", type=Path, metavar="FILE", help="write the Markdown here instead of printing it")
    given = parser.parse_args(arguments)
    parts = tuple(each.strip() for each in given.only.split(","))
    try:
        if unknown := [each for each in parts if each not in PARTS]:
            raise ScrubError(f"--only {unknown[0]!r} is no part: give some of {','.join(PARTS)}")
        settings = Settings(given.sequences, seed=given.seed, batch=given.batch, device=given.device, dtype=given.dtype)
        if given.prompts is not None and given.prompts < 2:
            raise ScrubError(f"--prompts {given.prompts} leaves no interval: give at least 2")
        settings = replace(settings, device=settings.where)
        check_outputs(given.out)
    except ScrubError as error:
        parser.exit(2, f"published.py: {one_line(error)}\n")
    return Asked(settings, given.prompts, parts), given.out


def main(arguments: Sequence[str] | None = None) -> int:
    """Print or write what is published beside ours. Status 1 if a part failed, 2 for a mistake in the options."""
    asked, out = read(arguments)
    words = sys.argv[1:] if arguments is None else arguments
    with warnings_as_lines():
        text, failed = page(asked, shlex.join(["python", "benchmarks/published.py", *words]))
    if out is None:
        sys.stdout.write(text)
    else:
        write_outputs({out: lambda _: text})
    return int(failed > 0)


if __name__ == "__main__":
    sys.exit(main())
