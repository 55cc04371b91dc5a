"""Small faults of a module, made on its syntax tree by operators that mistakes resemble.

Operands or arguments swapped, a term dropped, + for *, a number one too large, another axis, a condition turned around,
a comparison that differs at one number, a statement removed, and what a return applies to a value left out. Of a
function of which nothing of that kind is left, what it returns is emptied.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

UNEVEN = ast.Sub | ast.Div | ast.FloorDiv | ast.Mod | ast.MatMult | ast.Pow  # operands that can't be swapped
OTHERS = ((ast.Lt, ast.LtE), (ast.Gt, ast.GtE), (ast.Eq, ast.NotEq), (ast.In, ast.NotIn), (ast.Is, ast.IsNot))
COMPARED: dict[type[ast.cmpop], type[ast.cmpop]] = {one: other for pair in OTHERS for one, other in (pair, pair[::-1])}
UNSWAPPED = {  # calls that are the same the other way round, and those that can only crash
    *("max", "min", "add", "multiply", "dot", "get", "to", "full_like", "Metric", "Op"),
    *("isinstance", "issubclass", "getattr", "setattr", "hasattr", "partial", "replace", "cast", "map", "__setattr__"),
}
EMPTY = {"str": "''", "int": "0", "float": "0.0", "bool": "True", "list": "[]", "dict": "{}", "tuple": "()"}


_DEFINED = ast.FunctionDef | ast.ClassDef
Change = tuple[str, ast.AST, str]  # an operator, what it changes, and into which text


@dataclass(frozen=True)
class Fault:
    """Another text for a piece of a module. `before` and `after` show it with as much around it as tells it apart."""

    path: str  # below scrub/
    line: int
    function: str
    operator: str
    start: int
    end: int
    text: str
    before: str
    after: str

    @property
    def place(self) -> str:
        return f"{self.path}:{self.function}"

    def __str__(self) -> str:
        return f"scrub/{self.path}:{self.line} {self.function} {self.operator}: {self.before} → {self.after}"


def faults(path: str, source: bytes) -> list[Fault]:
    """List the faults of a module."""
    return list(dict.fromkeys(_below(ast.parse(source), (), "", _Text(path, source))))


class _Text:
    """The text of a module, and where its nodes stand."""

    def __init__(self, path: str, source: bytes) -> None:
        self.path, self.source = path, source
        self.starts = [0]
        for line in source.splitlines(keepends=True):
            self.starts.append(self.starts[-1] + len(line))

    def span(self, of: Any) -> tuple[int, int]:
        return self.starts[of.lineno - 1] + of.col_offset, self.starts[of.end_lineno - 1] + of.end_col_offset

    def fault(self, operator: str, part: ast.AST, text: str, function: str, above: Sequence[ast.AST]) -> Fault:
        start, end = shown = self.span(part)
        for each in reversed(above):  # as much around it as tells it apart
            if shown[1] - shown[0] >= 16 or isinstance(each, _DEFINED | ast.Module):
                break
            shown = self.span(each) if hasattr(each, "lineno") else shown
        if shown[1] - shown[0] < 8:  # what an argument is unless it is given: its line
            shown = self.source.rfind(b"\n", 0, start) + 1, self.source.find(b"\n", end)
        pieces = (self.source[shown[0] : start], self.source[start:end], self.source[end : shown[1]])
        left, old, right = (piece.decode() for piece in pieces)
        before, after = (" ".join((left + middle + right).split()) for middle in (old, text))
        line = self.source[:start].count(b"\n") + 1
        return Fault(self.path, line, function or "<module>", operator, start, end, text, before, after)


def _below(current: ast.AST, above: tuple[ast.AST, ...], function: str, text: _Text) -> Iterator[Fault]:
    """List the faults of a node and of what stands below it."""
    here = f"{function}.{current.name}".lstrip(".") if isinstance(current, _DEFINED) else function
    parent = above[-1] if above else current
    found = [
        text.fault(*change, here, (*above, current)) for change in (*_wrong(current, parent), *_misread(current, above))
    ]
    for child in ast.iter_child_nodes(current):
        if _matters(child, current):
            found += _below(child, (*above, current), here, text)
    last = current.body[-1] if isinstance(current, ast.FunctionDef) else None
    if isinstance(current, ast.FunctionDef) and isinstance(last, ast.Return) and not found:
        kind = ast.unparse(current.returns or ast.Constant(None)).partition("[")[0]
        found = [text.fault("emptied", last, f"return {EMPTY.get(kind, 'None')}", here, above)]
    yield from (fault for fault in found if fault.before != fault.after)


def _matters(child: ast.AST, parent: Any) -> bool:
    """Whether a fault there could change a number: not in words, types, imports and what must hold anyway."""
    if isinstance(child, ast.Assert | ast.JoinedStr | ast.Import | ast.ImportFrom | ast.arg):
        return False
    if isinstance(parent, ast.Raise) or child in getattr(parent, "decorator_list", ()):
        return False
    if isinstance(child, ast.keyword) and child.arg == "strict":  # of zip: what must hold anyway
        return False
    if child in (getattr(parent, "returns", None), getattr(parent, "annotation", None)):
        return False
    protocol = isinstance(child, ast.ClassDef) and "Protocol" in map(ast.unparse, child.bases)
    return not protocol and not (isinstance(parent, ast.Assign) and isinstance(child, ast.Subscript))


def _wrong(current: ast.AST, parent: ast.AST) -> Iterator[Change]:
    """List what can be wrong with a node itself."""
    yield from _computed(current)
    yield from _flow(current)
    match current:
        case ast.UnaryOp(ast.USub(), ast.Constant(int(value))):
            yield "axis", current, str(-value - 1)
        case ast.Constant(bool(value)):
            yield "boolean", current, str(not value)
        case ast.Constant(int(value)) if not isinstance(parent, ast.UnaryOp):
            yield "shifted", current, str(value + 1)
        case ast.Slice(lower, upper):
            for edge in (lower, upper):
                if edge is not None and not isinstance(edge, ast.Constant):
                    yield "shifted", edge, _text(ast.BinOp(edge, ast.Add(), ast.Constant(1)))
        case ast.Call(function, arguments):
            yield from _called(ast.unparse(function).rpartition(".")[2], arguments)


def _computed(current: ast.AST) -> Iterator[Change]:
    """List what can be wrong with operators."""
    match current:
        case ast.BinOp(left, op, right):
            if isinstance(op, UNEVEN) and not isinstance(left, ast.Constant | ast.JoinedStr):
                yield "swapped", current, _text(ast.BinOp(right, op, left))
            if isinstance(op, ast.Add | ast.Sub | ast.BitOr | ast.BitAnd):
                yield "dropped", current, _text(left)
            if isinstance(op, ast.Mult):
                yield "added", current, _text(ast.BinOp(left, ast.Add(), right))
        case ast.BoolOp(op, values):
            yield "dropped", current, _text(ast.BoolOp(op, values[:-1]) if len(values) > 2 else values[0])
            yield "condition", current, _text(ast.BoolOp(ast.Or() if isinstance(op, ast.And) else ast.And(), values))
        case ast.Compare(left, [op], rights) if other := COMPARED.get(type(op)):
            yield "compared", current, _text(ast.Compare(left, [other()], rights))
        case ast.UnaryOp(ast.Not(), operand):
            yield "condition", current, _text(operand)


def _flow(current: ast.AST) -> Iterator[Change]:
    """List what can be wrong with conditions, returns and statements."""
    match current:
        case ast.IfExp(test) | ast.If(test) | ast.comprehension(ifs=[test, *_]):
            yield "condition", test, _text(ast.UnaryOp(ast.Not(), test))
        case ast.Return(ast.Call(ast.Attribute(value))) if not isinstance(value, ast.Constant):
            yield "unwrapped", current, f"return {ast.unparse(value)}"
        case ast.Return(ast.Call(ast.Name(), [ast.Name() as value, *_])):
            yield "unwrapped", current, f"return {ast.unparse(value)}"
        case ast.Continue() | ast.AugAssign() | ast.Raise() | ast.Expr(ast.Call()):
            yield "removed", current, "pass"


def _called(named: str, arguments: Sequence[ast.expr]) -> Iterator[Change]:
    """Swap the first two arguments of a call; those after the name of the operation, if that comes first."""
    first = 0
    if arguments and isinstance(arguments[0], ast.Constant) and isinstance(arguments[0].value, str):
        first, named = 1, arguments[0].value if named == "node" else named
    pair = arguments[first : first + 2]
    if len(pair) == 2 and named not in UNSWAPPED and not any(isinstance(each, ast.Starred) for each in pair):
        both = ast.copy_location(ast.Tuple(list(pair)), pair[0])
        both.end_lineno, both.end_col_offset = pair[1].end_lineno, pair[1].end_col_offset
        yield "swapped", both, f"{ast.unparse(pair[1])}, {ast.unparse(pair[0])}"


def _misread(current: ast.AST, above: Sequence[ast.AST]) -> Iterator[Change]:
    """List what can be wrong with an identity of plan/simplify.py, which is code in a text."""
    if any(isinstance(each, ast.Call) and ast.unparse(each.func) == "_read" for each in above):
        match current:
            case ast.Constant(str(value)):
                for inner in ast.walk(ast.parse(value, mode="eval")):
                    for operator, part, text in _wrong(inner, current):
                        start, end = part.col_offset, part.end_col_offset  # type: ignore[attr-defined]
                        yield operator, current, repr(value[:start] + text + value[end:])


def _text(of: ast.expr) -> str:
    return f"({ast.unparse(of)})"
