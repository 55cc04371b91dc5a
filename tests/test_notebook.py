"""The notebook runs in an empty folder, and what is stored in it is what it gives."""

from __future__ import annotations

import re
from collections import Counter
from pathlib import Path
from tempfile import gettempdir

import nbformat
import pytest
from nbformat import NotebookNode
from notebook import PATH, execute, stripped

FEW = {
    "SEQUENCES": 6,
    "RANDOM": 1,
}  # two in each fold of a search; what is compared doesn't depend on how many there are
LARGEST = 1 << 20  # bytes
NAMES = re.compile(r"\b(?:naive|this_token|last_few\(positions=\d\))(?!~)")


@pytest.fixture(scope="module")
def stored() -> NotebookNode:
    return nbformat.read(PATH, as_version=4)


def cells(notebook: NotebookNode) -> list[NotebookNode]:
    return [cell for cell in notebook.cells if cell.cell_type == "code"]


def kinds(cell: NotebookNode) -> list[tuple[str, list[str]]]:
    """What a cell shows: the kind of each output, and the forms that it has."""
    return [(output.output_type, sorted(output.get("data", ()))) for output in cell.outputs]


def shown(cell: NotebookNode) -> str:
    """All text that a cell shows."""
    return "\n".join(
        output.get("text", "") + "\n".join(map(str, output.get("data", {}).values())) for output in cell.outputs
    )


def drawings(cell: NotebookNode) -> list[str]:
    return [output.data["image/svg+xml"] for output in cell.outputs if "image/svg+xml" in output.get("data", {})]


def test_is_stored_as_it_was_executed_and_nothing_else(stored: NotebookNode) -> None:
    nbformat.validate(stored)
    assert [cell.execution_count for cell in cells(stored)] == list(range(1, len(cells(stored)) + 1))
    text = PATH.read_text(encoding="utf-8")
    assert len(text.encode()) < LARGEST
    assert nbformat.writes(stripped(nbformat.reads(text, as_version=4))).strip() == text.strip()
    foreign = {str(PATH.parent.parent), str(Path.home()), gettempdir() + "/"}
    assert [each for each in foreign if each in text and len(each) > 1] == []


def test_runs_in_an_empty_folder_and_gives_what_is_stored(
    stored: NotebookNode, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LOKY_MAX_CPU_COUNT", "1")  # sweeps have one worker, which is the kernel
    fresh = nbformat.read(PATH, as_version=4)
    (parameters,) = [cell for cell in fresh.cells if "parameters" in cell.metadata.get("tags", ())]
    for name, value in FEW.items():
        parameters.source, count = re.subn(rf"^{name} = \d+", f"{name} = {value}", parameters.source, flags=re.M)
        assert count == 1, name
    for cell in cells(fresh):
        cell.outputs, cell.execution_count = [], None
    fresh = stripped(execute(fresh, tmp_path))
    named: Counter[str] = Counter()
    for before, now in zip(cells(stored), cells(fresh), strict=True):
        assert kinds(now) == kinds(before), before.source
        assert drawings(now) == drawings(before), before.source
        names = Counter(NAMES.findall(shown(now)))
        assert names == Counter(NAMES.findall(shown(before))), before.source
        named += names
    assert {"naive", "this_token", *(f"last_few(positions={n})" for n in (1, 2, 3))} <= named.keys()
    assert {"results", "report.html", "report.md", "report_files"} == {each.name for each in tmp_path.iterdir()}
