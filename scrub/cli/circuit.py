"""`scrub circuit`: a circuit of another tool's, or a hypothesis as one, and how much of a metric it keeps."""

from __future__ import annotations

import shlex
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from scrub.cli import options
from scrub.cli.given import check_pairs, drawn_pairs, given_metric, given_study
from scrub.cli.outputs import chart_of, check_chart, check_outputs, check_suffix, console, warn, write_outputs
from scrub.data.settings import Recipe
from scrub.measure.circuits.methods import check_drawn, check_whole
from scrub.study.settings import COMPUTING, Settings, typed
from scrub.text.errors import ScrubError
from scrub.text.files import check_file, check_writable, shown
from scrub.text.wording import short

if TYPE_CHECKING:
    from scrub.measure.circuits.circuit import Circuit
    from scrub.measure.circuits.faithfulness import Faithfulness
    from scrub.models.find import Kind
    from scrub.models.model import Model
    from scrub.paths.edges import Edge
    from scrub.study.hypothesis import Hypothesis
    from scrub.study.study import Study

SUFFIXES = (".json", ".pt")  # of EAP-IG's and MIB's graphs
AGAIN = ("sequences", "fold", "seed", "column", "split")  # what a run is told, since a study has no say in it


def circuit(
    typed: typer.Context,
    file: Annotated[
        str, typer.Argument(metavar="FILE", help="A graph of EAP-IG or MIB (.json, .pt), or a hypothesis.")
    ],
    model: options.ModelName = None,
    data: options.DataName = None,
    *,
    metric: options.OneMetric = None,
    absolute: Annotated[
        bool, typer.Option("--absolute", help="With --size: of the largest scores, whatever their sign.")
    ] = False,
    recipe: Annotated[Recipe, options.PAIRS],
    settings: Annotated[Settings, options.MEASURED],
    size: Annotated[
        int | None,
        typer.Option(
            "--size", metavar="N", help="Of --out and --viewer: the N highest, not those the file keeps.", min=1
        ),
    ] = None,
    out: Annotated[
        Path | None, typer.Option("--out", metavar="DIR", help="Write it as a study of one hypothesis.")
    ] = None,
    rules: Annotated[bool, typer.Option("--rules", help="Write that hypothesis in rules, and not in edges.")] = False,
    export: Annotated[Path | None, options.file("--export", "Write it in EAP-IG's layout: .json or .pt.")] = None,
    submission: Annotated[
        Path | None,
        typer.Option("--submission", metavar="DIR", help="Add it to a folder for MIB's board, and check that."),
    ] = None,
    task: Annotated[
        str | None, typer.Option("--task", metavar="TASK_MODEL", help="Of --submission: ioi_gpt2, arc-easy_llama3.")
    ] = None,
    viewer: Annotated[Path | None, options.file("--viewer", "Write it for neuronpedia's viewer: .json.")] = None,
    json: options.Json = None,
    plot: options.Chart = None,
) -> None:
    """How much of a metric a circuit keeps, at MIB's ten sizes, with CPR and CMD; or what it is elsewhere."""
    outputs = _Outputs(size, absolute, out, rules, export, submission, task, viewer, plot)
    outputs.check()
    check_outputs(json, plot, export, viewer, out)
    check_chart(plot)
    check_pairs(typed, data, recipe)
    own, hypothesis = (None, None) if _is_graph(file) else _named(file)
    if own is None:
        _check_graph(file, model, data or recipe.kind)
    else:
        outputs.check_unscored(file)
    if out is not None and recipe.kind is not None:
        raise ScrubError("a study names its data, and pairs that are drawn have no name: give --data with --out")
    given = given_metric(metric, own.metric if own else None)

    from scrub.measure.asked import usual_metric
    from scrub.measure.circuits.faithfulness import faithfulness
    from scrub.measure.circuits.files import read_circuit
    from scrub.measure.circuits.said import circuit_of
    from scrub.models.model import load_model
    from scrub.study.roles import on_study
    from scrub.study.run import default_data, prepare_study
    from scrub.study.study import Study
    from scrub.text.frames import json_text

    read = read_circuit(file) if hypothesis is None else None
    outputs.check_for(read)  # before a model is loaded: mistakes are told at once
    study = own or Study("** -> y", name=Path(file).name)
    study = study if model is None else replace(study, model=model)
    loaded = on_study(study, load_model(study.model, settings.torch_dtype, settings.where))
    found = circuit_of(hypothesis, loaded) if hypothesis is not None else read
    assert found is not None
    found.fits(loaded)
    outputs.check_for(found)
    if recipe.kind is None:
        data = default_data(own or study, loaded) if data is None else data
        study = replace(study, data=data)
    spec, on, how = drawn_pairs(typed, loaded, data, recipe, settings)
    trial = prepare_study(study, [], spec, on, how)
    study = replace(study, metric=usual_metric(given, trial.examples, own.metric if own else None))
    files = outputs.files(found, loaded, study, settings)
    how = how.only(COMPUTING)
    measured = faithfulness(found, loaded, trial.examples, study.metric, settings=how)
    files |= {json: lambda _: json_text(_content(measured)), plot: chart_of(measured)}
    write_outputs(files | {viewer: lambda _: outputs.viewed(found, measured)}, folder=out)
    said = [*trial.notes, *trial.examples.notes, *measured.notes, *outputs.notes(found, hypothesis, settings)]
    warn(said, "note")
    warn(measured.warnings)
    console().print(measured)
    outputs.submit(found)


def _is_graph(file: str) -> bool:
    """Tell whether a file is a graph of EAP-IG's or MIB's: whatever is no module, and no name of one."""
    return file.lower().endswith(SUFFIXES) or (Path(file).suffix != ".py" and Path(file).is_file())


def _named(file: str) -> tuple[Study, Hypothesis]:
    """Load the one hypothesis that is named, and its study. Raises ScrubError for one that no set of edges says."""
    study, hypotheses, _ = given_study([file], None, "", None)
    if len(hypotheses) != 1:
        raise ScrubError(f"{file} has {len(hypotheses)} hypotheses: name one, as in {file}/{hypotheses[0].name}")
    check_drawn(study)
    check_whole(hypotheses[0])
    return study, hypotheses[0]


def _check_graph(file: str, model: str | None, on: str | None) -> None:
    check_file(file, "give a graph as EAP-IG or MIB write one, JSON or .pt")
    if model is None:
        raise ScrubError(f"{shown(file)} doesn't say which model it is of: give --model")
    if on is None:
        raise ScrubError(
            "nothing says what the circuit is measured on: give --data, or --prompts for pairs that are drawn"
        )


@dataclass(frozen=True)
class _Outputs:
    """What is written of a circuit, and of which of its edges."""

    size: int | None
    absolute: bool
    out: Path | None
    rules: bool
    export: Path | None
    submission: Path | None
    task: str | None
    viewer: Path | None
    plot: Path | None

    def check(self) -> None:
        """Raise ScrubError for options that don't go together, or names that can't be."""
        if (self.submission is None) != (self.task is None):
            raise ScrubError("MIB's board has a folder for each task and model: give --submission and --task ioi_gpt2")
        if self.task is not None and not all(self.task.rpartition("_")):
            raise ScrubError(f"--task {short(self.task)} names a task and a model on MIB's board: write it as ioi_gpt2")
        if self.rules and self.out is None:
            raise ScrubError("--rules says how a hypothesis is written: give --out with it")
        if self.absolute and self.size is None:
            raise ScrubError("--absolute says which edges --size takes, and what is measured is both: leave it out")
        if self.size is not None and not (self.out or self.viewer):
            raise ScrubError("--size says how many edges --out and --viewer write: give one of them with it")
        if self.out is not None and self.out.exists():
            raise ScrubError(f"{shown(self.out)} is there already: name a folder that isn't")
        check_suffix("--export", self.export, *SUFFIXES)
        check_suffix("--viewer", self.viewer, ".json")

    def check_unscored(self, name: str) -> None:
        """Raise ScrubError for what has no meaning where no edge has a score."""
        asked = {"--absolute": self.absolute, "--size": self.size, "--plot": self.plot}
        if said := next((option for option, given in asked.items() if given), None):
            why = "is of one size and has no curve" if said == "--plot" else "has no highest edges"
            raise ScrubError(f"{name} has no scores, so it {why}: leave {said} out")

    def check_for(self, found: Circuit | None) -> None:
        """Raise ScrubError for what can't be written of a circuit."""
        if found is None:
            return
        if found.scores is None:
            self.check_unscored(found.name)
        if self.out or self.viewer:
            self.edges(found)
        if self.export is not None:
            from scrub.measure.circuits.files import check_written

            check_written(self.export, found)
        if self.submission is not None and self.task is not None:
            from scrub.measure.circuits.submission import submission_file

            name, _, model = self.task.rpartition("_")
            target = submission_file(self.submission, name, model, found)
            first = next(at for at in (target, *target.parents) if at.parent.exists())  # of what isn't there yet
            if not first.parent.is_dir():
                raise ScrubError(f"{shown(first.parent)} is no folder: give another to --submission")
            check_writable(first)

    def edges(self, found: Circuit) -> frozenset[Edge]:
        """Choose the edges that are written: the highest ones that are asked for, or those of the file."""
        if self.size is not None:
            return found.top(self.size, self.absolute)
        if not found.kept:
            raise ScrubError(f"{found.name} has scores, and no edge in the graph: say how many to take, with --size N")
        return found.kept

    def which(self, found: Circuit) -> str:
        """Say in words which edges are written."""
        if self.size is not None:
            return f"those of the {'largest absolute' if self.absolute else 'highest'} scores in {found.name}"
        return f"those that {found.name} keeps"

    def files(self, found: Circuit, model: Model, study: Study, settings: Settings) -> dict[Path | None, Any]:
        """Make what goes into files of a circuit, whatever is measured of it."""
        from scrub.measure.circuits.files import content_of
        from scrub.measure.circuits.said import module_of, study_of

        made: dict[Path | None, Any] = {self.export: lambda path: content_of(path, found)}
        if self.out is None:
            return made
        kept = self.edges(found)
        text = study_of(_lasting(study, settings), "circuit")
        claim = f"{len(kept):,} of {len(found.edges):,} edges of {model.name}: {self.which(found)}."
        module = module_of(found, kept, model, claim, self.rules)
        return made | {self.out / "study.py": lambda _: text, self.out / "circuit.py": lambda _: module}

    def viewed(self, found: Circuit, of: Faithfulness) -> str:
        """Write the circuit for viewers, on its first prompt."""
        from scrub.show.viewer import viewed

        kept = self.edges(found)
        at = [number for number, edge in enumerate(found.edges) if edge in kept]
        scores = None if found.scores is None else found.scores[at].tolist()
        return viewed([found.edges[number] for number in at], scores, of.model, of.examples, of.metric, found.name)

    def notes(self, of: Circuit, hypothesis: Hypothesis | None, settings: Settings) -> list[str]:
        """Say which part of a hypothesis was taken, what scores stand for, and how to run on the same examples."""
        found = []
        if hypothesis is not None and len(parts := list(hypothesis.parts)) > 2:
            found.append(f"the circuit is that of all parts of {hypothesis.name} together: {', '.join(parts[:-1])}")
        words = typed(settings, AGAIN)
        if self.out is not None and words:
            found.append(f"for the same examples: scrub run {self.out} {shlex.join(words)}")
        if self.export is not None and of.scores is None:
            found.append(
                f"{shown(self.export)} scores the edges that are kept with 1 and all others with 0, since EAP-IG and "
                "MIB read no graph without scores: its highest edges, as many as are kept, are the circuit"
            )
        return found

    def submit(self, found: Circuit) -> None:
        """Add the circuit to a folder for MIB's board, and say what that lacks."""
        if self.submission is None or self.task is None:
            return
        from scrub.measure.circuits.submission import check_submission, write_submission

        name, _, model = self.task.rpartition("_")
        target = write_submission(self.submission, name, model, found)
        checked = check_submission(self.submission)
        warn([f"{shown(target)} is written", *checked.missing, *checked.notes], "note")
        warn(f"the board wouldn't take this folder: {error}" for error in checked.errors)


def _lasting(study: Study, settings: Settings) -> Study:
    """Say in a study what was asked for, and paths of files so that they are found from anywhere."""
    from scrub.models.find import locate

    def named(kind: Kind, name: str) -> str:
        path = Path(name).expanduser()
        return str(path.resolve()) if locate(kind, name) == path else name

    asked = {name: getattr(settings, name) for name in ("positions", "context", "bos")}
    given = {name: value for name, value in asked.items() if value is not None}
    return replace(study, model=named("models", study.model), data=named("data", study.data), **given)


def _content(of: Faithfulness) -> dict[str, Any]:
    """Collect what `--json` writes."""
    return {
        "format": 1,
        **of.model.about,
        "circuit": of.name,
        "edges": of.edges,
        "kind": of.examples.name,
        **of.examples.about,
        "sequences": len(of.examples),
        "positions": int(of.examples.counts.sum()),
        "metric": of.metric.name,
        "unit": of.metric.unit,
        "seed": of.seed,
        **of.computed.fields,
        "whole": of.whole,
        "empty": of.empty,
        **({"cpr": of.cpr, "cmd": of.cmd} if of.curve else {}),
        **({} if of.own is None else {"own": {"edges": of.own.n, "faithfulness": of.value_of_own}}),
        "gates": of.gates.deviations,
        "notes": [*of.examples.notes, *of.notes],
        "warnings": of.warnings,
        "rows": of.frame(),
    }
