"""Folders that MIB's board takes: one for each task and model, with scores of all edges, or circuits of nine sizes.

The names and rules are those of the README and `utils.py` of MIB's circuit track; the numbers of edges follow from the
public configs of its models.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from scrub.data.windows import counted
from scrub.measure.circuits.circuit import SHARES, Circuit
from scrub.measure.circuits.files import check_written, json_of, read_graph
from scrub.measure.circuits.shape import Shape
from scrub.text.errors import ScrubError
from scrub.text.fields import check_arguments
from scrub.text.files import exists, make_folder, shown, write_atomically
from scrub.text.wording import few, short

TASKS = {  # and the models on which the board has each
    "ioi": ("gpt2", "qwen2.5", "gemma2", "llama3", "interpbench"),
    "mcqa": ("qwen2.5", "gemma2", "llama3"),
    "arithmetic-addition": ("llama3",),
    "arithmetic-subtraction": ("llama3",),
    "arc-easy": ("gemma2", "llama3"),
    "arc-challenge": ("llama3",),
}
MODELS: dict[str, Shape | None] = {  # GPT-2 small, Qwen2.5-0.5B, Gemma 2 2B and Llama 3.1 8B
    "gpt2": Shape(12, 12, 768),
    "qwen2.5": Shape(24, 14, 896),
    "gemma2": Shape(26, 8, 2304),
    "llama3": Shape(32, 32, 4096),
    "interpbench": None,  # whose config is a pickle on the hub
}
LEAST = 2  # models, and tasks, so that no submission is trivial
IMPORTANCES = "importances"
_SIZES = SHARES[:-1]  # that circuits without scores are asked for
_SUFFIXES = (".json", ".pt")


@dataclass(frozen=True)
class Cell:
    """What a submission has for a task and a model: a folder's circuits, which are one if it has scores."""

    task: str
    model: str
    files: tuple[Path, ...]
    scored: bool
    edges: int


@dataclass(frozen=True)
class Submission:
    """What is in a folder for the board: its cells; what is wrong with it, what the board still asks for, and notes."""

    folder: Path
    cells: tuple[Cell, ...]
    errors: tuple[str, ...]
    missing: tuple[str, ...]
    notes: tuple[str, ...]

    @property
    def ready(self) -> bool:
        """Whether the board would take it, as far as that can be seen here."""
        return not self.errors and not self.missing


def cell_name(task: str, model: str) -> str:
    """Name the folder of a task and a model: `cell_name("arc_easy", "llama3")` is "arc-easy_llama3".

    Raises ScrubError where the board has no such task, no such model, or not both together.
    """
    task = task.replace("_", "-")
    if task not in TASKS:
        raise ScrubError(f"the board has no task {short(task)}: its tasks are {', '.join(TASKS)}")
    if model not in MODELS:
        raise ScrubError(f"the board has no model {short(model)}: its models are {', '.join(MODELS)}")
    if model not in TASKS[task]:
        raise ScrubError(f"the board doesn't have {task} on {model}, but on {', '.join(TASKS[task])}: take one of them")
    return f"{task}_{model}"


@check_arguments
def write_submission(folder: str | Path, task: str, model: str, circuit: Circuit) -> Path:
    """Add a circuit to a folder for the board: `write_submission("mine", "ioi", "gpt2", circuit)`.

    One with scores becomes importances.json; one without is a file named by the smallest percentage of edges that it
    stays within, and nine of them are asked for; they hold no scores, as the board's README has it. Raises ScrubError
    for what the board doesn't have, a circuit of another model than the board's, and where a file is there already.
    Gives the file.
    """
    target = submission_file(folder, task, model, circuit)
    make_folder(target.parent)
    write_atomically(target, json_of(circuit))
    return target


def submission_file(folder: str | Path, task: str, model: str, circuit: Circuit) -> Path:
    """Say which file :func:`write_submission` would write. Raises ScrubError where it would, and writes nothing."""
    place, shape = Path(folder) / cell_name(task, model), MODELS[model]
    if shape is not None and circuit.shape != shape:
        raise ScrubError(f"{circuit.name} is of a model of {circuit.shape}, but {model} on the board has {shape}: "
                         "take the circuit of that model")  # fmt: skip
    target = place / f"{IMPORTANCES if circuit.scores is not None else _size_name(circuit)}.json"
    there = _circuit_files(place) if exists(place) and place.is_dir() else ()
    if target in there:
        raise ScrubError(f"{shown(target)} is there already: move it away, or write into another folder")
    if there and (circuit.scores is not None or any(file.stem == IMPORTANCES for file in there)):
        raise ScrubError(f"{shown(place)} has {few([file.name for file in there])} already, and scores stand alone in "
                         "their folder: move it away, or write into another folder")  # fmt: skip
    check_written(target, circuit)
    return target


def _size_name(circuit: Circuit) -> str:
    kept, every = len(circuit.kept or ()), len(circuit.edges)
    share = next((share for share in _SIZES if kept <= share * every), None)
    if share is None:
        raise ScrubError(f"{circuit.name} keeps {kept:,} of {every:,} edges and has no scores: the board takes at most "
                         f"{_SIZES[-1]:.0%} so; keep fewer, or give scores")  # fmt: skip
    return f"{100 * share:g}"


def _circuit_files(place: Path) -> tuple[Path, ...]:
    return tuple(sorted(file for file in place.iterdir() if file.suffix in _SUFFIXES))


@check_arguments
def check_submission(folder: str | Path) -> Submission:
    """Read a folder for the board as a whole, every file: `check_submission("mine").ready`.

    Raises ScrubError only if there is no folder: what is wrong in it is listed.
    """
    folder = Path(folder)
    if not (exists(folder) and folder.is_dir()):
        raise ScrubError(f"{shown(folder)} is no folder: give one with a folder for each task and model, such as "
                         "ioi_gpt2")  # fmt: skip
    cells: list[Cell] = []
    errors: list[str] = []
    notes: list[str] = []
    for place in sorted(folder.glob("[!.]*")):  # what is hidden is git's
        if not place.is_dir():
            notes.append(f"{shown(place)} is no folder of a task and a model: the board doesn't look at it")
            continue
        try:
            cells.append(_cell(place, notes))
        except ScrubError as error:
            errors.append(str(error))
    return Submission(folder, tuple(cells), tuple(errors), tuple(_missing(cells)), tuple(notes))


def _missing(cells: Sequence[Cell]) -> list[str]:
    counted = [cell for cell in cells if MODELS[cell.model] is not None]  # InterpBench is no column of the table
    found = {"models": {cell.model for cell in counted}, "tasks": {cell.task for cell in counted}}
    besides = sorted({cell.model for cell in cells} - found["models"])
    but = f"; {', '.join(besides)} doesn't count, since the board's table has no column of it" if besides else ""
    return [
        f"at least {LEAST} {what} are asked for, and {', '.join(sorted(names)) if names else 'none'} is here{but}"
        for what, names in found.items()
        if len(names) < LEAST
    ]


def _cell(place: Path, notes: list[str]) -> Cell:
    """Read the folder of a task and a model. Raises ScrubError for the first thing that is wrong in it."""
    task, _, model = place.name.rpartition("_")
    try:
        name = cell_name(task or model, model)
    except ScrubError as error:
        raise ScrubError(f"{shown(place)} is no folder of the board's: {error}") from error
    if name != place.name:
        raise ScrubError(f"{shown(place)} has a name that the board doesn't know: call it {name}")
    files = _circuit_files(place)
    if not files:
        raise ScrubError(f"{shown(place)} holds no circuit: put {IMPORTANCES}.json there, or circuits of nine sizes")
    circuits = [_of_model(file, model, notes) for file in files]
    scored = [file.name for file, circuit in zip(files, circuits, strict=True) if circuit.scores is not None]
    if scored and len(files) > 1:
        raise ScrubError(f"{shown(place)} holds {few([file.name for file in files])}, and {scored[0]} has scores: one "
                         "file with scores, or circuits without, so move the others away")  # fmt: skip
    if not scored:
        _check_sizes(place, files, circuits)
    if MODELS[model] is None:
        notes.append(f"{shown(place)}: how many edges {model} has isn't known here, so its shape isn't checked")
    return Cell(task, model, files, bool(scored), len(circuits[0].edges))


def _of_model(file: Path, model: str, notes: list[str]) -> Circuit:
    circuit, shape = read_graph(file), MODELS[model]
    if shape is not None and circuit.shape != shape:
        raise ScrubError(f"{shown(file)} is of a model of {circuit.shape}, {circuit.shape.count:,} edges, but {model} "
                         f"has {shape}, {shape.count:,}: take the circuit of that model")  # fmt: skip
    notes += [f"{shown(file)}: {note}" for note in circuit.notes]
    return circuit


def _check_sizes(place: Path, files: Sequence[Path], circuits: Sequence[Circuit]) -> None:
    """Raise ScrubError unless there is a circuit within each size, and at most an empty one besides."""
    sizes = sorted((len(circuit.kept or ()), file.name) for circuit, file in zip(circuits, files, strict=True))
    if len(sizes) == len(_SIZES) + 1 and not sizes[0][0]:
        sizes = sizes[1:]  # the README asks for nine, and lists ten, of which the first is empty
    if len(sizes) != len(_SIZES):
        there = counted(len(files), "circuit")
        raise ScrubError(f"{shown(place)} holds {there} without scores: {len(_SIZES)} are asked for, of at most "
                         f"{', '.join(f'{100 * share:g}' for share in _SIZES)} % of the edges")  # fmt: skip
    for (kept, name), share in zip(sizes, _SIZES, strict=True):
        most = share * len(circuits[0].edges)
        if kept > most:
            raise ScrubError(f"{shown(place / name)} keeps {kept:,} edges, over {100 * share:g} % of "
                             f"{len(circuits[0].edges):,}: no other of the {len(_SIZES)} stays within that either; "
                             "keep fewer")  # fmt: skip
