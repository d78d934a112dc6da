"""What Apple's compiler rejects, or Metal forbids, and clang lets pass.

`RULES` has all rules by name; the docstring of each says what it stands for.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterator, Mapping, Sequence

from deltamoe_sim.clang import LINE_MARKER
from deltamoe_sim.divergence import POSITION_LEVELS, Level, divergent_rendezvous, rendezvous_level
from deltamoe_sim.errors import CompileError, Diagnostic
from deltamoe_sim.module import MAX_BUFFERS, POSITION_FIELDS
from deltamoe_sim.source import is_hidden
from deltamoe_sim.syntax import FUNCTIONS, Node, Place
from deltamoe_sim.tokens import CLASS, FUNCTION, NAMESPACE
from deltamoe_sim.unit import SPACES, Kernel, Unit

Finding = tuple[Place, str]
Rule = Callable[[Unit], Iterator[Finding]]

RULES: dict[str, Rule] = {}

MAX_THREADGROUP_MEMORY = 32768


def lint(
    path_or_text: str | os.PathLike[str],
    include: Sequence[str | os.PathLike[str]] = (),
    defines: Mapping[str, str] | None = None,
    version: int = 310,
) -> list[Diagnostic]:
    """Findings about a .metal file, or source text (a str with a line break), and the files that it includes.

    The compiler's errors are not among them; a shader that has some is examined by the rules that need no types.
    """
    return [d for d in check(path_or_text, include, defines, version) if d.rule in RULES]


def check(
    path_or_text: str | os.PathLike[str],
    include: Sequence[str | os.PathLike[str]] = (),
    defines: Mapping[str, str] | None = None,
    version: int = 310,
) -> list[Diagnostic]:
    """The compiler's errors and lint's findings."""
    try:
        unit = Unit(path_or_text, include, defines or {}, version)
    except CompileError as error:
        return error.diagnostics
    found = {
        Diagnostic(place.file, place.line, place.column, message, name)
        for name, rule in RULES.items()
        for place, message in rule(unit)
    }
    return sorted({*unit.errors, *found}, key=lambda d: (d.file, d.line, d.column, d.rule))


def _rule(function: Rule) -> Rule:
    """Adds a rule under its function's name."""
    RULES[function.__name__.replace("_", "-")] = function
    return function


# ---- kernels and their parameters

_POSITION_TYPE = re.compile(r"(?:uint|ushort|uint32_t|uint16_t|unsigned)([23]?)")
_OTHER_TYPE = re.compile(
    r"(?:bool|u?char|short|int|u?long|half|bfloat|float|double|size_t)[234]?|u(?:int|short)4|u?int(?:8|64)_t|int(?:16|32)_t"
)
_SCALAR_POSITIONS = POSITION_FIELDS.keys() - {name for name, word in POSITION_FIELDS.items() if word < 24}
_MEMORY = frozenset({"buffer", "threadgroup"})
_OTHER_ATTRIBUTES = frozenset({"function_constant", "texture", "sampler", "id", "raster_order_group", "stage_in"})


@_rule
def buffer_index(unit: Unit) -> Iterator[Finding]:
    """[[buffer(i)]] and [[threadgroup(i)]]: i goes from 0 to 30, and each is given once."""
    for kernel in unit.kernels:
        taken: dict[str, str] = {}
        for parameter in kernel.parameters:
            for attribute in _MEMORY & parameter.attributes.keys():
                index = _integer(parameter.attributes[attribute])
                if index is None:
                    continue
                slot = f"[[{attribute}({index})]]"
                if not 0 <= index < MAX_BUFFERS:
                    yield parameter.place, f"{slot} of {parameter.name}: the index must be from 0 to {MAX_BUFFERS - 1}"
                elif "function_constant" in parameter.attributes:
                    continue  # of such, a pipeline may have but one
                elif (other := taken.setdefault(slot, parameter.name)) != parameter.name:
                    yield parameter.place, f"{slot} of {parameter.name} is taken by {other}; give it another index"


@_rule
def unknown_attribute(unit: Unit) -> Iterator[Finding]:
    """The attributes that a kernel's parameter may have."""
    known = POSITION_FIELDS.keys() | _MEMORY | _OTHER_ATTRIBUTES
    for kernel in unit.kernels:
        for parameter in kernel.parameters:
            for name in parameter.attributes.keys() - known:
                yield parameter.place, f"[[{name}]] of {parameter.name}: a kernel's parameter has no such attribute"


@_rule
def position_type(unit: Unit) -> Iterator[Finding]:
    """Positions are ushort or uint, or where they have dimensions, vectors of these, all of a kernel of one size."""
    for kernel in unit.kernels:
        sizes: dict[str, str] = {}
        for parameter in kernel.parameters:
            position = parameter.position
            if not position:
                continue
            what = f"[[{position}]] of {parameter.name}"
            match = _POSITION_TYPE.fullmatch(parameter.type)
            size = match[1] if match else ""
            if _OTHER_TYPE.fullmatch(parameter.type) or parameter.points:
                yield parameter.place, f"{what}: the type must be uint or ushort, or a vector of them"
            elif size and position in _SCALAR_POSITIONS:
                yield parameter.place, f"{what} is one number: the type must be uint or ushort"
            elif size:
                sizes[parameter.name] = size
                first, expected = next(iter(sizes.items()))
                if size != expected:
                    yield (
                        parameter.place,
                        f"{what} has {size} components, {first} has {expected}: all must have as many",
                    )


@_rule
def kernel_argument(unit: Unit) -> Iterator[Finding]:
    """Arguments are pointers and references to device or constant memory, which have [[buffer(i)]], or to threadgroup
    memory, which have [[threadgroup(i)]], or positions."""
    for kernel in unit.kernels:
        for parameter in kernel.parameters:
            attributes = parameter.attributes.keys()
            what = f"parameter {parameter.name} of kernel {kernel.name}"
            if attributes - _MEMORY - {"function_constant"}:
                continue
            if not parameter.points:
                is_number = _POSITION_TYPE.fullmatch(parameter.type) or _OTHER_TYPE.fullmatch(parameter.type)
                if is_number or "buffer" in attributes:
                    yield (
                        parameter.place,
                        f"{what} is passed by value: write `constant {parameter.type}& {parameter.name}`",
                    )
            elif parameter.space in ("", "thread"):
                yield parameter.place, f"{what} must point to device, constant or threadgroup memory"
            elif "threadgroup" in attributes and parameter.space != "threadgroup":
                yield parameter.place, f"{what} is in {parameter.space} memory, and so wants [[buffer(i)]]"
            elif "buffer" in attributes and parameter.space == "threadgroup":
                yield parameter.place, f"{what} is in threadgroup memory, and so wants [[threadgroup(i)]]"


@_rule
def kernel_result(unit: Unit) -> Iterator[Finding]:
    """A kernel returns void."""
    for kernel in unit.kernels:
        if kernel.result != "void":
            yield kernel.place, f"kernel {kernel.name} returns {kernel.result}: a kernel must return void"


# ---- C++ that Metal leaves out

_KEYWORDS = {
    "goto": "goto",
    "virtual": "virtual functions",
    "try": "exceptions",
    "catch": "exceptions",
    "throw": "exceptions",
    "new": "heap, and so no new",
    "delete": "heap, and so no delete",
    "typeid": "run-time type information",
    "dynamic_cast": "run-time type information",
    "asm": "inline assembly",
    "__asm": "inline assembly",
    "__asm__": "inline assembly",
    "thread_local": "thread_local",
}


@_rule
def unsupported_keyword(unit: Unit) -> Iterator[Finding]:
    """No goto, virtual functions, exceptions, new, delete, run-time type information, assembly, thread_local."""
    for i in unit.source.find(*_KEYWORDS):
        word = unit.source.tokens[i].text
        is_deleted_function = word == "delete" and unit.source.is_at(i - 1, "=")
        if not is_deleted_function:
            yield unit.place(i), f"{word}: Metal has no {_KEYWORDS[word]}"


@_rule
def double(unit: Unit) -> Iterator[Finding]:
    """Neither double nor long double."""
    for i in unit.source.find("double"):
        yield unit.place(i), "Metal has no double; use float"


@_rule
def std_namespace(unit: Unit) -> Iterator[Finding]:
    """No C++ standard library."""
    for i in unit.source.find("std"):
        if unit.source.is_at(i + 1, "::"):
            yield unit.place(i), f"Metal has no std::{unit.source.tokens[i + 2].text}; see what namespace metal has"


@_rule
def non_ascii(unit: Unit) -> Iterator[Finding]:
    """ASCII only, comments apart."""
    file, number = "", 1
    for line in unit.text.split("\n"):
        if marker := LINE_MARKER.match(line):
            file, number = marker[2], int(marker[1])
            continue
        if not is_hidden(file) and (match := re.search(r"[^\x00-\x7f]", line)):
            yield Place(file, number, match.start() + 1), f"{match[0]!r} is not ASCII"
        number += 1


@_rule
def implicit_bfloat(unit: Unit) -> Iterator[Finding]:
    """A float does not become a bfloat by itself, in `b *= f` neither; of all other conversions the compiler tells."""
    for node in unit.nodes:
        is_bfloat = re.search(r"\b(?:bfloat|__bf16)\b", node.type)
        if node.kind == "CompoundAssignOperator" and is_bfloat and node["computeResultType"]["qualType"] == "float":
            yield node.place, f"the result of {node['opcode']} is a float, not converted to bfloat; write bfloat(...)"


@_rule
def atomic_64_bit(unit: Unit) -> Iterator[Finding]:
    """64-bit atomics have min and max only, and those not on all GPUs."""
    src = unit.source
    for i in src.find("atomic", "atomic_ulong", "atomic_long"):
        element = src.texts(i + 2, src.after_angles(i + 1) - 1) if src.is_at(i + 1, "<") else []
        is_long = not {"long", "ulong", "int64_t", "uint64_t", "size_t"}.isdisjoint(element)
        if src.tokens[i].text != "atomic" or is_long:
            yield unit.place(i), "64-bit atomics are not there on all GPUs, and have min and max only"


# ---- where variables and pointers lie


@_rule
def unqualified_pointer(unit: Unit) -> Iterator[Finding]:
    """Pointers and references name the address space of what they lead to; array parameters need not."""
    kinds = FUNCTIONS | {"VarDecl", "ParmVarDecl", "FieldDecl", "TypedefDecl", "TypeAliasDecl"}
    for node in unit.nodes:
        if node.kind not in kinds or not _is_unqualified(_declared_type(node)):
            continue
        before, after = unit.written(node)
        if SPACES.isdisjoint(before) and "auto" not in before and after != "[":
            yield (
                node.place,
                f"{node.name or 'a parameter'}: say whether it leads to device, constant, thread or threadgroup memory",
            )


@_rule
def device_to_constant(unit: Unit) -> Iterator[Finding]:
    """Pointers and references are not converted from one address space to another; clang lets this pair pass."""
    for node in unit.nodes:
        if node.kind.endswith("CastExpr") and node.children:
            operand = node.children[-1].type
            if _leads_to(node.type, "__global") and _leads_to(operand, "__global_device"):
                yield node.place, f"{operand} leads to device memory and cannot be converted to lead to constant memory"


@_rule
def threadgroup_variable(unit: Unit) -> Iterator[Finding]:
    """Variables in threadgroup memory are declared in kernels."""
    for i in _threadgroup_variables(unit):
        if unit.source.tokens[i].scope != FUNCTION or not any(i in kernel.body for kernel in unit.kernels):
            yield unit.place(i), "a threadgroup variable must be declared in a kernel; pass on a pointer to it"


@_rule
def threadgroup_initialiser(unit: Unit) -> Iterator[Finding]:
    """Variables in threadgroup memory have no initialisers."""
    src = unit.source
    for i in _threadgroup_variables(unit):
        if not src.is_at(src.seek(i, ";", "=", "{"), ";"):
            yield unit.place(i), "a threadgroup variable cannot be initialised; let one thread assign to it"


@_rule
def threadgroup_size(unit: Unit) -> Iterator[Finding]:
    """A threadgroup has 32 KB of memory."""
    variables = set(_threadgroup_variables(unit))
    for function in unit.functions:
        kernel = unit.kernel_of(function)
        if kernel is None or variables.isdisjoint(kernel.body):
            continue
        total = 0
        for name, size in _threadgroup_memory(unit.ir, function["mangledName"]):
            if total <= MAX_THREADGROUP_MEMORY < total + size:
                yield (
                    _first_mention(unit, kernel, name),
                    f"{name} makes {total + size} bytes of threadgroup memory: at most {MAX_THREADGROUP_MEMORY}",
                )
            total += size


@_rule
def program_variable(unit: Unit) -> Iterator[Finding]:
    """Variables outside functions, and static members, lie in the constant address space."""
    for node in _program_variables(unit.tree.declarations):
        if "constant" not in unit.written(node)[0]:
            yield node.place, f"{node.name}: a variable outside functions must be `constant`"


@_rule
def static_local(unit: Unit) -> Iterator[Finding]:
    """No variable of a function outlives the call."""
    for function in unit.functions:
        for node in function.walk():
            is_static = node.kind == "VarDecl" and node["storageClass"] == "static"
            if is_static and "constant" not in unit.written(node)[0]:
                yield node.place, f"static {node.name}: Metal has no variables that outlive a call"


# ---- flow


@_rule
def recursion(unit: Unit) -> Iterator[Finding]:
    """Functions call neither themselves nor each other in a circle."""
    calls = {
        function["mangledName"]: {unit.symbols[n.referenced] for n in function.walk() if n.referenced in unit.symbols}
        for function in unit.functions
    }
    for function in unit.functions:
        if function["mangledName"] in _reachable(function["mangledName"], calls):
            yield function.place, f"{function.name} calls itself, directly or through others"


@_rule
def uninitialised(unit: Unit) -> Iterator[Finding]:
    """A variable is given a value before it is used, whichever way is taken."""
    for warning in unit.tree.warnings:
        yield Place(warning.file, warning.line, warning.column), warning.message


@_rule
def divergent_exit(unit: Unit) -> Iterator[Finding]:
    """Barriers and SIMD-group functions are reached by all the threads that they bring together: after some have
    returned, or left the loop, the others wait in vain, or compute without them."""
    helpers = _helpers(unit)
    for function in unit.functions:
        kernel = unit.kernel_of(function)
        parameters = kernel.parameters if kernel is not None else []
        levels = {p.name: POSITION_LEVELS.get(p.position, Level.UNIFORM) for p in parameters}
        for found in divergent_rendezvous(function, levels, helpers):
            who = "lanes" if found.level == Level.LANE else "simdgroups"
            yield found.place, f"{found.name}: some {who} may not come here, for they return, break or continue before"


# ---- what rules share


def _integer(expression: str) -> int | None:
    """An index, unless template parameters stand in it."""
    if not re.fullmatch(r"[\d\s()+*-]+", expression):
        return None
    return int(eval(expression, {"__builtins__": {}}))


def _declared_type(node: Node) -> str:
    """Of a function, what it returns."""
    return node.type.split("(", 1)[0] if node.kind in FUNCTIONS else node.type


def _is_unqualified(type_: str) -> bool:
    """Whether a pointer or reference in it, functions' apart, does not say which address space it leads to."""
    plain = re.sub(r"\[[^\]]*\]", "", type_)
    while "<" in plain:
        plain, count = re.subn(r"<[^<>]*>", "", plain)
        if count == 0:
            break
    pointees = re.split(r"[*&]+", plain)[:-1]
    qualified = re.compile(r"__(?:private|local|global|global_device|constant)\b")
    return "(" not in plain and any(not qualified.search(pointee) for pointee in pointees)


def _leads_to(type_: str, space: str) -> bool:
    """Whether the target of a pointer, or what a reference stands for, lies in an address space."""
    return "(" not in type_ and re.search(rf"\b{space}\b", type_.split("*", 1)[0]) is not None


def _threadgroup_variables(unit: Unit) -> Iterator[int]:
    """The word `threadgroup` of each declaration of a variable there; a pointer to there is none."""
    src = unit.source
    for i in src.find("threadgroup"):
        token = src.tokens[i]
        leads = all(word in ("static", "volatile") for word in src.texts(token.statement, i))
        if leads and token.depth == 0 and token.scope in (NAMESPACE, CLASS, FUNCTION):
            end = src.seek(i, ";", "=", "{", "(", "*", "&")
            if src.texts(end, end + 1) in ([";"], ["="], ["{"]):
                yield i


def _threadgroup_memory(ir: str, function: str) -> Iterator[tuple[str, int]]:
    """Name and size of each variable that a function of unoptimised IR has in threadgroup memory."""
    symbol = re.escape(function.lstrip("_"))  # macOS puts one more before it
    body = re.search(rf'^define [^\n]*@"?_*{symbol}"?\(.*?^\}}', ir, re.MULTILINE | re.DOTALL)
    calls = r"dereferenceable\((\d+)\) ptr @[^(]*threadgroup_variable[^(]*\(ptr [^@)]*@([\w.]+)"
    for size, string in re.findall(calls, body[0] if body else ""):
        text = re.search(rf'^@{re.escape(string)} = .* c"([^"]*)\\00"', ir, re.MULTILINE)
        yield text[1] if text else "a variable", int(size)


def _first_mention(unit: Unit, kernel: Kernel, name: str) -> Place:
    return next((unit.place(i) for i in kernel.body if unit.source.is_at(i, name)), kernel.place)


def _program_variables(nodes: list[Node]) -> Iterator[Node]:
    """In namespaces and classes."""
    around = (
        "NamespaceDecl",
        "LinkageSpecDecl",
        "CXXRecordDecl",
        "ClassTemplateDecl",
        "ClassTemplateSpecializationDecl",
    )
    for node in nodes:
        if node.kind == "VarDecl":
            yield node
        elif node.kind in around:
            yield from _program_variables(node.children)


def _reachable(start: str, edges: Mapping[str, set[str]]) -> set[str]:
    found: set[str] = set()
    ahead = [start]
    while ahead:
        new = edges.get(ahead.pop(), set()) - found
        found |= new
        ahead += new
    return found


def _helpers(unit: Unit) -> dict[str, Level]:
    """The user's functions in which threads meet, by id, and how far ways may part before them."""
    levels: dict[str, Level] = {}
    changed = True
    while changed:
        changed = False
        for function in unit.functions:
            symbol = function["mangledName"]
            called = [n for n in function.walk() if n.kind in ("DeclRefExpr", "MemberExpr")]
            met = [levels.get(unit.symbols.get(n.referenced, ""), rendezvous_level(n.referenced_name)) for n in called]
            strictest = min((level for level in met if level is not None), default=None)
            if strictest is not None and strictest != levels.get(symbol):
                levels[symbol] = strictest
                changed = True
    return {id_: levels[symbol] for id_, symbol in unit.symbols.items() if symbol in levels}
