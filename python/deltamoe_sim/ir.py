"""LLVM IR as text: how to take it apart, and the passes that every module goes through.

The text is what LLVM prints, which is regular: one instruction to a line, two spaces in front; a function from `define`
to `}`; globals, declarations, attribute groups and metadata in the first column. Passes go through it line by line.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

from deltamoe_sim.errors import LaunchError
from deltamoe_sim.module import FunctionConstant

NAME = r'(?:"[^"]*"|[\w.$-]+)'
"""Of a value, without its % or @."""

SYMBOL = re.compile(rf"@({NAME})")
SIMPLE_TYPE = r"(?:<\d+ x \w+>|\w+)"
RENDEZVOUS = (
    "air.simd",
    "air.quad",
    "air.wg.barrier",
    "air.atomic",
    "air.is_uniform",
    "sim.matrix_multiply_accumulate",
)
"""Beginnings of the names of functions at which lanes meet, or which report where they are called from: a call site's
number is appended to their arguments."""

_CLOSING = {"(": ")", "[": "]", "{": "}", "<": ">"}
_BITS = {"half": 16, "bfloat": 16, "float": 32, "double": 64, "ptr": 64}


def unquote(name: str) -> str:
    """The symbol that a printed name stands for."""
    return name[1:-1] if name.startswith('"') else name


def quote(symbol: str) -> str:
    """A symbol as LLVM prints it."""
    return symbol if re.fullmatch(r"[A-Za-z_.$-][\w.$-]*", symbol) else f'"{symbol}"'


def bracket_end(text: str, start: int) -> int:
    """Position behind the bracket that closes the one at `start`."""
    stack: list[str] = []
    quoted = False
    for position in range(start, len(text)):
        character = text[position]
        if character == '"':
            quoted = not quoted
        elif quoted:
            continue
        elif character in _CLOSING:
            stack.append(_CLOSING[character])
        elif stack and character == stack[-1]:
            stack.pop()
            if not stack:
                return position + 1
    raise ValueError(f"unbalanced brackets: {text}")


def split_operands(text: str) -> list[str]:
    """Splits at the commas outside of brackets and quotes."""
    if not any(mark in text for mark in '({["') and text.count("<") == 0:
        return text.split(", ")
    parts = []
    start = position = 0
    while position < len(text):
        character = text[position]
        if character in _CLOSING:
            position = bracket_end(text, position)
        elif character == '"':
            position = text.index('"', position + 1) + 1
        else:
            if character == ",":
                parts.append(text[start:position])
                start = position + 2
            position += 1
    parts.append(text[start:])
    return parts


def split_type(text: str) -> tuple[str, str]:
    """Splits `type value` into its two parts."""
    if text[0] in _CLOSING:
        end = bracket_end(text, 0)
    elif text.startswith('%"'):
        end = text.index('"', 2) + 1
    else:
        end = (text + " ").index(" ")
    return text[:end], text[end + 1 :]


def store_size(type_: str) -> str:
    """Bytes that a load or store of the type touches, as an i32 constant."""
    lanes, element = 1, type_
    if vector := re.fullmatch(r"<(\d+) x (\w+)>", type_):
        lanes, element = int(vector[1]), vector[2]
    bits = int(element[1:]) if re.fullmatch(r"i\d+", element) else _BITS.get(element)
    if bits is None:
        return f"ptrtoint (ptr getelementptr ({type_}, ptr null, i32 1) to i32)"
    return str((lanes * bits + 7) // 8)


def size_of(type_: str) -> str:
    """Bytes between two neighbours of the type in an array, as an i64 constant."""
    return f"ptrtoint (ptr getelementptr ({type_}, ptr null, i32 1) to i64)"


def functions(lines: list[str]) -> Iterator[tuple[int, int]]:
    """First line (`define`) and last (`}`) of each function."""
    start = 0
    for number, line in enumerate(lines):
        if line.startswith("define "):
            start = number
        elif line == "}":
            yield start, number


def function_name(define: str) -> str:
    """Symbol of the function that a `define` or `declare` line is about."""
    match = SYMBOL.search(define)
    assert match, define
    return unquote(match[1])


_TARGET_LINE = re.compile(r"^(?:target |source_filename|@llvm\.(?:compiler\.)?used |\$).*\n", re.M)
_ATTRIBUTES = re.compile(r"^attributes #\d+ = .*$", re.M)
_TARGET_ATTRIBUTE = re.compile(
    r' (?:"(?:target-cpu|target-features|tune-cpu|frame-pointer|min-legal-vector-width|stack-protector-buffer-size|'
    r'probe-stack|no-trapping-math)"(?:="[^"]*")?|uwtable(?:\(\w+\))?|ssp|sspstrong|noinline|optnone)'
)
_PLACEMENT = re.compile(r", comdat(?:\(\$[^)]*\))?| comdat(?:\(\$[^)]*\))?(?= |$)", re.M)


_LOOP_HINT = re.compile(r", !llvm\.loop !\d+")


def drop_target(ir: str) -> str:
    """Forgets what the module was compiled for: triple, layout, CPU, features, comdats, names kept for a linker.

    So do loops that were to be unrolled for a GPU: LLVM would warn of each that it cannot unroll.
    """
    ir = _LOOP_HINT.sub("", _TARGET_LINE.sub("", ir))
    ir = _ATTRIBUTES.sub(lambda match: _TARGET_ATTRIBUTE.sub("", match[0]), ir)
    return _PLACEMENT.sub("", ir)


_ADDRESS_SPACE = re.compile(r" addrspace\(\d+\)")
_CAST_EXPRESSION = re.compile(r"addrspacecast \(ptr ((?:[^()]|\([^()]*\))*) to ptr\)")
_CAST = re.compile(r"= addrspacecast (.*) to ")
_INTRINSIC = re.compile(r"@llvm\.[\w.]+")
_INTRINSIC_DECLARATION = re.compile(r"^declare .*@llvm\..*\n", re.M)


def drop_address_spaces(ir: str) -> str:
    """Makes all pointers plain ones. Declarations of intrinsics go too: their names change, and LLVM needs none."""
    ir = _INTRINSIC_DECLARATION.sub("", ir)
    ir = _INTRINSIC.sub(lambda match: re.sub(r"\.p\d+(?=\.|$)", ".p0", match[0]), ir)
    ir = _ADDRESS_SPACE.sub("", ir)
    casts = 1
    while casts:
        ir, casts = _CAST_EXPRESSION.subn(r"\1", ir)
    return _CAST.sub(r"= bitcast \1 to ", ir)


_INTEGER = re.compile(r"i(\d+)")


def literal(type_: str, value: Any) -> str:
    """A scalar as a constant of an IR type. Raises ValueError if the type cannot hold the value."""
    number: Any = np.asarray(value).item()
    if integer := _INTEGER.fullmatch(type_):
        bits = int(integer[1])
        if isinstance(number, float) and number.is_integer():
            number = int(number)
        if not isinstance(number, int) or not -(2 ** (bits - 1)) <= number < 2**bits:
            raise ValueError(f"{number!r} is not a {bits}-bit integer")
        return str(number - 2**bits if number >= 2 ** (bits - 1) else int(number))
    if type_ == "bfloat":
        bits = int(np.float32(number).view(np.uint32))
        return f"0xR{(bits + 0x7FFF + (bits >> 16 & 1)) >> 16:04X}"
    if type_ == "half":
        return f"0xH{int(np.float16(number).view(np.uint16)):04X}"
    if type_ == "float":
        return f"0x{int(np.float64(np.float32(number)).view(np.uint64)):016X}"
    raise ValueError(f"it is a {type_}; only scalars of at most 64 bits, double excepted, can be specialised")


_GLOBAL = re.compile(rf"^@({NAME}) = .*?\b(?:global|constant) ({SIMPLE_TYPE})")


def specialise(ir: str, constants: Mapping[int, FunctionConstant], values: Mapping[int, Any]) -> str:
    """Gives function constants their values; those without one become external variables.

    The variable `<symbol>.defined`, if the module has it, tells whether there is a value.
    """
    indices = {constant.symbol: index for index, constant in constants.items()}
    lines = ir.split("\n")
    for number, line in enumerate(lines):
        match = _GLOBAL.match(line) if line.startswith("@") else None
        if not match:
            continue
        name, type_ = match.groups()
        symbol = unquote(name)
        base = symbol.removesuffix(".defined")
        if (index := indices.get(base)) is None:
            continue
        if symbol != base:
            lines[number] = f"@{name} = internal constant {type_} {int(index in values)}"
        elif index in values:
            value = _value(constants[index], index, type_, values[index])
            lines[number] = f"@{name} = internal constant {type_} {value}"
        else:
            lines[number] = f"@{name} = external global {type_}"
    return "\n".join(lines)


def _value(constant: FunctionConstant, index: int, type_: str, value: Any) -> str:
    try:
        if constant.dtype == "bool" and value not in (0, 1):
            raise ValueError(f"{value!r} is not a bool")
        return literal(type_, value)
    except ValueError as error:
        raise LaunchError(f"function constant {constant.name} (index {index}): {error}") from error


def drop_unset(ir: str, unset: Mapping[str, str]) -> tuple[str, dict[str, str]]:
    """Drops from static constructors what depends on external variables, given with a description of each.

    The variables that would have been set become external in turn, so that whatever the optimiser leaves of any of them
    is in use. Returned are the IR and all of them, each with the description of one that it depends on.
    """
    found = dict(unset)
    lines = ir.split("\n")
    for start, end in functions(lines):
        if is_initialiser(lines[start]):
            lines[start : end + 1] = _without(lines[start : end + 1], found)
    for number, line in enumerate(lines):
        if line.startswith("@") and (match := _GLOBAL.match(line)) and unquote(match[1]) in found:
            lines[number] = f"@{match[1]} = external global {match[2]}"
    return "\n".join(lines), found


def is_initialiser(define: str) -> bool:
    """Whether a function is a static constructor or called by one."""
    return re.search(r' section "(?:air\.static_init|\.text\.startup)"', define) is not None


def _without(function: list[str], unset: dict[str, str]) -> list[str]:
    """An initialiser without what depends on `unset`, to which the variables that it would have set are added.

    Behind a branch that depends on them, everything is taken to do so. The number of lines stays.
    """
    reasons: dict[str, str] = {}
    behind = ""
    kept = [function[0]]
    for line in function[1:-1]:
        used = re.findall(rf"[@%]{NAME}", line.partition(" = ")[2] or line)
        reason = next((r for u in used if (r := reasons.get(u) or unset.get(unquote(u[1:])))), behind)
        if not reason or not line.startswith("  "):
            kept.append(line)
            continue
        if line.startswith(("  br ", "  switch ")):
            behind = reason
        elif line.startswith("  store ") and (target := SYMBOL.search(split_operands(line)[1])):
            unset[unquote(target[1])] = reason
        elif " = " in line:
            reasons[line.split(" = ")[0].strip()] = reason
        kept.append("")
    if behind:
        kept = [function[0], "  ret void", *[""] * (len(function) - 3)]
    return [*kept, function[-1]]


_CONSTRUCTORS = re.compile(r"^@llvm\.global_ctors = .*\n", re.M)
_CONSTRUCTOR = re.compile(rf"\{{ i32 (\d+), ptr @({NAME}), ptr [^}}]* \}}")


def collect_constructors(ir: str, symbol: str) -> str:
    """Defines a function that runs the module's static constructors, in place of the list a loader would run."""
    found: list[str] = []

    def take(match: re.Match[str]) -> str:
        found.extend(name for _, name in sorted(_CONSTRUCTOR.findall(match[0]), key=lambda item: int(item[0])))
        return ""

    ir = _CONSTRUCTORS.sub(take, ir)
    calls = "".join(f"  call void @{name}()\n" for name in found)
    return f"{ir}\ndefine void @{quote(symbol)}() {{\n{calls}  ret void\n}}\n"
