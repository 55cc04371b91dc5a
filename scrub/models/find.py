"""Where models, data and hypotheses are: the user's own project first, then what scrub ships."""

from __future__ import annotations

import re
from difflib import get_close_matches
from pathlib import Path
from typing import Literal

from scrub.text.errors import ScrubError
from scrub.text.files import exists, one_line
from scrub.text.wording import short

Kind = Literal["models", "data", "hypotheses"]

_ONE: dict[Kind, str] = {"models": "model", "data": "data", "hypotheses": "hypothesis"}
_PACKAGE = Path(__file__).parents[1]  # scrub/, in which models/ is this folder
_OF_MODELS = {".json", ".safetensors", ".bin", ".pt", ".pth"}
_MOST_NAMES = 12  # that an error lists
HUB_NAME = re.compile(  # OWNER/NAME, a revision of it and, of data, a configuration
    r"(?P<id>[\w-][\w.-]*/[\w-][\w.-]*)(@(?P<revision>\w[\w.+-]*(/\w[\w.+-]*)*))?(:(?P<config>[\w.+-]+))?", re.ASCII
)


def find(kind: Kind, name: str | Path) -> Path:
    """Find the file or folder of a model, of data, or of a hypothesis.

    A path is taken as given if there is something. Otherwise `name` is looked up in the user's project
    (`KIND/NAME` in the working directory; for hypotheses `KIND/NAME.py` too), then among what scrub ships.
    Raises ScrubError with the names that there are, nearest first, if there is nothing.
    """
    found = locate(kind, name)
    if found is None:
        raise ScrubError(_missing(kind, name))
    return found


def locate(kind: Kind, name: str | Path) -> Path | None:
    """Find what :func:`find` finds, or None."""
    if not str(name).strip():
        return None
    as_given = Path(name)
    if str(name).startswith("~"):
        as_given = _expanded(as_given)
    # `hypotheses/induction` means the same in an empty folder as in a project that has that folder
    inside = as_given.parts[1:] if as_given.parts[:1] == (kind,) else as_given.parts
    candidates = [as_given]
    for folder in _folders(kind) if inside else []:
        path = folder.joinpath(*inside)
        candidates += [path, path.with_name(f"{path.name}.py")] if kind == "hypotheses" and path.name else [path]
    return next((path for path in candidates if exists(path)), None)


def is_hub_id(text: str) -> bool:
    """Tell whether a text can be OWNER/NAME on the hub, perhaps with a revision: OWNER/NAME@REVISION."""
    found = HUB_NAME.fullmatch(text)
    return found is not None and not found["config"]


def check_there(kind: Kind, name: str) -> None:
    """Raise ScrubError as :func:`find` does, for what can't be on the hub either (data: OWNER/NAME:CONFIG too).

    A folder that holds no file of a model is no model.
    """
    possible = HUB_NAME.fullmatch(name) if kind == "data" else is_hub_id(name)
    if kind == "hypotheses" or not possible or name.startswith(f"{kind}/"):
        found = find(kind, name)
        if kind == "models" and _is_dir(found) and not _holds(found, _OF_MODELS):
            raise ScrubError(f"{one_line(found)} is no model: a model is a folder with config.json and its weights")


def known(kind: Kind) -> list[str]:
    """List the names that can be given: those of the user's project and the shipped ones."""
    return sorted({name for folder in _folders(kind) for name in _names(kind, folder)})


def modules() -> list[str]:
    """List the modules of studies, as STUDY/MODULE."""
    folders = [(study, folder / study) for study in known("hypotheses") for folder in _folders("hypotheses")]
    return sorted(
        {f"{study}/{name}" for study, path in folders for name in _names("hypotheses", path) if name != "study"}
    )


def shipped(kind: Kind) -> Path | None:
    """Find the folder of what scrub ships: inside an installed package, or beside the package in a checkout."""
    if (_PACKAGE / "shipped").is_dir():
        return _PACKAGE / "shipped" / kind
    checkout = _PACKAGE.parent
    return checkout / kind if (checkout / "pyproject.toml").is_file() else None


def _folders(kind: Kind) -> list[Path]:
    theirs = shipped(kind)
    return [Path(kind), *([theirs] if theirs else [])]


def _names(kind: Kind, folder: Path) -> list[str]:
    try:
        entries = [each for each in folder.iterdir() if not each.name.startswith((".", "_"))]
    except OSError:  # no such folder, or one that can't be read: no names from there
        return []
    if kind == "hypotheses":
        return [each.stem if each.suffix == ".py" else each.name for each in entries if _holds_python(each)]
    return [each.name for each in entries if _is_dir(each) or _is_file_of(kind, each)]


def _is_file_of(kind: Kind, path: Path) -> bool:
    """Tell whether a file is what one can name by itself: any data, or a model, but no tokenizer of llama2.c's."""
    if kind == "data":
        return path.suffix != ".md"
    return path.suffix == ".gguf" or (path.suffix == ".bin" and not path.name.startswith("tok"))


def _holds(folder: Path, suffixes: set[str]) -> bool:
    """Tell whether a folder holds a file with one of some suffixes, or can't be looked into."""
    try:
        return any(each.suffix in suffixes for each in folder.iterdir())
    except OSError:
        return True


def _holds_python(path: Path) -> bool:
    return path.suffix == ".py" or (_is_dir(path) and any(path.glob("*.py")))


def _missing(kind: Kind, name: str | Path) -> str:
    one, text = _ONE[kind], str(name)
    if not text.strip():
        return f"the name of {'a ' * (kind != 'data')}{one} is empty: give a path{_listed(known(kind))}"
    names, near = known(kind), _near(kind, text.removeprefix(f"{kind}/").removesuffix(".py"))
    hint = f"did you mean {' or '.join(near)}? " if near else ""
    return (
        f"there is no {one} {short(text)}: it is no path, and neither ./{kind} nor scrub itself has it: "
        f"{hint}give a path{_listed(names)}"
    )


def _near(kind: Kind, name: str) -> list[str]:
    """List the names near one that isn't there. `STUDY/MODULE` is near modules of that study if it is there."""
    names = {each: each for each in known(kind)}
    study, _, last = name.rpartition("/")
    if kind == "hypotheses":
        modules = [
            (each, inner) for each in names for folder in _folders(kind) for inner in _names(kind, folder / each)
        ]
        inside = {inner: f"{each}/{inner}" for each, inner in modules if each == study or not study}
        names = inside if study in names else names | inside
    return [names[each] for each in get_close_matches(last, names, n=3)]


def _listed(names: list[str]) -> str:
    if not names:
        return ""
    more = f" and {len(names) - _MOST_NAMES} more" if len(names) > _MOST_NAMES else ""
    return f" or one of {one_line(', '.join(names[:_MOST_NAMES]))}{more}"


def _expanded(path: Path) -> Path:
    try:
        return path.expanduser()
    except RuntimeError:  # ~nobody: no such user
        return path


def _is_dir(path: Path) -> bool:
    try:
        return path.is_dir()
    except OSError:
        return False
