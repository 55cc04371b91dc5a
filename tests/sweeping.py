"""A project for sweeps: two studies of small hypotheses on the models and data of tests/project.py."""

from __future__ import annotations

import shutil
from pathlib import Path

import pandas as pd
import torch
from project import N_CTX, byte_tokenizer
from small import ROLES, random_params

from scrub.models.families import gpt2
from scrub.models.model import make_model, save_model
from scrub.store.results.files import name_of

KEEP = '''"""Keys read what the self heads write."""
from scrub import Hypothesis

hypothesis = Hypothesis("""
k    a1.ind/k/a0.prev   -> y
v    a1.ind/v/a0.*/**   -> y
""")
'''
WINDOW = '''"""Queries read the last few positions."""
from scrub import Hypothesis

hypothesis = Hypothesis("""
splits  a1.ind/q/a0.prev  by mask "last $positions"
q       a1.ind/q/a0.prev[rest]/** -> y
""", parameters={"positions": (1, 2)})
'''
LIKE = '''"""Values agree on a letter."""
from scrub import Hypothesis, TokenFeature

hypothesis = Hypothesis("""
v    a1.ind/v/**   -> like letter
""", features={"letter": lambda tokens, tokenizer: (tokens[:, 3] % 3)})
'''
STUDY = """
from scrub import Study

study = Study(model="tiny", data="words", positions="all", baseline="a1.ind/** -> y", hypotheses=%r)
"""
EXACT = ["loss_sum", "change_sum", "kl_sum"]
WHERE = ["study", "model", "experiment", "hypothesis_hash", "dtype", "seed", "draw", "sequence"]


def make_study(root: Path, name: str, **modules: str) -> Path:
    """A study of hypotheses by their names, in hypotheses/NAME."""
    folder = root / "hypotheses" / name
    folder.mkdir(parents=True, exist_ok=True)
    for each, text in modules.items():
        (folder / f"{each}.py").write_text(text)
    (folder / "study.py").write_text(STUDY % (tuple(modules),))
    return folder


def make_sweeping(root: Path, project: Path) -> Path:
    """models/{tiny,standard}, data/words, hypotheses/{one,two}."""
    for kind in ("models", "data"):
        shutil.copytree(project / kind, root / kind)
    make_study(root, "one", keep=KEEP, window=WINDOW)
    make_study(root, "two", keep=KEEP, like=LIKE)
    return root


SOME = """'Queries read embeddings, and the first MLP.'
from scrub import Hypothesis

hypothesis = Hypothesis('''
q    **/a*.ind/q/**        -> y
     **/a*.ind/q/{emb,m0}  -> x
k    **/a*.ind/k/a0.self/**  -> y
mlp  **/a*.ind/v/m0/**     -> y
''')
"""
BY_HAND = SOME.replace("{emb,m0}", "emb").replace("mlp  **/a*.ind/v/m0/**     -> y\n", "")
GONE = """from scrub import Hypothesis

hypothesis = Hypothesis("k  **/a*.ind/k/m0/** -> y")
"""


def add_gpt2(root: Path, name: str = "mlps") -> None:
    """models/NAME, a GPT-2 of 2 layers with the tokenizer of the others: the same sequences, and MLPs."""
    tokenizer = byte_tokenizer()
    shape = {"n_layers": 2, "n_heads": 5, "d_head": 2, "d_model": 10, "d_mlp": 23, "n_ctx": N_CTX}
    config = gpt2.Config.model_validate(
        {
            **shape,
            "vocab_size": tokenizer.get_vocab_size(),
            "bos_token_id": 0,
            "layer_norm_eps": 1e-5,
            "roles": {role: list(heads) for role, heads in ROLES.items()},
        }
    )
    save_model(make_model(name, config, random_params(config, 5), tokenizer).to(torch.float32), root / "models" / name)


def add_many(root: Path) -> None:
    """A study of two hypotheses, both of which lack something on a model without MLPs, and that with MLPs."""
    add_gpt2(root)
    folder = make_study(root, "many", keep=KEEP, some=SOME)
    study = folder / "study.py"
    study.write_text(study.read_text().replace("a1.ind/**", "**/a*.ind/**"))


def renewed(file: Path, content: bytes, digest: bool = True) -> None:
    """A file of a results folder with other content, as if that had been written; without digest, long ago."""
    file.unlink()
    name, _, suffix = file.name.rsplit(".", 2)
    file.with_name(name_of(name, f".{suffix}", content) if digest else f"{name}.{suffix}").write_bytes(content)


def rows(folder: Path) -> pd.DataFrame:
    """All rows of a results folder, in an order that doesn't depend on when they were written."""
    table = pd.read_parquet(folder / "losses")
    table["token_losses"] = [each.tobytes() for each in table["token_losses"]]
    texts = table.select_dtypes("category").columns
    table[texts] = table[texts].astype(str)
    return table.sort_values(WHERE).reset_index(drop=True)


def same_bits(one: Path, other: Path) -> None:
    """Two folders hold the same cells, each once, with the same bits of float64."""
    first, second = rows(one), rows(other)
    assert not first.duplicated(["cell", "sequence"]).any()
    assert not second.duplicated(["cell", "sequence"]).any()
    pd.testing.assert_frame_equal(first.drop(columns="time"), second.drop(columns="time"), check_exact=True)
