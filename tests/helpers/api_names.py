"""Which names of TensorRT's API a file uses, and under which versions each use is reached.

A use is an attribute of ``trt`` (``trt.BuilderFlag.TF32``) or of a variable that is declared to
hold an object of a class. Conditions on ``has(trt, "Class.name")`` and ``hasattr(x, "name")``
narrow the versions, in the branches of an ``if`` and after one that leaves.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from helpers.fake_tensorrt import VERSIONS, table

TABLES = {int(version.partition(".")[0]): table(version) for version in VERSIONS}
MAJORS = frozenset(TABLES)


def majors_of(name: str) -> frozenset[int]:
    """The major versions that have ``name``, such as ``Builder`` or ``BuilderFlag.FP16``."""
    return frozenset(major for major, data in TABLES.items() if _exists(data, name))


def _exists(data: dict[str, Any], name: str) -> bool:
    owner, _, member = name.partition(".")
    if not member:
        return owner == "__version__" or any(
            owner in data[part] for part in ("enums", "classes", "functions")
        )
    if owner in data["enums"]:
        return member in data["enums"][owner]
    # Constructors are on every class.
    return member == "__init__" or member in data["classes"].get(owner, "").split()


@dataclass(frozen=True)
class Use:
    """``name`` is used in ``line``, which only ``majors`` reach."""

    name: str
    line: int
    majors: frozenset[int]

    @property
    def missing(self) -> frozenset[int]:
        """The versions that get there and do not have the name."""
        return self.majors - majors_of(self.name)


def uses(source: str, variables: dict[str, str]) -> list[Use]:
    """Every use in ``source``. ``variables``: name, or ``self.name``, -> class."""
    visitor = _Visitor(variables)
    visitor.visit(ast.parse(source))
    return visitor.found


class _Visitor(ast.NodeVisitor):
    def __init__(self, variables: dict[str, str]) -> None:
        self._variables = variables
        self._majors = MAJORS
        self.found: list[Use] = []

    def visit_FunctionDef(self, node: ast.FunctionDef) -> None:
        for item in (*node.decorator_list, node.args):
            self.visit(item)
        with self._narrowed(MAJORS):
            self._block(node.body)

    def visit_If(self, node: ast.If) -> None:
        self._branches(node)

    def visit_IfExp(self, node: ast.IfExp) -> None:
        self._branches(node)

    def visit_BoolOp(self, node: ast.BoolOp) -> None:
        # The right side of "has(...) and x" is reached only where the left side holds.
        reached = MAJORS
        for value in node.values:
            with self._narrowed(reached):
                self.visit(value)
            reached &= self._true(value) if isinstance(node.op, ast.And) else self._false(value)

    def visit_Attribute(self, node: ast.Attribute) -> None:
        name = self._named(node)
        if name:
            self.found.append(Use(name, node.lineno, self._majors))
        else:
            self.generic_visit(node)

    def _branches(self, node: ast.If | ast.IfExp) -> None:
        self.visit(node.test)
        with self._narrowed(self._true(node.test)):
            self._block(node.body if isinstance(node, ast.If) else [node.body])
        with self._narrowed(self._false(node.test)):
            self._block(node.orelse if isinstance(node, ast.If) else [node.orelse])

    def _block(self, statements: list[Any]) -> None:
        """Statements in order; after ``if a: return`` the rest is reached only without ``a``."""
        before = self._majors
        for item in statements:
            self.visit(item)
            leaves = isinstance(item, ast.If) and isinstance(
                item.body[-1], ast.Return | ast.Raise | ast.Continue
            )
            if leaves and not item.orelse:
                self._majors &= self._false(item.test)
        self._majors = before

    @contextmanager
    def _narrowed(self, majors: frozenset[int]) -> Iterator[None]:
        before = self._majors
        self._majors = before & majors
        yield
        self._majors = before

    def _true(self, test: ast.expr) -> frozenset[int]:
        """Versions in which ``test`` can hold."""
        if isinstance(test, ast.UnaryOp) and isinstance(test.op, ast.Not):
            return self._false(test.operand)
        if isinstance(test, ast.BoolOp):
            parts = [self._true(value) for value in test.values]
            joined = frozenset.intersection if isinstance(test.op, ast.And) else frozenset.union
            return joined(*parts)
        asked = self._asked(test)
        return majors_of(asked) if asked else MAJORS

    def _false(self, test: ast.expr) -> frozenset[int]:
        """Versions in which ``test`` can fail."""
        if isinstance(test, ast.UnaryOp) and isinstance(test.op, ast.Not):
            return self._true(test.operand)
        if isinstance(test, ast.BoolOp):
            parts = [self._false(value) for value in test.values]
            joined = frozenset.union if isinstance(test.op, ast.And) else frozenset.intersection
            return joined(*parts)
        asked = self._asked(test)
        return MAJORS - majors_of(asked) if asked else MAJORS

    def _asked(self, test: ast.expr) -> str:
        """The name that ``has(trt, name)`` or ``hasattr(x, name)`` asks for; "" otherwise."""
        if not isinstance(test, ast.Call) or len(test.args) != 2:
            return ""
        name = (
            test.func.attr if isinstance(test.func, ast.Attribute) else getattr(test.func, "id", "")
        )
        owner, wanted = test.args
        if not isinstance(wanted, ast.Constant) or not isinstance(wanted.value, str):
            return ""
        if name == "has":
            return wanted.value
        path = _path(owner)
        holder = self._variables.get(path) or path.removeprefix("trt").removeprefix(".")
        return f"{holder}.{wanted.value}".lstrip(".") if name == "hasattr" else ""

    def _named(self, node: ast.Attribute) -> str:
        """``Class.member`` for an attribute of ``trt`` or of a declared variable."""
        parts = _path(node).split(".")
        if parts[0] == "trt" and len(parts) > 1:
            return ".".join(parts[1:3])
        for length in (2, 1):
            holder = self._variables.get(".".join(parts[:length]))
            if holder and len(parts) > length:
                return f"{holder}.{parts[length]}"
        return ""


def _path(node: ast.expr) -> str:
    """``a.b.c`` of an attribute chain on a name; "" for anything else."""
    if isinstance(node, ast.Name):
        return node.id
    if isinstance(node, ast.Attribute):
        inner = _path(node.value)
        return f"{inner}.{node.attr}" if inner else ""
    return ""
