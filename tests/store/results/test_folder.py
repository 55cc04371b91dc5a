"""Results folders that aren't, are damaged, can't be written, or have several writers: one line, nothing lost."""

from __future__ import annotations

import errno
import os
import random
import shutil
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from sweeping import renewed, rows

import scrub.text.files
from scrub.cli import _status
from scrub.store.comparisons.leaderboard import leaderboard
from scrub.store.results.files import Damaged, verified
from scrub.store.results.folder import KINDS, Results
from scrub.store.results.read import known
from scrub.store.sweeps.sweep import sweep
from scrub.text.errors import ScrubError

FAST: dict[str, Any] = {"sequences": 37, "dtype": "float64", "workers": 1, "progress": False}
WORDS = ["sweep", "one", "--sequences", "37", "--dtype", "float64", "--workers", "1"]


def refused(capsys: pytest.CaptureFixture[str], *words: str) -> str:
    """What the command line says in its one line, with exit status 2."""
    assert _status([*WORDS, *words]) == 2
    said = capsys.readouterr()
    assert said.out == ""
    assert said.err.startswith("scrub: ")
    assert said.err.count("\n") == 1
    return said.err.removeprefix("scrub: ").strip()


def test_a_folder_of_another_version(own: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (own / "results/format.json").write_text('{"format": 2}')
    shutil.rmtree(own / "results/locks")
    before = sorted(own.rglob("results/**/*"))
    assert "is of format 2, and this version of scrub reads 1: use the version that wrote it" in refused(capsys)
    assert sorted(own.rglob("results/**/*")) == before


@pytest.mark.parametrize("name", ["cuda:1", "s3:mine", "file:a", "a[1]", "*?", "p%20q#", "ü 'n'"])
def test_a_folder_has_any_name(own: Path, name: str) -> None:
    """Also one that looks like a URI or a pattern."""
    (own / "results").rename(own / name)
    found = Results(name)
    found.refresh()
    assert found.notes == []
    assert known(found)


@pytest.mark.parametrize("content", ["", "{", "[]", '{"other": 1}', "\x00\xff", "[" * 9999])
def test_a_garbled_format(own: Path, capsys: pytest.CaptureFixture[str], content: str) -> None:
    (own / "results/format.json").write_text(content, errors="surrogateescape")
    assert "format.json can't be read" in refused(capsys)


def test_no_folder_a_file_and_somebody_else_s(own: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (own / "file").write_text("mine")
    assert "file" in refused(capsys, "--results", "file")
    assert (own / "file").read_text() == "mine"
    assert "data holds other files, and no format.json" in refused(capsys, "--results", "data")
    with pytest.raises(ScrubError, match=r"format\.json"):
        Results("nowhere")
    assert not (own / "nowhere").exists()


def without_digest(file: Path) -> Path:
    """The file as an earlier version named it."""
    name, _, suffix = file.name.rsplit(".", 2)
    return file.rename(file.with_name(f"{name}.{suffix}"))


@pytest.mark.parametrize(("cut", "named"), [(-1, lambda file: file), (100, without_digest)], ids=["digest", "none"])
@pytest.mark.parametrize("kind", KINDS)
def test_what_is_damaged_is_left_out_and_made_anew(
    own: Path, capsys: pytest.CaptureFixture[str], kind: str, cut: int, named: Callable[[Path], Path]
) -> None:
    """It is named, by whoever reads and whoever writes; a sweep moves it away and computes its cells, and no others."""
    clean = rows(own / "results")
    if kind == "failures":
        Results(own / "results", make=True).add_failure({"study": "one", "reason": "a test"})
    file = named(max((own / "results" / kind).iterdir()))
    file.write_bytes(file.read_bytes()[:cut])
    reading = Results(own / "results")
    boards = known(reading)
    assert all(file.name in f"{each!r}" for each in boards)
    assert all(file.name in leaderboard(boards, each.result.study).notes[0] for each in boards)
    assert [file.name in note for note in reading.notes][:1] == [True]
    assert file.exists()
    swept = sweep(["one", "two"], seeds=[0, 1], draws=2, **FAST)
    assert any(file.name in note for note in swept.notes)
    assert swept.computed == (1 if kind == "losses" else 0)
    assert (own / "results/damaged" / kind / file.name).exists()
    assert not file.exists() or verified(file)  # the same bytes have the same name
    pd.testing.assert_frame_equal(rows(own / "results").drop(columns="time"), clean.drop(columns="time"))
    again = Results(own / "results")
    assert len(known(again)) == 2
    assert again.notes == []
    assert _status(["leaderboard", "one"]) == 0
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize("content", [b"", b"{}", b"[]", b"null", b'{"setting": {}}', b"\xff\xfe", b"[" * 9999])
def test_a_study_that_says_something_else(own: Path, content: bytes) -> None:
    file = max((own / "results/studies").iterdir())
    renewed(file, content, digest=False)
    reading = Results(own / "results")
    assert len(known(reading)) == 1
    assert "studies/" in reading.notes[0]


def test_a_parquet_file_of_somebody_else_s(own: Path) -> None:
    shutil.copy(next((own / "results/inputs").iterdir()), own / "results/losses/other.parquet")
    reading = Results(own / "results")
    assert len(known(reading)) == 2
    assert "other.parquet" in reading.notes[0]


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no pipes here")
@pytest.mark.parametrize("kind", KINDS)
def test_a_pipe_where_a_file_should_be(own: Path, kind: str) -> None:
    """Whoever opened it would wait for ever."""
    os.mkfifo(own / "results" / kind / f"pipe{'.json' if kind == 'studies' else '.parquet'}")
    reading = Results(own / "results")
    assert len(known(reading)) == 2
    assert "pipe" in reading.notes[0]
    assert "left out" in reading.notes[0]


def test_every_byte_that_changes_is_noticed(own: Path) -> None:
    """A thousand of them, in files of all kinds."""
    Results(own / "results", make=True).add_failure({"study": "one", "reason": "a test"})
    files = [max((own / "results" / kind).iterdir()) for kind in KINDS]
    chosen, noticed = random.Random(3), 0
    assert all(map(verified, files))
    for number in range(1000):
        file = files[number % len(files)]
        content = bytearray(file.read_bytes())
        content[chosen.randrange(len(content))] ^= chosen.randint(1, 255)
        flipped = file.with_name(f"{number}{file.name}")
        flipped.write_bytes(content)
        with pytest.raises(Damaged, match=flipped.name):
            verified(flipped)
        noticed += 1
    assert noticed == 1000


def test_a_folder_of_an_earlier_version_is_read_as_it_is(own: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """It says once that nothing is checked."""
    for kind in KINDS:
        for file in (own / "results" / kind).iterdir():
            without_digest(file)
    assert sweep(["one", "two"], seeds=[0, 1], draws=2, **FAST).computed == 0
    for words in (["leaderboard", "one"], ["compare", "keep", "window(positions=1)", "--study", "one", "--stored"]):
        assert _status(words) == 0
        assert capsys.readouterr().err.count("have no digest") == 1


@pytest.fixture
def nobody() -> Iterator[Path]:
    """A folder that somebody else owns, for a process that isn't root."""
    folder = Path(tempfile.mkdtemp())
    root = os.geteuid() == 0
    if root:
        folder.chmod(0o755)
        os.seteuid(65534)
    try:
        yield folder
    finally:
        if root:
            os.seteuid(0)
        shutil.rmtree(folder)


def test_a_read_only_folder(nobody: Path) -> None:
    if os.geteuid() != 65534:
        nobody.chmod(0o555)
    with pytest.raises(ScrubError, match="can't be made: Permission denied: give another path") as caught:
        Results(nobody / "results", make=True)
    assert "\n" not in str(caught.value)


@pytest.mark.usefixtures("own")
def test_a_results_folder_that_became_read_only(capsys: pytest.CaptureFixture[str], monkeypatch: Any) -> None:
    plain = os.open

    def read_only(path: Any, flags: int, *others: Any, **more: Any) -> int:
        if flags & (os.O_CREAT | os.O_WRONLY) and "results" in str(path):
            raise OSError(errno.EROFS, os.strerror(errno.EROFS), str(path))
        return plain(path, flags, *others, **more)

    monkeypatch.setattr(os, "open", read_only)
    assert "can't be written: Read-only file system" in refused(capsys)


@pytest.mark.parametrize("left", [3, 9])
def test_a_full_disk(own: Path, capsys: pytest.CaptureFixture[str], monkeypatch: Any, left: int) -> None:
    """In the middle of a sweep: what was finished is kept, nothing is half there, and it goes on when there is room."""
    room = [left]
    plain = os.fsync

    def fsync(descriptor: int) -> None:
        room[0] -= 1
        if room[0] < 0:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        plain(descriptor)

    with monkeypatch.context() as patched:
        patched.setattr(scrub.text.files.os, "fsync", fsync)
        said = refused(capsys, "--results", "small", "--draws", "5")
    assert "can't be written: No space left on device" in said
    kept = len(list((own / "small/losses").iterdir()))
    assert kept == left - 3  # the format, the inputs and the study
    if left == 9:
        assert sweep("one", results="small", draws=5, **FAST).computed == 10 - kept


def test_what_a_killed_writer_left_is_removed_in_time(own: Path) -> None:
    old, new = (own / "results/losses" / name for name in (".old.partial", ".new.partial"))
    for each in (old, new):
        each.write_text("half")
    os.utime(old, (time.time() - 7200,) * 2)
    assert len(rows(own / "results"))
    assert sweep("one", **FAST).computed == 0
    assert (old.exists(), new.exists()) == (False, True)


def test_many_make_one_folder_at_once(tmp_path: Path) -> None:
    wrong: list[BaseException] = []

    def make(folder: Path) -> None:
        try:
            Results(folder, make=True)
        except BaseException as error:
            wrong.append(error)

    for number in range(20):
        threads = [threading.Thread(target=make, args=(tmp_path / str(number),)) for _ in range(5)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert wrong == []


def test_a_claim_has_one_owner(tmp_path: Path) -> None:
    first, second = Results(tmp_path / "r", make=True), Results(tmp_path / "r", make=True)
    claim = first.claim("a-block")
    assert claim
    assert second.claim("a-block") is None
    claim.release()
    assert second.claim("a-block")
