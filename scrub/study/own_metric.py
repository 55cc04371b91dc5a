"""A metric that is somebody's own function of tensors: what it is given, and the hash of its code."""

from __future__ import annotations

import inspect
import sys
import sysconfig
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import CodeType, FunctionType, MethodType, ModuleType
from typing import TYPE_CHECKING, Any

import numpy as np

from scrub.data.choices import ANSWERS, WRONG
from scrub.data.repeated import NOWHERE
from scrub.graph.node import Node, node
from scrub.paths.hashes import hash_array, hash_of
from scrub.text.errors import ScrubError
from scrub.text.fields import theirs
from scrub.text.wording import said, short

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


def code_hash(function: Callable[..., Any], what: str) -> str:
    """Hash what a function does: its code, and the values, functions and classes that it uses, however it was loaded.

    `code_hash(margin, "the metric 'margin'")`. Of what is installed, as torch is, names stand for what they mean; the
    rest is looked into. Comments and blank lines change nothing. Raises ScrubError where it uses what no hash is of.
    """
    return hash_of(_Reader(what).read(function))


_CODE = (
    *("co_argcount", "co_posonlyargcount", "co_kwonlyargcount", "co_flags"),
    *("co_names", "co_varnames", "co_freevars", "co_cellvars"),
)
_ABOUT = frozenset(  # what says nothing of what a class does
    f"__{name}__"
    for name in (
        *("dict", "weakref", "doc", "module", "qualname", "firstlineno", "static_attributes", "slotnames"),
        *("annotations", "annotate_func", "annotations_cache", "annotate"),
    )
)
_INSTALLED = tuple(Path(sysconfig.get_path(each)).resolve() for each in ("stdlib", "platstdlib", "purelib", "platlib"))


class _Reader:
    """Writes values as JSON that is the same for the same code, each once."""

    def __init__(self, what: str) -> None:
        self._what = what
        self._seen: dict[int, tuple[int, object]] = {}  # with the value, whose id would be another's otherwise

    def read(self, value: object) -> object:
        """Write a value. Raises ScrubError for one of which nothing can be said."""
        if value is None or isinstance(value, bool | int | float | complex | str | bytes | type(...)):
            return [type(value).__name__, repr(value)]
        if id(value) in self._seen:
            return ["seen", self._seen[id(value)][0]]
        self._seen[id(value)] = len(self._seen), value
        try:
            return [type(value).__name__, self._inside(value)]
        except ScrubError:
            raise
        except Exception as error:  # it is their own code that pickles it
            raise ScrubError(
                f"{self._what} uses {short(value)}, of which no hash can be made ({said(error) or 'no reason given'}): "
                "let it use numbers, texts, arrays, functions, and objects that can be pickled"
            ) from error

    def _inside(self, value: Any) -> object:
        forms: tuple[tuple[Any, Callable[[Any], object]], ...] = (
            (CodeType, self._code),
            (FunctionType, self._function),
            (MethodType, lambda of: [self.read(of.__func__), self.read(of.__self__)]),
            (ModuleType, lambda of: [of.__name__, None if _installed(of) else _source(of)]),
            (type, self._class),
            (staticmethod | classmethod, lambda of: self.read(of.__func__)),
            (property, lambda of: [self.read(each) for each in (of.fget, of.fset, of.fdel)]),
            (tuple | list, lambda of: [self.read(each) for each in of]),
            (set | frozenset, lambda of: [self.read(each) for each in sorted(of, key=repr)]),
            (Mapping, lambda of: [[self.read(key), self.read(each)] for key, each in of.items()]),
            (np.ndarray, lambda of: self._reduced(of) if of.dtype == object else hash_array(of)),
        )
        if hasattr(type(value), "detach"):  # a tensor, whatever its type; torch needn't be imported to know
            return [str(value.dtype), hash_array(value.detach().cpu().double().numpy())]
        return next((write for kind, write in forms if isinstance(value, kind)), self._reduced)(value)

    def _reduced(self, value: Any) -> object:
        """Write what pickle would make it of."""
        reduced = value.__reduce_ex__(2)
        if isinstance(reduced, str):
            return [getattr(value, "__module__", type(value).__module__), reduced]
        return [self.read(list(each) if isinstance(each, Iterator) else each) for each in reduced]

    def _code(self, code: CodeType) -> object:
        about = [repr(getattr(code, name)) for name in _CODE]
        return [code.co_code.hex(), code.co_exceptiontable.hex(), about, [self.read(each) for each in code.co_consts]]

    def _function(self, function: FunctionType) -> object:
        if _installed(sys.modules.get(function.__module__)):
            return [function.__module__, function.__qualname__, self.read(function.__code__)]
        defaults = self.read(function.__defaults__), self.read(function.__kwdefaults__)
        cells = [self.read(_content(each)) for each in function.__closure__ or ()]
        known = function.__globals__
        used = {name: self.read(known[name]) for name in _names(function.__code__) if name in known}
        return [self.read(function.__code__), defaults, cells, used]

    def _class(self, of: type) -> object:
        name = [of.__module__, of.__qualname__]
        if _installed(sys.modules.get(of.__module__)):
            return name
        members = ((name, each) for name, each in vars(of).items() if name not in _ABOUT and name[:5] != "_abc_")
        inside = {name: self.read(each) for name, each in members}
        return [of.__qualname__, [self.read(each) for each in of.__bases__], inside]


def _source(module: ModuleType) -> str:
    """Hash the file of a module."""
    file = getattr(module, "__file__", None)
    return hash_of(Path(file).read_bytes().hex()) if file else ""


def _names(code: CodeType) -> Iterator[str]:
    """List the names that code looks up, and those of the functions within it."""
    yield from code.co_names
    for each in code.co_consts:
        if isinstance(each, CodeType):
            yield from _names(each)


def _content(cell: Any) -> object:
    try:
        return cell.cell_contents
    except ValueError:  # nothing yet
        return "empty"


def _installed(module: ModuleType | None) -> bool:
    """Tell whether a module is of Python or of an installed package, or of scrub, and not the user's own."""
    if module is None:
        return False
    file = getattr(module, "__file__", None)
    if file is None or module.__name__.partition(".")[0] == "scrub":
        return module.__name__ != "__main__"
    path = Path(file).resolve()
    return {"site-packages", "dist-packages"}.intersection(path.parts) != set() or any(
        path.is_relative_to(each) for each in _INSTALLED
    )
