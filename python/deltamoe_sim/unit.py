"""What lint's rules look at: a shader's tokens, its kernels as written, and what clang made of it."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

from deltamoe_sim import clang, source
from deltamoe_sim.errors import CompileError, Diagnostic
from deltamoe_sim.module import POSITION_FIELDS
from deltamoe_sim.syntax import FUNCTIONS, Node, Place, Tree, read_tree
from deltamoe_sim.tokens import NAMESPACE, Source

SPACES = frozenset({"device", "constant", "thread", "threadgroup"})

_UNINITIALISED = ("uninitialized", "sometimes-uninitialized", "conditional-uninitialized")


@dataclass(frozen=True)
class Parameter:
    """A parameter of a kernel as written."""

    words: tuple[str, ...]
    """Its tokens without attributes and default value."""
    attributes: dict[str, str]
    """Name -> what stands in its parentheses."""
    place: Place

    @property
    def name(self) -> str:
        return self.words[-1] if self.words else ""

    @property
    def type(self) -> str:
        """If it is a single word, const and address spaces aside; else empty."""
        words = [word for word in self.words[:-1] if word != "const" and word not in SPACES]
        return words[0] if len(words) == 1 else ""

    @property
    def space(self) -> str:
        return next((word for word in self.words if word in SPACES), "")

    @property
    def points(self) -> bool:
        """Whether it is a pointer or a reference."""
        return not {"*", "&"}.isdisjoint(self.words)

    @property
    def position(self) -> str:
        """Its position attribute."""
        return next((name for name in self.attributes if name in POSITION_FIELDS), "")


@dataclass(frozen=True)
class Kernel:
    """A kernel as written, a template or not."""

    name: str
    result: str
    parameters: list[Parameter]
    place: Place
    body: range
    """Of tokens."""


class Unit:
    """A shader and the files that it includes, Metal's library apart."""

    def __init__(
        self,
        path_or_text: str | os.PathLike[str],
        include: Sequence[str | os.PathLike[str]],
        defines: Mapping[str, str],
        version: int,
    ) -> None:
        """Raises CompileError if the shader cannot be preprocessed."""
        name, text = source.read_source(path_or_text)
        self.text = clang.preprocess(text, name, [Path(path) for path in include], defines, version)
        self.source = Source(self.text, hidden=source.is_hidden)
        self.errors: list[Diagnostic] = []
        """The compiler's. If there are some, there is neither IR nor a tree."""
        self.ir = ""
        """Unoptimised."""
        self.tree = Tree([], [])
        try:
            source.Rewriting(self.source, None).run()
            self.ir = clang.emit_ir(self.source.result())
        except CompileError as error:
            self.errors = [
                replace(d, column=self.source.original_column(d.file, d.line, d.column)) for d in error.diagnostics
            ]
        else:
            self.tree = read_tree(self.source, _UNINITIALISED)

    def place(self, i: int) -> Place:
        """Of a token."""
        return Place(*self.source.location(i))

    @cached_property
    def nodes(self) -> list[Node]:
        """All of the tree's."""
        return [node for declaration in self.tree.declarations for node in declaration.walk()]

    @cached_property
    def functions(self) -> list[Node]:
        """Those that have a body, templates as instantiated."""
        return [node for node in self.nodes if node.kind in FUNCTIONS and node["mangledName"] and node.body]

    @cached_property
    def symbols(self) -> dict[str, str]:
        """Of functions and their declarations by id: one function has one symbol."""
        return {node.id: node["mangledName"] for node in self.nodes if node.kind in FUNCTIONS and node["mangledName"]}

    @cached_property
    def kernels(self) -> list[Kernel]:
        return list(self._find_kernels())

    def kernel_of(self, function: Node) -> Kernel | None:
        """The kernel that a function of the tree is."""
        at = (function.name, function.place.file, function.place.line)
        return next((k for k in self.kernels if (k.name, k.place.file, k.place.line) == at), None)

    def written(self, node: Node) -> tuple[list[str], str]:
        """The tokens of a declaration before its name, and the one after it: clang no longer tells all that the user
        wrote. Empty where it declares no name."""
        src, i = self.source, self._token_at.get((node.place.file, node.place.line, node.name))
        if i is None:
            return [], ""
        start = i
        while start > 0 and src.tokens[start - 1].text not in ("(", ")", ",", ";", "{", "}"):
            start -= 1
        return src.texts(start, i), "".join(src.texts(i + 1, i + 2))

    @cached_property
    def _token_at(self) -> dict[tuple[str, int, str], int]:
        """By file, line and text."""
        found: dict[tuple[str, int, str], int] = {}
        for i in self.source.of_kind("word"):
            place = self.place(i)
            found.setdefault((place.file, place.line, self.source.tokens[i].text), i)
        return found

    def _find_kernels(self) -> Iterator[Kernel]:
        src = self.source
        heads = {src.tokens[i].statement for i in src.find("kernel") if src.tokens[i].scope == NAMESPACE}
        for head in sorted(heads):
            is_instantiation = src.is_at(head, "template") and not src.is_at(head + 1, "<")
            opening = src.seek(src.after_template(head), "(", ";", "{")
            body = src.seek(opening, "{", ";")
            if is_instantiation or not src.is_at(opening, "(") or not src.is_at(body, "{"):
                continue
            yield Kernel(
                name=src.tokens[opening - 1].text,
                result=src.tokens[opening - 2].text,
                parameters=[self._parameter(i, j) for i, j in src.split(opening + 1, src.tokens[opening].partner)],
                place=self.place(opening - 1),
                body=range(body, src.tokens[body].partner),
            )

    def _parameter(self, i: int, end: int) -> Parameter:
        src = self.source
        place = self.place(i)
        words: list[str] = []
        attributes: dict[str, str] = {}
        while i < end and not src.is_at(i, "="):
            if src.is_at(i, "[["):
                for start, stop in src.split(i + 1, src.tokens[i].partner - 1):
                    attributes[src.tokens[start].text] = " ".join(src.texts(start + 2, stop - 1))
                i = src.skip(i)
            else:
                words.append(src.tokens[i].text)
                i += 1
        return Parameter(tuple(words), attributes, place)
