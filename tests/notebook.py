"""Executing the notebook. `python tests/notebook.py` does so in an empty folder, and stores what came out."""

from __future__ import annotations

import os
import re
import sys
from pathlib import Path
from tempfile import TemporaryDirectory

import nbformat
from jupyter_client.kernelspec import KernelSpec
from jupyter_client.manager import AsyncKernelManager
from nbclient import NotebookClient
from nbformat import NotebookNode

PATH = Path(__file__).parent.parent / "docs" / "from_belief_to_comparison.ipynb"
_TRANSIENT = ("collapsed", "execution", "jupyter", "scrolled")  # of a cell: when it ran, and how it was looked at
_CHANGING = {
    r"\bT_[0-9a-f]{5}": "T_table",
    r", last run \d{4}-\d\d-\d\d \d\d:\d\d": "",
}  # pandas' names at random; time


class _ThisPython(AsyncKernelManager):
    """A kernel of the interpreter that runs this, registered or not."""

    @property
    def kernel_spec(self) -> KernelSpec:
        return KernelSpec(argv=[sys.executable, "-m", "ipykernel_launcher", "-f", "{connection_file}"])


def execute(notebook: NotebookNode, folder: Path) -> NotebookNode:
    """Run all cells, in order, in a folder. Raises CellExecutionError if one fails."""
    client = NotebookClient(notebook, km=_ThisPython(), timeout=600, resources={"metadata": {"path": str(folder)}})
    done: NotebookNode = client.execute(env=dict(os.environ))
    return done


def stripped(notebook: NotebookNode) -> NotebookNode:
    """The notebook without what changes from run to run though nothing changed."""
    for cell in notebook.cells:
        cell.metadata = {name: value for name, value in cell.metadata.items() if name not in _TRANSIENT}
        for output in cell.get("outputs", ()):
            data = output.get("data", {})
            if len(data) > 1:
                data.pop("text/plain", None)  # long, and of no use beside the other forms
            if "text/html" in data:
                for changing, instead in _CHANGING.items():
                    data["text/html"] = re.sub(changing, instead, data["text/html"])
    notebook.metadata = {"kernelspec": notebook.metadata.kernelspec, "language_info": {"name": "python"}}
    return notebook


if __name__ == "__main__":
    with TemporaryDirectory() as empty:
        done = stripped(execute(nbformat.read(PATH, as_version=4), Path(empty)))
    nbformat.write(done, PATH)
