"""`scrub new`: a commented hypothesis module to start from."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from scrub.models.find import locate, modules
from scrub.text.errors import ScrubError
from scrub.text.files import make_folder, one_line, shown, write_atomically


def new(
    name: Annotated[str, typer.Argument(metavar="NAME", help="A name, or the path of a .py file.")],
    model: Annotated[
        str | None,
        typer.Option(metavar="NAME|PATH|HUB-ID", help="Write rules about this model's heads that have a role."),
    ] = None,
) -> None:
    """Write a commented hypothesis module to start from: hypotheses/NAME.py, or the path that is given.

    With a model that no study is about, it is a folder NAME with a study and the module.
    """
    from scrub.study.skeleton import general, skeleton_files

    path = hypothesis_path(name)
    if model is None:
        files = {path: general()}
    else:
        from scrub.models.model import load_model

        files = skeleton_files(path, load_model(model), model)
    write_new(files)


def hypothesis_path(name: str) -> Path:
    """Find where a hypothesis of this name or path goes. Raises ScrubError if it can't, or if one is there."""
    from scrub.study.modules import check_new_module

    path = Path(name) if name.endswith(".py") else Path("hypotheses") / f"{name}.py"
    if ".." in path.parts and not name.endswith(".py"):
        raise ScrubError(f"{name!r} leads out of hypotheses/: give a name, or the path of a .py file")
    check_new_module(path)
    there = locate("hypotheses", path.stem)
    if there is not None and path.parent == Path("hypotheses"):
        raise ScrubError(
            f"{path.stem!r} is the name of {shown(there)}, which {path} would hide from now on: give another name"
        )
    bare = sorted(each.rpartition("/")[0] for each in modules() if each.rpartition("/")[2] == path.stem)
    if bare and path.parent == Path("hypotheses"):
        raise ScrubError(
            f"{path.stem!r} is the name of modules of {one_line(', '.join(bare))}, which it would mean no more: give "
            "another name"
        )
    return path


def write_new(files: dict[Path, str]) -> None:
    """Write the files of a hypothesis or a study to start from, and say what can be done with it."""
    for path, text in files.items():
        make_folder(path.parent)
        write_atomically(path, text)
    module = [*files][-1]
    run = module if len(files) == 1 else module.parent
    written = " and ".join(map(str, files))
    typer.echo(f"wrote {written}: edit, look at it with 'scrub show {module}', run it with 'scrub run {run}'")
