"""Workers on a Ray cluster that the tests start themselves, on a port of its own and with a token of its own."""

from __future__ import annotations

import contextlib
import os
import re
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import replace
from importlib import import_module
from pathlib import Path
from typing import Any

import psutil
import pytest
import torch
from sweeping import KEEP, LIKE, make_study, rows, same_bits

from scrub.models.model import load_model
from scrub.store.results.folder import Results
from scrub.store.sweeps import ray as far
from scrub.store.sweeps import sweep as engine
from scrub.store.sweeps.ray import ray_workers
from scrub.store.sweeps.sweep import sweep
from scrub.store.sweeps.workers import NodeLost, WorkerDied, Workers, WorkersLost, local_workers
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
def cluster(bereft: subprocess.Popen[str]) -> Iterator[tuple[str, subprocess.Popen[bytes]]]:  # noqa: ARG001 - begins first
    """The address of a cluster of two nodes, of one CPU each and a folder of its own, and the process of the second."""
    folder = tempfile.mkdtemp(prefix="ray")  # short: a socket's name has at most 107 bytes
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
    token = {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": secrets.token_hex(32), "RAY_TMPDIR": folder}
    with pytest.MonkeyPatch.context() as patch:
        for name, value in token.items():
            patch.setenv(name, value)
        patch.setenv("RAY_health_check_period_ms", "1000")  # so that a lost node is soon known to be lost
        head = ["--head", f"--port={port}", "--include-dashboard=false", f"--temp-dir={folder}"]
        with node(folder, "first", *head):
            wait_for(port)
            with node(folder, "second", f"--address=127.0.0.1:{port}") as second:
                yield f"127.0.0.1:{port}", second
    shutil.rmtree(folder, ignore_errors=True)


@contextmanager
def node(folder: str, name: str, *options: str) -> Iterator[subprocess.Popen[bytes]]:
    """A node of a cluster in a process of its own, which runs in an empty folder."""
    empty = Path(folder) / name
    empty.mkdir()
    command = [str(Path(sys.executable).parent / "ray"), "start", "--block", "--num-cpus=1", "--disable-usage-stats"]
    quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    with subprocess.Popen([*command, *options, "--object-store-memory=100000000"], cwd=empty, **quiet) as process:
        try:
            yield process
        finally:
            if process.poll() is None:
                kill(process.pid)


def kill(pid: int) -> None:
    """Kill a process and all that it started."""
    for process in [psutil.Process(pid), *psutil.Process(pid).children(recursive=True)]:
        with contextlib.suppress(psutil.NoSuchProcess):  # those that another started end with it
            process.kill()


def wait_for(port: int) -> None:
    start = time.monotonic()
    while True:
        try:
            return socket.create_connection(("127.0.0.1", port)).close()
        except OSError:
            assert time.monotonic() - start < SECONDS, "the cluster doesn't start"
            time.sleep(0.1)


@pytest.fixture(scope="module")
def workers(cluster: tuple[str, subprocess.Popen[bytes]]) -> Iterator[Workers]:
    """A worker on each node, once both are there."""
    start = time.monotonic()
    while (workers := ray_workers(cluster[0], "cpu")).count < 2:
        workers.close()
        assert time.monotonic() - start < SECONDS, "the second node doesn't start"
    with workers:
        yield workers


def result(workers: Workers, function: Callable[..., object], *arguments: object, worker: int = 0) -> object:
    return workers.submit(worker, function, *arguments).result(SECONDS)


def test_there_is_a_worker_for_each_cpu_of_the_cluster(workers: Workers) -> None:
    assert workers.count == 2
    futures = [workers.submit(i, os.getpid) for i in range(2)]
    assert len({os.getpid(), *(future.result(SECONDS) for future in futures)}) == 3


@pytest.mark.slow
def test_float64_has_the_same_bits_as_here(workers: Workers) -> None:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # as in a worker
    try:
        assert result(workers, numbers, 5) == numbers(5)
    finally:
        torch.set_num_threads(threads)


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


def test_a_task_runs_in_the_folder_of_whoever_asks_if_it_is_there(
    workers: Workers, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    assert result(workers, os.getcwd) == str(tmp_path / "here")


def test_a_connection_that_is_there_is_used_and_left(workers: Workers) -> None:
    import ray

    with ray_workers("127.0.0.1:1", "cpu") as others:  # nobody is there, and nobody is asked
        assert others.count == workers.count
    assert ray.is_initialized()
    assert result(workers, lambda: "alive") == "alive"


@pytest.fixture
def unseen(workers: Workers, sweeping: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A project whose folder no node sees, so that they run in empty ones of their own."""
    monkeypatch.setattr(far, "_folder", lambda: str(sweeping / "only" / "here"))
    monkeypatch.setattr(engine, "_workers", lambda *_: nullcontext(workers))  # the cluster has room for those alone
    for worker in range(2):
        if Path(str(result(workers, os.getcwd, worker=worker))).name not in {"first", "second"}:
            with contextlib.suppress(WorkerDied):  # it was in another test's folder
                result(workers, os._exit, 3, worker=worker)
        assert result(workers, os.listdir, worker=worker) == []
    return sweeping


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
    with pytest.raises(ScrubError, match=r'pip install "causal-scrub\[ray\]"'):
        ray_workers("local", "cpu")


def test_a_cluster_that_goes_away_is_lost(bereft: subprocess.Popen[str]) -> None:
    out, err = bereft.communicate(timeout=SECONDS)
    lost = 'the Ray cluster "local" went away: once it is back, run the same command to go on'
    assert (out.splitlines(), err, bereft.returncode) == ([lost, lost, "[]"], "", 0)


@pytest.mark.slow
def test_a_full_node_has_no_worker_and_the_others_go_on(
    workers: Workers, cluster: tuple[str, object], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(far, "_PLACE_SECONDS", 1.0)
    assert [result(workers, abs, -3, worker=worker) for worker in range(2)] == [3, 3]  # which have both CPUs
    with ray_workers(cluster[0], "cpu") as others:
        futures = [others.submit(worker, abs, -5) for worker in range(2)]
        for future in futures:
            with pytest.raises(WorkersLost, match="has no room for a worker any more"):
                future.result(SECONDS)
    with contextlib.suppress(WorkerDied):
        result(workers, os._exit, 3, worker=1)
    monkeypatch.setattr(far, "_PLACE_SECONDS", SECONDS)  # a busy machine takes its time where there is room
    with ray_workers(cluster[0], "cpu") as others:
        futures = [others.submit(worker, abs, -5) for worker in range(2)]
        assert futures[1].result(SECONDS) == 5
        monkeypatch.setattr(far, "_PLACE_SECONDS", 1.0)  # enough for one that has waited all that time
        with pytest.raises(NodeLost, match="has no room for a worker any more"):
            futures[0].result(SECONDS)


GRID: dict[str, Any] = {"sequences": 37, "draws": 4, "dtype": "float64", "progress": False}
HELPED = """
from letters import letter
from scrub import Hypothesis

hypothesis = Hypothesis("v  a1.ind/v/**  -> like letter", features={"letter": letter})
"""


def test_a_sweep_on_nodes_that_see_no_file_and_of_which_one_is_lost_has_the_bits_of_one_here(
    cluster: tuple[str, subprocess.Popen[bytes]], unseen: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The user's own model, one in memory, data and hypotheses, of which one has a feature of another module of theirs.

    What can't be read here is a failure, as it is where workers read it themselves. A lost node costs its tasks alone.
    It is the last test: the cluster has one node after it.
    """
    make_study(unseen, "two", keep=KEEP, like=LIKE, helped=HELPED)
    file = make_study(unseen, "bad", keep=KEEP) / "study.py"
    file.write_text(file.read_text().replace('data="words"', 'data="lost"'))
    (unseen / "letters.py").write_text("def letter(tokens, tokenizer):\n    return tokens[:, 3] % 3\n")
    monkeypatch.syspath_prepend(unseen)
    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    monkeypatch.setitem(sys.modules, "letters", import_module("letters"))
    (unseen / "letters.py").unlink()
    model = replace(load_model("tiny", torch.float64), name="mine", folder=None)
    grid = {"studies": ["one", "bad", "two"], "models": ["tiny", model], **GRID}
    plain = Results.add_losses

    def add_losses(self: Results, *arguments: Any) -> None:
        plain(self, *arguments)
        if cluster[1].poll() is None:
            kill(cluster[1].pid)

    with monkeypatch.context() as patched:
        patched.setattr(Results, "add_losses", add_losses)
        patched.setattr(engine._Sweep, "_died", lambda *_: pytest.fail("no task is to blame for it"))
        swept = sweep(results="far", ray="auto", **grid)
    (note,) = (each for each in swept.notes if "the node" in each)
    assert re.fullmatch(r"the node \w+ \(.*\) of the Ray cluster .* went away: the sweep went on without it", note)
    monkeypatch.setattr(engine, "_workers", lambda *_: local_workers(1, "cpu"))
    here = sweep(results="here", **grid)
    assert swept.computed == here.computed
    for each in (swept, here):
        failures = {(failure.study, failure.hypothesis, failure.model, failure.stage) for failure in each.failures}
        assert failures == {("bad", "", "tiny", "lower"), ("bad", "", "mine", "lower")}
        assert all("there is no data 'lost'" in failure.reason for failure in each.failures)
    same_bits(unseen / "far", unseen / "here")
    assert set(rows(unseen / "far")["model"]) == {"tiny", "mine"}
