"""Writing files: all of the content or none of it, and one line that says why not."""

import os
from pathlib import Path

import pytest

from scrub.text.errors import ScrubError
from scrub.text.files import check_writable, one_line, write_atomically


@pytest.fixture(autouse=True)
def _empty(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def everything() -> list[str]:
    return sorted(str(path) for path in Path().rglob("*"))


@pytest.mark.parametrize("content", ["", "text \u03c0\n", b"\x00\xff"])
def test_the_content_is_there_and_nothing_else(content: str | bytes) -> None:
    write_atomically("out", content)
    assert Path("out").read_bytes() == (content.encode() if isinstance(content, str) else content)
    assert everything() == ["out"]


def test_a_file_has_the_rights_that_files_get_here() -> None:
    Path("plain").write_text("")
    write_atomically("out", "")
    assert Path("out").stat().st_mode == Path("plain").stat().st_mode


def test_a_link_is_followed() -> None:
    Path("real").write_text("old")
    Path("link").symlink_to("real")
    write_atomically("link", "new")
    assert Path("link").is_symlink()
    assert Path("real").read_text() == "new"


def test_a_pipe_is_written_to_and_stays_one() -> None:
    """As /dev/null and /dev/stdout would be: a test had better not risk replacing those."""
    os.mkfifo("pipe")
    reader = os.open("pipe", os.O_RDONLY | os.O_NONBLOCK)
    try:
        write_atomically("pipe", "text")
        assert os.read(reader, 9) == b"text"
    finally:
        os.close(reader)
    assert Path("pipe").is_fifo()
    assert everything() == ["pipe"]


BAD = [
    ("gone/out", "gone/out can't be written: No such file or directory: make its folder first, or give another path"),
    ("folder", "folder can't be written: it is a folder: give the path of a file"),
    (".", ". can't be written: it is a folder: give the path of a file"),
    ("file/out", "file/out can't be written: Not a directory: give a path below a folder"),
    ("a\nb/c", "a\\nb/c can't be written: No such file or directory: make its folder first, or give another path"),
    ("a\0b", "a\\x00b can't be written: embedded null byte: give another path"),
]


@pytest.mark.parametrize(("path", "line"), BAD)
@pytest.mark.parametrize("write", [lambda path: write_atomically(path, "new"), check_writable])
def test_what_cannot_be_written(path, line, write) -> None:
    Path("folder").mkdir()
    Path("file").write_text("old")
    with pytest.raises(ScrubError) as caught:
        write(path)
    assert str(caught.value) == line
    assert everything() == ["file", "folder"]
    assert Path("file").read_text() == "old"


def test_a_name_that_is_too_long() -> None:
    with pytest.raises(ScrubError, match="File name too long"):
        write_atomically("a" * 300, "")


@pytest.mark.parametrize("write", [lambda path: write_atomically(path, "new"), check_writable])
def test_a_read_only_file_stays(write, monkeypatch: pytest.MonkeyPatch) -> None:
    Path("out").write_text("old")
    monkeypatch.setattr(os, "access", lambda *_: False)  # as it is for anyone but root
    with pytest.raises(ScrubError, match=r"^out .*read-only"):
        write("out")
    assert Path("out").read_text() == "old"


@pytest.mark.parametrize("failure", [OSError(28, "No space left on device"), KeyboardInterrupt()])
def test_a_failure_half_way_leaves_what_was_there(failure: BaseException, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(_: int) -> None:
        raise failure

    Path("out").write_text("old")
    monkeypatch.setattr(os, "fsync", fail)
    with pytest.raises((ScrubError, KeyboardInterrupt)) as caught:
        write_atomically("out", "new" * 1000)
    if isinstance(failure, OSError):
        assert str(caught.value) == "out can't be written: No space left on device: give another path"
    assert everything() == ["out"]
    assert Path("out").read_text() == "old"


def test_a_check_leaves_nothing_behind() -> None:
    check_writable("out")
    assert everything() == []
    Path("out").write_text("old")
    check_writable("out")
    assert Path("out").read_text() == "old"
    assert everything() == ["out"]


def test_one_line() -> None:
    assert one_line("a\n  b\t\x1b[31mc\r\u2028d") == "a b \\x1b[31mc d"
