"""The training command turns down what it can't do, before it does anything."""

from pathlib import Path

import pytest

from scrub.errors import ScrubError
from scrub.training.command import train


def test_mistakes(tmp_path: Path) -> None:
    with pytest.raises(ScrubError, match="there is no device 'tpu' here"):
        train(tmp_path / "run", device="tpu")
    with pytest.raises(ScrubError, match="tokens is 0"):
        train(tmp_path / "run", tokens=0)
    (tmp_path / "file").write_text("")
    with pytest.raises(ScrubError, match="can't be written"):
        train(tmp_path / "file" / "run")
    assert not (tmp_path / "run").exists()
