"""Workers on a Ray cluster that the tests start themselves, on a port of its own and with a token of its own."""

from __future__ import annotations

import os
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import psutil
import pytest
import torch
from sweeping import same_bits

from scrub.store.sweeps import sweep as engine
from scrub.store.sweeps.ray import ray_workers
from scrub.store.sweeps.sweep import sweep
from scrub.store.sweeps.workers import WorkerDied, Workers, local_workers
from scrub.text.errors import ScrubError

SECONDS = 180.0

BEREFT = """
import psutil, time
from scrub.store.sweeps.ray import ray_workers
from scrub.store.sweeps.workers import WorkersLost

with ray_workers("local", "cpu") as workers:
    assert workers.submit(0, sum, [2, 3]).result() == 5
    future = workers.submit(0, time.sleep, 1000)
    [head] = [child for child in psutil.Process().children(recursive=True) if child.name() == "gcs_server"]
    head.kill()
    for attempt in (future.result, lambda: workers.submit(0, sum, [2, 3])):
        try:
            attempt()
        except WorkersLost as error:
            print(error)
left = [child.name() for child in psutil.Process().children(recursive=True) if child.status() != "zombie"]
print(left)
"""


def numbers(seed: int) -> tuple[bytes, int]:
    """The bits of a product in float64, where the order of sums shows, and the number of threads."""
    generator = torch.Generator().manual_seed(seed)
    a = torch.randn(257, 263, dtype=torch.float64, generator=generator)
    b = torch.randn(263, 269, dtype=torch.float64, generator=generator)
    return torch.softmax(a @ b, dim=-1).logsumexp(dim=0).numpy().tobytes(), torch.get_num_threads()


def begun(script: str, environment: dict[str, str]) -> subprocess.Popen[str]:
    """A process without a connection to Ray, of which each has one at most."""
    command, pipe = [sys.executable, "-c", script], subprocess.PIPE
    return subprocess.Popen(command, env=environment, stdout=pipe, stderr=pipe, text=True)


@pytest.fixture(scope="module")
def bereft() -> Iterator[subprocess.Popen[str]]:
    """A process whose own cluster goes away. It mostly waits, so it begins before the others and ends behind them."""
    folder = tempfile.mkdtemp(prefix="ray")
    token = {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": secrets.token_hex(32)}
    with begun(BEREFT, {**os.environ, **token, "RAY_TMPDIR": folder}) as process:
        yield process
        process.kill()
    shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture(scope="module")
def address(bereft: subprocess.Popen[str]) -> Iterator[str]:  # noqa: ARG001 - begins first
    """The address of a cluster of two CPUs."""
    folder = tempfile.mkdtemp(prefix="ray")  # short: a socket's name has at most 107 bytes
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("RAY_AUTH_MODE", "token")
        patch.setenv("RAY_AUTH_TOKEN", secrets.token_hex(32))
        patch.setenv("RAY_TMPDIR", folder)
        options = [
            "--head",
            f"--port={port}",
            "--num-cpus=2",
            "--include-dashboard=false",
            "--disable-usage-stats",
        ]
        command = [str(Path(sys.executable).parent / "ray"), "start", "--block", *options, f"--temp-dir={folder}"]
        with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, cwd=folder) as cluster:
            try:
                wait_for(port)
                yield f"127.0.0.1:{port}"
            finally:
                processes = [psutil.Process(cluster.pid), *psutil.Process(cluster.pid).children(recursive=True)]
                for process in processes:
                    process.kill()
    shutil.rmtree(folder, ignore_errors=True)


def wait_for(port: int) -> None:
    start = time.monotonic()
    while True:
        try:
            return socket.create_connection(("127.0.0.1", port)).close()
        except OSError:
            assert time.monotonic() - start < SECONDS, "the cluster doesn't start"
            time.sleep(0.1)


@pytest.fixture(scope="module")
def workers(address: str) -> Iterator[Workers]:
    with ray_workers(address, "cpu") as workers:
        yield workers


def result(workers: Workers, function: Callable[..., object], *arguments: object, worker: int = 0) -> object:
    return workers.submit(worker, function, *arguments).result(SECONDS)


def test_there_is_a_worker_for_each_cpu_of_the_cluster(workers: Workers) -> None:
    assert workers.count == 2
    futures = [workers.submit(i, os.getpid) for i in range(2)]
    assert len({os.getpid(), *(future.result(SECONDS) for future in futures)}) == 3


def test_float64_has_the_same_bits_as_here(workers: Workers) -> None:
    with local_workers(1, "cpu") as here:
        assert result(workers, numbers, 5) == result(here, numbers, 5)


def test_what_a_task_sets_the_next_one_does_not_see(workers: Workers) -> None:
    result(workers, torch.set_num_threads, 3)
    assert result(workers, torch.get_num_threads) == 1


@pytest.mark.parametrize(
    ("death", "how"),
    [
        (lambda: os.kill(os.getpid(), signal.SIGKILL), "Ray actor died"),
        (lambda: os._exit(3), "Ray actor died"),
        (lambda: sys.exit(3), r"sys\.exit\(3\)"),
    ],
    ids=["killed", "exit", "sys.exit"],
)
def test_a_death_costs_one_task_and_the_worker_is_replaced(
    workers: Workers, death: Callable[[], object], how: str, capfd: pytest.CaptureFixture[str]
) -> None:
    other = workers.submit(1, lambda: time.sleep(0.5) or "done")
    with pytest.raises(WorkerDied, match=how) as caught:
        result(workers, death)
    assert "\n" not in str(caught.value)
    assert result(workers, lambda: "new") == "new"
    assert other.result(SECONDS) == "done"
    assert capfd.readouterr() == ("", "")


def test_what_a_task_raises_comes_through(workers: Workers) -> None:
    with pytest.raises(ZeroDivisionError, match="by zero"):
        result(workers, lambda: 1 / 0)
    with pytest.raises(TypeError, match="pickle"):
        result(workers, lambda: (i for i in range(3)))
    assert result(workers, lambda: "alive") == "alive"


def test_a_task_runs_in_the_folder_of_whoever_asks(
    workers: Workers, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    assert result(workers, os.getcwd) == str(tmp_path / "here")
    monkeypatch.setattr(Path, "cwd", lambda: tmp_path / "only" / "there")
    with pytest.raises(ScrubError, match=r"no folder .*only/there: every node must see the same files"):
        result(workers, os.getcwd)


def test_a_connection_that_is_there_is_used_and_left(workers: Workers) -> None:
    import ray

    with ray_workers("127.0.0.1:1", "cpu") as others:  # nobody is there, and nobody is asked
        assert others.count == workers.count
    assert ray.is_initialized()
    assert result(workers, lambda: "alive") == "alive"


def test_a_sweep_on_a_cluster_has_the_bits_of_one_here(
    workers: Workers, sweeping: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    grid: dict[str, Any] = {"sequences": 37, "draws": 2, "dtype": "float64", "progress": False}
    with monkeypatch.context() as patched:  # the cluster has room for those that it has
        patched.setattr(engine, "_workers", lambda *_: nullcontext(workers))
        assert not sweep("one", results="far", ray="auto", **grid).failures
    assert not sweep("one", results="here", workers=1, **grid).failures
    same_bits(sweeping / "far", sweeping / "here")


def test_a_cluster_without_gpus_is_refused(workers: Workers) -> None:  # noqa: ARG001 - connected
    with pytest.raises(ScrubError, match="has no GPU"):
        ray_workers("auto", "cuda")
    with pytest.raises(ScrubError, match="no device 'tpu'"):
        ray_workers("auto", "tpu")


@pytest.mark.parametrize("address", ["127.0.0.1:1", "ray://127.0.0.1:1", "nonsense"])
def test_an_address_where_nobody_answers_is_refused_soon(address: str) -> None:
    script = f"""
from scrub.text.errors import ScrubError
from scrub.store.sweeps.ray import ray_workers
try:
    ray_workers({address!r}, "cpu")
except ScrubError as error:
    print(error)
"""
    with begun(script, dict(os.environ)) as process:
        out, err = process.communicate(timeout=SECONDS)
    assert out.startswith(f'no Ray cluster "{address}" answers: ')
    assert (out.count("\n"), err, process.returncode) == (1, "", 0)


def test_without_ray_the_error_says_how_to_get_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(ScrubError, match=r'pip install "scrub\[ray\]"'):
        ray_workers("local", "cpu")


def test_a_cluster_that_goes_away_is_lost(bereft: subprocess.Popen[str]) -> None:
    out, err = bereft.communicate(timeout=SECONDS)
    lost = 'the Ray cluster "local" went away: once it is back, run the same command to go on'
    assert (out.splitlines(), err, bereft.returncode) == ([lost, lost, "[]"], "", 0)
