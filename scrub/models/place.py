"""Where a model is: a folder, a file, a name, or a repository on the Hugging Face hub, which is brought here.

A folder may hold a pointer instead of weights: a config.json with the field `hub` (OWNER/NAME on the hub) or `package`
(of the registry of Python packages), and fields that win over those of the checkpoint there (`roles`, `data`,
`bos_token_id`, ...). Beside `hub`, `tokenizer` may name the repository whose tokenizer.json is the model's, and
`copy_has` a file by which a copy of the repository, in any local folder of the layout of that file, is known to be one.
A package is brought by :func:`fetch_package` alone: what loads a model runs no pip.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path

from scrub.models.checkpoints import CONFIG, TOKENIZER, find_layout, wanted_files
from scrub.models.checkpoints.reading import EITHER, SUFFIXES, TENSORS, read_fields, tokenizer_files, tokenizer_wanted
from scrub.models.checkpoints.tokenizer import begin_token, tokenizer_file
from scrub.models.find import find, is_hub_id, known, locate, shipped
from scrub.models.hub.bring import bring
from scrub.models.hub.cache import Cache
from scrub.models.hub.listing import Address, Kind
from scrub.models.hub.request import GatedError, HubError, MissingError
from scrub.models.package import Package
from scrub.text.errors import ScrubError
from scrub.text.files import one_line, shown

HUB, PACKAGE, COPY = "hub", "package", "copy_has"  # the fields of a pointer that aren't the model's
SENTENCE_PIECES = "tokenizer.model"  # which older models of Llama's kind have alone
LOCAL = "give --model the path of a local folder with its files"
_LARGEST_POINTER_BYTES = 2**20


@dataclass(frozen=True)
class ModelPlace:
    """Where a model's files are, its name, and the fields of its config that are said elsewhere."""

    name: str
    folder: Path  # or the one file that it is
    overrides: Mapping[str, object] = field(default_factory=dict)
    tokenizer: Path | None = None  # the folder of its tokenizer.json, where that is another
    commit: str | None = None  # on the hub, where it is from there
    notes: tuple[str, ...] = ()  # of what is unusual about having it from there
    own: bool = False  # whether the user's project, or scrub itself, says what is said of it


@dataclass(frozen=True)
class Pointer:
    """A model's folder whose config.json says where the files are: on the hub, or in a package."""

    folder: Path
    fields: Mapping[str, object]

    @property
    def target(self) -> tuple[object, object]:
        """What it points to, which no two models share."""
        return self.fields.get(HUB), self.fields.get(PACKAGE)

    @property
    def package(self) -> Package | None:
        """The package, if it points to one. Raises ScrubError if that is none, or it points to the hub as well."""
        if PACKAGE not in self.fields:
            return None
        where = self.folder / CONFIG
        if also := {HUB, COPY, "tokenizer"} & self.fields.keys():
            raise ScrubError(f"{shown(where)} says both {PACKAGE!r} and {min(also)!r}: take one out")
        return Package.parse(self.fields[PACKAGE], where)

    @property
    def hub_id(self) -> str:
        """The repository. Raises ScrubError if it is no OWNER/NAME."""
        hub_id = self.fields[HUB]
        if not isinstance(hub_id, str) or not is_hub_id(hub_id) or hub_id.startswith("models/"):
            raise ScrubError(
                f"{shown(self.folder / CONFIG)} points to {one_line(repr(hub_id))[:100]}: "
                f"its field {HUB!r} must be OWNER/NAME of a repository on the hub"
            )
        return hub_id

    @property
    def overrides(self) -> dict[str, object]:
        """The fields that win over those of the checkpoint."""
        return {name: value for name, value in self.fields.items() if name not in {HUB, PACKAGE, COPY}}


def find_model(spec: str | Path) -> ModelPlace:
    """Find the name and the folder of a model; a repository on the hub is brought here if it is nowhere else.

    A pointer is followed. A repository, or a local copy of one, that a pointer names has the pointer's fields too.
    Raises ScrubError if there is no such model, or its files can't be had.
    """
    if (hub_id := _hub_id(spec)) is not None:
        pointer = _pointer_to(hub_id)
        return replace(_from_hub(hub_id, hub_id, pointer.overrides if pointer else {}), own=True)
    folder = find("models", spec)
    if not folder.is_dir() and folder.suffix not in SUFFIXES:
        raise ScrubError(f"{shown(folder)} is no folder: {EITHER}")
    theirs = shipped("models")
    own = folder.resolve().parent in {Path("models").resolve(), theirs.resolve() if theirs else None}
    if (pointer := read_pointer(folder)) is not None:
        name = folder.resolve().name
        found = _from_package(name, pointer) or _from_hub(name, pointer.hub_id, pointer.overrides)
        return replace(found, own=own)
    if (pointer := _copied(folder)) is not None:
        return ModelPlace(pointer.folder.name, folder, pointer.overrides, own=True)
    names = _names_in(folder)
    how = f"isn't read: save_pretrained of its tokenizer in transformers makes {TOKENIZER} of it"
    alone = SENTENCE_PIECES in names and not tokenizer_files(names)
    notes = (f"{shown(folder / SENTENCE_PIECES)} {how}",) if alone else ()
    return ModelPlace(folder.resolve().name, folder, own=own, notes=notes)


def at_revision(spec: str, revision: str | None) -> str:
    """Name a revision of a model on the hub: `at_revision("gpt2", "main")` is "openai-community/gpt2@main".

    Raises ScrubError if it is on no hub, or that is no name of a revision.
    """
    if revision is None:
        return spec
    hub_id = _hub_id(spec)
    if hub_id is None:
        pointer = read_pointer(find("models", spec))
        if pointer is None or HUB not in pointer.fields:
            raise ScrubError(f"{one_line(spec)} is on no hub and has no revisions: leave --revision out")
        hub_id = pointer.hub_id
    found = f"{Address.parse(hub_id).hub_id}@{revision}"
    if not is_hub_id(found):
        raise ScrubError(f"{one_line(revision)[:100]!r} is no name of a revision: give a branch, a tag or a commit")
    return found


def names_of(model: str) -> tuple[str, ...]:
    """List all that a model is called, by its name: `names_of("gpt2")` is ("gpt2", "openai-community/gpt2").

    A pointer's name is that of its repository on the hub too, and the reverse, at whichever revision. What is in a
    package has that name alone.
    """
    there = (each for each in _pointers() if HUB in each.fields)
    pointers = [(each.folder.name, str(each.fields[HUB]).partition("@")[0]) for each in there]
    bare = model.partition("@")[0] if is_hub_id(model) else model
    alike = [name for pair in pointers if bare in pair for name in pair]
    return tuple(dict.fromkeys([model, bare, *alike]))


def own_config(spec: str | Path) -> tuple[Path, dict[str, object]]:
    """Find the config.json to change so as to say more of a model (its roles), and the fields that it has or must get.

    For a model with a folder of its own, the one there. For a repository on the hub, a local copy of one, or a shipped
    pointer: a pointer in the user's project, ./models/NAME/config.json, which need not be there yet. Raises ScrubError
    if there is no such model, or another one has that place.
    """
    if (hub_id := _hub_id(spec)) is not None:
        pointer = _pointer_to(hub_id) or Pointer(Path("models", Address.parse(hub_id).name), {HUB: hub_id})
    else:
        place = find("models", spec)
        found = read_pointer(place) or _copied(place)
        if found is None:
            if place.is_file():
                raise ScrubError(
                    f"{shown(place)} is one file, in which nothing more can be said of the model: save it as a folder, "
                    "as in scrub.save_model(scrub.load_model(FILE), 'models/NAME')"
                )
            return place / CONFIG, read_fields(place / CONFIG)
        pointer = found
    folder, theirs = pointer.folder, shipped("models")
    if theirs is not None and folder.resolve().parent == theirs.resolve():
        folder = Path("models", folder.name)
    if folder.exists() and Pointer(folder, _json_fields(folder / CONFIG)).target != pointer.target:
        raise ScrubError(f"{shown(folder)} is another model than {spec}, of which more is to be said there: rename it")
    return folder / CONFIG, dict(pointer.fields)


def read_pointer(folder: Path) -> Pointer | None:
    """Read the pointer that a model's folder holds, if any (what is wrong with it is told on loading)."""
    fields = _json_fields(folder / CONFIG)
    return Pointer(folder, fields) if {HUB, PACKAGE} & fields.keys() else None


def fetch_package(spec: str | Path) -> None:
    """Bring the model that a name means, if it points to a package. Raises ScrubError if that can't be had."""
    folder = locate("models", spec)
    pointer = None if folder is None else read_pointer(folder)
    if pointer is not None and (package := pointer.package) is not None:
        package.bring()


def holds_model(path: Path) -> bool:
    """Tell whether a path is a model in one file, or a folder that holds one, perhaps broken, or a pointer to one."""
    if path.is_file():
        return path.suffix in SUFFIXES
    return bool({CONFIG, TENSORS} & _names_in(path)) or _copied(path) is not None


def on_hub(hub_id: str) -> Kind:
    """Tell whether a repository on the hub holds a model or a data set: a model, where that can't be known."""
    model, data = (Address.parse(hub_id, kind) for kind in ("model", "dataset"))
    try:
        model.listing()
    except GatedError:
        return "model"
    except MissingError:
        try:
            data.listing()
        except MissingError as error:
            return "dataset" if error.revision else "model"
        except HubError:  # which is told when it is brought
            return "dataset"
        return "dataset"
    except HubError:  # no network: what the cache has tells
        kept = [Cache.of(each).commit(each.revision) for each in (model, data)]
        return "dataset" if kept[1] and not kept[0] else "model"
    return "model"


def _from_package(name: str, pointer: Pointer) -> ModelPlace | None:
    """Find a model that was brought from a package. Raises ScrubError if it wasn't; None if it is of none."""
    package = pointer.package
    if package is None:
        return None
    if not package.is_here:
        raise ScrubError(
            f"{name} is in the package {package}, which isn't here yet: 'scrub fetch {name}' brings and dequantises it"
        )
    return ModelPlace(name, package.folder, pointer.overrides, notes=package.notes)


def _from_hub(name: str, hub_id: str, overrides: Mapping[str, object]) -> ModelPlace:
    """Bring a model on the hub here; its tokenizer may be in a repository of its own, which config.json can name."""
    copy = bring(Address.parse(hub_id), partial(wanted_files, where=hub_id), LOCAL)
    fields = _json_fields(copy.folder / CONFIG)
    named = None if tokenizer_file(copy.folder) else fields.get("tokenizer_name")
    where = overrides.get("tokenizer", named)  # null in a pointer: none
    if where is None:
        return ModelPlace(name, copy.folder, overrides, None, copy.commit, copy.notes)
    if not isinstance(where, str) or not is_hub_id(where):
        raise ScrubError(
            f"{name} has the tokenizer {one_line(repr(where))[:100]}, which is no repository on the hub: "
            "say one as OWNER/NAME in a pointer (the field 'tokenizer' in models/NAME/config.json)"
        )
    words = bring(Address.parse(where), _wanted_of_tokenizer, LOCAL)
    if not {"bos_token_id"} & (overrides.keys() | fields.keys()) and (begin := begin_token(words.folder)) is not None:
        overrides = {**overrides, "bos_token_id": begin}
    return ModelPlace(name, copy.folder, overrides, words.folder, copy.commit, (*copy.notes, *words.notes))


def _wanted_of_tokenizer(names: list[str]) -> list[str]:
    return list(tokenizer_wanted(names))


def _hub_id(spec: str | Path) -> str | None:
    """Read a name as that of a repository, where it means no folder."""
    text = str(spec)
    return text if is_hub_id(text) and not text.startswith("models/") and locate("models", spec) is None else None


def _pointers() -> Iterator[Pointer]:
    """List the pointers that have names, the user's own first."""
    for name in known("models"):
        folder = locate("models", f"models/{name}")
        if folder is not None and (pointer := read_pointer(folder)) is not None:
            yield pointer


def _pointer_to(hub_id: str) -> Pointer | None:
    """Find what is said of a repository: of this revision, or else of any."""
    names = (hub_id, Address.parse(hub_id).hub_id)
    return next((each for name in names for each in _pointers() if each.fields.get(HUB) == name), None)


def _copied(folder: Path) -> Pointer | None:
    """Find the pointer to the repository that a folder is a copy of, by the file that only its layout has."""
    layout = find_layout(_names_in(folder), _json_fields(folder / CONFIG))
    mark = layout.WEIGHTS if layout else None
    return next((each for each in _pointers() if mark and each.fields.get(COPY) == mark), None)


def _names_in(folder: Path) -> set[str]:
    """List the names in a folder; none if it is no folder, or can't be read."""
    try:
        return {each.name for each in folder.iterdir()}
    except OSError:
        return set()


def _json_fields(path: Path) -> dict[str, object]:
    """Read the fields of a JSON file, or none if it is no such file."""
    try:
        if not path.is_file() or path.stat().st_size > _LARGEST_POINTER_BYTES:  # a device or a pipe may never end
            return {}
        fields = json.loads(path.read_bytes())
    except (OSError, ValueError, RecursionError):
        return {}
    return fields if isinstance(fields, dict) else {}
