"""Shapes checked at run time, deterministic property tests, few threads."""

from __future__ import annotations

import os
from collections.abc import Callable
from functools import cache

import pytest
import typer

os.environ.setdefault("OMP_NUM_THREADS", "1")  # of programs that tests start too: they share the cores with other tests

import torch
from hypothesis import HealthCheck, settings
from towered import check_shapes
from xdist.remote import Producer
from xdist.scheduler import LoadFileScheduling

check_shapes("scrub")  # before anything imports it

from project import make_project  # noqa: E402
from small import Small, small, small_gpt2  # noqa: E402

from scrub.text.garbage import collect_rarely  # noqa: E402

torch.set_num_threads(1)  # tensors this small only wait for other threads
collect_rarely()  # as the program does: to look through all that transformers makes takes a tenth of the time otherwise
typer.main.get_command = cache(typer.main.get_command)  # which a program asks for once, and tests a thousand times

_quick = {"deadline": None, "suppress_health_check": [HealthCheck.too_slow, HealthCheck.filter_too_much]}
settings.register_profile("ci", derandomize=True, max_examples=30, database=None, **_quick)
settings.register_profile("explore", max_examples=1000, print_blob=True, **_quick)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "ci"))


LONGEST = (
    *("test_ray", "test_readme", "test_families", "test_golden", "test_failures", "test_killed", "test_identity"),
    *("test_benchmarks", "test_sweep", "test_commands", "test_gpt2_induction", "test_heads_command", "test_notebook"),
    *("test_search_command", "test_screens", "test_search_cells", "test_steps", "test_positions", "test_random_trees"),
    *("test_report", "test_intervention_commands", "test_sharing", "test_workers", "test_null", "test_against_oracle"),
    *("test_compare", "test_charts", "test_folder", "test_boundaries", "test_packaging", "test_evaluate", "test_runs"),
)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """The longest files begin first: at the end one process would run them while the other waits."""
    items.sort(key=lambda item: LONGEST.index(name) if (name := item.path.stem) in LONGEST else len(LONGEST))


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Producer) -> LoadFileScheduling:
    """All tests of a file run in one process: what they share is made once, and few need what is slow to import."""
    config.option.loadscopereorder = False  # but for the longest, in the order of folders
    return LoadFileScheduling(config, log)


@pytest.fixture(params=["shortformer", "standard", "gpt2"])
def model(request: pytest.FixtureRequest) -> Small:
    """A random two-layer model in float64, whose sizes are distinct primes."""
    return small_gpt2() if request.param == "gpt2" else small(positions=request.param)


@pytest.fixture
def read_at_once(monkeypatch: pytest.MonkeyPatch) -> Callable[[int], None]:
    """Read so many examples of a model together, whatever memory they need."""

    def read(examples: int) -> None:
        monkeypatch.setattr("scrub.study.read.peak_bytes", lambda *_: 1)
        monkeypatch.setattr("scrub.study.read.BYTES_AT_ONCE", examples)

    return read


@pytest.fixture(scope="session")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a small project, which tests only read."""
    return make_project(tmp_path_factory.mktemp("project"))


@pytest.fixture
def in_project(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The test runs there."""
    monkeypatch.chdir(project)
