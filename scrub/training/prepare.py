"""The tokenised corpus of a run, kept in the run's folder so that resuming doesn't tokenise again."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from safetensors.numpy import load_file, save
from tokenizers import Tokenizer

from scrub.text.files import write_atomically
from scrub.training.corpus import encode, load_corpus
from scrub.training.tokenizer import train_tokenizer

PARTS = ("stdlib", "dependencies", "validation")


@dataclass(frozen=True)
class PreparedCorpus:
    """The token ids of every file, int32 [tokens] each, by side."""

    stdlib: list[NDArray[np.int32]]
    dependencies: list[NDArray[np.int32]]
    validation: list[NDArray[np.int32]]


def prepare(folder: Path, vocab_size: int, tokenizer: Tokenizer | None = None) -> PreparedCorpus:
    """Read the corpus, train its tokenizer if none is given, and encode it; or take the folder's files if there."""
    path = folder / "corpus.safetensors"
    if not path.exists():
        write(folder, path, vocab_size, tokenizer)
    arrays = load_file(path)
    return PreparedCorpus(*(np.split(arrays[part], np.cumsum(arrays[f"{part}.lengths"])[:-1]) for part in PARTS))


def write(folder: Path, path: Path, vocab_size: int, tokenizer: Tokenizer | None) -> None:
    """Write tokenizer.json, sources.json (what the text is made of) and the encoded corpus."""
    corpus = load_corpus()
    if tokenizer is None:
        tokenizer = train_tokenizer((file.text for file in corpus.stdlib + corpus.dependencies), vocab_size)
    tokenizer.save(str(folder / "tokenizer.json"))
    arrays: dict[str, NDArray[np.generic]] = {}
    for part in PARTS:
        files = encode(tokenizer, getattr(corpus, part))
        arrays[part] = np.concatenate([*files, np.zeros(0, np.int32)])
        arrays[f"{part}.lengths"] = np.array([len(file) for file in files], dtype=np.int64)
    counts = {part: {"files": len(getattr(corpus, part)), "tokens": arrays[part].size} for part in PARTS}
    (folder / "sources.json").write_text(json.dumps({**counts, "packages": corpus.packages}, indent=1))
    write_atomically(path, save(arrays))
