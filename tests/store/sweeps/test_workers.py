"""Workers on this machine: the same bits whatever their number; a death costs one task; nothing hangs or stays."""

from __future__ import annotations

import ctypes
import os
import signal
import subprocess
import sys
import textwrap
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import psutil
import pytest
import torch

from scrub.store.sweeps.workers import WorkerDied, Workers, WorkersLost, local_workers
from scrub.text.errors import ScrubError

SECONDS = 120.0  # that nothing here may take, even on a busy machine


def numbers(seed: int) -> tuple[bytes, int]:
    """The bits of what a layer would compute in float64, where the order of sums shows, and the number of threads."""
    generator = torch.Generator().manual_seed(seed)
    a = torch.randn(257, 263, dtype=torch.float64, generator=generator)
    b = torch.randn(263, 269, dtype=torch.float64, generator=generator)
    out = torch.softmax(a @ b, dim=-1).logsumexp(dim=0)
    return out.numpy().tobytes(), torch.get_num_threads()


class UnpicklableError(Exception):
    """Can't leave its process."""

    def __reduce__(self) -> str:
        raise TypeError("stays here")


class UnloadableError(Exception):
    """Can leave, but not arrive: it is made from two arguments and keeps one."""

    def __init__(self, first: str, second: str) -> None:
        super().__init__(first + second)


class Ghost:
    """A value that arrives as an error."""

    def __reduce__(self) -> tuple[Callable[..., object], tuple[object, ...]]:
        return int, ("no number",)


def fail(error: BaseException) -> None:
    raise error


def alive(pid: int) -> bool:
    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def wait_until(condition: Callable[[], bool]) -> None:
    start = time.monotonic()
    while not condition():
        assert time.monotonic() - start < SECONDS, "waited too long"
        time.sleep(0.05)


@pytest.fixture(scope="module")
def two() -> Iterator[Workers]:
    with local_workers(2, "cpu") as workers:
        yield workers


def result(workers: Workers, function: Callable[..., object], *arguments: object, worker: int = 0) -> object:
    return workers.submit(worker, function, *arguments).result(SECONDS)


def test_float64_has_the_same_bits_whatever_the_number_of_workers(two: Workers) -> None:
    before = torch.get_num_threads()
    torch.set_num_threads(3)
    try:
        with local_workers(1, "cpu") as one, local_workers(3, "cpu") as three:
            futures = [
                (i % 2, workers.submit(i, numbers, i % 2))
                for workers in (one, two, three)
                for i in range(workers.count)
            ]
            seen = [(seed, future.result(SECONDS)) for seed, future in futures]
        assert torch.get_num_threads() == 3
    finally:
        torch.set_num_threads(before)
    assert len(set(seen)) == 2
    assert {threads for _, (_, threads) in seen} == {1}


def test_one_worker_is_this_process() -> None:
    with local_workers(1, "cpu") as workers:
        future = workers.submit(0, os.getpid)
        assert future.done()
        assert future.result() == os.getpid()
        with pytest.raises(ZeroDivisionError, match="by nothing"):
            result(workers, fail, ZeroDivisionError("by nothing"))
        with pytest.raises(WorkerDied, match=r"sys\.exit\(3\)"):
            result(workers, sys.exit, 3)


def test_two_workers_are_two_other_processes_which_stay(two: Workers) -> None:
    first, second = (result(two, os.getpid, worker=i) for i in range(2))
    assert len({first, second, os.getpid()}) == 3
    assert [result(two, os.getpid, worker=i) for i in range(2)] == [first, second]
    assert result(two, lambda: [os.environ[f"{name}_NUM_THREADS"] for name in ("OMP", "MKL", "OPENBLAS")]) == ["1"] * 3


def test_what_a_task_sets_the_next_one_does_not_see(two: Workers) -> None:
    result(two, torch.set_num_threads, 3)
    assert result(two, torch.get_num_threads) == 1


def test_a_task_may_be_a_closure(two: Workers) -> None:
    prime = 7
    assert result(two, lambda factor: prime * factor, 11) == 77


@pytest.mark.parametrize(
    ("death", "how"),
    [
        (lambda: os.kill(os.getpid(), signal.SIGKILL), "SIGKILL.*out of memory"),
        (lambda: os.kill(os.getpid(), signal.SIGSEGV), "SIGSEGV"),
        (lambda: os._exit(3), "exit status 3"),
        (lambda: sys.exit(3), r"sys\.exit\(3\)"),
    ],
    ids=["killed", "segfault", "exit", "sys.exit"],
)
def test_a_death_costs_one_task_and_the_worker_is_replaced(two: Workers, death: Callable[[], object], how: str) -> None:
    other = two.submit(1, lambda: time.sleep(0.5) or "done")
    with pytest.raises(WorkerDied, match=how) as caught:
        result(two, death)
    assert "\n" not in str(caught.value)
    assert result(two, lambda: "new") == "new"
    assert other.result(SECONDS) == "done"


def test_a_worker_that_died_without_a_task_is_replaced(two: Workers) -> None:
    pid = result(two, os.getpid)
    assert isinstance(pid, int)
    os.kill(pid, signal.SIGKILL)
    wait_until(lambda: not alive(pid))
    time.sleep(0.2)  # until the pool has noticed; before that it is a death amid the task
    assert result(two, os.getpid) != pid


def test_what_a_task_raises_comes_through(two: Workers) -> None:
    with pytest.raises(ScrubError) as caught:
        result(two, fail, ScrubError("what, why, what to do"))
    assert str(caught.value) == "what, why, what to do"
    assert "in fail" in "".join(caught.value.__notes__)  # where it happened, for whoever debugs


@pytest.mark.parametrize("error", ["UnpicklableError('so')", "UnloadableError('s', 'o')"])
def test_an_error_that_can_not_travel_comes_as_its_text(two: Workers, error: str) -> None:
    kinds = {"UnpicklableError": UnpicklableError, "UnloadableError": UnloadableError}

    def task() -> None:
        raise eval(error, kinds)

    with pytest.raises(RuntimeError, match=r"Un\w+Error: so"):
        result(two, task)
    assert result(two, lambda: "alive") == "alive"


def test_what_can_not_be_pickled_is_an_error_and_no_hang(two: Workers) -> None:
    with pytest.raises(TypeError, match="pickle"):
        result(two, lambda: (i for i in range(3)))
    with pytest.raises(TypeError, match="pickle"):
        result(two, len, (i for i in range(3)))
    with pytest.raises(ValueError, match="no number"):
        result(two, Ghost)
    assert result(two, lambda: "alive") == "alive"


def test_workers_do_not_hear_ctrl_c(two: Workers, capfd: pytest.CaptureFixture[str]) -> None:
    def task() -> str:
        os.kill(os.getpid(), signal.SIGINT)
        return "deaf"

    assert result(two, task) == "deaf"
    assert capfd.readouterr().err == ""


def test_close_ends_a_long_task_at_once() -> None:
    with local_workers(2, "cpu") as workers:
        pid = result(workers, os.getpid)
        assert isinstance(pid, int)
        # Python code, and C code that never lets go of the interpreter, which nothing but SIGKILL ends.
        futures = [
            workers.submit(0, lambda: ctypes.PyDLL(None).sleep(1000)),
            workers.submit(1, time.sleep, 1000),
        ]
        start = time.monotonic()
    assert time.monotonic() - start < 5
    for future in futures:
        with pytest.raises(WorkerDied, match="closed"):
            future.result(SECONDS)
    assert not alive(pid)
    with pytest.raises(WorkersLost, match="closed"):
        workers.submit(0, os.getpid)


@pytest.mark.parametrize("count", [0, -1])
def test_a_count_below_one_is_refused(count: int) -> None:
    with pytest.raises(ScrubError, match=f"^{count} workers.*at least 1$"):
        local_workers(count, "cpu")


def test_a_device_that_is_not_there_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 0)
    with pytest.raises(ScrubError, match="no CUDA device"):
        local_workers(2, "cuda")
    with pytest.raises(ScrubError, match="no device 'tpu'"):
        local_workers(2, "tpu")


def test_by_default_there_are_as_many_as_cores_that_may_be_used() -> None:
    with local_workers(None, "cpu") as workers:
        assert 1 <= workers.count <= len(os.sched_getaffinity(0))


@pytest.mark.parametrize(
    ("device", "visible", "seen"),
    [
        ("cuda", None, ["0", "1", "0"]),
        ("cuda", "5, GPU-a,7", ["5", "GPU-a", "5"]),
        ("cuda:1", "5, GPU-a,7", ["GPU-a"]),
    ],
)
def test_a_worker_sees_one_gpu(
    monkeypatch: pytest.MonkeyPatch, device: str, visible: str | None, seen: list[str]
) -> None:
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    if visible is not None:
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    assert local_workers(None, device).count == len(set(seen))
    with local_workers(len(seen), device) as workers:
        futures = [workers.submit(i, lambda: os.environ["CUDA_VISIBLE_DEVICES"]) for i in range(len(seen))]
        assert [future.result(SECONDS) for future in futures] == seen


def start(folder: Path, script: str) -> subprocess.Popen[str]:
    """A user's script, without the `if __name__ == "__main__"` that spawned processes usually need."""
    path = folder / "script.py"
    path.write_text(textwrap.dedent(script))
    command = [sys.executable, str(path)]
    pipe = subprocess.PIPE
    heard = partial(signal.signal, signal.SIGINT, signal.SIG_DFL)  # which programs behind `&` are started deaf to
    return subprocess.Popen(command, stdout=pipe, stderr=pipe, text=True, start_new_session=True, preexec_fn=heard)  # noqa: PLW1509


def test_a_script_needs_no_main_guard(tmp_path: Path) -> None:
    script = """
        from scrub.store.sweeps.workers import local_workers

        def double(number):
            return number * FACTOR

        FACTOR = 2
        with local_workers(2, "cpu") as workers:
            print([workers.submit(i, double, i + 3).result() for i in range(2)])
    """
    out, err = start(tmp_path, script).communicate(timeout=SECONDS)
    assert (out, err) == ("[6, 8]\n", "")


BUSY = """
    import os, sys, time
    from scrub.store.sweeps.workers import local_workers

    try:
        with local_workers(2, "cpu") as workers:
            print(*(workers.submit(i, os.getpid).result() for i in range(2)), flush=True)
            futures = [workers.submit(i, time.sleep, 1000) for i in range(2)]
            futures[0].result()
    except KeyboardInterrupt:
        sys.exit(130)
"""


def test_workers_end_when_their_parent_is_killed(tmp_path: Path) -> None:
    parent = start(tmp_path, BUSY)
    assert parent.stdout is not None
    pids = [int(pid) for pid in parent.stdout.readline().split()]
    assert len(pids) == 2
    assert all(alive(pid) for pid in pids)
    parent.kill()
    parent.wait(SECONDS)
    wait_until(lambda: not any(alive(pid) for pid in pids))


def test_ctrl_c_ends_everything_without_a_word(tmp_path: Path) -> None:
    parent = start(tmp_path, BUSY)
    assert parent.stdout is not None
    pids = [int(pid) for pid in parent.stdout.readline().split()]
    os.killpg(parent.pid, signal.SIGINT)  # as a terminal does
    _, err = parent.communicate(timeout=SECONDS)
    assert (parent.returncode, err) == (130, "")
    wait_until(lambda: not any(alive(pid) for pid in pids))


def test_ctrl_c_while_workers_start_is_as_quiet(tmp_path: Path) -> None:
    script = """
        import os, signal, sys
        from scrub.store.sweeps.workers import local_workers

        with local_workers(2, "cpu") as workers:
            future = workers.submit(0, sum, [2, 3])
            try:
                os.killpg(0, signal.SIGINT)
            except KeyboardInterrupt:
                pass
            print(future.result())
    """
    out, err = start(tmp_path, script).communicate(timeout=SECONDS)
    assert (out, err) == ("5\n", "")
