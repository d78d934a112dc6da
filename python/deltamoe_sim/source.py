"""Metal source to LLVM IR.

The preprocessed text is rewritten, token by token, where Metal's dialect of C++ has what clang's C++ for OpenCL has
not: here what says something about the shader, in rewrite.py the rest. Then clang compiles it. Nothing moves to another
line, so errors and debug information show the lines the user wrote.

Generated into the text, in place of an explicit instantiation or after the body of a kernel that is no template:

- an entry, `void sim.kernel.<n>(ptr buffers, ptr threadgroup, ptr position)`, which calls the kernel;
- its signature, a constant table `sim.signature.<n>` that clang computes from the types of the instantiated function.
  It is read back from the IR and removed (include/sim/entry.h).

Function constants become external variables `sim.constant.<index>`, which hold zero; whether one was given a value is
to be told by a second variable, `sim.constant.<index>.defined`, there if the source asks. Constants derived from them
are internal variables that a static constructor computes: once the former are constant, LLVM can fold the latter.
"""

from __future__ import annotations

import dataclasses
import os
import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from deltamoe_sim import clang
from deltamoe_sim.errors import CompileError, Diagnostic
from deltamoe_sim.module import POSITION_FIELDS, FunctionConstant, KernelInfo, Module, Parameter
from deltamoe_sim.rewrite import erase_attributes, parameter_list, rewrite_dialect
from deltamoe_sim.tokens import FUNCTION, NAMESPACE, Source

# In the order of entry.h's numbers.
DTYPES = (
    *("struct", "bool", "int8", "uint8", "int16", "uint16", "int32", "uint32", "int64", "uint64"),
    *("float16", "bfloat16", "float32"),
)
_KINDS: tuple[Literal["buffer", "threadgroup", "position"], ...] = ("buffer", "threadgroup", "position")
_PARAMETER_WORDS = 6


def compile_module(
    path_or_text: str | os.PathLike[str],
    include: Sequence[str | os.PathLike[str]] = (),
    defines: Mapping[str, str] | None = None,
    version: int = 310,
    kernels: Collection[str] | None = None,
) -> Module:
    """Compiles a .metal file, or source text (a str with a line break). CompileError holds what is wrong with it.

    `kernels` names the only ones to compile, which is faster where a file instantiates many.
    """
    name, text = read_source(path_or_text)
    preprocessed = clang.preprocess(text, name, [Path(path) for path in include], defines or {}, version)
    rewriting = Rewriting(Source(preprocessed, hidden=is_hidden), kernels)
    rewriting.run()
    try:
        ir = clang.emit_ir(rewriting.source.result())
    except CompileError as error:
        raise CompileError([_as_written(d, rewriting.source) for d in error.diagnostics]) from None
    return _module(ir, rewriting)


def _as_written(diagnostic: Diagnostic, source: Source) -> Diagnostic:
    column = source.original_column(diagnostic.file, diagnostic.line, diagnostic.column)
    return dataclasses.replace(diagnostic, column=column)


def read_source(path_or_text: str | os.PathLike[str]) -> tuple[str, str]:
    """Name and text of a file, or of a str that is source text itself."""
    if isinstance(path_or_text, str) and "\n" in path_or_text:
        return "<source>", path_or_text
    path = Path(path_or_text)
    return str(path), path.read_text()


def is_hidden(file: str) -> bool:
    """Whether a file is not the user's but the shim's, or the compiler's own."""
    return file.startswith((str(clang.INCLUDE), "<built-in>", "<command line>"))


@dataclass
class _KernelParameter:
    marker: str
    """Line marker of where it is."""
    name: str = ""
    slot: str = "by_type"
    """As its attribute says: a metalsim::slot."""
    index: str = "-1"
    """Expression; -1 if the attribute does not say."""
    optional: bool = False
    """[[function_constant(...)]]: there only for some values of it."""


@dataclass
class _Kernel:
    """A kernel function as defined, a template or not."""

    parameters: list[_KernelParameter]
    template: list[tuple[bool, bool]]
    """Of each of its template parameters whether it is a type, and whether it has a default."""
    max_threads: str
    """[[max_total_threads_per_threadgroup]], or the name of a variable template that holds it."""
    place: tuple[str, int]
    """File and line."""


@dataclass
class _Entry:
    """A kernel that can be launched."""

    name: str
    kernel: _Kernel


@dataclass
class Rewriting:
    """The passes over one source, and what they find out.

    After `run`, source.result() is text for clang. `wanted` names the kernels that get an entry; None is all."""

    source: Source
    wanted: Collection[str] | None
    kernels: dict[str, list[_Kernel]] = field(default_factory=dict)
    entries: list[_Entry] = field(default_factory=list)
    constants: dict[int, str] = field(default_factory=dict)
    diagnostics: list[Diagnostic] = field(default_factory=list)

    def run(self) -> None:
        for i in self.source.find("double"):
            self.error(i, "Metal has no double; use float")
        rewrite_dialect(self.source)
        self.rewrite_function_constants()
        self.rewrite_threadgroup_variables()
        self.rewrite_kernels()
        self.rewrite_instantiations()
        erase_attributes(self.source)
        if self.diagnostics:
            raise CompileError(self.diagnostics)

    def error(self, i: int, message: str) -> None:
        self.diagnostics.append(Diagnostic(*self.source.location(i), message, "compile"))

    # ---- function constants

    def rewrite_function_constants(self) -> None:
        """`constant T name [[function_constant(n)]]`: clang has no constants that get their value after compilation."""
        source = self.source
        derived: set[str] = set()
        indices: dict[str, int] = {}
        asked = {source.tokens[i + 2].text for i in source.find("is_function_constant_defined")}
        for i in source.find("function_constant"):
            bracket = _enclosing_attribute(source, i)
            if bracket < 0 or source.tokens[bracket].scope != NAMESPACE or source.tokens[bracket].depth:
                continue
            name = source.tokens[bracket - 1].text
            index = self._evaluated(i + 2, source.tokens[i + 1].partner)
            if index is None:
                continue
            indices[name] = index
            self._declare_constant(bracket, name, index, name in asked)
            derived.add(name)
        for i in source.find("is_function_constant_defined"):
            name = source.tokens[i + 2].text
            if name in indices:
                source.replace(i, source.tokens[i + 1].partner + 1, f"metalsim_{name}_defined")
            else:
                self.error(i, f"is_function_constant_defined: {name} is no function constant")
        for i in source.find("="):
            token = source.tokens[i]
            if token.scope != NAMESPACE or token.depth or source.is_at(token.statement, "template") or not derived:
                continue
            head = range(token.statement, i)
            value = source.texts(i + 1, source.seek(i, ";"))
            if any(source.is_at(j, "constant") for j in head) and not derived.isdisjoint(value):
                derived.add(source.tokens[i - 1].text)
                _make_variable(source, head, "static __global")

    def _declare_constant(self, bracket: int, name: str, index: int, asked: bool) -> None:
        source = self.source
        again = "extern " if index in self.constants else ""
        self.constants.setdefault(index, name)
        _make_variable(source, range(source.tokens[bracket].statement, bracket), f"{again}__global")
        symbol = f"sim.constant.{index}"
        after = f'; {again}__global bool metalsim_{name}_defined __asm__("{symbol}.defined")' if asked else ""
        if not again:
            after += (
                f'; extern "C" constexpr const __global int metalsim_dtype_{index} __asm__("{symbol}.dtype") ='
                f" metalsim::dtype<decltype({name})>"
            )
        source.replace(bracket, source.tokens[bracket].partner + 1, f'__asm__("{symbol}"){after}')

    def _evaluated(self, i: int, j: int) -> int | None:
        text = " ".join(self.source.texts(i, j))
        if re.fullmatch(r"[\d\s()+]*\d[\d\s()+]*", text):
            return sum(map(int, re.findall(r"\d+", text)))
        self.error(i, f"function_constant({text}): the index must be an integer or a sum of integers")
        return None

    # ---- threadgroup variables

    def rewrite_threadgroup_variables(self) -> None:
        """`threadgroup T name[n];` in a function: clang allows it in functions with OpenCL's kernel calling convention
        only, and as one variable for all. It becomes a reference into memory that the executor gives."""
        source = self.source
        count = 0
        for i in source.find("threadgroup"):
            token = source.tokens[i]
            leads = i == token.statement or source.texts(token.statement, i) in (["static"], ["volatile"])
            if token.scope != FUNCTION or token.depth or not leads:
                continue
            end = source.seek(i, ";")
            name = self._first_declarator(i + 1, end)
            if name is None:
                continue
            variables = []
            for start, stop in source.split(name, end):
                array = source.seek(start, "=", ";") if source.is_at(start + 1, "[") else start + 1
                if min(array, stop) < stop:
                    self.error(start, f"{source.tokens[start].text}: a threadgroup variable cannot be initialised")
                variable, extent = source.tokens[start].text, source.edited(start + 1, min(array, stop))
                variables.append(
                    f"auto& {variable} = metalsim::threadgroup_variable<{source.edited(i + 1, name)} {extent}, {count}>"
                    f'("{variable}");'
                )
                count += 1
            source.replace(token.statement, end + 1, " ".join(variables))

    def _first_declarator(self, i: int, end: int) -> int | None:
        """The first variable's name in a declaration; None if it is a pointer or a reference."""
        source = self.source
        while i < end:
            if source.is_at(i, "<"):
                i = source.after_angles(i)
                continue
            if source.tokens[i].text in ("*", "&"):
                return None
            if source.tokens[i].kind == "word" and source.tokens[i + 1].text in ("[", ",", ";", "=", "{"):
                return i
            i = source.skip(i)
        return None

    # ---- kernels

    def rewrite_kernels(self) -> None:
        """`kernel` and [[kernel]]: to clang a kernel is a plain function. One that is no template gets its entry."""
        source = self.source
        for i in source.find("kernel"):
            bracket = _enclosing_attribute(source, i)
            token = source.tokens[i if bracket < 0 else bracket]
            if token.scope != NAMESPACE or token.depth:
                continue
            if bracket < 0:
                source.erase(i, i + 1)
            if source.is_at(token.statement, "template") and not source.is_at(token.statement + 1, "<"):
                continue  # an explicit instantiation
            self._define_kernel(token.statement)

    def _define_kernel(self, statement: int) -> None:
        source = self.source
        declaration = source.after_template(statement)
        opening = parameter_list(source, declaration)
        body = source.seek(opening, "{", ";")
        if body >= len(source.tokens) or source.is_at(body, ";"):
            return
        name = source.tokens[opening - 1].text
        header = source.after_angles(statement + 1) if source.is_at(statement, "template") else statement
        kernel = _Kernel(
            parameters=[self._parameter(i, j) for i, j in source.split(opening + 1, source.tokens[opening].partner)],
            template=self._template_parameters(statement, header),
            max_threads=self._max_threads(statement, body),
            place=source.location(opening - 1)[:2],
        )
        self.kernels.setdefault(name, []).append(kernel)
        if header > statement:
            expression = kernel.max_threads
            kernel.max_threads = f"metalsim_max_threads_{sum(map(len, self.kernels.values()))}"
            variable = f"constexpr const __global int {kernel.max_threads} = int({expression});"
            source.insert_before(statement, f"{source.edited(statement, header)} {variable} ")
        elif self._is_wanted(name):
            function = f"{self._global(statement)}{name}"
            end = source.tokens[body].partner
            source.insert_after(end, self._entry(name, function, kernel, kernel.max_threads) + self._marker(end))

    def _template_parameters(self, i: int, j: int) -> list[tuple[bool, bool]]:
        source = self.source
        return [
            (source.tokens[start].text in ("typename", "class"), "=" in source.texts(start, end))
            for start, end in source.split(i + 2, j - 1)
        ]

    def _max_threads(self, i: int, j: int) -> str:
        source = self.source
        for k in range(i, j):
            if source.is_at(k, "max_total_threads_per_threadgroup"):
                return source.edited(k + 2, source.tokens[k + 1].partner)
        return "0"

    def _parameter(self, i: int, j: int) -> _KernelParameter:
        source = self.source
        parameter = _KernelParameter(self._marker(i))
        while i < j:
            token = source.tokens[i]
            if token.text == "[[":
                for start, end in source.split(i + 1, token.partner - 1):
                    self._apply_attribute(parameter, start, end)
            elif token.kind == "word":
                parameter.name = token.text
            i = i + 1 if token.text == "(" else source.skip(i)
        return parameter

    def _apply_attribute(self, parameter: _KernelParameter, i: int, j: int) -> None:
        name = self.source.tokens[i].text
        if name in ("buffer", "threadgroup"):
            parameter.slot, parameter.index = f"{name}_slot", self.source.edited(i + 2, j - 1)
        elif name in POSITION_FIELDS:
            parameter.slot, parameter.index = "position_slot", str(POSITION_FIELDS[name])
        elif name == "function_constant":
            parameter.optional = True
        elif name in ("texture", "sampler", "stage_in"):
            self.error(i, f"[[{name}]]: the simulator runs kernels whose parameters are buffers and positions only")

    def rewrite_instantiations(self) -> None:
        """`template [[host_name("x")]] [[kernel]] decltype(f<T>) f<T>;`: an entry named x takes its place."""
        source = self.source
        for i in source.find("template"):
            token = source.tokens[i]
            if token.scope != NAMESPACE or token.statement != i or source.is_at(i + 1, "<"):
                continue
            end = source.seek(i, ";")
            attributes, start = self._leading_attributes(i + 1)
            if not source.is_at(start, "kernel") and "kernel" not in attributes:
                continue
            scope, base, arguments = self._instantiated(start, end)
            host = "".join(re.findall(r'"((?:\\.|[^"\\])*)"', attributes.get("host_name", ""))) or base
            kernel = next((k for k in self.kernels.get(base, []) if _accepts(k, arguments)), None)
            if kernel is None:
                self.error(i, f"explicit instantiation of {base}{arguments}: no such kernel is defined before it")
            elif self._is_wanted(host):
                scope = scope or self._global(i)
                max_threads = f"{scope}{kernel.max_threads}{arguments}"
                entry = self._entry(host, f"{scope}{base}{arguments}", kernel, max_threads)
                source.replace(i, end + 1, entry + self._marker(end))
            else:
                source.erase(i, end + 1)

    def _leading_attributes(self, i: int) -> tuple[dict[str, str], int]:
        source = self.source
        attributes = {}
        while source.is_at(i, "[["):
            closing = source.tokens[i].partner
            for start, end in source.split(i + 1, closing - 1):
                attributes[source.tokens[start].text] = source.edited(start + 1, end)
            i = closing + 1
        return attributes, i

    def _instantiated(self, i: int, end: int) -> tuple[str, str, str]:
        """The function an explicit instantiation names: its qualifiers, its name and its template arguments."""
        source = self.source
        i += source.is_at(i, "kernel")
        i = source.skip(i + 1) if source.is_at(i, "decltype") else i + 1
        angle = source.seek(i, "<", ";")
        start = angle - 1
        while source.is_at(start - 1, "::"):
            start -= 2
        arguments = source.edited(angle, min(source.after_angles(angle), end))
        return source.edited(start, angle - 1), source.tokens[angle - 1].text, arguments

    def _marker(self, i: int) -> str:
        """Makes what follows count as standing on the line of token i."""
        file, line, _ = self.source.location(i)
        return f'\n# {line} "{file}"\n'

    def _global(self, i: int) -> str:
        """Qualifies a name outside all namespaces, which `using namespace metal` could make ambiguous."""
        return "" if self.source.tokens[i].level else "::"

    def _is_wanted(self, name: str) -> bool:
        return self.wanted is None or name in self.wanted

    def _entry(self, name: str, function: str, kernel: _Kernel, max_threads: str) -> str:
        n = len(self.entries)
        self.entries.append(_Entry(name, kernel))
        attributes = "".join(f", metalsim::attribute{{metalsim::{p.slot}, {p.index}}}" for p in kernel.parameters)
        arguments = ",".join(
            f"{p.marker}metalsim::argument<metalsim_type_{n}::type<{i}>, metalsim::{p.slot},"
            f" metalsim_signature_{n}.words[{i * _PARAMETER_WORDS + 1}]>(b, t, p)"
            for i, p in enumerate(kernel.parameters)
        )
        return (
            f" typedef metalsim::signature<decltype({function})> metalsim_type_{n};"
            f' extern "C" constexpr const __global auto metalsim_signature_{n} __asm__("sim.signature.{n}") ='
            f" metalsim_type_{n}::describe({max_threads}{attributes});"
            f' extern "C" void metalsim_kernel_{n}(void** b, void** t, const uint* p) __asm__("sim.kernel.{n}");'
            f" void metalsim_kernel_{n}(void** b, void** t, const uint* p) {{ {function}({arguments}); }}"
        )


def _accepts(kernel: _Kernel, arguments: str) -> bool:
    """Whether the template arguments, as text, can be those of the kernel: enough to tell overloads apart."""
    inner = Source(arguments, hidden=lambda file: False)
    given = [inner.texts(i, j) for i, j in inner.split(1, len(inner.tokens) - 1)]
    if not sum(not has_default for _, has_default in kernel.template) <= len(given) <= len(kernel.template):
        return False
    is_value = [re.fullmatch(r"-?\d.*|true|false", words[0]) is not None for words in given]
    return not any(is_type and value for (is_type, _), value in zip(kernel.template, is_value, strict=False))


def _enclosing_attribute(source: Source, i: int) -> int:
    """The [[ of the attribute list that token i stands in; -1 if in none."""
    for j in range(i - 1, max(i - 64, -1), -1):
        if source.is_at(j, "[["):
            return j if source.tokens[j].partner > i else -1
    return -1


def _make_variable(source: Source, head: range, storage: str) -> None:
    """Makes the constant declared by the tokens of `head` a variable that can still be given a value."""
    for i in head:
        if source.is_at(i, "constant"):
            source.replace(i, i + 1, storage)
        elif source.tokens[i].text in ("const", "constexpr", "static"):
            source.erase(i, i + 1)


# ---- reading the IR


def _module(ir: str, rewriting: Rewriting) -> Module:
    ir = ir.replace("\\01", "")  # of asm labels, where symbols have a prefix
    tables = {match[1]: [int(word) for word in re.findall(r"i32 (-?\d+)", match[2])] for match in _TABLE.finditer(ir)}
    ir = _TABLE.sub("", ir)
    kernels = {
        entry.name: _kernel_info(entry, f"sim.kernel.{n}", tables[f"sim.signature.{n}"])
        for n, entry in enumerate(rewriting.entries)
    }
    constants = {
        index: FunctionConstant(name, f"sim.constant.{index}", DTYPES[tables[f"sim.constant.{index}.dtype"][0]])
        for index, name in rewriting.constants.items()
    }
    return Module(ir, kernels, constants, hidden=(str(clang.INCLUDE),))


_TABLE = re.compile(r"^@(sim\.(?:signature\.\d+|constant\.\d+\.dtype)) = (.*)\n", re.MULTILINE)


def _kernel_info(entry: _Entry, symbol: str, table: list[int]) -> KernelInfo:
    max_threads, words = table[0], table[1:]
    parameters = []
    for i, parameter in enumerate(entry.kernel.parameters):
        kind, index, dtype, size, reference, read_only = words[i * _PARAMETER_WORDS : (i + 1) * _PARAMETER_WORDS]
        parameters.append(
            Parameter(
                kind=_KINDS[kind],
                name=parameter.name,
                index=index,
                dtype=DTYPES[dtype],
                size=size,
                reference=bool(reference),
                read_only=bool(read_only),
                optional=parameter.optional,
            )
        )
    kernel = entry.kernel
    return KernelInfo(entry.name, symbol, tuple(parameters), max_threads or None, *kernel.place)
