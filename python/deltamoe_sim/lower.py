"""Passes that turn Apple's AIR into IR that an executor of scalar functions can run.

What AIR says with globals and types of its own (threadgroup variables, 8x8 matrices) is rewritten. Of the functions
that it declares, those that have an equivalent in IR, take vectors or take 16-bit floats become small inlined
definitions. They call at most the scalar functions that the executor provides.
"""

from __future__ import annotations

import re
from collections.abc import Callable

from deltamoe_sim.errors import SimError
from deltamoe_sim.ir import (
    NAME,
    RENDEZVOUS,
    bracket_end,
    functions,
    quote,
    size_of,
    split_operands,
    split_type,
    unquote,
)

_THREADGROUP_VARIABLE = re.compile(rf"^@({NAME}) = .*\baddrspace\(3\) global (.*)$")
_ALIGNMENT = re.compile(r", align (\d+)")


def lower_threadgroup_variables(ir: str) -> str:
    """Replaces variables in threadgroup memory by a call that asks the executor for their address.

    Each function asks once, at its start, and computes there what were constant expressions on the address.
    """
    lines = ir.split("\n")
    calls: dict[str, str] = {}
    for number, line in enumerate(lines):
        if line.startswith("@") and (match := _THREADGROUP_VARIABLE.match(line)):
            name, definition = match.groups()
            type_, _ = split_type(definition)
            alignment = _ALIGNMENT.search(definition)
            index = len(calls)
            calls[name] = (
                f"call ptr @sim.threadgroup(i32 {index}, i64 {size_of(type_)}, "
                f"i64 {alignment[1] if alignment else 16}, ptr @sim.name.{index})"
            )
            text = _source_name(unquote(name))
            lines[number] = f'@sim.name.{index} = private constant [{len(text) + 1} x i8] c"{text}\\00"'
    if not calls:
        return ir
    one_of_them = "@(?:" + "|".join(re.escape(name) for name in calls) + r")(?![\w.$-])"
    for start, end in functions(lines):
        _hoist(lines, start, end, calls, one_of_them)
    return "\n".join(lines) + "\ndeclare ptr @sim.threadgroup(i32, i64, i64, ptr)\n"


_LOCAL_NAME = re.compile(r"E(\d+)(\w+)$")


def _source_name(symbol: str) -> str:
    """What a variable is called in the source: `tile` for `_ZZ6kernelvE4tile.1`, a variable of a function."""
    name = re.sub(r"\.\d+$", "", symbol)
    match = _LOCAL_NAME.search(name)
    return match[2][: int(match[1])] if match else re.sub(r"\W", "_", name)


_EXPRESSION = (
    r"(?<![@.\w])(?:getelementptr|addrspacecast|ptrtoint|inttoptr|bitcast|trunc|add|sub|xor)"
    r"(?: (?:inbounds|nuw|nsw|nusw))* \("
)


def _hoist(lines: list[str], start: int, end: int, calls: dict[str, str], names: str) -> None:
    """Rewrites one function; what it computes at its start joins its first line."""
    variable = re.compile(names)
    token = re.compile(f"{names}|{_EXPRESSION}")
    hoisted: dict[str, str] = {}

    def value(instruction: str) -> str:
        return hoisted.setdefault(instruction, f"%sim.threadgroup.{len(hoisted)}")

    def rewrite(text: str) -> str:
        done = ""
        while variable.search(text) and (match := token.search(text)):
            done += text[: match.start()]
            stop = match.end()
            if text[match.start()] == "@":
                done += value(calls[match[0][1:]])
            else:
                stop = bracket_end(text, match.end() - 1)
                expression = text[match.start() : stop]
                inner = text[match.end() : stop - 1]
                done += value(_as_instruction(match[0], rewrite(inner))) if variable.search(inner) else expression
            text = text[stop:]
        return done + text

    for number in range(start + 1, end):
        if variable.search(lines[number]):
            lines[number] = rewrite(lines[number])
    lines[start] += "".join(f"\n  {name} = {instruction}" for instruction, name in hoisted.items())


def _as_instruction(head: str, body: str) -> str:
    """A constant expression as an instruction: without its brackets, and with the type of the first operand only."""
    operands = split_operands(body)
    if not head.startswith("getelementptr") and len(operands) == 2:
        operands[1] = split_type(operands[1])[1]
    return head.removesuffix("(") + ", ".join(operands)


_MATRIX = re.compile(r"<64 x (float|half|bfloat)>")
_MATRIX_CONSTANT = re.compile(r"(<2 x (?:float|half|bfloat)> )<([^>]*)>")
_MATRIX_SHUFFLE = re.compile(r"(shufflevector <(\d+) x .*<)(\d+)( x i32> )(?:<(.*?)>|zeroinitializer)")
_MATRIX_ELEMENT = re.compile(r"(?:extract|insert)element <64 x .*, i\d+ (\d+)")
_KEEPS_TYPE = re.compile(r"^(?:%|@|  %\S+ = (?:alloca|getelementptr) )")


def lower_matrices(ir: str) -> str:
    """Narrows simdgroup matrices from 64 elements to the two that a lane holds, which AIR keeps in front.

    In memory they keep their size, so that offsets and alignments stay as they are.
    """
    if not _MATRIX.search(ir):
        return ir
    lines = ir.split("\n")
    for number, line in enumerate(lines):
        if "<64 x " in line and not _KEEPS_TYPE.match(line):
            if element := _MATRIX_ELEMENT.search(line):
                _check_element(int(element[1]))
            lines[number] = _MATRIX_CONSTANT.sub(
                _first_two, _MATRIX.sub(r"<2 x \1>", _MATRIX_SHUFFLE.sub(_narrow, line))
            )
    return "\n".join(lines)


def _first_two(match: re.Match[str]) -> str:
    return f"{match[1]}<{', '.join(split_operands(match[2])[:2])}>"


def _narrow(match: re.Match[str]) -> str:
    head, source, length, type_, mask = match.groups()
    elements = split_operands(mask)[:2] if mask else ["i32 0", "i32 0"]
    if source == "64":
        elements = [_narrow_index(element) for element in elements]
    return f"{head}{2 if length == '64' else length}{type_}<{', '.join(elements)}>"


def _narrow_index(element: str) -> str:
    index = element.removeprefix("i32 ")
    if index == "poison":
        return element
    operand, position = divmod(int(index), 64)
    _check_element(position)
    return f"i32 {2 * operand + position}"


def _check_element(position: int) -> None:
    if position > 1:
        raise SimError(f"element {position} of a simdgroup matrix is used; a lane holds elements 0 and 1 only")


_AIR_SYMBOL = re.compile(r"@(air\.[\w.]+)")
_FUSED = re.compile(r"@llvm\.(?:fma|fmuladd)\.(\w+)")
_EXTENSION = re.compile(r"\b(?:zeroext|signext) ")
_CALL_ATTRIBUTES = re.compile(r" #\d+(?=,|$)")

MEETING = "convergent nomerge nounwind"
PURE = "nofree nosync nounwind willreturn memory(none)"


def lower_functions(ir: str) -> str:
    """Defines those declared `air.` functions that need no executor, and gives the others honest attributes."""
    lines = []
    wanted: dict[str, tuple[str, list[str]]] = {}
    for line in ir.split("\n"):
        if line.startswith("declare ") and ("@air." in line or "@sim." in line):
            name, result, parameters = _signature(line)
            wanted[name] = result, parameters
        elif not line.startswith("declare ") or "@llvm." not in line:
            lines.append(line)
    library = _Library()
    internal = {name: library.require(name, *signature) for name, signature in wanted.items()}
    for number, line in enumerate(lines):
        if "@air." in line or "@sim.matrix" in line:
            if any(f"@{prefix}" in line for prefix in RENDEZVOUS):
                line = _CALL_ATTRIBUTES.sub("", line)
            line = _EXTENSION.sub("", line)
            lines[number] = _AIR_SYMBOL.sub(lambda match: f"@{internal.get(match[1], match[1])}", line)
        elif "@llvm.fm" in line:
            lines[number] = _FUSED.sub(lambda match: f"@{library.require_fused(match[1])}", line)
    return "\n".join(lines) + "\n" + library.text()


def _signature(declaration: str) -> tuple[str, str, list[str]]:
    """Name, result type and parameter types of a `declare` line."""
    opening = declaration.index("(", declaration.index(" @"))
    head, name = declaration[:opening].rsplit(" @", 1)
    inside = declaration[opening + 1 : bracket_end(declaration, opening) - 1]
    result = head[head.rindex("<") :] if head.endswith(">") else head.rsplit(" ", 1)[1]
    return unquote(name), result, [split_type(part)[0] for part in split_operands(inside)] if inside else []


class _Body:
    """Instructions of a definition that is being written."""

    def __init__(self) -> None:
        self.lines: list[str] = []

    def add(self, instruction: str) -> str:
        """Appends an instruction; returns the name of its result."""
        name = f"%v{len(self.lines)}"
        self.lines.append(f"  {name} = {instruction}")
        return name

    def do(self, instruction: str) -> None:
        """Appends an instruction without a result."""
        self.lines.append(f"  {instruction}")


_Writer = Callable[["_Library", _Body, str, str, list[str]], str]


class _Library:
    """Declarations and definitions to be appended to a module."""

    def __init__(self) -> None:
        self._texts: dict[str, str] = {}

    def text(self) -> str:
        return "\n".join(self._texts.values()) + "\n"

    def require(self, name: str, result: str, parameters: list[str]) -> str:
        """Makes sure that the function is there; returns the name by which to call it."""
        writer = _writer(name, result, parameters)
        if writer is None:
            attributes = MEETING if name.startswith(RENDEZVOUS) else PURE
            self._texts.setdefault(name, f"declare {result} @{quote(name)}({', '.join(parameters)}) {attributes}")
            return name
        own = f"sim.{name}"
        if own not in self._texts:
            self._texts[own] = ""  # its place, before those that it needs
            body = _Body()
            value = writer(self, body, name, result, parameters)
            head = ", ".join(f"{type_} %p{number}" for number, type_ in enumerate(parameters))
            body.do(f"ret {result} {value}".rstrip())
            self._texts[own] = "\n".join(
                [f"define internal {result} @{own}({head}) convergent alwaysinline nounwind {{", *body.lines, "}"]
            )
        return own

    def require_fused(self, suffix: str) -> str:
        """The same for a multiplication and addition in one, of the type that an intrinsic's name ends in.

        LLVM may split some of them, depending on the computer; here the result is the same on all.
        """
        if not suffix.endswith("f16"):
            return f"llvm.fma.{suffix}"
        type_ = "bfloat" if suffix.endswith("bf16") else "half"
        if vector := re.match(r"v(\d+)", suffix):
            type_ = f"<{vector[1]} x {type_}>"
        return self.require(f"air.fma.{suffix}", type_, [type_] * 3)

    def call(self, body: _Body, name: str, result: str, arguments: list[tuple[str, str]]) -> str:
        """Calls a function that may itself have to be defined; returns the result's name."""
        callee = self.require(name, result, [type_ for type_, _ in arguments])
        text = f"call {result} @{quote(callee)}({', '.join(f'{type_} {value}' for type_, value in arguments)})"
        if result != "void":
            return body.add(text)
        body.do(text)
        return ""


def _writer(name: str, result: str, parameters: list[str]) -> _Writer | None:
    """What writes the definition of a function, or None if the executor provides it."""
    if name.startswith("air.convert."):
        return _write_conversion
    if name.startswith("air.dot."):
        return _write_dot
    if name.startswith("air.normalize_function_constant_predicate."):
        return _write_normalisation
    if name.startswith("air.simdgroup_matrix_8x8_"):
        return _MATRIX_WRITERS.get(name.removeprefix("air.simdgroup_matrix_8x8_").partition(".")[0])
    if not name.startswith("air."):
        return None
    if re.match(r"air\.(?:fast_)?fma\..*f16$", name):
        return _write_fused
    if _intrinsic(name):
        return _write_intrinsic
    types = [result, *parameters]
    if any(type_.startswith("<") for type_ in types):
        return _write_by_element
    if any(type_ in ("half", "bfloat") for type_ in types):
        return _write_by_bits
    return None


def _value_arguments(parameters: list[str]) -> list[tuple[str, str]]:
    return [(type_, f"%p{number}") for number, type_ in enumerate(parameters)]


_INTRINSICS = {
    "fabs": "fabs",
    "floor": "floor",
    "ceil": "ceil",
    "trunc": "trunc",
    "rint": "rint",
    "round": "round",
    "sqrt": "sqrt",
    "fma": "fma",
    "fmax": "maxnum",
    "fmin": "minnum",
    "copysign": "copysign",
    "min.s": "smin",
    "min.u": "umin",
    "max.s": "smax",
    "max.u": "umax",
    "popcount": "ctpop",
    "reverse_bits": "bitreverse",
}
"""Operations of AIR that an intrinsic of LLVM does exactly, by name."""


def _intrinsic(name: str) -> str | None:
    """`air.min.s.v2i32` -> `llvm.smin.v2i32`."""
    operation, _, type_ = name.removeprefix("air.").removeprefix("fast_").rpartition(".")
    return f"llvm.{_INTRINSICS[operation]}.{type_}" if operation in _INTRINSICS else None


def _write_intrinsic(_: _Library, body: _Body, name: str, result: str, parameters: list[str]) -> str:
    arguments = ", ".join(f"{type_} {value}" for type_, value in _value_arguments(parameters))
    return body.add(f"call {result} @{_intrinsic(name)}({arguments})")


def _write_fused(_: _Library, body: _Body, name: str, result: str, parameters: list[str]) -> str:
    """Of 16-bit floats: in float, where the product is exact."""
    wide = re.sub("bfloat|half", "float", result)
    suffix = re.sub("b?f16", "f32", name.rpartition(".")[2])
    values = [body.add(f"fpext {type_} {value} to {wide}") for type_, value in _value_arguments(parameters)]
    fused = body.add(f"call {wide} @llvm.fma.{suffix}({', '.join(f'{wide} {value}' for value in values)})")
    return body.add(f"fptrunc {wide} {fused} to {result}")


def _write_by_element(to: _Library, body: _Body, name: str, result: str, parameters: list[str]) -> str:
    """One scalar call per element; scalar arguments (a lane, a mask) go to each."""
    scalar_name = re.sub(r"\.v\d+(?=\w+)", ".", name)
    vectors = [type_ for type_ in [result, *parameters] if type_.startswith("<")]
    length = int(vectors[0].split()[0][1:])
    value = "poison"
    for index in range(length):
        arguments = []
        for type_, argument in _value_arguments(parameters):
            if type_.startswith("<"):
                arguments.append((_element(type_), body.add(f"extractelement {type_} {argument}, i32 {index}")))
            else:
                arguments.append((type_, argument))
        element = to.call(body, scalar_name, _element(result), arguments)
        value = body.add(f"insertelement {result} {value}, {_element(result)} {element}, i32 {index}")
    return value


def _element(type_: str) -> str:
    return type_[1:-1].split(" x ")[1] if type_.startswith("<") else type_


def _write_by_bits(to: _Library, body: _Body, name: str, result: str, parameters: list[str]) -> str:
    """16-bit floats travel as i16."""
    arguments = []
    for type_, argument in _value_arguments(parameters):
        if type_ in ("half", "bfloat"):
            arguments.append(("i16", body.add(f"bitcast {type_} {argument} to i16")))
        else:
            arguments.append((type_, argument))
    if result not in ("half", "bfloat"):
        return to.call(body, name, result, arguments)
    return body.add(f"bitcast i16 {to.call(body, name, 'i16', arguments)} to {result}")


def _write_conversion(_: _Library, body: _Body, name: str, result: str, parameters: list[str]) -> str:
    """`air.convert.<f|s|u>.<type>.<f|s|u>.<type>`: as a C cast, but out-of-range floats saturate, and NaN gives 0."""
    to_kind, to_name, from_kind, from_name, *rounding = name.split(".")[2:]
    if rounding:
        raise SimError(f"{name}: conversions with a rounding mode are not supported")
    source = parameters[0]
    if from_kind == to_kind == "f":
        from_bits, to_bits = (32 if "32" in type_ else 16 for type_ in (from_name, to_name))
        if from_bits == to_bits == 16:  # half and bfloat meet in float
            wide = re.sub("bfloat|half", "float", source)
            return body.add(f"fptrunc {wide} {body.add(f'fpext {source} %p0 to {wide}')} to {result}")
        return body.add(f"{'fpext' if to_bits > from_bits else 'fptrunc'} {source} %p0 to {result}")
    if from_kind == "f":
        if _element(result) == "i1":
            return body.add(f"fcmp une {source} %p0, zeroinitializer")
        return body.add(f"call {result} @llvm.fpto{to_kind}i.sat.{to_name}.{from_name}({source} %p0)")
    if to_kind == "f":
        return body.add(f"{from_kind}itofp {source} %p0 to {result}")
    if _element(result) == "i1":
        return body.add(f"icmp ne {source} %p0, zeroinitializer")
    from_bits, to_bits = (int(_element(type_)[1:]) for type_ in (source, result))
    if from_bits == to_bits:
        return "%p0"
    extension = "sext" if from_kind == "s" else "zext"
    return body.add(f"{extension if to_bits > from_bits else 'trunc'} {source} %p0 to {result}")


def _write_dot(_: _Library, body: _Body, name: str, result: str, parameters: list[str]) -> str:
    vector = parameters[0]
    products = body.add(f"fmul {vector} %p0, %p1")
    total = body.add(f"extractelement {vector} {products}, i32 0")
    for index in range(1, int(vector.split()[0][1:])):
        element = body.add(f"extractelement {vector} {products}, i32 {index}")
        total = body.add(f"fadd {result} {total}, {element}")
    return total


def _write_normalisation(_: _Library, body: _Body, name: str, result: str, parameters: list[str]) -> str:
    return body.add(f"zext i1 {body.add(f'icmp ne {result} %p0, 0')} to {result}")


def _write_matrix_filled(_: _Library, body: _Body, name: str, result: str, parameters: list[str]) -> str:
    first = body.add(f"insertelement {result} poison, {parameters[0]} %p0, i32 0")
    return body.add(f"insertelement {result} {first}, {parameters[0]} %p0, i32 1")


def _write_multiply_accumulate(to: _Library, body: _Body, name: str, result: str, parameters: list[str]) -> str:
    """Lanes exchange their two elements as floats, in the bits of a double."""
    arguments = []
    for type_, argument in _value_arguments(parameters):
        if type_ != "<2 x float>":
            argument = body.add(f"fpext {type_} {argument} to <2 x float>")
        arguments.append(("double", body.add(f"bitcast <2 x float> {argument} to double")))
    product = to.call(body, "sim.matrix_multiply_accumulate", "double", arguments)
    value = body.add(f"bitcast double {product} to <2 x float>")
    return value if result == "<2 x float>" else body.add(f"fptrunc <2 x float> {value} to {result}")


def _write_matrix_load(to: _Library, body: _Body, name: str, result: str, parameters: list[str]) -> str:
    value = "poison"
    element = _element(result)
    for index, address in enumerate(_matrix_addresses(to, body, element, "%p0", "%p1", "%p2", "%p3")):
        loaded = body.add(f"load {element}, ptr {address}, align {_align(element)}")
        value = body.add(f"insertelement {result} {value}, {element} {loaded}, i32 {index}")
    return value


def _write_matrix_store(to: _Library, body: _Body, name: str, result: str, parameters: list[str]) -> str:
    element = _element(parameters[0])
    for index, address in enumerate(_matrix_addresses(to, body, element, "%p1", "%p2", "%p3", "%p4")):
        value = body.add(f"extractelement {parameters[0]} %p0, i32 {index}")
        body.do(f"store {element} {value}, ptr {address}, align {_align(element)}")
    return ""


def _align(element: str) -> int:
    return 4 if element == "float" else 2


def _matrix_addresses(
    to: _Library, body: _Body, element: str, base: str, stride: str, origin: str, transposed: str
) -> list[str]:
    """Where the lane's two elements of a matrix in memory are.

    Lane l holds row (q & 4) + l / 2 % 4, columns (q & 2) * 2 + l % 2 * 2 and the next, with q = l / 4.
    """
    lane = body.add(f"zext i16 {to.call(body, 'air.get_thread_index_in_simdgroup.i16', 'i16', [])} to i64")
    quarter = body.add(f"lshr i64 {lane}, 2")
    half = body.add(f"lshr i64 {lane}, 1")
    high_row = body.add(f"and i64 {quarter}, 4")
    low_row = body.add(f"and i64 {half}, 3")
    odd = body.add(f"and i64 {quarter}, 2")
    high_column = body.add(f"shl i64 {odd}, 1")
    even = body.add(f"and i64 {lane}, 1")
    low_column = body.add(f"shl i64 {even}, 1")
    x = body.add(f"extractelement <2 x i64> {origin}, i32 0")
    y = body.add(f"extractelement <2 x i64> {origin}, i32 1")
    row = body.add(f"add i64 {body.add(f'or i64 {high_row}, {low_row}')}, {y}")
    column = body.add(f"add i64 {body.add(f'or i64 {high_column}, {low_column}')}, {x}")
    addresses = []
    for index in range(2):
        here = body.add(f"add i64 {column}, {index}")
        major = body.add(f"select i1 {transposed}, i64 {here}, i64 {row}")
        minor = body.add(f"select i1 {transposed}, i64 {row}, i64 {here}")
        offset = body.add(f"add i64 {body.add(f'mul i64 {major}, {stride}')}, {minor}")
        addresses.append(body.add(f"getelementptr {element}, ptr {base}, i64 {offset}"))
    return addresses


_MATRIX_WRITERS: dict[str, _Writer] = {
    "init_filled": _write_matrix_filled,
    "multiply_accumulate": _write_multiply_accumulate,
    "load": _write_matrix_load,
    "store": _write_matrix_store,
}
