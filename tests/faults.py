"""Break the code on purpose, one small fault at a time, and see whether tests turn red.

    python tests/faults.py --each 1                     # one fault of every function of GUARDS
    python tests/faults.py --only plan/order.py         # all faults of one module, or `module:function`

Faults are written into a copy of the project, where the tests run that are nearest to the broken module: what they
don't notice has survived, and the exit status is 1. A survivor is a hole in the tests, code that does nothing, or a
fault that changes no number: for the last, a line in EQUIVALENT says why.
"""

from __future__ import annotations

import argparse
import os
import random
import shutil
import signal
import sys
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import suppress
from fnmatch import fnmatch
from importlib import import_module
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, NoReturn

import pytest
from broken import Fault, faults
from hypothesis import HealthCheck, Phase, settings
from tqdm import tqdm

ROOT = Path(__file__).parent.parent
COPIED = ("scrub", "tests", "hypotheses", "models", "data", "pyproject.toml")
TIMEOUT_S = 300  # of the tests of one fault: that one loops forever is noticed
NOTE = "first_failure.txt"  # where a process writes it
PHASES = (Phase.explicit, Phase.generate)  # the first example is enough: none of the time for a smaller one
WARM = (  # slow to import, and none of it imports scrub: every process finds it there
    *("torch", "torch._meta_registrations", "torch._refs", "torch.fx.experimental.symbolic_shapes", "sympy", "numpy"),
    *("pandas", "scipy.stats", "networkx", "einops", "tokenizers", "safetensors.torch", "pydantic", "datasets"),
    *("pyarrow.parquet", "rich.progress", "typer.testing", "yaml", "loky", "jaxtyping", "beartype", "xdist.scheduler"),
)
ORACLE = "plan/test_against_oracle.py"

# The modules of scrub/ that are broken, and which files of tests/ may notice, the most probable first. The first
# pattern that a module fits counts.
SOURCES = ("paths/test_rules.py", "paths/test_held.py", "study/test_kinds_of_source.py", "study/test_held_gates.py")
GUARDS: dict[str, tuple[str, ...]] = {
    "graph/masks.py": ("graph/test_masks.py", ORACLE, "graph/*", "paths/*", "study/test_held_gates.py"),
    "graph/heads.py": (ORACLE, "graph/test_restrict.py", "paths/test_splits.py", "graph/*", "plan/*", "paths/*"),
    "graph/stream.py": ("measure/test_on_decoders.py", "measure/weights/test_composition.py", "measure/stream/*"),
    "graph/node.py": ("graph/test_node.py", ORACLE, "plan/test_plan.py", "graph/*", "paths/*", "plan/*"),
    "graph/*": (ORACLE, "graph/test_ops.py", "plan/test_plan.py", "study/test_metric.py", "graph/*", "plan/*"),
    "plan/leaves.py": ("plan/test_gradients.py", "plan/test_plan.py", "study/test_runs.py", ORACLE),
    "plan/runner.py": ("plan/test_gradients.py", "study/test_runs.py", "study/test_evaluate.py", "plan/*"),
    "plan/capture.py": ("plan/test_capture.py", "plan/test_fused.py"),
    "plan/fused.py": ("plan/test_fused.py",),
    "plan/products.py": ("plan/test_products.py", "study/test_tf32.py"),
    "plan/memory.py": ("plan/test_busy.py", "study/test_evaluate.py", "study/test_runs.py", "measure/heads/*"),
    "plan/simplify.py": (
        "plan/test_simplify.py",
        "plan/test_simplify_positions.py",
        ORACLE,
        "plan/test_plan.py",
        "golden/*",
        "plan/*",
    ),
    "plan/fuse.py": ("plan/test_fuse.py", ORACLE, "plan/test_plan.py", "plan/*", "golden/*"),
    "plan/heads.py": ("plan/test_heads.py", ORACLE, "graph/test_restrict.py", "plan/*", "golden/*"),
    "plan/grouped.py": ("plan/test_grouped.py", "graph/test_restrict.py", "plan/*"),
    "plan/order.py": ("plan/test_order.py", "plan/test_plan.py", ORACLE, "plan/*", "golden/*"),
    "plan/*": ("plan/test_plan.py", ORACLE, "golden/*", "plan/*", "paths/*", "study/test_runs.py"),
    "paths/foreign.py": ("paths/test_foreign.py",),
    "paths/sites.py": ("measure/interventions/*", "paths/*", "cli/test_intervention_commands.py"),
    "paths/scope.py": ("study/test_null.py",),
    "paths/difference.py": ("show/test_difference.py", "show/test_picture.py", "show/test_text.py"),
    "paths/tree.py": ("show/test_path_tree.py", "show/test_difference.py", "show/test_text.py", "show/test_drawing.py"),
    "paths/listing.py": ("show/test_text.py", "show/test_path_tree.py", "show/test_picture.py"),
    "paths/sources.py": (
        *SOURCES,
        "show/test_sources.py",
        "measure/interventions/test_ablation.py",
        "study/test_pairing.py",
    ),
    "paths/hashes.py": ("paths/test_hashes.py", "store/results/test_identity.py"),
    "paths/splits.py": (
        "paths/test_splits.py",
        ORACLE,
        "measure/interventions/test_patching.py",
        "paths/*",
        "study/test_notation.py",
    ),
    "paths/locate.py": ("paths/test_locate.py", ORACLE, "paths/test_splits.py", "paths/*", "plan/test_growth.py"),
    "paths/pattern.py": ("paths/test_pattern.py", ORACLE, "paths/*", "study/test_notation.py", "plan/test_growth.py"),
    "paths/rules.py": (ORACLE, "paths/test_rules.py", "paths/test_held.py", "study/test_held_gates.py", "paths/*"),
    "paths/*": (ORACLE, "paths/test_rules.py", "paths/test_held.py", "paths/*", "study/test_held_gates.py"),
    "measure/circuits/*": ("measure/circuits/*",),
    "models/hub/*": (
        "models/hub/test_faults.py",
        "models/hub/test_data_sets.py",
        "models/hub/test_names.py",
        "models/hub/test_fetch.py",
    ),
    "study/claims.py": ("study/test_claims.py", "store/comparisons/*", "show/reports/*"),
    "study/draws.py": ("study/test_pairing.py", "study/test_own_draws.py", "study/test_kinds_of_source.py", "study/*"),
    "study/gates.py": ("study/test_gates.py", "study/test_held_gates.py", "study/test_own_draws.py", "study/*"),
    "study/looks.py": ("study/test_gates.py", "study/test_held_gates.py", "study/test_evaluate.py", "study/*"),
    "study/metric.py": (ORACLE, "study/test_metric.py", "study/test_evaluate.py", "golden/*"),
    "study/statistics.py": ("study/test_statistics.py", "store/comparisons/test_comparison.py", "study/test_runs.py"),
}

# Faults that change no number, by place, what stood there, and what stands there instead.
EQUIVALENT: dict[tuple[str, str, str], str] = {
    ("plan/runner.py:<module>", "NUMBERS_ON_CARD = 1 << 27", "NUMBERS_ON_CARD = 2 << 27"): "only how fast a card is",
    (
        "plan/capture.py:Replay._replay",
        "non_blocking=True",
        "non_blocking=False",
    ): "only how long the host waits",
    (
        "plan/capture.py:Replay._capture",
        "replayed[name], value",
        "value, replayed[name]",
    ): "equal is equal the other way round",
    (
        "plan/capture.py:_equal",
        "one.nan_to_num(), other.nan_to_num()",
        "other.nan_to_num(), one.nan_to_num()",
    ): "equal is equal the other way round",
    (
        "plan/capture.py:_equal",
        "one.isnan(), other.isnan()",
        "other.isnan(), one.isnan()",
    ): "equal is equal the other way round",
    (
        "plan/products.py:multiplying",
        "before[0] is None",
        "before[1] is None",
    ): "torch has both or none",
    ("graph/ops.py:take_rows", "x.movedim(-2, 1)", "x.movedim(1, -2)"): "of three or four axes it is the same one",
    ("graph/ops.py:transpose", "return table.T.contiguous()", "return table.T"): "the same numbers in another order",
    (
        "graph/ops.py:dot",
        'torch.einsum("bpw,bpw->bp", left, right)',
        'torch.einsum("bpw,bpw->bp", right, left)',
    ): "a product of numbers is the same the other way round",
    (
        "paths/sites.py:_before",
        "number.isdecimal() and len(number) < 5 and int(number) <= layers",
        "number.isdecimal() and (len(number) <= 5) and int(number) <= layers",
    ): "a number so long is beyond any model's layers",
    (
        "paths/sites.py:_before",
        "number.isdecimal() and len(number) < 5 and int(number) <= layers",
        "number.isdecimal() and len(number) < 6 and int(number) <= layers",
    ): "a number so long is beyond any model's layers",
    ("paths/sources.py:Source", "rank: ClassVar[int] = 2", "rank: ClassVar[int] = 3"): "after the others all the same",
    ("paths/sources.py:Reference", "rank = 0", "rank = 1"): "x comes before y by name too",
    ("paths/hashes.py:<module>", "HASH_DIGITS = 32", "HASH_DIGITS = 33"): "more digits tell no less apart",
    (
        "paths/hashes.py:_short",
        "hashlib.sha256(content).hexdigest()[:HASH_DIGITS]",
        "hashlib.sha256(content).hexdigest()[:(HASH_DIGITS + 1)]",
    ): "more digits tell no less apart",
    (
        "paths/hashes.py:hash_graph",
        "hash_of(node.op, static, feature, [hashes[i] for i in node.inputs])",
        "hash_of(static, node.op, feature, [hashes[i] for i in node.inputs])",
    ): "all of it is hashed, in whichever order",
    (
        "study/looks.py:_seen",
        "np.full_like(numbers[:1], len(ids))",
        "np.full_like(numbers[:2], len(ids))",
    ): "nothing points to a second row of NaN",
    (
        "study/looks.py:few_of",
        "scored & (from_the_end <= POSITIONS)",
        "(scored)",
    ): "only how much the gates look at",
    (
        "study/gates.py:_same",
        "found[name] - found[of]",
        "(found[of] - found[name])",
    ): "it is the absolute value that counts",
    ("study/metric.py:Metric.__hash__", "return hash(self.digest)", "return 0"): "only how fast metrics are found",
    (
        "paths/sources.py:Mean.value",
        "return stand.mean()",
        "return stand",
    ): "study/held.py makes all means at once itself",
    (
        "paths/difference.py:_Difference._named",
        "step.label or step.op, 0",
        "step.label or step.op, 1",
    ): "steps of one name are numbered, from whichever number",
    (
        "paths/pattern.py:Pattern",
        "field(init=False, compare=False, repr=False)",
        "field(init=False, compare=True, repr=False)",
    ): "equal texts have equal steps",
}


def guards(path: str) -> list[Path]:
    """List the test files that may notice a fault of a module, the most probable first."""
    patterns = next(found for pattern, found in GUARDS.items() if fnmatch(path, pattern))
    found = [sorted((ROOT / "tests").glob(pattern)) for pattern in patterns]
    assert all(found), f"some of {patterns} are no files"
    tests = (file.relative_to(ROOT) for files in found for file in files if file.name.startswith("test_"))
    return list(dict.fromkeys(tests))


class _Watch:
    """A plugin of pytest that notes which test is the first to fail."""

    def __init__(self, note: Path) -> None:
        self.note = note

    def pytest_runtest_logreport(self, report: Any) -> None:
        self._noted(report, report.nodeid)

    def pytest_collectreport(self, report: Any) -> None:
        self._noted(report, f"{report.nodeid}, which can't be imported")

    def _noted(self, report: Any, name: str) -> None:
        if report.failed and not self.note.exists():
            self.note.write_text(name)


def child(copied: Path, files: Sequence[Path], timeout: int) -> NoReturn:
    """Run tests in a copy, in a process of their own that ends with the exit status of the first that isn't green."""
    os.setsid()
    silent = os.open(os.devnull, os.O_RDWR)
    for stream in (0, 1, 2):
        os.dup2(silent, stream)
    os.chdir(copied)
    sys.path[:] = [str(copied), *(each for each in sys.path if each not in {"", str(ROOT), str(ROOT / "tests")})]
    sys.dont_write_bytecode = False  # compiled once for all faults but the one's module
    os.environ |= {"PYTHONPATH": str(copied), "HYPOTHESIS_PROFILE": "faults"}
    quick = settings(derandomize=True, max_examples=25, database=None, deadline=None, phases=PHASES)
    settings.register_profile("faults", quick, suppress_health_check=list(HealthCheck))
    signal.alarm(timeout)  # which ends the process
    names = [str(file) for file in files]
    status = pytest.main(["-x", "-q", "-p", "no:cacheprovider", *names], plugins=[_Watch(copied / NOTE)])
    os._exit(int(status))


class Copy:
    """A copy of the project, in which one fault at a time is made."""

    def __init__(self, folder: Path, number: int) -> None:
        self.folder, self.writes, self.whole = folder / str(number), 0, b""
        for name in COPIED:
            if (ROOT / name).is_dir():
                shutil.copytree(ROOT / name, self.folder / name, ignore=shutil.ignore_patterns("__pycache__"))
            else:
                shutil.copy(ROOT / name, self.folder / name)

    def start(self, fault: Fault | None, files: Sequence[Path], timeout: int) -> int:
        """Start the tests in a process, and give its number."""
        (self.folder / NOTE).unlink(missing_ok=True)
        if fault:
            whole = self.whole = (self.folder / "scrub" / fault.path).read_bytes()
            self._write(fault, whole[: fault.start] + fault.text.encode() + whole[fault.end :])
        number = os.fork()
        if number == 0:
            child(self.folder, files, timeout)
        return number

    def end(self, fault: Fault | None) -> str:
        """Mend what a fault broke, and give the test that noticed first; an empty text if none did."""
        if fault:
            self._write(fault, self.whole)
        note = self.folder / NOTE
        return note.read_text() if note.exists() else ""

    def _write(self, fault: Fault, source: bytes) -> None:
        """Write the module as of a time of its own, by which Python knows compiled files that are out of date."""
        path = self.folder / "scrub" / fault.path
        path.write_bytes(source)
        self.writes += 1
        os.utime(path, (self.writes, self.writes))


def outcome(status: int, note: str) -> str:
    """Say who noticed a fault, from how the process of its tests ended; an empty text if nobody did."""
    if os.WIFSIGNALED(status):
        return "time" if os.WTERMSIG(status) == signal.SIGALRM else f"signal {os.WTERMSIG(status)}"
    code = os.WEXITSTATUS(status)
    return note or (f"pytest, which exits with {code}" if code else "")


def noticed(
    chosen: Sequence[Fault | None], files: Sequence[Sequence[Path]], jobs: int, timeout: int
) -> Iterator[tuple[int, str]]:
    """Run the tests of every fault, and give its number and who noticed it, as they end."""
    for name in WARM:
        import_module(name)
    with TemporaryDirectory(prefix="faults-") as folder:
        free = [Copy(Path(folder), number) for number in range(min(jobs, len(chosen)))]
        running: dict[int, tuple[int, Copy]] = {}
        waiting = list(enumerate(chosen))[::-1]
        while waiting or running:
            while waiting and free:
                at, fault = waiting.pop()
                where = free.pop()
                running[where.start(fault, files[at], timeout)] = (at, where)
            number, status = os.wait()
            with suppress(ProcessLookupError):  # what its tests may have started and left
                os.killpg(number, signal.SIGKILL)
            at, where = running.pop(number)
            free.append(where)
            yield at, outcome(status, where.end(chosen[at]))


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", default="", help="faults of which the place, module:function, holds this text")
    parser.add_argument("--each", type=int, help="at most so many faults of each function")
    parser.add_argument("--sample", type=int, help="at most so many faults in all")
    parser.add_argument("--seed", type=int, default=0, help="which these are")
    parser.add_argument("--list", action="store_true", help="list the faults and run nothing")
    parser.add_argument("--jobs", type=int, default=1, help="how many processes run tests")
    parser.add_argument("--timeout", type=int, default=TIMEOUT_S, help="seconds for the tests of one fault")
    parser.add_argument("--near", type=int, help="run only so many files of tests for a module, the nearest")
    parser.add_argument("--trust", action="store_true", help="don't run the tests on what isn't broken first")
    given = parser.parse_args()
    chosen = choose(given.only, given.each, given.sample, given.seed)
    if given.list:
        sys.stdout.writelines(f"{fault}\n" for fault in chosen)
        return 0
    nearby = [guards(fault.path)[: given.near] for fault in chosen]
    every = list(dict.fromkeys(file for files in nearby for file in files))
    for _, by in [] if given.trust else noticed([None], [every], 1, 10 * given.timeout):
        if by:
            sys.exit(f"nothing is broken yet, and this is red: {by}")
    made, survived = Counter[str](), Counter[str]()
    survivors: list[Fault] = []
    bar = tqdm(total=len(chosen), unit="fault")
    for at, by in noticed(chosen, nearby, given.jobs, given.timeout):
        fault = chosen[at]
        made[fault.operator] += 1
        if not by:
            survived[fault.operator] += 1
            survivors.append(fault)
        bar.update()
        bar.write(f"{fault}: {f'killed by {by}' if by else 'SURVIVED'}")
    bar.close()
    lines = [f"{operator:<12}{made[operator]:>5} made{survived[operator]:>5} survived" for operator in sorted(made)]
    sys.stdout.write("\n".join([*lines, *(f"SURVIVED {fault}" for fault in survivors)]) + "\n")
    return int(bool(survivors))


def choose(only: str, each: int | None, sample: int | None, seed: int) -> list[Fault]:
    """Choose among all faults that change a number, in the order of the modules."""
    package = ROOT / "scrub"
    paths = (str(path.relative_to(package)) for path in sorted(package.rglob("*.py")) if path.name != "__init__.py")
    every = [
        fault
        for path in paths
        if any(fnmatch(path, pattern) for pattern in GUARDS)
        for fault in faults(path, (package / path).read_bytes())
    ]
    if stale := EQUIVALENT.keys() - {(f.place, f.before, f.after) for f in every}:
        sys.exit(f"no such fault is made any more, so it needs no reason: {sorted(stale)[0]}")
    every = [f for f in every if only in f.place and (f.place, f.before, f.after) not in EQUIVALENT]
    lot = random.Random(seed)
    if each is not None:
        functions: dict[str, list[Fault]] = {}
        for fault in every:
            functions.setdefault(fault.place, []).append(fault)
        every = [fault for found in functions.values() for fault in lot.sample(found, min(each, len(found)))]
    chosen = set(every if sample is None else lot.sample(every, min(sample, len(every))))
    return [fault for fault in every if fault in chosen]


if __name__ == "__main__":
    sys.exit(main())
