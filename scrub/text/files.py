"""Files of anyone's: looked at before they are read, and written so that nobody ever sees half of one."""

from __future__ import annotations

import errno
import os
import secrets
import stat
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

from scrub.text.clipping import clipped
from scrub.text.errors import ScrubError

LARGEST = 64 * 2**20  # bytes of what is read as a whole; the tokenizers that people use have up to 20 million
_LONGEST_PATH, _LONGEST_QUOTE = 300, 160  # characters of a message
_ABANDONED = 3600.0  # seconds; nothing takes so long to write
_pipes: dict[str, int] = {}  # that were checked: closed before it is written, a pipe is at its end for who reads it
_ADVICE: dict[type[OSError], str] = {
    FileNotFoundError: "make its folder first, or give another path",
    IsADirectoryError: "give the path of a file",
    NotADirectoryError: "give a path below a folder",
    PermissionError: "give a path that you may write to",
}


def check_file(path: str | Path, advice: str, most: int | None = None) -> None:
    """Look at a file before anything opens it: a pipe may never begin, a device never end.

    Raises ScrubError, with the advice, unless it is an ordinary file, of at most so many bytes.
    """
    try:
        found = Path(path).stat()
    except (FileNotFoundError, NotADirectoryError):
        raise ScrubError(f"{shown(path)} is not there: {advice}") from None
    except (OSError, ValueError) as error:
        raise unreadable(path, error) from error
    if not stat.S_ISREG(found.st_mode):
        raise ScrubError(f"{shown(path)} is {'a folder' if stat.S_ISDIR(found.st_mode) else 'no file'}: {advice}")
    if most is not None and found.st_size > most:
        raise _too_large(path, most)


def read_file(path: str | Path, advice: str, most: int = LARGEST) -> bytes:
    """Read an ordinary file as a whole. Raises ScrubError as :func:`check_file` does, or if it can't be read."""
    check_file(path, advice, most)
    try:
        with Path(path).open("rb") as file:
            content = file.read(most + 1)  # it may have grown
    except (OSError, ValueError) as error:
        raise unreadable(path, error) from error
    if len(content) > most:
        raise _too_large(path, most)
    return content


def exists(path: Path) -> bool:
    """Tell whether something is there: nothing has a name that is too long, or lies where nobody may look."""
    try:
        return path.exists()
    except OSError:
        return False


def no_uri(path: Path) -> Path:
    """Give a path that nobody takes for a URI: `no_uri(Path("s3:mine/rows.parquet"))`, which pyarrow would."""
    return path.absolute()


def unreadable(path: str | Path, error: OSError | ValueError) -> ScrubError:
    """Say in one line why a path can't be read."""
    reason = (error.strerror if isinstance(error, OSError) else None) or error
    return ScrubError(f"{shown(path)} can't be read: {one_line(reason)}: check that you may read it")


def _too_large(path: str | Path, most: int) -> ScrubError:
    large = f"{most >> 20} MiB" if most >> 20 else f"{most:,} bytes"
    return ScrubError(f"{shown(path)} has over {large}, so it is something else: replace it")


def write_atomically(path: str | Path, content: bytes | str) -> None:
    """Write a file: afterwards it holds all of the content, or what it held before, never a part.

    Text is written as UTF-8. A symbolic link is followed; a device or a pipe (/dev/null, /dev/stdout) is written
    to as it is. Raises ScrubError, in one line, if the file can't be written.
    """
    try:
        data = content.encode() if isinstance(content, str) else content
        target = _target(Path(path))
        if target is None:
            with os.fdopen(_open_special(Path(path)), "wb") as special:
                special.write(data)
            _close_pipe(Path(path))
        else:
            _replace(target, data)
    except (OSError, ValueError) as error:
        raise unwritable(path, error) from error


def check_writable(path: str | Path) -> None:
    """Raise the ScrubError that :func:`write_atomically` would, before the work whose result goes there."""
    try:
        target = _target(Path(path))
        if target is not None:
            descriptor, partial = _open_beside(target)
            os.close(descriptor)
            partial.unlink(missing_ok=True)
        elif stat.S_ISCHR(Path(path).stat().st_mode):
            _try_device(Path(path))
        elif str(path) not in _pipes:
            _pipes[str(path)] = _open_special(Path(path))
    except (OSError, ValueError) as error:
        raise unwritable(path, error) from error


def remove_partial(folder: Path) -> None:
    """Remove what :func:`write_atomically` left in a folder when its process was killed, over an hour ago."""
    for path in folder.glob(".*.partial"):
        with suppress(OSError):  # another process was faster, or it isn't ours
            if time.time() - path.stat().st_mtime > _ABANDONED:
                path.unlink()


def make_folder(folder: Path) -> None:
    """Make a folder if it isn't there. Raises ScrubError, in one line, if it can't be made."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        reason = one_line(error.strerror or error)
        raise ScrubError(f"the folder {shown(folder)} can't be made: {reason}: give another path") from error


def shown(path: str | Path) -> str:
    """Write a path for an error message: line breaks and what a terminal would obey are escaped, its middle cut."""
    return clipped(_visible(str(path)), _LONGEST_PATH)


def one_line(text: object) -> str:
    """Write anyone's text for an error message, on one line."""
    return _visible(" ".join(str(text).split()))


def first_sentence(error: BaseException) -> str:
    """Quote the first line of what a library raised, for an error message."""
    try:
        return clipped(one_line(str(error).partition("\n")[0]), _LONGEST_QUOTE) or type(error).__name__
    except Exception:  # whose own code failed
        return type(error).__name__


def plain_yaml(text: str) -> object:
    """Parse YAML that may be anyone's: data alone, no key twice, and no aliases, of which a few lines make billions.

    Raises ValueError if it is none.
    """
    import yaml

    class Plain(yaml.SafeLoader):
        def compose_node(self, parent: Any, index: Any) -> Any:
            if self.check_event(yaml.AliasEvent):
                raise ValueError("an alias (*NAME) stands for other lines: write them out")
            return super().compose_node(parent, index)

        def construct_mapping(self, node: Any, deep: bool = False) -> Any:
            names = [key.value for key, _ in node.value if isinstance(key, yaml.ScalarNode)]
            if twice := [name for at, name in enumerate(names) if name in names[:at]]:
                raise ValueError(f"{twice[0]!r} stands there twice, and one would be lost: take one out")
            return super().construct_mapping(node, deep)

    try:
        return yaml.load(text, Plain)
    except (yaml.YAMLError, RecursionError) as error:
        raise ValueError(first_sentence(error)) from error


def _visible(text: str) -> str:
    return "".join(c if c.isprintable() else ascii(c)[1:-1] for c in text)


def unwritable(path: str | Path, error: OSError | ValueError) -> ScrubError:
    """Say in one line why a path can't be written, and what to do."""
    reason = error.strerror or str(error) if isinstance(error, OSError) else str(error)
    advice = next((text for kind, text in _ADVICE.items() if isinstance(error, kind)), "give another path")
    return ScrubError(f"{shown(path)} can't be written: {one_line(reason)}: {advice}")


def _target(path: Path) -> Path | None:
    """Find the file to replace, or None where there is a device or a pipe, which can't be replaced."""
    if not path.exists():
        return Path(os.path.realpath(path))
    if path.is_dir():
        raise IsADirectoryError(0, "it is a folder")
    if not stat.S_ISREG(path.stat().st_mode):
        return None
    if not os.access(path, os.W_OK):
        raise PermissionError(0, "it is read-only")
    return Path(os.path.realpath(path))


def _open_special(path: Path) -> int:
    """Open a device or a pipe to write to; where nobody reads from a pipe, that is told and not waited for."""
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_NOCTTY | getattr(os, "O_NONBLOCK", 0))
    except OSError as error:
        if error.errno == errno.ENXIO:
            raise OSError(error.errno, "nobody reads from it") from error
        raise
    os.set_blocking(descriptor, True)
    return descriptor


def _close_pipe(path: Path) -> None:
    if (descriptor := _pipes.pop(str(path), None)) is not None:
        os.close(descriptor)


def _try_device(path: Path) -> None:
    """Write a blank line to a device that isn't somebody's terminal: /dev/full opens, and then takes nothing."""
    descriptor = _open_special(path)
    try:
        if not os.isatty(descriptor):
            os.write(descriptor, b"\n")
    finally:
        os.close(descriptor)


def _open_beside(target: Path, named: bool = False) -> tuple[int, Path]:
    """Open a new file in a folder: one without a name yet, where that can be, of which a kill leaves nothing."""
    partial = target.with_name(f".{secrets.token_hex(8)}.partial")
    if not named and hasattr(os, "O_TMPFILE"):
        with suppress(OSError):  # which not every file system has; what else is wrong is told below
            return os.open(target.parent, os.O_WRONLY | os.O_TMPFILE, 0o666), partial
    return os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o666), partial


def _replace(target: Path, data: bytes, named: bool = False) -> None:
    descriptor, partial = _open_beside(target, named)
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
            there = partial.exists() or _give_name(descriptor, partial)
        if there:
            partial.replace(target)
        else:
            _replace(target, data, named=True)
    except BaseException:
        partial.unlink(missing_ok=True)
        raise


def _give_name(descriptor: int, path: Path) -> bool:
    """Name an open file that has no name; False where that can't be done, as without /proc."""
    try:
        # given a folder, Python follows the link, as it is told to
        os.link(f"/proc/self/fd/{descriptor}", path, src_dir_fd=descriptor, follow_symlinks=True)
    except OSError:
        return False
    return True
