"""What a sweep costs beside a run: the same study, one worker, in one process; and a sweep with nothing left to do.

python benchmarks/sweep.py --study induction --sequences 64 --repeats 5
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Sequence
from pathlib import Path

import torch
from measuring import alternate, ratio
from rich.console import Console

from scrub.store.sweeps.sweep import sweep
from scrub.study.run import run
from scrub.study.settings import Settings


def main(arguments: Sequence[str] | None = None) -> None:
    """Print the ratios."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--study", default="induction")
    parser.add_argument("--sequences", type=int, default=64)
    parser.add_argument("--repeats", type=int, default=5)
    options = parser.parse_args(arguments)
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as folder:

        def plain() -> object:
            return run(options.study, settings=Settings(sequences=options.sequences, progress=False)).table

        def swept(into: Path) -> object:
            done = sweep(options.study, into, workers=1, sequences=options.sequences, progress=False)
            return [each.result.table for each in done.studies()]

        def anew() -> object:
            return swept(Path(tempfile.mkdtemp(dir=folder)))

        seconds = alternate([plain, anew, lambda: swept(Path(folder) / "kept")], options.repeats)
    say = Console(highlight=False).print
    say(f"{options.study}, {options.sequences} sequences, {options.repeats} rounds")
    say(f"a sweep of one worker costs          {ratio(seconds[:, 1], seconds[:, 0])} runs")
    say(f"a sweep with nothing left to do costs {ratio(seconds[:, 2], seconds[:, 0])} runs")


if __name__ == "__main__":
    main()
