"""Bringing data, and looking whether they can be read, without a model."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path

from scrub.data.card import STDLIB
from scrub.data.fixed import MASK, TOKENS, read_fixed
from scrub.data.load import fixed_folder, place
from scrub.data.rows import rows
from scrub.models.hub import PATIENCE_SECONDS, bring, is_hub_id
from scrub.text.errors import ScrubError

MAX_BYTES = 20 * 10**9  # of a data set that is brought as a whole


def check_data(spec: str, beside: Path | None = None) -> tuple[Path | None, str]:
    """Bring data here, if they aren't, perhaps in the folder `beside`. Where they are, and their first rows, in words.

    Raises ScrubError if there are no such data, or they can't be brought or read.
    """
    folder, source = place(spec)
    if source is not None and source.kind == STDLIB:
        return folder, "the source of the standard library of the Python that runs this: there is nothing to bring"
    inside = folder if folder is not None and folder.is_dir() else None
    if (where := fixed_folder(inside, source, beside)) is not None:
        tokens, mask = read_fixed(where)
        scored = f"no {MASK}" if mask is None else f"{int(mask.sum()):,} positions by {MASK}"
        shape = f"{len(tokens):,} sequences of {tokens.shape[1]} tokens"
        return where, f"{TOKENS} holds {shape}, ids up to {tokens.max()}; {scored}"
    if folder is None and is_hub_id(spec) and not spec.startswith("data/"):
        _check_size(spec)
        folder = bring(spec, _all, "give --data the path of a local folder with its files", "dataset")
    first = next(iter(rows(folder if folder is not None else spec)), "")
    what = f"text, {first[:60]!r}" if isinstance(first, str) else f"{len(first):,} token ids, {first[:8].tolist()}"
    return folder, f"the first row is {what}"


def _check_size(hub_id: str) -> None:
    """Raise ScrubError if a data set on the hub is too large to bring the whole of it."""
    from huggingface_hub import HfApi

    size = 0
    with suppress(Exception):  # what is wrong is told when it is brought
        files = HfApi().dataset_info(hub_id, files_metadata=True, timeout=PATIENCE_SECONDS).siblings or ()
        size = sum(file.size or 0 for file in files)
    if size > MAX_BYTES:
        raise ScrubError(
            f"{hub_id} has {size / 1e9:,.0f} GB of files, more than {MAX_BYTES / 1e9:.0f}: bring a part of it with "
            "'hf download --repo-type dataset --include', and give the path of its folder"
        )


def _all(names: list[str]) -> list[str]:
    return names
