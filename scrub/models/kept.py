"""What was measured of a model and is kept for it: in its own folder, or else in the user's cache.

A whitelist is about the tokens of a tokenizer, so models with the same one share it in the cache. A feature of tokens,
such as where a head departs from the previous one, is about the weights: those of other weights aren't taken.
"""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from pathlib import Path

import platformdirs
from pydantic import TypeAdapter, ValidationError

from scrub.models.find import is_hub_id, locate, shipped
from scrub.models.model import Model
from scrub.paths.hashes import hash_graph, hash_of
from scrub.text.errors import ScrubError
from scrub.text.files import make_folder, one_line, write_atomically

FEATURES = "features.json"


@dataclass(frozen=True)
class KeptFeature:
    """Tokens, by their ids, that put a position into one of two classes; and the weights and text that say so."""

    weights: str  # what `fingerprint` says of the model
    measured_on: str
    current: list[int]
    previous: list[int]
    texts: dict[str, list[str]]  # of both, for readers


def whitelist_places(model: Model, data: str | Path) -> list[Path]:
    """List where a whitelist of some data for a model may be, that to write first."""
    tokens = model.vocab_size if model.tokenizer is None else model.tokenizer.to_str()
    project = None if model.folder is None else model.folder.resolve().parent.parent
    key = hash_of(model.name if model.tokenizer is None else "", tokens)
    return _places(model, _list_of(data, project), Path("tokenizers", key) / _list_of(data))


def _list_of(data: str | Path, project: Path | None = None) -> Path:
    """Name the whitelist of some data, whatever they are called where that is asked.

    What is shipped, and what is on the hub, has one name everywhere, and data beside a model in its own project move
    with it; another's data of the same name are others, so all else goes by its path.
    """
    where, name = locate("data", data), str(data)
    path, theirs = (where or Path(data)).resolve(), shipped("data")
    if theirs is not None and path.parent == theirs.resolve():
        name = path.name
    elif project is not None and path.parent == project / "data":
        name = f"data/{path.name}"
    elif where is not None or not is_hub_id(name.partition(":")[0]):
        name = f"{path.name}-{hash_of(str(path))}"
    return Path("whitelists", f"{re.sub(r'[^a-zA-Z0-9.-]+', '_', name)}.json")


def kept_features(model: Model) -> dict[str, KeptFeature]:
    """Read the features that are kept for a model, by name; those of its present weights.

    Raises ScrubError if the file holds something else.
    """
    path = next((each for each in _feature_places(model) if each.is_file()), None)
    if path is None:
        return {}
    return {name: kept for name, kept in _read(path).items() if kept.weights == fingerprint(model)}


def keep_feature(model: Model, name: str, feature: KeptFeature) -> Path:
    """Write a feature beside the others of a model, and say where. Raises ScrubError if that can't be done."""
    path = _feature_places(model)[0]
    features = {**(_read(path) if path.is_file() else {}), name: feature}
    make_folder(path.parent)
    write_atomically(path, _kind.dump_json(features, indent=1).decode() + "\n")
    return path


def fingerprint(model: Model) -> str:
    """Hash what a model computes: its weights, and its graph, which may read the same weights otherwise."""
    return hash_of(model.weights_hash, hash_graph(model.graph, {}))


def spelled(model: Model) -> str:
    """Say what a command calls a model: its name, or the path of its folder where no name leads there."""
    if model.folder is None or locate("models", model.name) is not None or is_hub_id(model.name):
        return model.name
    return str(model.folder)


_kind = TypeAdapter(dict[str, KeptFeature])


def _read(path: Path) -> dict[str, KeptFeature]:
    try:
        return _kind.validate_json(path.read_bytes())
    except (OSError, ValidationError) as error:
        raise ScrubError(
            f"{one_line(path)} holds no features: make it again with `scrub typicality --write`"
        ) from error


def _feature_places(model: Model) -> list[Path]:
    return _places(model, Path(FEATURES), Path("models", fingerprint(model), FEATURES))


def _places(model: Model, here: Path, cached: Path) -> list[Path]:
    cache = Path(platformdirs.user_cache_dir("scrub")) / cached
    if model.folder is None or not model.folder.is_dir():
        return [cache]
    own = model.folder / here
    return [own, cache] if _is_own(model.folder) else [cache, own]


def _is_own(folder: Path) -> bool:
    """Tell whether a folder is the user's to write into: not in the hub's cache, nor in the installed package."""
    from huggingface_hub.constants import HF_HUB_CACHE

    theirs = shipped("models")
    not_ours = [
        Path(HF_HUB_CACHE).resolve(),
        Path(platformdirs.user_cache_dir("scrub")).resolve(),
        *([theirs.resolve()] if theirs and theirs.parent.name == "shipped" else []),
    ]
    there = folder.resolve()
    return not any(each in there.parents for each in not_ours) and os.access(there, os.W_OK)
