"""The whitelist's command: kept for the model, statistics and gains from different sequences."""

import json
from pathlib import Path

import numpy as np
import pytest

from scrub.cli.whitelist import whitelist
from scrub.data.bigram import Bigram
from scrub.data.load import load_examples
from scrub.data.settings import WhitelistSettings
from scrub.data.whitelist import Whitelist, gains, kept_whitelist, make_whitelist
from scrub.models.families.attention_only import Config, lower
from scrub.models.model import load_model, make_model, save_model
from scrub.text.errors import ScrubError
from scrub.training.parameters import initial_parameters


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A model without a tokenizer, and data of ids in which token 1 is followed by each sequence's own favourite."""
    monkeypatch.chdir(tmp_path)
    sizes = {"n_layers": 2, "n_heads": 2, "d_model": 6, "d_head": 3, "n_ctx": 40, "vocab_size": 23, "bos_token_id": 0}
    config = Config(**sizes, positions="shortformer", layer_norm_eps=1e-5)
    save_model(make_model("small", config, initial_parameters(lower(config), seed=0)), tmp_path / "models" / "small")
    generator = np.random.default_rng(0)
    rows = [
        [token for _ in range(10) for token in (1, 3 + number % 20, 2, int(generator.integers(3, 23)))]
        for number in range(60)
    ]
    folder = tmp_path / "data" / "ids"
    folder.mkdir(parents=True)
    (folder / "train.jsonl").write_text("".join(json.dumps({"ids": row}) + "\n" for row in rows))
    return tmp_path


@pytest.mark.usefixtures("project")
def test_written_where_studies_look(capsys: pytest.CaptureFixture[str]) -> None:
    whitelist("ids", "small", settings=WhitelistSettings(threshold=0.1))
    options = {"n_ctx": 40, "bos_token_id": 0, "vocab_size": 23}
    sequences = load_examples("ids", **options)
    found = kept_whitelist(load_model("small"), sequences.name)
    assert found is not None
    assert found == Whitelist.load(Path("models/small/whitelists/data_ids.json"))
    assert 1 in found.tokens
    assert 2 not in found.tokens
    assert "beta 1, threshold 0.1 nats" in capsys.readouterr().out
    tokens = sequences.tokens
    gain, counts = gains(tokens[1::2], Bigram.fit(tokens[::2], 23), 1.0)
    assert found.tokens == np.flatnonzero(gain > 0.1).tolist()
    assert (found.sequences, found.positions) == (30, counts.sum())
    assert found.select(tokens).shape == (60, 40)


def test_elsewhere_on_request(project: Path) -> None:
    whitelist("ids", "small", out=project / "list.json", settings=WhitelistSettings(sequences=20))
    assert Whitelist.load(project / "list.json").sequences == 10


@pytest.mark.usefixtures("project")
def test_mistakes() -> None:
    with pytest.raises(ScrubError, match=r"beta.* 0"):
        WhitelistSettings(beta=0.0)
    with pytest.raises(ScrubError, match=r"share.* 1\.5"):
        WhitelistSettings(share=1.5)
    with pytest.raises(ScrubError, match="at least 2"):
        make_whitelist("ids", "small", WhitelistSettings(sequences=1))
