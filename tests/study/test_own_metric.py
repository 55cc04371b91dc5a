"""Functions as metrics: what they are given and may give, and the hash of their code."""

from __future__ import annotations

import importlib
import os
import subprocess
import sys
import threading
from collections.abc import Callable
from functools import partial
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import torch
from prompted import prompts

import scrub
from scrub.study.code import code_hash
from scrub.study.evaluate import Evaluator
from scrub.study.metric import Metric
from scrub.study.own_metric import Own


def adds(logits: Any, offset: float) -> Any:
    return logits.sum(1) + offset


class Scaled:
    """A callable object, whose state counts."""

    def __init__(self, scale: float) -> None:
        self.scale = scale

    def __call__(self, logits: Any) -> Any:
        return logits.sum(1) * self.scale


def closed(by: object) -> Callable[..., Any]:
    return lambda logits: logits.sum(1) + by  # type: ignore[operator]


def test_the_hash_of_code() -> None:
    """The same for the same, another for another: closures, partial functions, objects, tensors, methods."""

    def of(function: Callable[..., Any]) -> str:
        return scrub.Metric.of(function, name="mine").digest

    same = [(closed(2.0), closed(2.0)), (partial(adds, offset=1.0), partial(adds, offset=1.0)), (Scaled(2), Scaled(2))]
    same += [(closed(torch.ones(3)), closed(torch.ones(3))), (Scaled(3).__call__, Scaled(3).__call__)]
    same += [(partial(torch.nn.functional.cross_entropy, reduction="none"),) * 2]
    for one, other in same:
        assert of(one) == of(other)
    others = [closed(3.0), partial(adds, offset=2.0), Scaled(3), closed(torch.zeros(3)), Scaled(4).__call__]
    others += [closed(np.ones(3)), closed(np.zeros(3))]
    hashes = [of(one) for one, _ in same] + [of(each) for each in others]
    assert len(set(hashes)) == len(hashes)


def test_the_hash_is_the_same_in_every_process(tmp_path: Path) -> None:
    """Whatever order sets have there, and wherever the file lies."""
    code = """
import numpy as np
WORDS, SCALE, NAMES = {"a", "b", "c"}, np.arange(3), {"x": 1.5}
class Held:
    def __init__(self): self.of = WORDS
    def value(self): return len(self.of) in {"d", "e", "f"}
held = Held()
def mine(logits, answers=None): return logits[:, 0] * SCALE.sum() + held.value() + NAMES["x"]
from scrub.study.code import code_hash
print(code_hash(mine, "mine"))
"""
    found = set()
    for seed in ("1", "2"):
        (tmp_path / f"own_{seed}.py").write_text("# another line\n" * int(seed) + code)
        environment = {**os.environ, "PYTHONHASHSEED": seed, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
        done = subprocess.run(
            [sys.executable, tmp_path / f"own_{seed}.py"], env=environment, capture_output=True, text=True, check=True
        )
        found.add(done.stdout)
    assert len(found) == 1


MODULES = {
    "owned/__init__.py": "",
    "owned/sub.py": "from . import deep\ndef f(x): return deep.f(x)",
    "owned/deep.py": "def f(x): return x[:, 0] * 1.0",
    "owned_bare/within.py": "def f(x): return x[:, 0] * 1.0",  # a package without a file
    "owned_helper.py": "import owned_helper_of as it\ndef f(x): return it.f(x)",
    "owned_helper_of.py": "def f(x): return x[:, 0] * 1.0",
    "owned_inside.py": "def f(x): return x[:, 0] * 1.0",
    "owned_cached.py": "import functools\n@functools.lru_cache\ndef f(): return 1.0",
    "owned_apart.py": "def f(x): return x[:, 0] * 1.0",
}
CALLED = """
import owned.sub, owned_bare.within, owned_helper
from owned_cached import f as cached
def mine(logits):
    import numpy, torch
    from owned_inside import f
    try:
        import nothing_of_this_name
    except ImportError:
        pass
    return owned.sub.f(logits) + owned_bare.within.f(logits) + owned_helper.f(logits) + f(logits) * cached()
"""


@pytest.mark.parametrize(
    "changed",
    ["owned/deep.py", "owned_bare/within.py", "owned_helper_of.py", "owned_inside.py", "owned_cached.py", None],
)
def test_the_hash_is_of_what_ones_own_modules_use(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, changed: str | None
) -> None:
    """Whichever way they are imported, and by one another; what they don't use, and comments, change nothing."""
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(sys, "dont_write_bytecode", True)

    def digest(**replaced: str) -> str:
        for name in [each for each in sys.modules if each.startswith("owned")]:
            del sys.modules[name]
        for name, code in {**MODULES, **replaced}.items():
            (tmp_path / name).parent.mkdir(exist_ok=True)
            (tmp_path / name).write_text(code)
        importlib.invalidate_caches()
        known: dict[str, Any] = {}
        exec(CALLED, known)
        found = code_hash(known["mine"], "mine")
        assert "owned_inside" not in sys.modules  # which is found, and not run
        return found

    before = digest()
    if changed is None:
        assert (
            digest(**{"owned_apart.py": "2", "owned_helper_of.py": "# said\n" + MODULES["owned_helper_of.py"]})
            == before
        )
    else:
        assert digest(**{changed: MODULES[changed].replace("1.0", "2.0")}) != before


def test_a_module_without_a_file_is_refused() -> None:
    made = ModuleType("made_here")
    with pytest.raises(scrub.ScrubError, match="made_here"):
        scrub.Metric.of(closed(made))


@pytest.mark.parametrize(
    ("function", "named"),
    [
        (lambda logits, labels, unscrubbed, more: logits + labels + unscrubbed + more, "more"),
        (lambda: 1, "no logits"),
        (lambda *logits: logits, "logits"),
        (print, "print"),
        (closed(threading.Lock()), "hash"),
    ],
)
def test_functions_that_are_no_metric(function: Callable[..., Any], named: str) -> None:
    with pytest.raises(scrub.ScrubError, match=named):
        scrub.Metric.of(function)


@pytest.mark.parametrize(
    ("function", "named"),
    [
        (lambda logits: logits, r"float64 \[14, 31\] for 14 rows"),
        (lambda logits: logits.mean(), r"\[\] for"),
        (lambda logits: logits[:, 0] * 1j, "complex128"),
        (lambda logits: logits.tolist(), "list and no tensor"),
        (lambda logits: logits[:, 0].numpy(), r"float64 \[14\], a ndarray and no tensor"),
        (lambda logits: logits[:, 0] - logits[:, 0].mean(), "other rows"),
        (lambda logits: logits[:, 0] + torch.arange(len(logits)), "other rows"),
        (lambda logits: logits / (1 // 0), "ZeroDivisionError"),
        (lambda logits: logits[:, 0] + logits[99], "IndexError"),
    ],
)
def test_what_a_function_gives(function: Callable[..., Any], named: str) -> None:
    with pytest.raises(scrub.ScrubError, match=named) as caught:
        Own.of(function, "mine")(torch.arange(434, dtype=torch.float64).view(2, 7, 31))
    assert "\n" not in str(caught.value)
    assert "'mine'" in str(caught.value)


def test_logits_that_are_there_once_and_ids_of_several() -> None:
    """As where all sequences read the same; ids of fewer are filled with -1."""
    logits, ids = torch.randn(1, 7, 31, dtype=torch.float64), torch.randint(31, (2, 7, 3))
    weights = torch.ones(2, 7, 3)
    weights[0, :, 2] = 0
    seen = []

    def looks(logits: Any, wrong: Any) -> Any:
        seen.append(wrong)
        return logits[:, 0] > 0

    found = Own.of(looks, "mine")(logits, ids, weights)
    assert found.dtype == torch.float64
    torch.testing.assert_close(found, (logits[..., :1] > 0).double().expand(2, 7, 1))
    assert torch.equal(seen[0].view(2, 7, 3), ids.masked_fill(weights == 0, -1))
    assert Metric.of(looks).name == "looks"
    assert Metric.of(partial(adds, offset=1.0)).name == "adds"
    assert [Metric.of(each).name for each in (Scaled(2.0), lambda logits: logits[:, 0])] == ["Scaled", "lambda"]
    with pytest.raises(scrub.ScrubError, match="'kl'"):
        Metric.of(looks, name="kl")


def test_metrics_in_which_nothing_is_there_to_recover() -> None:
    """They are left out with a note, whichever stands first; titles of what is left lie apart."""
    settings = scrub.Settings(dtype="float64", parts=("k",), progress=False)
    metric = [scrub.Metric.of(lambda logits: logits[:, 0] * 0, name="nothing"), "logit_diff"]
    result = scrub.run("induction/naive", data=prompts(), settings=settings, metric=metric)
    assert (result.metric, [*result.by_metric]) == ("logit_diff", ["logit_diff"])
    (note,) = [note for note in result.notes if note.startswith("no nothing")]
    assert "the baseline gives the unscrubbed nothing" in note
    figure = result.plot()
    figure.draw_without_rendering()
    one, other = (axes._left_title.get_window_extent() for axes in figure.axes)  # type: ignore[attr-defined]
    assert not one.overlaps(other)


def test_functions_get_copies() -> None:
    """One that writes into what it gets changes nothing else."""

    def spoils(logits: Any, unscrubbed: Any) -> Any:
        logits.zero_()
        unscrubbed.zero_()
        return logits[:, 0] + 1

    settings = scrub.Settings(dtype="float64", parts=("k",), progress=False)
    trial = scrub.prepare("induction/naive", data=prompts(), settings=settings, metric=["loss", spoils])
    alone = scrub.run("induction/naive", data=prompts(), settings=settings)
    found = Evaluator(trial.model, trial.experiments, trial.metrics, settings)(trial.pairing(0))
    for name in trial.experiments.names:
        np.testing.assert_allclose(found.sums["loss", name], alone.loss[name], rtol=0, atol=1e-9)
