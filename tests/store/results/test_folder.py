"""Results folders that aren't, are damaged, can't be written, or have several writers: one line, nothing lost."""

from __future__ import annotations

import errno
import os
import shutil
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from sweeping import rows

import scrub.text.files
from scrub.cli import _status
from scrub.store.results.folder import Results
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


@pytest.mark.parametrize("cut", [0, 1, 100, -1])
def test_a_truncated_block(own: Path, capsys: pytest.CaptureFixture[str], cut: int) -> None:
    """It is named; once it is removed, only it is computed."""
    clean = rows(own / "results")
    file = max((own / "results/losses").iterdir())
    file.write_bytes(file.read_bytes()[:cut])
    said = refused(capsys)
    assert file.name in said
    assert "remove it, and run the sweep again, which computes only what is missing" in said
    if cut == 100:
        file.unlink()
        assert sweep(["one", "two"], seeds=[0, 1], draws=2, **FAST).computed == 1
        assert list(rows(own / "results")["cell"]) == list(clean["cell"])
        assert list(rows(own / "results")["loss_sum"]) == list(clean["loss_sum"])


@pytest.mark.parametrize("content", [b"", b"{}", b"[]", b"null", b'{"setting": {}}', b"\xff\xfe", b"[" * 9999])
def test_a_garbled_study(own: Path, capsys: pytest.CaptureFixture[str], content: bytes) -> None:
    file = max((own / "results/studies").iterdir())
    file.write_bytes(content)
    assert file.name in refused(capsys)


def test_a_parquet_file_of_somebody_else_s(own: Path, capsys: pytest.CaptureFixture[str]) -> None:
    shutil.copy(next((own / "results/inputs").iterdir()), own / "results/losses/other.parquet")
    assert "other.parquet" in refused(capsys)


@pytest.mark.parametrize("damage", [lambda _: b"PAR1", lambda content: content[:-50]])
def test_damaged_inputs(own: Path, damage: Callable[[bytes], bytes]) -> None:
    (file,) = (own / "results/inputs").iterdir()
    file.write_bytes(damage(file.read_bytes()))
    with pytest.raises(ScrubError, match=file.name):
        known(Results(own / "results"))


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
        if flags & os.O_CREAT and "results" in str(path):
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
