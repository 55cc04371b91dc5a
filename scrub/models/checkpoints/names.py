"""The names of a model's files, and which of them its weights and its tokenizer are in."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from fnmatch import fnmatchcase

from scrub.text.errors import ScrubError
from scrub.text.files import shown
from scrub.text.wording import few

CONFIG, TENSORS, TOKENIZER = "config.json", "model.safetensors", "tokenizer.json"
TOKENIZER_CONFIG = "tokenizer_config.json"
VOCABULARY, MERGES = "vocab.json", "merges.txt"  # of a byte-level BPE, as GPT-2 was published
INDEX = ".index.json"  # after the name of a file that is in shards
HOW = f"a model is a folder with {CONFIG}, {TENSORS} and, if it reads text, {TOKENIZER}"

_TORCH = "pytorch_model.bin"
SHARDS = {TENSORS + INDEX: "model-*-of-*.safetensors", _TORCH + INDEX: "pytorch_model-*-of-*.bin"}
# best first; a repository with training checkpoints calls the last one final
_WEIGHTS = (TENSORS, TENSORS + INDEX, _TORCH, _TORCH + INDEX, "*.safetensors", "*final.pth", "*.pth", "*.pt")


def tokenizer_files(names: Collection[str]) -> tuple[str, ...]:
    """Pick the files that a tokenizer is in: tokenizer.json, or else vocab.json and merges.txt, or none."""
    known = ((TOKENIZER,), (VOCABULARY, MERGES))
    return next((files for files in known if all(name in names for name in files)), ())


def weights_file(names: Iterable[str]) -> str | None:
    """Pick the file that holds the weights, or their index, or None: one of safetensors where there is one.

    Raises ScrubError if there are several, and nothing says which.
    """
    there = sorted(name for name in names if "/" not in name)
    for pattern in _WEIGHTS:
        found = [name for name in there if fnmatchcase(name, pattern)]
        if len(found) > 1:
            raise ScrubError(
                f"{few([shown(name) for name in found])} are {len(found)} files of weights, and no {TENSORS} "
                f"or {TENSORS}{INDEX} says which: keep one, or bring the index of all"
            )
        if found:
            return found[0]
    return None
