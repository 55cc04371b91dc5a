"""`scrub list`: what there is, of the user's own and of what is shipped."""

from __future__ import annotations

import ast
import json
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Annotated

import typer

from scrub.cli.outputs import console
from scrub.models.find import known, locate, modules, shipped
from scrub.text.errors import ScrubError
from scrub.text.files import one_line

WIDTH = 80  # characters of a line that goes into a file or a pipe
_CARD = "README.md"


def list_(
    kind: Annotated[
        str | None, typer.Argument(metavar="[models|studies|hypotheses|data|roles]", help="Only these.")
    ] = None,
) -> None:
    """List the studies, hypotheses, models, data and roles that there are, each with what it says of itself.

    Yours are marked with a star: those in ./hypotheses, ./models and ./data.
    """
    if kind is not None and kind not in KINDS:
        raise ScrubError(f"there is nothing called {one_line(kind)!r} to list: list one of {', '.join(KINDS)}")
    out = console(WIDTH)
    for each in KINDS if kind is None else [kind]:
        if kind is None:
            out.print(f"{each}:")
        rows = list(KINDS[each]())
        longest = max((len(name) for name, *_ in rows), default=0)
        for name, path, text in rows:
            line = (
                f"{'' if kind else '  '}{'*' if path is not None and _is_own(path) else ' '} {name:<{longest}}  {text}"
            )
            out.print(_cut(line.rstrip(), out.width), soft_wrap=True)
        if not rows:
            out.print("  none")


Row = tuple[str, Path | None, str]


def _studies() -> Iterator[Row]:
    for name, path in _named("hypotheses"):
        if (path / "study.py").is_file():
            yield name, path, _claim(path / "study.py")


def _hypotheses() -> Iterator[Row]:
    alone = [name for name, path in _named("hypotheses") if path.is_file()]
    for name in sorted([*alone, *modules()]):
        path = locate("hypotheses", f"hypotheses/{name}")
        if path is not None:
            yield name, path, _claim(path)


def _models() -> Iterator[Row]:
    for name, path in _named("models"):
        yield name, path, _card(path)


def _data() -> Iterator[Row]:
    for name, path in _named("data"):
        yield name, path, _card(path) if path.is_dir() else "a file"


def _roles() -> Iterator[Row]:
    """List the heads with a role of every model here; what its config.json says, without loading it."""
    for name, path in _named("models"):
        try:
            roles = json.loads((path / "config.json").read_text(encoding="utf-8")).get("roles") or {}
            text = "; ".join(
                f"{role} = {' '.join(f'{at}.{head}' for at, head in heads)}" for role, heads in roles.items()
            )
        except (OSError, ValueError, AttributeError, TypeError):  # what is wrong with it is told where it is loaded
            continue
        if text:
            yield name, path, text


KINDS: dict[str, Callable[[], Iterator[Row]]] = {
    "studies": _studies,
    "hypotheses": _hypotheses,
    "models": _models,
    "data": _data,
    "roles": _roles,
}


def _named(kind: str) -> Iterator[tuple[str, Path]]:
    for name in known(kind):  # type: ignore[arg-type]
        path = locate(kind, f"{kind}/{name}")  # type: ignore[arg-type]
        if path is not None:
            yield name, path


def _is_own(path: Path) -> bool:
    theirs = [each.resolve() for each in (shipped("models"), shipped("data"), shipped("hypotheses")) if each]
    return not any(each in path.resolve().parents for each in theirs)


def _claim(module: Path) -> str:
    """Read the first sentence of a module's docstring, or of the claim that it declares, without running it."""
    try:
        tree = ast.parse(module.read_text(encoding="utf-8"))
    except (OSError, ValueError, SyntaxError, RecursionError):
        return "can't be read"
    claims = (
        each.value.value
        for each in ast.walk(tree)
        if isinstance(each, ast.keyword) and each.arg == "claim" and isinstance(each.value, ast.Constant)
    )
    return _sentence(ast.get_docstring(tree) or str(next(claims, "")))


def _card(folder: Path) -> str:
    """Read the first sentence of a card, below its fields and title."""
    try:
        text = (folder / _CARD).read_text(encoding="utf-8")
    except (OSError, ValueError):
        return "without a card"
    body = re.sub(r"\A---\n.*?\n---\n", "", text, flags=re.DOTALL)
    lines = [
        paragraph for paragraph in body.split("\n\n") if paragraph.strip() and not paragraph.lstrip().startswith("#")
    ]
    return _sentence(lines[0] if lines else "")


def _sentence(text: str) -> str:
    return re.split(r"(?<=[.?!])\s(?=[A-Z])", " ".join(one_line(text).split()), maxsplit=1)[0]


def _cut(line: str, width: int) -> str:
    return line if len(line) <= width else f"{line[: width - 1]}…"
