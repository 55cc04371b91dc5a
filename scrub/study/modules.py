"""Modules of hypotheses that are yet to be written: where they may lie, and which study they are tested on there."""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path

from scrub.models.find import find, locate
from scrub.study.hypothesis import Hypothesis
from scrub.study.study import Study, Wanted, load_study, paths_of
from scrub.text.errors import ScrubError
from scrub.text.fields import check_arguments
from scrub.text.files import exists, shown

STUDY = "study.py"


@check_arguments
def named_study(wanted: Wanted) -> str | None:
    """Name the study of what is wanted as a hypothesis elsewhere names it: `named_study("induction/naive")`.

    By its name, where that is found from a project's folder, or else by its whole path; nothing where it is in memory
    alone. Raises ScrubError as :func:`load_study` does.
    """
    one = wanted if isinstance(wanted, str | Path | Hypothesis | Study) else next(iter(wanted))
    if isinstance(one, Study) or (isinstance(one, Hypothesis) and one.study is None):
        return None
    if isinstance(one, Hypothesis):
        folder = find("hypotheses", str(one.study))
    else:
        path = find("hypotheses", *paths_of([str(one)]))
        folder = path if path.is_dir() else path.parent
        if not (folder / STUDY).is_file():
            _, (alone, *_) = load_study(path)
            folder = find("hypotheses", str(alone.study))
    name = folder.resolve().name
    named = locate("hypotheses", name)
    lasting = named is not None and named != Path(name) and named.resolve() == folder.resolve()
    return name if lasting else str(folder.resolve())


def check_new_module(path: Path, names: Collection[str] = ()) -> None:
    """Raise ScrubError unless a hypothesis can be written there, where a study has others of these names.

    Its file's name is its own, and nothing is there.
    """
    if path.suffix != ".py":
        raise ScrubError(f"{shown(path)} doesn't end in .py, and a hypothesis is a module: call it so")
    for each in (path, path.with_suffix("")):
        if each.is_file() or (each.is_dir() and any(each.iterdir())):
            raise ScrubError(f"{shown(each)} is there already: give another name, or remove it first")
    check_new_name(path.stem, names)


def check_new_name(name: str, names: Collection[str] = ()) -> None:
    """Raise ScrubError unless a hypothesis can be called so, where there are others of these names."""
    if not name.isidentifier():
        raise ScrubError(f"{name!r} can't name a hypothesis: use letters, digits and _, and begin with a letter")
    if name in names:
        raise ScrubError(f"the study has a hypothesis {name!r}, and results are told apart by name: give another")


def study_at(path: Path, study: str | None) -> str | None:
    """Give what a module at a path has to say of its study, named as :func:`named_study` does: in its folder nothing.

    Raises ScrubError in the folder of another study, on which it would be tested there.
    """
    if not exists(path.parent / STUDY):
        return study
    folder = None if study is None else locate("hypotheses", study)
    if folder is None or folder.resolve() != path.parent.resolve():
        own = "one in memory" if study is None else study
        raise ScrubError(
            f"{shown(path)} lies in the folder of another study than {own}, on which it would be tested: give a path "
            "elsewhere"
        )
    return None
