"""Which error and concern codes there are, and in what words: read from the syntax trees.

A code is the ``code=`` of an error, or the first argument of a `Concern`.  Where either comes from
a parameter, a loop over literals or an assignment, each value that is written down counts.
"""

from __future__ import annotations

import ast
import re
from dataclasses import dataclass
from functools import cache
from importlib import import_module
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Final, TypeAlias

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator
    from types import ModuleType

ROOT: Final = Path(__file__).parents[2]
CODE: Final = re.compile(r"(?:[a-z][a-z0-9]*|FORMAT)(?:\.[a-z0-9][a-z0-9-]*)+")
UNKNOWN: Final = "…"
_ROOTS: Final = (ROOT / "formats", ROOT / "converters", ROOT)
_DEPTH: Final = 5
"""How many calls an argument is followed through."""

# Other calls that carry a code to whoever raises it: the error's class, and what it says.
_CARRIERS: Final = {
    "read_exactly": ("TruncatedInput", "{what} needs … bytes here, but the file ends at …"),
    "EntryKind": ("CorruptInput", "this {what} points where it must not, or sets reserved bits"),
    "Unit": ("CorruptInput", "compressed data cannot be unpacked"),
}

# A code whose last part is the name of whatever is wrong, which only the caller's table knows.
_SPELLED: Final = {
    f"vhdx.{UNKNOWN}": ("vhdx.logical-sector-size", "vhdx.physical-sector-size"),
}

_SEVERITIES: Final = {"error": "error", "leak": "leak", "warn": "warning"}
"""By the methods of `check.Faults`."""
_THIS: Final = (ast.Constant("this "),)
_MISPLACED: Final = (
    ast.Constant(" points behind the end of the file, or to where something else lies"),
)
_NOTHING: Final = (ast.Constant("nothing points to this "),)

_Bindings: TypeAlias = dict[str, ast.expr]


@dataclass(frozen=True, order=True)
class Code:
    """One way in which a code is given."""

    code: str
    kind: str
    """The error's class, or ``Concern``."""
    text: str
    """The problem in words, with an ellipsis for each value."""


@cache
def codes_of(path: Path) -> tuple[Code, ...]:
    """What the module in `path` can give, in the order of the text."""
    text = path.read_bytes()
    if b"code=" not in text and b"Concern(" not in text:
        return ()
    return tuple(dict.fromkeys(_Module(path, text).codes()))


def codes_in(paths: Iterable[Path]) -> list[Code]:
    """What the modules in `paths`, files or folders, can give; sorted, each once."""
    files = chain.from_iterable(sorted(p.rglob("*.py")) if p.is_dir() else (p,) for p in paths)
    found = dict.fromkeys(chain.from_iterable(map(codes_of, files)))
    return sorted(found, key=lambda item: (item.code, item.kind))


def faults_in(paths: Iterable[Path]) -> list[Code]:
    """What checks in the modules in `paths` can report, of the kind of its severity; sorted."""
    files = chain.from_iterable(sorted(p.rglob("*.py")) if p.is_dir() else (p,) for p in paths)
    found = chain.from_iterable(_Module(file, file.read_bytes()).faults() for file in files)
    return sorted(dict.fromkeys(found), key=lambda item: (item.code, item.kind))


def module_of(path: Path) -> ModuleType:
    """The module in `path`, imported."""
    return import_module(module_name(path))


def module_name(path: Path) -> str:
    """What the module in `path` is imported as."""
    root = next(root for root in _ROOTS if path.is_relative_to(root))
    parts = path.relative_to(root).with_suffix("").parts
    return ".".join(part for part in parts if part != "__init__")


class _Module:
    """The syntax tree of one module, and what its calls and names stand for."""

    def __init__(self, path: Path, text: bytes) -> None:
        self._path = path
        self._tree = ast.parse(text)
        self._parents: dict[ast.AST, ast.AST] = {}
        self._calls: dict[str, list[ast.Call]] = {}
        for node in ast.walk(self._tree):
            self._parents |= dict.fromkeys(ast.iter_child_nodes(node), node)
            if isinstance(node, ast.Call):
                self._calls.setdefault(_called(node), []).append(node)

    def codes(self) -> Iterator[Code]:
        """Of errors and concerns."""
        return self._all(self._parts)

    def faults(self) -> Iterator[Code]:
        """Of what checks report."""
        return self._all(self._fault_parts)

    def _all(
        self, parts_of: Callable[[str, ast.Call], tuple[str, ast.expr, ast.expr] | None]
    ) -> Iterator[Code]:
        for name, calls in self._calls.items():
            for call in calls:
                if parts := parts_of(name, call):
                    kind, code, text = parts
                    for bound in self._bindings(call, (code, text), _DEPTH):
                        yield from self._given(kind, code, text, bound)

    def _parts(self, name: str, call: ast.Call) -> tuple[str, ast.expr, ast.expr] | None:
        """Kind, code and text of a call that gives a code itself."""
        keywords = {item.arg: item.value for item in call.keywords}
        if name == "Concern" and len(call.args) == 2:
            return name, call.args[0], call.args[1]
        if name == "Unit" and call.args and "code" not in keywords:
            keywords["code"] = call.args[-1]
        if "code" not in keywords:
            return None
        if name == "EntryKind" and call.args:
            keywords["name"] = call.args[0]
        if name in _CARRIERS:
            kind, text = _CARRIERS[name]
            what = keywords.get("what") or keywords.get("name") or ast.Constant(UNKNOWN)
            before, _, after = text.partition("{what}")
            words: list[ast.expr] = [ast.Constant(before), what, ast.Constant(after)]
            return kind, keywords["code"], ast.JoinedStr(words if after else words[:1])
        if "problem" in keywords and name[:1].isupper():
            return name, keywords["code"], keywords["problem"]
        return None

    def _fault_parts(self, name: str, call: ast.Call) -> tuple[str, ast.expr, ast.expr] | None:
        """Severity, code and text of a fault, or of the faults of a kind of entries."""
        match call:
            case ast.Call(func=ast.Attribute(value=who), args=[code, _, text, *_]):
                if name in _SEVERITIES and ast.unparse(who).endswith("faults"):
                    return _SEVERITIES[name], self._before(call, code), self._before(call, text)
            case ast.Call(func=ast.Name(id="Kind"), args=[what, code, *_]):
                return "error", code, ast.JoinedStr([*_THIS, what, *_MISPLACED])
        if name == "check_gaps":
            return "leak", call.args[3], ast.JoinedStr([*_NOTHING, call.args[4]])
        return None

    def _before(self, call: ast.Call, used: ast.expr) -> ast.expr:
        """What a name was set to last before `call`; any other expression as it is.

        Where that depends on a condition, the name.
        """
        node: ast.AST = call
        while isinstance(used, ast.Name) and not isinstance(node, ast.FunctionDef | ast.Module):
            above = self._parents[node]
            for block in ("body", "orelse", "finalbody"):
                row = getattr(above, block, None)
                if not isinstance(row, list) or node not in row:
                    continue
                for item in reversed(row[: row.index(node)]):
                    if isinstance(item, ast.Assign) and used.id in (pairs := _pairs(item)):
                        return pairs[used.id]
                    if any(
                        isinstance(inner, ast.Assign) and used.id in _pairs(inner)
                        for inner in ast.walk(item)
                    ):
                        return used
            node = above
        return used

    def _returned(self, name: str) -> ast.JoinedStr | None:
        """The text that a function of the module makes, where it does so at one place."""
        for function in self._tree.body:
            if isinstance(function, ast.FunctionDef) and function.name == name:
                found = [item for item in ast.walk(function) if isinstance(item, ast.Return)]
                value = found[0].value if len(found) == 1 else None
                return value if isinstance(value, ast.JoinedStr) else None
        return None

    def _given(self, kind: str, code: ast.expr, text: ast.expr, bound: _Bindings) -> Iterator[Code]:
        words = self._words(text, bound)[0].strip()
        for name in self._words(code, bound):
            if name == UNKNOWN:  # handed in by another module, where it counts
                continue
            # A code that is built from the format's own name is of all formats.
            of_format = name.startswith(f"{UNKNOWN}.") and "format" in ast.unparse(code)
            full = f"FORMAT{name[1:]}" if of_format else name
            for spelled in _SPELLED.get(full, (full,)):
                yield Code(spelled, kind, words)

    def _bindings(
        self, call: ast.Call, used: tuple[ast.expr, ...], depth: int
    ) -> Iterator[_Bindings]:
        """What the names in `used` stand for where `call` is: each combination that is written."""
        found: list[_Bindings] = [{}]
        names = _names(used)
        function = self._function(call)
        for node in self._around(call):
            if isinstance(node, ast.For) and names & _names((node.target,)):
                found = [{**a, **b} for a in found for b in self._loop(node)] or found
        if function is None:
            yield from found
            return
        assigned = [
            pairs
            for node in ast.walk(function)
            if isinstance(node, ast.Assign) and self._function(node) is function
            if (pairs := _pairs(node)).keys() & names and any(map(_says, pairs.values()))
        ]
        if assigned:
            found = [{**pairs, **a} for a in found for pairs in assigned]
        for bound in found:
            yield from self._from_callers(function, used, bound, depth)

    def _from_callers(
        self,
        function: ast.FunctionDef,
        used: tuple[ast.expr, ...],
        bound: _Bindings,
        depth: int,
    ) -> Iterator[_Bindings]:
        parameters = [item.arg for item in (*function.args.args, *function.args.kwonlyargs)]
        wanted = _names((*used, *bound.values())) & set(parameters) - bound.keys()
        callers = self._calls.get(function.name, [])
        if not wanted or not callers or not depth:
            yield bound
            return
        positional = [name for name in parameters if name not in {"self", "cls"}]
        for caller in callers:
            given = dict(zip(positional, caller.args, strict=False))
            given |= {item.arg: item.value for item in caller.keywords if item.arg}
            given = {name: value for name, value in given.items() if name in wanted}
            for outer in self._bindings(caller, tuple(given.values()), depth - 1):
                resolved = {name: self._fixed(value, outer) for name, value in given.items()}
                yield {**bound, **resolved}

    def _fixed(self, node: ast.expr, bound: _Bindings) -> ast.expr:
        """`node` as the constant that it is where its own names stand for what is `bound`."""
        if isinstance(node, ast.Name) and node.id not in bound and not node.id.isupper():
            return ast.Constant(UNKNOWN)
        return ast.Constant(self._words(node, bound)[0])

    def _loop(self, node: ast.For) -> list[_Bindings]:
        if not isinstance(node.iter, ast.Tuple | ast.List):
            return self._appended(node)
        return [_unpacked(node.target, item) for item in node.iter.elts]

    def _appended(self, node: ast.For) -> list[_Bindings]:
        """Of a loop over a list of literals that is filled step by step."""
        function = self._function(node)
        if not isinstance(node.iter, ast.Name) or function is None:
            return []
        name = node.iter.id
        rows: list[ast.expr] = []
        for item in ast.walk(function):
            if isinstance(item, ast.Assign) and isinstance(item.value, ast.List | ast.Tuple):
                if name in _names(item.targets):
                    rows += item.value.elts
            elif (
                isinstance(item, ast.Call)
                and isinstance(item.func, ast.Attribute)
                and item.func.attr == "append"
                and name in _names((item.func.value,))
            ):
                rows += item.args
        return [_unpacked(node.target, row) for row in rows]

    def _words(self, node: ast.expr, bound: _Bindings) -> list[str]:
        """What an expression says; of a choice, all; with an ellipsis for what is not written."""
        match node:
            case ast.Constant():
                return [str(node.value)]
            case ast.JoinedStr():
                return self._joined(node, bound)
            case ast.FormattedValue():
                return self._words(node.value, bound)
            case ast.IfExp():
                return self._words(node.body, bound) + self._words(node.orelse, bound)
            case ast.Name() if node.id in bound and not _refers(bound[node.id], node.id):
                return self._words(bound[node.id], bound)
            case ast.Call(func=ast.Attribute(attr="replace", value=value), args=[old, new]):
                was, becomes = self._words(old, bound)[0], self._words(new, bound)[0]
                return [words.replace(was, becomes) for words in self._words(value, bound)]
            case ast.Call(func=ast.Name(id=name)) if said := self._returned(name):
                return self._words(said, {})
            case ast.Call(func=ast.Attribute(attr="lower", value=value)):
                return [words.lower() for words in self._words(value, bound)]
            case ast.BinOp(op=ast.Add()) if not self._constant(node):
                left, right = self._words(node.left, bound), self._words(node.right, bound)
                return [one + other for one in left for other in right]
        return [self._constant(node) or UNKNOWN]

    def _joined(self, node: ast.JoinedStr, bound: _Bindings) -> list[str]:
        found = [""]
        for part in node.values:
            options = self._words(part, bound)
            # Both alternatives of a code's part are codes; of a text, the first will do.
            found = [a + b for a in found for b in options]
        return found

    def _constant(self, node: ast.expr) -> str | None:
        """An expression of the module's constants alone, worked out."""
        names = [item for item in ast.walk(node) if isinstance(item, ast.Name)]
        constant = all(item.id.lstrip("_").isupper() for item in names)
        calls = any(isinstance(item, ast.Call) for item in ast.walk(node))
        if not names or not constant or calls:
            return None
        expression = ast.fix_missing_locations(ast.Expression(node))
        value = eval(compile(expression, "<constant>", "eval"), dict(vars(module_of(self._path))))  # noqa: S307
        if isinstance(value, bytes):
            return value.decode("latin-1") if value.isascii() else value.hex()
        return str(value) if isinstance(value, int | str) else UNKNOWN

    def _around(self, node: ast.AST) -> Iterator[ast.AST]:
        while (node := self._parents.get(node, self._tree)) is not self._tree:
            if isinstance(node, ast.FunctionDef):
                return
            yield node

    def _function(self, node: ast.AST) -> ast.FunctionDef | None:
        while (node := self._parents.get(node, self._tree)) is not self._tree:
            if isinstance(node, ast.FunctionDef):
                return node
        return None


def _called(call: ast.Call) -> str:
    return call.func.attr if isinstance(call.func, ast.Attribute) else ast.unparse(call.func)


def _names(nodes: Iterable[ast.expr]) -> set[str]:
    found = chain.from_iterable(map(ast.walk, nodes))
    return {item.id for item in found if isinstance(item, ast.Name)}


def _refers(node: ast.expr, name: str) -> bool:
    return name in _names((node,))


def _says(node: ast.expr) -> bool:
    return isinstance(node, ast.JoinedStr | ast.IfExp) or (
        isinstance(node, ast.Constant) and isinstance(node.value, str)
    )


def _pairs(node: ast.Assign) -> _Bindings:
    return _unpacked(node.targets[0], node.value)


def _unpacked(target: ast.expr, value: ast.expr) -> _Bindings:
    if isinstance(target, ast.Name):
        return {target.id: value}
    if isinstance(target, ast.Tuple) and isinstance(value, ast.Tuple):
        rows = (_unpacked(a, b) for a, b in zip(target.elts, value.elts, strict=False))
        return dict(chain.from_iterable(row.items() for row in rows))
    return {}
