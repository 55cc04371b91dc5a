"""A metric that is somebody's own function of tensors, and what it is given."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from scrub.data.choices import ANSWERS, WRONG
from scrub.data.repeated import NOWHERE
from scrub.graph.node import Node, node
from scrub.study.code import code_hash
from scrub.text.errors import ScrubError
from scrub.text.fields import theirs
from scrub.text.wording import short

if TYPE_CHECKING:
    from torch import Tensor

LOGITS, TARGETS, UNSCRUBBED = "logits", "targets", "unscrubbed"
IN_ORDER = (LOGITS, TARGETS, UNSCRUBBED)
_ALONE = [-1, 0, 1]  # rows that are looked at by themselves, in this order, or as many but one as there are
_NEAR, _NEAR_COARSE = 1e-3, 3e-2  # how near their numbers are then, relatively: of float32 or finer, and of less
BY_NAME = (*IN_ORDER, ANSWERS, WRONG)
FORM = "write it as `def margin(logits, targets, unscrubbed)`, with `answers` and `wrong` if it needs them"


@dataclass(frozen=True, eq=False)
class Own:
    """Somebody's function of rows of logits, as the operation `call` runs it: told apart by the hash of its code.

    `takes` says what each of its parameters is given, logits first. See :meth:`scrub.study.metric.Metric.of`.
    """

    function: Callable[..., Any] = field(repr=False)
    name: str = field(repr=False)
    takes: tuple[tuple[str, str], ...]
    digest: str
    _seen: list[bool] = field(default_factory=list, repr=False)  # whether rows were seen to be by themselves

    @classmethod
    def of(cls, function: Callable[..., Any], name: str) -> Own:
        """Look at a function. Raises ScrubError for parameters that it can't be given, or what no hash is of."""
        return cls(function, name, _takes(function, name), code_hash(function, f"the metric {name!r}"))

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Own) and (self.digest, self.takes) == (other.digest, other.takes)

    def __hash__(self) -> int:
        return hash((self.digest, self.takes))

    def nodes(self, logits: Node, unscrubbed: Node) -> Node:
        """Make the node of its number a row: what a :class:`scrub.study.metric.Metric` is made of."""
        given: dict[str, tuple[Node, ...]] = {
            **{LOGITS: (logits,), TARGETS: (node("target"),), UNSCRUBBED: (unscrubbed,)},
            **{of: (node("choices", of=of), node("weights", of=of)) for of in (ANSWERS, WRONG)},
        }
        return node("call", *(each for _, what in self.takes for each in given[what]), function=self)

    def __call__(self, *inputs: Tensor) -> Tensor:
        """Call it on rows [row, ...] of logits and what else it takes, all [batch, position, ...].

        It gets copies, so that it may write into them. Raises ScrubError for what it raises, another shape or dtype, or
        a number that depends on which rows stand beside, which is looked at once.
        """
        import torch

        logits = inputs[0]
        # logits that are the same for all sequences are there once
        lead = torch.Size(map(max, zip(*(each.shape[:-1] for each in inputs), strict=True)))
        if logits.device.type == "meta":  # which tells how much memory a batch needs, and has no numbers
            return logits.new_empty(*lead, 1) + torch.empty_like(logits).sum()
        rows = [each.expand(*lead, each.shape[-1]).reshape(-1, each.shape[-1]) for each in inputs]
        if logits.is_cuda and torch.cuda.is_current_stream_capturing():
            made = self._called(rows)  # what can't be captured is told to whoever captures
        else:
            with theirs(f"the metric {self.name!r} fails", "mend it"):
                made = self._called(rows)
            if not self._seen and not torch.equal(rows[0][:1], rows[0][-1:]):  # which one row alone is
                with torch.no_grad():
                    self._check_alone(made, rows)
        return made.to(logits.dtype).reshape(*lead, 1)

    def _called(self, rows: Sequence[Tensor]) -> Tensor:
        """Call it on rows [row, ...]. Raises ScrubError unless it gives a real number for each."""
        import torch

        inputs, count = iter(rows), len(rows[0])
        made = self.function(**{parameter: _given(what, inputs) for parameter, what in self.takes})
        if not isinstance(made, torch.Tensor) or made.shape != (count,) or made.is_complex():
            no_tensor = "" if isinstance(made, torch.Tensor) else f", a {type(made).__name__} and no tensor,"
            what = f"{str(made.dtype).removeprefix('torch.')} {list(made.shape)}" if hasattr(made, "dtype") else made
            raise ScrubError(
                f"the metric {self.name!r} gives {short(what, quoted=False)}{no_tensor} for {count} rows: give one "
                f"number a row, a tensor [{count}]"
            )
        return made

    def _check_alone(self, made: Tensor, rows: Sequence[Tensor]) -> None:
        """Raise ScrubError unless a few rows by themselves, in another order, give what they gave among all."""
        import torch

        some = _ALONE[: len(made) - 1]
        among = made[some].double()
        with theirs(f"the metric {self.name!r} fails on {len(some)} of its rows", "mend it"):
            alone = self._called([each[some] for each in rows]).double()
        near = _NEAR_COARSE if rows[0].element_size() < torch.float32.itemsize else _NEAR
        close = near * float(among.nan_to_num(0, 0, 0).abs().max())
        if not torch.allclose(alone, among, rtol=near, atol=close, equal_nan=True):
            at = int((alone - among).abs().argmax())
            raise ScrubError(
                f"the metric {self.name!r} gives a row {among[at]:.4g} or {alone[at]:.4g}, as other rows stand beside: "
                "it would depend on the batch, so make each number of its own row alone, and draw nothing"
            )
        self._seen.append(True)


def _given(what: str, rows: Iterator[Tensor]) -> Tensor:
    """Take what one parameter is given from the inputs that are left."""
    first = next(rows)
    if what in {ANSWERS, WRONG}:
        return first.masked_fill(next(rows) == 0, NOWHERE)
    return first[:, 0] if what == TARGETS else first.clone()


def _takes(function: Callable[..., Any], name: str) -> tuple[tuple[str, str], ...]:
    """Say what each parameter is given: by its name, or as one of the first three by its place."""
    looked_at: Any = function if inspect.isroutine(function) else getattr(function, "forward", function)  # a module
    try:
        parameters = inspect.signature(looked_at).parameters
    except (ValueError, TypeError) as error:
        raise ScrubError(f"the metric {name!r} doesn't say which parameters it takes: {FORM}") from error
    found: list[tuple[str, str]] = []
    for at, (called, each) in enumerate(parameters.items()):
        placed = IN_ORDER[at] if at < len(IN_ORDER) and IN_ORDER[at] not in parameters else None
        what = called if called in BY_NAME else placed if each.default is each.empty else None
        if what is not None and each.kind in {each.POSITIONAL_OR_KEYWORD, each.KEYWORD_ONLY}:
            found.append((called, what))
        elif each.default is each.empty and each.kind != each.VAR_KEYWORD:
            raise ScrubError(f"the metric {name!r} takes {str(each)!r}, and there is nothing to give it: {FORM}")
    if LOGITS not in {what for _, what in found}:
        raise ScrubError(f"the metric {name!r} takes no logits: {FORM}")
    return tuple(sorted(found, key=lambda each: each[1] != LOGITS))


def name_of(function: Callable[..., Any]) -> str:
    """Name a function; a partial one as what it calls, an object as its class, and a lambda `lambda`."""
    inner = getattr(function, "func", function)
    return str(getattr(inner, "__name__", type(inner).__name__)).strip("<>")
