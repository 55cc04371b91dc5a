"""Files that aren't, never begin or never end; and what a kill leaves of one that is being written."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from pathlib import Path

import pytest

from scrub.cli.given import given_arrays
from scrub.data.card import read_front_matter
from scrub.data.rows import rows
from scrub.data.whitelist import Whitelist
from scrub.models.checkpoints import open_checkpoint
from scrub.models.checkpoints.stored import open_tensors
from scrub.models.checkpoints.tokenizer import read_tokenizer
from scrub.store.results.folder import Results
from scrub.store.sweeps.grid import read_grid
from scrub.study.study import load_module
from scrub.text.clipping import clipped
from scrub.text.errors import ScrubError
from scrub.text.files import check_writable, plain_yaml, read_file, shown, write_atomically

# everything that reads a path of the user's, with the name that the file has
READERS: dict[str, Callable[[Path], object]] = {
    "grid.yaml": read_grid,
    "module.py": load_module,
    "README.md": lambda path: read_front_matter(path.parent),
    "whitelist.json": Whitelist.load,
    "config.json": lambda path: open_checkpoint(path.parent),
    "tokenizer.json": lambda path: read_tokenizer(path, 3),
    "model.safetensors": open_tensors,
    "model.pt": open_tensors,
    "array.npy": lambda path: given_arrays([f"a={path}"]),
    "format.json": lambda path: Results(path.parent),
    "text.txt": lambda path: list(rows(path)),
    "rows.parquet": lambda path: list(rows(path)),
}
SPECIAL = {
    "pipe": os.mkfifo,
    "endless": lambda path: path.symlink_to("/dev/zero"),
    "folder": Path.mkdir,
    "nothing": lambda path: path.symlink_to(path.with_name("nowhere")),
}


class Late(BaseException):
    """It waited: nothing that catches errors may take this for one."""


@pytest.mark.parametrize("special", SPECIAL)
@pytest.mark.parametrize("name", READERS)
def test_what_is_no_file_is_refused_before_it_is_opened(tmp_path: Path, name: str, special: str) -> None:
    """Reading a pipe would wait for ever, and /dev/zero take all memory."""
    SPECIAL[special](tmp_path / name)

    def late(*_: object) -> None:
        raise Late

    before = signal.signal(signal.SIGALRM, late)
    signal.alarm(20)
    try:
        if name == "README.md" and READERS[name](tmp_path / name) == {}:
            return  # as without a card
        with pytest.raises(ScrubError) as caught:
            READERS[name](tmp_path / name)
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)
    assert len(str(caught.value).splitlines()) == 1


def test_a_file_that_is_too_large_for_what_it_is(tmp_path: Path) -> None:
    with (tmp_path / "grid.yaml").open("wb") as file:
        file.truncate(10**12)
    with pytest.raises(ScrubError, match=r"grid.yaml has over 1 MiB"):
        read_grid(tmp_path / "grid.yaml")


def test_a_file_that_grows_while_it_is_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "a").write_bytes(bytes(100))
    monkeypatch.setattr("scrub.text.files.check_file", lambda *_: None)
    with pytest.raises(ScrubError, match="has over 99 bytes"):
        read_file(tmp_path / "a", "", 99)


def test_a_pipe_is_written_where_somebody_reads_and_told_of_else(tmp_path: Path) -> None:
    """Looking at it before doesn't end it for who reads."""
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    for write in (check_writable, lambda path: write_atomically(path, "text")):
        with pytest.raises(ScrubError, match="nobody reads from it"):
            write(pipe)
    reader = os.open(pipe, os.O_RDONLY | os.O_NONBLOCK)
    check_writable(pipe)
    with pytest.raises(BlockingIOError):  # at its end, it would give nothing
        os.read(reader, 9)
    write_atomically(pipe, "text")
    assert (os.read(reader, 9), os.read(reader, 9)) == (b"text", b"")
    os.close(reader)


def test_a_device_that_takes_nothing_is_seen_before() -> None:
    check_writable("/dev/null")
    with pytest.raises(ScrubError, match="No space left"):
        check_writable("/dev/full")


@pytest.mark.skipif(not hasattr(os, "O_TMPFILE"), reason="files have names from the start here")
def test_a_kill_amid_writing_leaves_nothing(tmp_path: Path) -> None:
    """The file has no name before all of it is there."""
    (tmp_path / "o").write_text("before")
    child = os.fork()
    if child == 0:
        os.fsync = lambda _: os.kill(os.getpid(), signal.SIGKILL)
        write_atomically(tmp_path / "o", "after")
        os._exit(0)
    _, status = os.waitpid(child, 0)
    assert os.WTERMSIG(status) == signal.SIGKILL
    assert [each.name for each in tmp_path.iterdir()] == ["o"]
    assert (tmp_path / "o").read_text() == "before"


def test_without_unnamed_files_it_is_the_same(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(os, "O_TMPFILE", raising=False)
    check_writable(tmp_path / "o")
    assert list(tmp_path.iterdir()) == []
    write_atomically(tmp_path / "o", "text")
    assert [each.name for each in tmp_path.iterdir()] == ["o"]


def test_where_a_file_can_t_be_named_later_it_is_named_from_the_start(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def no(*_: object, **__: object) -> None:
        raise OSError

    monkeypatch.setattr(os, "link", no)
    write_atomically(tmp_path / "o", "text")
    assert [each.read_text() for each in tmp_path.iterdir()] == ["text"]


def test_the_middle_of_what_is_long_is_cut() -> None:
    assert clipped("a" * 300 + "end", 30) == "a" * 20 + "..." + "a" * 7 + "end"
    assert shown("/x" * 400 + "/file.json").endswith("/file.json")
    assert shown("a/b\nc") == r"a/b\nc"


def test_yaml_is_plain() -> None:
    assert plain_yaml("a: [1, x]\nnull: 2") == {"a": [1, "x"], None: 2}
    for text in (
        "a: &a [*a]",
        "a: &a 1\nb: *a",
        "!!python/name:os.system",
        "a: [",
        "[" * 5000,
        "a: 1\n'a': 2",
        "b: {1: 1, 1: 2}",
    ):
        with pytest.raises(ValueError, match=r"\S"):
            plain_yaml(text)
