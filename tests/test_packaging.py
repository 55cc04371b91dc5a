"""What is shipped: an sdist, the wheel that is made of it, and a study that runs from that without the checkout.

`pip install scrub` is somebody else's package, so the distribution has a name of its own.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tarfile
import tomllib
import zipfile
from pathlib import Path

import pytest
from hatchling import build

import scrub

ROOT = Path(__file__).parents[1]
NAME = f"causal_scrub-{scrub.__version__}"


@pytest.fixture(scope="module")
def sdist(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The source distribution, unpacked."""
    out = tmp_path_factory.mktemp("sdist")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(ROOT)
        archive = out / build.build_sdist(str(out))
    with tarfile.open(archive) as opened:
        opened.extractall(out, filter="data")
    return out / NAME


@pytest.fixture(scope="module")
def wheel(sdist: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel, made of the source distribution as pip does it."""
    out = tmp_path_factory.mktemp("wheel")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(sdist)
        return out / build.build_wheel(str(out))


def test_the_sdist_has_what_is_built_and_tested(sdist: Path) -> None:
    for name in ("pyproject.toml", "LICENSE", "constraints.txt", "tests/conftest.py", "scrub/show/templates/page.css"):
        assert (sdist / name).is_file(), name


def test_the_wheel_has_all_of_the_package_and_of_what_is_shipped(wheel: Path) -> None:
    tracked = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=True).stdout.split()
    shipped = [f"scrub/shipped/{name}" for name in tracked if name.startswith(("models/", "data/", "hypotheses/"))]
    package = [name for name in tracked if name.startswith("scrub/") and (ROOT / name).exists()]
    with zipfile.ZipFile(wheel) as opened:
        there = {name for name in opened.namelist() if "__pycache__" not in name}
        about = opened.read(f"{NAME}.dist-info/METADATA").decode()
    assert {*package, *shipped} <= there
    assert not {name for name in there if name.startswith("tests/")}
    for name in (
        "scrub/shipped/models/attn2l/model.safetensors",
        "scrub/shipped/data/stdlib/whitelist.json",
        "scrub/shipped/hypotheses/induction/study.py",
        "scrub/show/templates/page.css",
        "scrub/show/templates/page.html",
    ):
        assert name in there, name
    assert "Name: causal-scrub\n" in about
    assert f"Version: {scrub.__version__}\n" in about
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert all(f"Requires-Dist: {each.partition('>')[0]}" in about for each in project["dependencies"])


def test_a_study_runs_from_the_wheel_without_the_checkout(wheel: Path, tmp_path: Path) -> None:
    target, work = tmp_path / "target", tmp_path / "work"
    work.mkdir()
    quiet = ["--quiet", "--no-deps", "--no-index", "--no-compile", "--disable-pip-version-check"]
    subprocess.run([sys.executable, "-m", "pip", "install", *quiet, "--target", target, wheel], check=True, cwd=work)
    with (work / "texts.jsonl").open("w") as file:
        for path in sorted((ROOT / "scrub" / "paths").glob("*.py")):
            file.write(json.dumps({"text": path.read_text()}) + "\n")
    words = "run induction/naive --parts v --data texts.jsonl --sequences 8 --context 40 --json out.json"
    program = (
        "import sys, scrub\nfrom scrub.models.find import shipped\nfrom scrub.cli import _status\n"
        f"assert scrub.__file__.startswith({str(target)!r}), scrub.__file__\n"
        f"assert str(shipped('models')).startswith({str(target)!r})\n"
        f"sys.exit(_status({words.split()!r}))"
    )
    environment = {**os.environ, "PYTHONPATH": str(target), "XDG_CACHE_HOME": str(tmp_path / "cache")}
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=work, env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    found = json.loads((work / "out.json").read_text())
    assert (found["model"], found["sequences"]) == ("attn2l", 8)
    assert [(row["hypothesis"], row["part"]) for row in found["rows"]] == [("naive", "v")]
