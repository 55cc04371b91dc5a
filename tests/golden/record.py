"""Write the golden files anew, or check them to the byte: `python tests/golden/record.py [--check] [--results]`.

A step that changes structure only keeps plans and bytes; one that changes them on purpose records them anew, and says
why. The results folder is there to be read by later versions, so it is written anew only with `--results`.
"""

from __future__ import annotations

import json
import shutil
import sys
from argparse import ArgumentParser
from pathlib import Path
from tempfile import TemporaryDirectory

import torch
from recorded import HERE, apart, numbers, plans, rows_of, sweep, text_of

SHOWN = 20  # differences


def main() -> int:
    parser = ArgumentParser(description=__doc__)
    parser.add_argument("--check", action="store_true", help="write nothing: say what differs, with exit status 1")
    parser.add_argument("--results", action="store_true", help="write the results folder anew too")
    asked = parser.parse_args()
    torch.set_num_threads(1)  # sums of other lengths round otherwise
    differences = check() if asked.check else record(asked.results)
    sys.stdout.writelines(f"{each}\n" for each in differences[:SHOWN])
    if len(differences) > SHOWN:
        sys.stdout.write(f"and {len(differences) - SHOWN} more\n")
    return 1 if differences else 0


def record(results: bool) -> list[str]:
    """Write everything."""
    if results:
        shutil.rmtree(HERE / "results", ignore_errors=True)
        sweep(HERE / "results")
        shutil.rmtree(HERE / "results" / "locks")
    (HERE / "plans.json").write_text(text_of(plans()))
    (HERE / "numbers.json").write_text(text_of(numbers()))
    return []


def check() -> list[str]:
    """What is not as it is stored, to the byte."""
    found = [f"plan of {each}" for each in apart(plans(), json.loads((HERE / "plans.json").read_text()))]
    measured, stored = numbers(), (HERE / "numbers.json").read_text()
    found += apart(json.loads(text_of(measured)), json.loads(stored))
    if not found and text_of(measured) != stored:
        found.append("numbers.json is written in another way")
    with TemporaryDirectory() as folder:
        swept = sweep(Path(folder) / "results").results.folder
        found += apart(rows_of(swept), rows_of(HERE / "results"), where="rows of a sweep")
    return found


if __name__ == "__main__":
    sys.exit(main())
