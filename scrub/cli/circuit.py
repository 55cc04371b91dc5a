"""`scrub circuit`: a circuit of another tool's, or a hypothesis as one, and how much of a metric it keeps."""

from __future__ import annotations

from collections.abc import Set
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from scrub.cli import options
from scrub.cli.given import drawn_pairs, given_metrics, given_study
from scrub.cli.outputs import chart_of, check_chart, check_outputs, console, warn, write_outputs
from scrub.data.settings import Recipe
from scrub.study.settings import COMPUTING, Settings
from scrub.text.errors import ScrubError

if TYPE_CHECKING:
    from scrub.measure.circuits.circuit import Circuit
    from scrub.measure.circuits.faithfulness import Faithfulness
    from scrub.models.model import Model
    from scrub.paths.edges import Edge
    from scrub.study.hypothesis import Hypothesis

FILES = (".json", ".pt")  # of EAP-IG's and MIB's graphs; whatever else is named is a hypothesis


def circuit(
    typed: typer.Context,
    file: Annotated[
        str, typer.Argument(metavar="FILE", help="A graph of EAP-IG or MIB (.json, .pt), or a hypothesis.")
    ],
    model: options.ModelName = None,
    data: options.DataName = None,
    *,
    metric: options.Measured = None,
    absolute: Annotated[bool, typer.Option("--absolute", help="Largest scores whatever their sign.")] = False,
    recipe: Annotated[Recipe, options.PAIRS],
    settings: Annotated[Settings, options.MEASURED],
    size: Annotated[
        int | None,
        typer.Option("--size", metavar="N", help="Of --out and --viewer: the N highest, not the file's own."),
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
    if (submission is None) != (task is None):
        raise ScrubError("MIB's board has a folder for each task and model: give --submission and --task ioi_gpt2")
    if rules and out is None:
        raise ScrubError("--rules says how a hypothesis is written: give --out with it")
    check_outputs(json, plot, export, viewer)
    check_chart(plot)
    hypotheses: list[Hypothesis] = []
    if not file.lower().endswith(FILES):
        study, hypotheses, model = given_study([file], None, model, None)
        if len(hypotheses) != 1:
            raise ScrubError(f"{file} has {len(hypotheses)} hypotheses: name one, as in {file}/{hypotheses[0].name}")
    elif model is None:
        raise ScrubError(f"{file} doesn't say which model it is of: give --model")
    metrics = given_metrics(metric, study.metric if hypotheses else None)

    from scrub.measure.asked import usual_metric
    from scrub.measure.circuits.faithfulness import faithfulness
    from scrub.measure.circuits.files import read_circuit, write_circuit
    from scrub.measure.circuits.said import circuit_of
    from scrub.models.model import load_model
    from scrub.study.run import prepare_study
    from scrub.study.study import Study
    from scrub.text.frames import json_text

    if not hypotheses and data is None and recipe.kind is None:
        raise ScrubError(
            "nothing says what the circuit is measured on: give --data, or --prompts for pairs that are drawn"
        )
    read = None if hypotheses else read_circuit(file)  # before a model is loaded: mistakes are told at once
    loaded = load_model(model, settings.torch_dtype, settings.where)
    found = circuit_of(hypotheses[0], loaded) if read is None else read
    found.fits(loaded)
    kept = _kept(found, size) if out or viewer else frozenset()
    spec, on, how = drawn_pairs(typed, loaded, data, recipe, settings)
    about = study if hypotheses else Study("** -> y", name=found.name)
    trial = prepare_study(about, [], spec, on, how)
    chosen = usual_metric(list(metrics) or None, trial.examples, study.metric if hypotheses else None)
    measured = faithfulness(found, loaded, trial.examples, chosen, absolute=absolute, settings=how.only(COMPUTING))
    write_outputs(
        {
            json: lambda _: json_text(_content(measured, absolute)),
            plot: chart_of(measured),
            viewer: lambda _: _viewed(measured, found, kept),
            **({} if out is None else _study(out, found, kept, loaded, str(model), data, chosen.name, rules)),
        }
    )
    if export is not None:
        write_circuit(export, found)
    notes = [] if submission is None or task is None else _submitted(submission, task, found)
    warn([*trial.examples.notes, *found.notes, *notes], "note")
    warn(measured.warnings)
    console().print(measured)


def _kept(found: Circuit, size: int | None) -> frozenset[Edge]:
    """Choose the edges that are written: the highest ones that are asked for, or those of the file."""
    if size is not None:
        return found.top(size)
    if not found.kept:
        raise ScrubError(f"{found.name} has scores, and no edge in the graph: say how many to take, with --size N")
    return found.kept


def _content(of: Faithfulness, absolute: bool) -> dict[str, Any]:
    """Collect what `--json` writes."""
    return {
        "format": 1,
        **of.model.about,
        "circuit": of.name,
        "edges": of.edges,
        "kind": of.examples.name,
        **of.examples.about,
        "metric": of.metric.name,
        "unit": of.metric.unit,
        "absolute": absolute,
        "seed": of.seed,
        **of.computed.fields,
        "whole": of.whole,
        "empty": of.empty,
        **({"cpr": of.cpr, "cmd": of.cmd} if of.curve else {}),
        "gates": of.gates.deviations,
        "warnings": of.warnings,
        "rows": of.frame(),
    }


def _viewed(of: Faithfulness, found: Circuit, kept: Set[Edge]) -> str:
    """Write the circuit for viewers, on its first prompt."""
    from scrub.show.viewer import viewed

    at = [number for number, edge in enumerate(found.edges) if edge in kept]
    scores = None if found.scores is None else found.scores[at].tolist()
    return viewed([found.edges[number] for number in at], scores, of.model, of.examples, of.metric, found.name)


def _study(
    out: Path, found: Circuit, kept: Set[Edge], model: Model, spec: str, data: str | None, metric: str, rules: bool
) -> dict[Path | None, Any]:
    """Write the circuit as a study of one hypothesis. Raises ScrubError where something is there already."""
    from scrub.measure.circuits.said import module_of, study_of

    if out.exists():
        raise ScrubError(f"{out} is there already: name a folder that isn't")
    if data is None:
        raise ScrubError("a study names its data, and pairs that are drawn have no name: give --data with --out")
    claim = f"{len(kept):,} of {len(found.edges):,} edges of {model.name} are enough for what is measured."
    return {
        out / "study.py": lambda _: study_of(spec, data, metric, "circuit"),
        out / "circuit.py": lambda _: module_of(found, kept, model, claim, rules),
    }


def _submitted(folder: Path, task: str, found: Circuit) -> list[str]:
    """Add the circuit to a folder for MIB's board, and say what that lacks. Raises ScrubError for what is wrong."""
    from scrub.measure.circuits.submission import check_submission, write_submission

    name, _, model = task.rpartition("_")
    target = write_submission(folder, name, model, found)
    checked = check_submission(folder)
    if checked.errors:
        raise ScrubError(f"{folder} isn't as MIB's board takes it: {checked.errors[0]}")
    return [f"{target} is written", *checked.missing, *checked.notes]
