"""Where a model is: a folder, a name, or a repository on the Hugging Face hub, which is brought here."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from scrub.checkpoints import CONFIG, TENSORS, TOKENIZER
from scrub.errors import ScrubError
from scrub.files import first_sentence, shown
from scrub.find import find, locate

_HUB_ID = re.compile(r"[\w-][\w.-]*/[\w-][\w.-]*", re.ASCII)


@dataclass(frozen=True)
class Found:
    """Where a model's files are, its name, and the fields of its config that are said elsewhere."""

    name: str
    folder: Path
    overrides: Mapping[str, object] = field(default_factory=dict)


def find_model(spec: str | Path) -> Found:
    """The name and the folder of a model; a repository on the hub is brought here if it is nowhere else."""
    text = str(spec)
    if _HUB_ID.fullmatch(text) and not text.startswith("models/") and locate("models", spec) is None:
        return Found(text, _download(text))
    folder = find("models", spec)
    if not folder.is_dir():
        raise ScrubError(f"{shown(folder)} is no folder: a model is a folder with {CONFIG} and {TENSORS}")
    return Found(folder.resolve().name, folder)


def _download(hub_id: str) -> Path:
    """The local folder of a repository on the hub, brought here if it isn't yet."""
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import GatedRepoError, RepositoryNotFoundError

    local = f"give --model the path of a local folder with {CONFIG}, {TENSORS} and {TOKENIZER}"
    try:
        folder = Path(snapshot_download(hub_id, allow_patterns=[CONFIG, TENSORS, TOKENIZER]))
    except GatedRepoError as error:
        raise ScrubError(
            f"{hub_id} on the hub asks for a licence first: accept it there and log in, or {local}"
        ) from error
    except RepositoryNotFoundError as error:
        raise ScrubError(
            f"there is no model {hub_id!r}: no such path here, and no such repository on the hub: {local}"
        ) from error
    except Exception as error:  # every kind of network failure has its own class
        why = first_sentence(error)
        raise ScrubError(f"{hub_id} is no path here, and the hub can't be reached ({why}): {local}") from error
    if not (folder / CONFIG).is_file():
        raise ScrubError(f"{hub_id} on the hub has no {CONFIG}, so it is no model that scrub reads: {local}")
    return folder
