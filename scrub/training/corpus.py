"""The training text, its tokenizer and its tokens: of the standard library and of the installed dependencies.

Only the training side of the standard library is in it. What is tokenised is kept in the run's folder, so that resuming
doesn't tokenise again.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass
from importlib.metadata import Distribution, distributions
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from safetensors.numpy import load_file, save
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

from scrub.data.duplicates import clusters
from scrub.data.stdlib import SKIPPED_FOLDERS, SourceFile, hash_fraction, read_source, stdlib_split
from scrub.text.encoding import encoded
from scrub.text.files import write_atomically

PACKAGE_CAP = 3_000_000  # characters of one distribution, so that none dominates
VENDORED = {"_vendor", "_vendored", "vendor", "extern", "externals", "third_party", "_distutils"}
BEGIN = "<|begin|>"
PARTS = ("stdlib", "dependencies", "validation")


@dataclass(frozen=True)
class Corpus:
    """The texts that train and validate a model, and where they come from."""

    stdlib: list[SourceFile]
    dependencies: list[SourceFile]
    validation: list[SourceFile]
    packages: dict[str, int]  # distribution and version -> characters taken


def distribution_sources(distribution: Distribution) -> list[SourceFile]:
    """Readable Python files of one installed distribution, in an order given by a hash of their paths."""
    paths = {str(path).replace("\\", "/"): path for path in distribution.files or [] if str(path).endswith(".py")}
    ordered = sorted(paths, key=lambda path: (hash_fraction(path), path))
    sources, characters = [], 0
    for name in ordered:
        if characters >= PACKAGE_CAP:
            break
        if (VENDORED | SKIPPED_FOLDERS - {"site-packages"}) & set(name.split("/")) or name.startswith(".."):
            continue
        text = read_source(Path(str(paths[name].locate())))
        if text is not None and len(text) < PACKAGE_CAP // 4:
            sources.append(SourceFile(f"{distribution.name}/{name}", text))
            characters += len(text)
    return sources


def load_corpus() -> Corpus:
    """The corpus of this environment; dependency files that nearly duplicate held-out or other files are dropped."""
    training, validation = stdlib_split()
    found: dict[str, Distribution] = {each.name.lower(): each for each in distributions()}
    versions = {name: f"{name} {found[name].version}" for name in sorted(found)}
    sources = [(name, source) for name in versions for source in distribution_sources(found[name])]
    ordered = [*validation, *training, *(source for _, source in sources)]
    heads = clusters([source.text for source in ordered])
    offset = len(validation) + len(training)
    kept, packages = [], dict.fromkeys(versions.values(), 0)
    for index, (name, source) in enumerate(sources, start=offset):
        if heads[index] == index:
            kept.append(source)
            packages[versions[name]] += len(source.text)
    return Corpus(training, kept, validation, {name: count for name, count in packages.items() if count})


def encode(tokenizer: Tokenizer, files: list[SourceFile], vocab_size: int) -> list[NDArray[np.int32]]:
    """The token ids of each file, int32 [tokens], without special tokens."""
    return [np.asarray(ids, dtype=np.int32) for ids in encoded(tokenizer, [file.text for file in files], vocab_size)]


class WindowSampler:
    """Draws windows of `length` consecutive tokens, each within one file and uniform over all such windows."""

    def __init__(self, files: list[NDArray[np.int32]], length: int) -> None:
        """Keep the files that hold at least one window."""
        usable = [file for file in files if len(file) >= length]
        self.length = length
        self.tokens = np.concatenate(usable) if usable else np.zeros(0, np.int32)
        self.starts = np.cumsum([0, *(len(file) for file in usable)])[:-1]
        self.ends = np.cumsum([len(file) - length + 1 for file in usable])  # windows up to and with each file

    def draw(self, generator: np.random.Generator, count: int) -> NDArray[np.int32]:
        """Windows, int32 [count, length]."""
        picks = generator.integers(0, self.ends[-1], count)
        files = np.searchsorted(self.ends, picks, side="right")
        begins = self.starts[files] + picks - np.concatenate([[0], self.ends[:-1]])[files]
        windows: NDArray[np.int32] = self.tokens[begins[:, None] + np.arange(self.length)]
        return windows


def train_tokenizer(texts: Iterable[str], vocab_size: int = 4096) -> Tokenizer:
    """A tokenizer of exactly `vocab_size` tokens if the texts hold enough merges; the begin token has id 0."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocab_size,
        special_tokens=[BEGIN],
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        show_progress=False,
    )
    tokenizer.train_from_iterator(texts, trainer)
    return tokenizer


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
        files = encode(tokenizer, getattr(corpus, part), vocab_size)
        arrays[part] = np.concatenate([*files, np.zeros(0, np.int32)])
        arrays[f"{part}.lengths"] = np.array([len(file) for file in files], dtype=np.int64)
    counts = {part: {"files": len(getattr(corpus, part)), "tokens": arrays[part].size} for part in PARTS}
    (folder / "sources.json").write_text(json.dumps({**counts, "packages": corpus.packages}, indent=1))
    write_atomically(path, save(arrays))
