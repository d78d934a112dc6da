"""Clang's syntax tree of a shader, the user's part of it."""

from __future__ import annotations

import bisect
import functools
import json
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from deltamoe_sim import clang
from deltamoe_sim.errors import Diagnostic, SimError
from deltamoe_sim.source import is_hidden
from deltamoe_sim.tokens import Source

FUNCTIONS = frozenset({"FunctionDecl", "CXXMethodDecl", "CXXConstructorDecl", "CXXDestructorDecl", "CXXConversionDecl"})

_WARNING = re.compile(r"^(.+?):(\d+):(\d+): warning: (.*) \[-W([\w-]+)\]$", re.MULTILINE)
_PREFIX = "metalsim_"  # of names that `source` makes up, and that the shim gives words which OpenCL reserves


@dataclass(frozen=True, order=True)
class Place:
    """A position in a file that the user wrote."""

    file: str
    line: int
    column: int


class Text:
    """Preprocessed and rewritten text: what clang's offsets into it mean."""

    def __init__(self, text: str, original: Source) -> None:
        self._bytes = text.encode()
        self._original = original
        self._starts: list[int] = []
        self._markers: list[tuple[int, str]] = []
        offset = 0
        for line in text.splitlines(keepends=True):
            offset += len(line.encode())
            if marker := clang.LINE_MARKER.match(line):
                self._starts.append(offset)
                self._markers.append((int(marker[1]), marker[2]))

    def place(self, offset: int) -> Place:
        i = bisect.bisect_right(self._starts, offset) - 1
        line, file = self._markers[i]
        line += self._bytes.count(b"\n", self._starts[i], offset)
        column = offset - self._bytes.rfind(b"\n", 0, offset)
        return Place(file, line, self._original.original_column(file, line, column))

    def has(self, fields: dict[str, Any]) -> bool:
        """Whether a node of clang's JSON stands there, and is neither implied nor generated."""
        if not fields or (fields.get("isImplicit") and fields["kind"].endswith("Decl")):
            return False
        if fields["kind"] == "LinkageSpecDecl":
            return all(map(self.has, fields.get("inner", ())))
        name = fields.get("name", "")
        return not name.startswith(_PREFIX) or name.removeprefix(_PREFIX).encode() in self._words

    @functools.cached_property
    def _words(self) -> set[bytes]:
        return set(re.findall(rb"\w+", self._bytes))


class Node:
    """A declaration, statement or expression."""

    def __init__(self, fields: dict[str, Any], text: Text) -> None:
        self._fields = fields
        self._text = text
        self.kind: str = fields.get("kind", "")
        self.name: str = fields.get("name", "").removeprefix(_PREFIX)
        self.id: str = fields.get("id", "")
        self.children = [Node(child, text) for child in fields.get("inner", ()) if text.has(child)]

    def __getitem__(self, key: str) -> Any:
        """A field of clang's JSON, or None."""
        return self._fields.get(key)

    @property
    def type(self) -> str:
        """As clang spells it, aliases resolved: `const __global_device float *__private`."""
        spelled = self._fields.get("type", {})
        return str(spelled.get("desugaredQualType", spelled.get("qualType", "")))

    @functools.cached_property
    def place(self) -> Place:
        """Of its name if it has one, else of its beginning."""
        location = self._fields.get("loc") or self._fields.get("range", {}).get("begin", {})
        # A name out of a macro counts where the macro is used.
        return self._text.place(int(location.get("expansionLoc", location).get("offset", 0)))

    @property
    def body(self) -> Node | None:
        """Of a function."""
        return next((child for child in self.children if child.kind == "CompoundStmt"), None)

    @property
    def referenced(self) -> str:
        """Id of the declaration that an expression names."""
        declaration = self._fields.get("referencedDecl")
        return str(declaration["id"] if declaration else self._fields.get("referencedMemberDecl", ""))

    @property
    def referenced_name(self) -> str:
        declaration = self._fields.get("referencedDecl")
        return str(declaration.get("name", "")) if declaration else self.name

    def walk(self) -> Iterator[Node]:
        """The node and all below it."""
        yield self
        for child in self.children:
            yield from child.walk()

    def callee(self) -> Node | None:
        """What a call calls: a reference to a function or to a member."""
        return next((n for n in self.children[0].walk() if n.kind in ("DeclRefExpr", "MemberExpr")), None)


@dataclass(frozen=True)
class Tree:
    """What clang made of a shader."""

    declarations: list[Node]
    """Of the user's files, in order."""
    warnings: list[Diagnostic]


def read_tree(source: Source, warnings: Sequence[str]) -> Tree:
    """The tree of a shader that compiles.

    Args:
        source: rewritten.
        warnings: names of those that are wanted: uninitialized and so on.
    """
    rewritten = _without_library(source.result())
    wanted = [f"-W{name}" for name in warnings]
    result = clang.run([*wanted, "-fsyntax-only", "-Xclang", "-ast-dump=json"], rewritten)
    if result.returncode:
        raise SimError(f"clang gave no syntax tree:\n{result.stderr.strip()}")
    text = Text(rewritten, source)
    nodes = [Node(fields, text) for fields in json.loads(result.stdout).get("inner", ()) if text.has(fields)]
    found = [
        Diagnostic(file, int(line), source.original_column(file, int(line), int(column)), message, name)
        for file, line, column, message, name in _WARNING.findall(result.stderr)
        if name in warnings
    ]
    return Tree(nodes, found)


def _without_library(text: str) -> str:
    """The user's lines, and a line marker that makes the compiler take the precompiled library: else the tree would
    have all of it."""
    kept = [f'# 1 "{clang.INCLUDE / "metal_stdlib"}"']
    hidden = False
    for line in text.split("\n"):
        if marker := clang.LINE_MARKER.match(line):
            hidden = is_hidden(marker[2])
            line = f'# {marker[1]} "{marker[2]}"'
        if not hidden:
            kept.append(line)
    return "\n".join(kept)
