"""A metric that is somebody's own function of tensors, and what it is given."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator
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

        It gets copies, so that it may write into them. Raises ScrubError for what it raises, or another shape or dtype.
        """
        import torch

        logits = inputs[0]
        # logits that are the same for all sequences are there once
        lead = torch.Size(map(max, zip(*(each.shape[:-1] for each in inputs), strict=True)))
        if logits.device.type == "meta":  # which tells how much memory a batch needs, and has no numbers
            return logits.new_empty(*lead, 1) + torch.empty_like(logits).sum()
        rows = iter([each.expand(*lead, each.shape[-1]).reshape(-1, each.shape[-1]) for each in inputs])
        given = {parameter: _given(what, rows) for parameter, what in self.takes}
        if logits.is_cuda and torch.cuda.is_current_stream_capturing():
            made = self.function(**given)  # what can't be captured is told to whoever captures
        else:
            with theirs(f"the metric {self.name!r} fails", "mend it"):
                made = self.function(**given)
        count = lead.numel()
        if not isinstance(made, torch.Tensor) or made.shape != (count,) or made.is_complex():
            what = f"{str(made.dtype).removeprefix('torch.')} {list(made.shape)}" if hasattr(made, "dtype") else made
            raise ScrubError(
                f"the metric {self.name!r} gives {short(what, quoted=False)} for {count} rows: give one number a row, "
                f"a tensor [{count}]"
            )
        return made.to(logits.dtype).reshape(*lead, 1)


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
