"""The hash of somebody's own code: what it does, and whatever it uses of their own modules."""

from __future__ import annotations

import dis
import sys
import sysconfig
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from importlib.machinery import PathFinder
from importlib.util import resolve_name
from pathlib import Path
from types import CodeType, FunctionType, MethodType, ModuleType
from typing import Any

import numpy as np

from scrub.paths.hashes import hash_array, hash_of
from scrub.text.errors import ScrubError
from scrub.text.files import shown
from scrub.text.wording import said, short


def code_hash(function: Callable[..., Any], what: str) -> str:
    """Hash what a function does: its code, and the values, functions and classes that it uses, however it was loaded.

    `code_hash(margin, "the metric 'margin'")`. Of what is installed, as torch is, names stand for what they mean; the
    rest is looked into. Comments and blank lines change nothing. Modules are found as imports find them, and nothing of
    them is run. Raises ScrubError where it uses what no hash is of.
    """
    reader = _Reader(what)
    return hash_of(reader.read(function), reader.modules())


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
        self._places: dict[str, _Place] = {}  # of the modules that are used
        self._names: set[str] = set()  # that any of the code looks up

    def read(self, value: object) -> object:
        """Write a value. Raises ScrubError for one of which nothing can be said."""
        if value is None or isinstance(value, bool | int | float | complex | str | bytes | type(...)):
            return [type(value).__name__, repr(value)]
        if not isinstance(value, tuple):  # equal ones in code are one object or several, as Python likes
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
            (ModuleType, self._module),
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
            name = getattr(value, "__module__", type(value).__module__)
            inside = getattr(value, "__wrapped__", None)  # as of what is cached
            if inside is None and not _is_installed(name):
                raise ValueError(f"{reduced} of {name} says nothing of what it is")
            return [name, reduced, self.read(inside)]
        return [self.read(list(each) if isinstance(each, Iterator) else each) for each in reduced]

    def _code(self, code: CodeType) -> object:
        self._names.update(code.co_names)
        about = [repr(getattr(code, name)) for name in _CODE]
        return [code.co_code.hex(), code.co_exceptiontable.hex(), about, [self.read(each) for each in code.co_consts]]

    def _function(self, function: FunctionType) -> object:
        if _is_installed(function.__module__):
            return [function.__module__, function.__qualname__, self.read(function.__code__)]
        defaults = self.read(function.__defaults__), self.read(function.__kwdefaults__)
        cells = [self.read(_content(each)) for each in function.__closure__ or ()]
        known = function.__globals__
        used = {name: self.read(known[name]) for name in _names(function.__code__) if name in known}
        self._follow(function.__code__, known.get("__package__") or "")
        return [self.read(function.__code__), defaults, cells, used]

    def _module(self, module: ModuleType) -> object:
        self._use(module.__name__, module)
        return module.__name__

    def _follow(self, code: CodeType, package: str) -> None:
        """Use what code imports, wherever in it."""
        for name in _imported(code, package):
            self._use(name)

    def _use(self, name: str, module: ModuleType | None = None) -> None:
        """Use a module of their own, and the packages that it is in, which importing it runs."""
        within = name.rpartition(".")[0]
        if within:
            self._use(within)
        if name not in self._places and (place := _place(name, module)) is not None and not place.installed:
            self._places[name] = place

    def modules(self) -> dict[str, object]:
        """Write their own modules that the code uses, by name, and what those use."""
        found: dict[str, object] = {}
        while left := sorted(self._places.keys() - found.keys()):
            for name in left:
                found[name] = self._source(name, self._places[name])
            for name in sorted(found):  # `import a` and then `a.b`, which something else imported
                for each in self._names if self._places[name].within else ():
                    self._use(f"{name}.{each}")
        return found

    def _source(self, name: str, place: _Place) -> object:
        if place.file is None:
            if not place.within:
                raise ScrubError(f"{self._what} uses the module {name}, which has no file: put it into one")
            return None
        try:
            content = place.file.read_bytes()
            if place.file.suffix != ".py":
                return hash_of(content.hex())
            code = compile(content, place.file.name, "exec", dont_inherit=True)
        except (OSError, SyntaxError, ValueError) as error:
            raise ScrubError(
                f"{self._what} uses the module {name}, and {shown(place.file)} can't be read ({said(error)}): mend it"
            ) from error
        self._follow(code, name if place.within else name.rpartition(".")[0])
        return self.read(code)

    def _class(self, of: type) -> object:
        name = [of.__module__, of.__qualname__]
        if _is_installed(of.__module__):
            return name
        members = ((name, each) for name, each in vars(of).items() if name not in _ABOUT and name[:5] != "_abc_")
        inside = {name: self.read(each) for name, each in members}
        return [of.__qualname__, [self.read(each) for each in of.__bases__], inside]


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


def _imported(code: CodeType, package: str) -> Iterator[str]:
    """List the modules that code may import, as their full names, and those of the functions within it.

    What stands behind `from a import` may be a module of `a`, or something in it.
    """
    before: list[Any] = []
    for each in dis.get_instructions(code):
        if each.opname == "IMPORT_NAME":
            level, names = before[-2:]
            try:
                name = resolve_name("." * level + each.argval, package) if level else each.argval
            except ImportError:  # it would fail
                continue
            yield name
            yield from (f"{name}.{inside}" for inside in names or ())
        if each.opname != "EXTENDED_ARG":
            before.append(each.argval)
    for inside in code.co_consts:
        if isinstance(inside, CodeType):
            yield from _imported(inside, package)


@dataclass(frozen=True)
class _Place:
    """Where a module is: its file, if any, the folders of a package, and whether it isn't the user's own."""

    file: Path | None
    within: tuple[str, ...]
    installed: bool


def _place(name: str, module: ModuleType | None = None) -> _Place | None:
    """Find a module as imports do, whether or not it was imported, and run nothing; None if it isn't there."""
    top, _, last = name.rpartition(".")
    package = _place(top) if top else None
    if package is not None and package.installed:
        return package
    module = sys.modules.get(name) if module is None else module
    if module is not None:
        file, within = getattr(module, "__file__", None), [*getattr(module, "__path__", ())]
    elif top and (package is None or not package.within):
        return None
    else:
        try:
            spec = PathFinder.find_spec(name, None if package is None else list(package.within))
        except (ImportError, ValueError, OSError):
            spec = None
        if spec is None:
            return _Place(None, (), True) if last in sys.stdlib_module_names and not top else None
        file, within = spec.origin if spec.has_location else None, [*(spec.submodule_search_locations or ())]
    where = [file] if file else within
    if name == "scrub" or not where:
        installed = name in {*sys.stdlib_module_names, "scrub"} and name != "__main__"
    else:
        installed = all(map(_in_installed, where))
    return _Place(Path(file) if file else None, tuple(map(str, within)), installed)


def _is_installed(name: str | None) -> bool:
    """Tell whether a module that was imported is of Python or of an installed package, or of scrub."""
    place = _place(name) if name in sys.modules and name != "__main__" else None
    return place is not None and place.installed


def _in_installed(file: str) -> bool:
    path = Path(file).resolve()
    return {"site-packages", "dist-packages"}.intersection(path.parts) != set() or any(
        path.is_relative_to(each) for each in _INSTALLED
    )
