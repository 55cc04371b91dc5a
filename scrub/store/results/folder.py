"""A results folder on disk: what is there, and adding to it.

    format.json            which format this is
    losses/*.parquet       a row for every sequence of every cell (scrub/store/results/schema.py)
    failures/*.parquet     a row for everything that failed, with its reason
    inputs/*.parquet       the tokens of the reference sequences, and which positions are scored
    studies/*.json         what the hypotheses say, and what the gates saw

Files are only ever added, each as a whole: no reader sees half of one, and several writers don't meet. Each finished
block of a sweep is a file of its own, so that one that is killed loses at most what was in flight. Files are named for
what they hold and for their bytes (scrub/store/results/files.py), so a folder may be moved, the files of two folders
copied into one, and one that is damaged is named and left out: what it held isn't there. Who writes moves it to
`damaged/`, so that whoever reads the folder as a table doesn't see it either.
"""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict
from datetime import UTC, datetime, timedelta
from io import BytesIO
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from filelock import FileLock, Timeout

from scrub.paths.hashes import hash_of
from scrub.store.results.files import Damaged, name_of, read_json, read_parquet, verified
from scrub.store.results.schema import FAILURES, FORMAT, Cell, Setting, cells_of
from scrub.study.metric import LOSS
from scrub.study.study import by_metric
from scrub.text.errors import ScrubError
from scrub.text.fields import check_arguments
from scrub.text.files import (
    check_writable,
    first_sentence,
    make_folder,
    one_line,
    read_file,
    remove_partial,
    shown,
    unwritable,
    write_atomically,
)

MARK = "format.json"
_PLACE = ["cell", "block", "seed", "draw"]
KINDS = ("losses", "failures", "inputs", "studies")
LOCKS, DAMAGED = "locks", "damaged"
_LARGEST_MARK = 2**16  # bytes


class Results:
    """A results folder. Raises ScrubError if there is none (unless it is to be made), or if it is another format's."""

    @check_arguments
    def __init__(self, folder: str | Path = "results", make: bool = False) -> None:
        self.folder = Path(folder)
        self.pairings: dict[tuple[int, int], None] = {}  # every (seed, draw) that anything is there of
        self._blocks: dict[str, set[int]] = defaultdict(set)  # of every cell, those that are there
        self._read: dict[str, set[str]] = {}  # the cells of every file that was looked at, by its name
        self._studies: dict[str, dict[str, Any]] = {}  # those that were read, by the file's name
        self._looked_at: set[Path] = set()
        self._unverified = 0
        self._damaged: list[str] = []  # what is said of each file that is
        self._writes = make
        if make:
            self._make()
        self._check_format()
        if make:  # not before it is known that this version may
            self._make_kinds()

    def __repr__(self) -> str:
        return f"<Results {shown(self.folder)}>"

    def _make(self) -> None:
        mark = self.folder / MARK
        if not mark.exists():
            foreign = self.folder.is_dir() and any(not each.name.startswith(".") for each in self.folder.iterdir())
            if foreign and not mark.exists():  # another sweep may just have made it
                raise ScrubError(
                    f"{shown(self.folder)} holds other files, and no {MARK}: give --results a folder of its own"
                )
            make_folder(self.folder)
            write_atomically(mark, json.dumps({"format": FORMAT}) + "\n")

    def _make_kinds(self) -> None:
        for kind in (*KINDS, LOCKS):
            make_folder(self.folder / kind)
            check_writable(self.folder / kind / "any")
            remove_partial(self.folder / kind)

    def _check_format(self) -> None:
        mark = self.folder / MARK
        try:
            if not mark.exists():
                raise ScrubError(
                    f"{shown(self.folder)} is no results folder: it has no {MARK}; 'scrub sweep' makes one, "
                    "and --results says where it is"
                )
            found = json.loads(read_file(mark, "give a results folder", _LARGEST_MARK))["format"]
        except (OSError, ValueError, KeyError, TypeError, RecursionError) as error:
            raise ScrubError(
                f"{shown(mark)} can't be read: {first_sentence(error)}: a results folder's says {{'format': {FORMAT}}}"
            ) from error
        if found != FORMAT:
            raise ScrubError(
                f"{shown(self.folder)} is of format {one_line(found)}, and this version of scrub reads {FORMAT}: "
                "use the version that wrote it, or another folder"
            )

    def files(self, kind: str) -> list[Path]:
        """List the finished files of one kind, sorted by name."""
        return sorted(path for path in (self.folder / kind).glob("[!.]*") if path.suffix in {".parquet", ".json"})

    @property
    def notes(self) -> list[str]:
        """What a reader must know: which files are damaged, and whether that could be seen."""
        unverified = (
            f"{self._unverified:,} files in {shown(self.folder)} have no digest, as an earlier version of scrub wrote "
            "them: that they are what was written isn't checked"
        )
        return [*self._damaged, *([unverified] if self._unverified else [])]

    def refresh(self) -> None:
        """Look at what was added, by whomever, since the last time."""
        for kind in KINDS:
            self._look_at(kind)

    def _look_at(self, kind: str) -> None:
        """Look at the files of one kind that weren't looked at before; leave out those that are damaged."""
        for path in self.files(kind):
            if path in self._looked_at:
                continue
            self._looked_at.add(path)
            try:
                self._unverified += not verified(path)
                if kind == "losses":
                    self._index(read_parquet(path, _PLACE), path.name)
                elif kind == "studies":
                    self._studies[path.name] = _study(path)
                else:
                    read_parquet(path)
            except Damaged as error:
                if path.exists():  # else another sweep has just moved it away
                    self._leave_out(kind, path, error)

    def _leave_out(self, kind: str, path: Path, error: Damaged) -> None:
        advice = "it is left out, and a sweep computes what it held anew"
        if self._writes:
            aside = self.folder / DAMAGED / kind
            make_folder(aside)
            with suppress(FileNotFoundError):  # another sweep was faster
                path.replace(aside / path.name)
            advice = f"it was moved to {shown(aside)}, and what it held is computed anew"
        self._damaged.append(f"{error}: {advice}")

    def _index(self, table: pa.Table, name: str) -> None:
        """Note which cells a file holds. All its rows are of one block of one pairing."""
        cells = table["cell"].unique().to_pylist()
        self._read[name] = set(cells)
        for block, seed, draw in (tuple(row.values()) for row in table.select(_PLACE[1:]).slice(0, 1).to_pylist()):
            self.pairings[seed, draw] = None
            for cell in cells:
                self._blocks[cell].add(block)

    def has(self, cell: str, block: int) -> bool:
        """Tell whether a block of a cell is there, as of the last :meth:`refresh`."""
        return block in self._blocks.get(cell, ())

    def holds(self, cell: Cell, seed: int, draw: int) -> bool:
        """Tell whether a cell is there in full with a pairing, as of the last :meth:`refresh`."""
        return len(self._blocks.get(cell.key(seed, draw), ())) == cell.blocks

    def losses(self, cells: Sequence[str], columns: Sequence[str]) -> pd.DataFrame:
        """Read the rows of some cells, by their keys."""
        wanted = set(cells)
        files = [self.folder / "losses" / name for name, within in self._read.items() if not wanted.isdisjoint(within)]
        keys = pa.array(list(wanted))
        tables = []
        for path in files:
            table = read_parquet(path, list(columns))
            tables.append(table.filter(pc.is_in(table["cell"].cast(pa.string()), keys)))
        frame: pd.DataFrame = pa.concat_tables(tables).unify_dictionaries().to_pandas()
        return frame

    def inputs(self, setting: Setting) -> pa.Table | None:
        """Read the reference sequences of a setting; None if they aren't there."""
        for path in self.files("inputs"):
            if path.name.partition(".")[0] == setting.inputs:
                with suppress(Damaged):  # which is told where all files are looked at
                    return read_parquet(path)
        return None

    def add_losses(self, table: pa.Table, name: str) -> None:
        """Add the rows of a finished block, under a name that says which it is."""
        called = self._write("losses", name, ".parquet", _parquet(table))
        self._looked_at.add(self.folder / "losses" / called)
        self._index(table, called)

    def add_failure(self, row: dict[str, Any]) -> None:
        """Add a row of what failed."""
        table = pa.Table.from_pylist([row], schema=FAILURES)
        self._write("failures", hash_of({name: str(value) for name, value in row.items()}), ".parquet", _parquet(table))

    def add_inputs(self, setting: Setting, table: pa.Table) -> None:
        """Add the reference sequences of a setting, unless they are there."""
        if self.inputs(setting) is None:
            self._write("inputs", setting.inputs, ".parquet", _parquet(table))

    def add_study(self, content: dict[str, Any]) -> None:
        """Add what the hypotheses of a study say and what the gates saw of them, as what was run last.

        Its time is later than that of all that are there, even if a clock was set back, or another machine's is fast.
        """
        before = [datetime.fromisoformat(each["time"]) + timedelta(microseconds=1) for each in self.studies()]
        time, name = max([datetime.now(UTC), *before]), hash_of([hash_of(asdict(c)) for c in cells_of(content)])
        text = json.dumps({**content, "time": time.isoformat()}, indent=1, allow_nan=False)
        self._write("studies", f"{time:%Y%m%dT%H%M%S.%f}-{name}", ".json", text.encode())

    def renew_study(self, cells: Iterable[Cell], left_out: Mapping[str, Any]) -> bool:
        """Make the study of those cells the one that was run last. False if it isn't there.

        It must say of the same hypotheses that the same was `left_out`: the cells are those of what is left.
        """
        wanted, newest, found = set(cells), dict[str, Cell](), None
        last: dict[str, Any] = {}
        for each in self.studies():
            theirs = cells_of(each)
            said = {of["name"]: of["left_out"] for of in each["hypotheses"] if "left_out" in of}
            found = each if set(theirs) == wanted and said == left_out else found
            if theirs[0].setting == next(iter(wanted)).setting:
                newest |= {cell.experiment: cell for cell in theirs}
                last |= {of["name"]: said.get(of["name"]) for of in each["hypotheses"]}
        alike = all(last.get(cell.hypothesis) == left_out.get(cell.hypothesis) for cell in wanted if cell.hypothesis)
        if found and not (alike and wanted.issubset(newest.values())):
            self.add_study(found)
        return found is not None

    def studies(self) -> list[dict[str, Any]]:
        """Read what was added by :meth:`add_study`, the oldest first."""
        self._look_at("studies")
        return sorted(self._studies.values(), key=lambda each: datetime.fromisoformat(each["time"]))

    def study_names(self) -> list[str]:
        """List the studies that the folder holds something of."""
        return sorted({str(each["setting"]["study"]) for each in self.studies()})

    def study_named(self, study: str | None, metric: str | None) -> list[str]:
        """List the studies that a name and a metric mean, each as it was run last: any, where None is asked for.

        `study_named("induction", "logit_diff")` is ["induction by logit_diff@01234567"]. Without a metric that of the
        loss is meant, or that of the only metric that there is.
        """
        last: dict[tuple[str, str], str] = {}
        for name in (str(each["setting"]["study"]) for each in self.studies()):
            last[by_metric(name)] = name
        if study in last.values() and metric in {None, by_metric(str(study))[1]}:
            return [str(study)]
        found = [name for (of, by), name in last.items() if study in {None, of} and metric in {None, by}]
        plain = [name for name in found if by_metric(name)[1] == (metric or LOSS.name)]
        return sorted(plain or found)

    def claim(self, name: str) -> FileLock | None:
        """Lock a piece of work; None while another sweep has it. The lock ends with the process that has it."""
        lock = FileLock(self.folder / LOCKS / f"{name}.lock", timeout=0, thread_local=False)
        try:
            lock.acquire()
        except Timeout:
            return None
        except OSError as error:
            raise unwritable(lock.lock_file, error) from error
        return lock

    def _write(self, kind: str, name: str, suffix: str, content: bytes) -> str:
        """Write a file; how it is called."""
        called = name_of(name, suffix, content)
        write_atomically(self.folder / kind / called, content)
        return called


def _study(path: Path) -> dict[str, Any]:
    found = read_json(path)
    try:
        cells_of(found)
        datetime.fromisoformat(found["time"])
    except (ValueError, TypeError, LookupError, AttributeError, RecursionError) as error:
        raise Damaged(f"{shown(path)} holds no study ({first_sentence(error)})") from error
    return found


def _parquet(table: pa.Table) -> bytes:
    sink = BytesIO()
    pq.write_table(table, sink, compression="zstd")
    return sink.getvalue()
