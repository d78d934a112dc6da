"""Puts the executor's checks into IR: the checked mode."""

from __future__ import annotations

import re
from collections.abc import Callable

from deltamoe_sim.ir import (
    NAME,
    bracket_end,
    functions,
    is_initialiser,
    size_of,
    split_operands,
    split_type,
    store_size,
    unquote,
)
from deltamoe_sim.sites import Sites

RED_ZONE = 32
"""Bytes behind each private variable that no variable occupies."""

ENTRY = "sim.kernel"
"""Name of a kernel's entry. It unpacks what the executor gives it, which is no memory that a shader sees: its accesses
are not checked, and its variables have contents."""

GLOBALS = "sim.globals"
"""Name of a table: how many variables the module has, then the address and size of each."""

HOOKS = """
declare ptr @sim.load(ptr, i32, i32, i32) nounwind
declare ptr @sim.store(ptr, i32, i32, i32) nounwind
declare ptr @sim.store_range(ptr, i64, i32) nounwind
declare void @sim.copy(ptr, ptr, i64, i32) nounwind
declare void @sim.private(ptr, i64, i32) nounwind
declare void @sim.argument(ptr, i64, i32) nounwind
declare i64 @sim.divisor(i64, i32) nounwind
@sim.steps = external global i64
@sim.flops = external global i64
"""

_EFFECTS = re.compile(
    r" (?:memory\([^)]*\)|nofree|nosync|nocallback|norecurse|willreturn|speculatable|readonly|readnone|writeonly|"
    r"captures\([^)]*\)|initializes\(\([^)]*\)\)|dereferenceable(?:_or_null)?\(\d+\)|nonnull)(?![\w(])"
)


def instrument(ir: str, sites: Sites, checked: bool) -> str:
    """Lists the module's variables; in checked mode also inserts the hooks for loads, stores, private variables and
    divisions, and the counters."""
    lines = ir.split("\n")
    if not checked:
        return ir + _table_of_globals(lines)
    auto_init = _annotation(lines)
    out: list[str] = []
    done = 0
    for start, end in functions(lines):
        if not is_initialiser(lines[start]):
            out += lines[done:start]
            out += _Function(lines[start : end + 1], sites, auto_init).instrumented()
            done = end + 1
    out += lines[done:]
    for number, line in enumerate(out):
        if line.startswith(("define ", "attributes ")) or (line.startswith("  ") and " call " in line):
            out[number] = _EFFECTS.sub("", line)
    return "\n".join(out) + HOOKS + _table_of_globals(lines)


def _annotation(lines: list[str]) -> str:
    """How an instruction that only fills in a pattern for a missing initialiser is marked."""
    for line in reversed(lines):
        if line.startswith("!") and line.endswith(' = !{!"auto-init"}'):
            return f"!annotation {line.partition(' ')[0]}"
    return "no annotation"


_GLOBAL = re.compile(rf"^@({NAME}) = (?!external )[^\"]*?\b(?:global|constant) (.*)$")


def _table_of_globals(lines: list[str]) -> str:
    entries = []
    for line in lines:
        match = _GLOBAL.match(line) if line.startswith("@") else None
        if match and not unquote(match[1]).startswith(("llvm.", "sim.")):
            size = size_of(split_type(match[2])[0])
            entries.append(f", i64 ptrtoint (ptr @{match[1]} to i64), i64 {size}")
    types = ", ".join(["i64"] * (1 + 2 * len(entries)))
    return f"@{GLOBALS} = constant {{ {types} }} {{ i64 {len(entries)}{''.join(entries)} }}\n"


_OPCODE = re.compile(r"^  (?:%\S+ = )?(?:(?:tail|musttail|notail) )?(\w+)")
_FLOPS = {"fadd": 1, "fsub": 1, "fmul": 1, "fdiv": 1, "frem": 1}
"""Those of matrix products are counted where they are done."""

_VECTOR = re.compile(r"<(\d+) x ")
_BIRTH = re.compile(r"@llvm\.lifetime\.start\.p0\(ptr (?:nonnull )?(%[^ )]+)\)")
_ALLOCA = re.compile(r"^(  (%\S+) = alloca )(.*)$")
_BYVAL = re.compile(r"byval\(")
_ALIGN = re.compile(r"^align (\d+)$")


class _Function:
    """Rewrites one function, from its `define` line to its `}`."""

    def __init__(self, lines: list[str], sites: Sites, auto_init: str) -> None:
        self._lines = lines
        self._site = sites.in_function(lines[0])
        self._is_entry = f"@{ENTRY}(" in lines[0]
        self._auto_init = auto_init
        self._out: list[str] = []
        self._names = 0
        self._steps = 0
        self._flops = 0
        self._variables: dict[str, str] = {}
        self._reborn = {match[1] for line in lines if (match := _BIRTH.search(line))}

    def instrumented(self) -> list[str]:
        self._out.append(self._lines[0])
        self._announce_values()
        for line in self._lines[1:]:
            match = _OPCODE.match(line)
            if not match:
                self._out.append(line)
                continue
            opcode = match[1]
            rewrite = _REWRITES.get(opcode, _Function._keep)
            trusted = self._is_entry and opcode != "alloca" and "@llvm.lifetime." not in line
            if trusted or self._auto_init in line:
                rewrite = _Function._keep
            if opcode not in ("phi", "alloca"):
                self._steps += 1
                self._count_flops(opcode, line)
            rewrite(self, line)
        return self._out

    def _emit(self, instruction: str) -> str:
        self._names += 1
        name = f"%sim.{self._names}"
        self._out.append(f"  {name} = {instruction}")
        return name

    def _keep(self, line: str) -> None:
        self._out.append(line)

    def _count_flops(self, opcode: str, line: str) -> None:
        flops = 2 if opcode == "call" and "@llvm.fma." in line else _FLOPS.get(opcode, 0)
        if flops:
            vector = _VECTOR.search(line)
            self._flops += flops * (int(vector[1]) if vector else 1)

    def _terminator(self, line: str) -> None:
        for counter, count in (("steps", self._steps), ("flops", self._flops)):
            if count:
                before = self._emit(f"load i64, ptr @sim.{counter}, align 8")
                after = self._emit(f"add i64 {before}, {count}")
                self._out.append(f"  store i64 {after}, ptr @sim.{counter}, align 8")
        self._steps, self._flops = 0, 0
        self._out.append(line)

    def _announce_values(self) -> None:
        """Structs passed by value are private variables that come with contents."""
        define = self._lines[0]
        opening = define.index("(", define.index("@"))
        for parameter in split_operands(define[opening + 1 : bracket_end(define, opening) - 1]):
            if match := _BYVAL.search(parameter):
                type_ = parameter[match.end() : bracket_end(parameter, match.end() - 1) - 1]
                self._announce(parameter.rsplit(" ", 1)[1], type_, has_contents=True)

    def _alloca(self, line: str) -> None:
        match = _ALLOCA.match(line)
        assert match, line
        head, name, rest = match.groups()
        type_, *others = split_operands(rest)
        if others and (count := re.match(r"i\d+ (\d+)$", others[0])):
            type_ = f"[{count[1]} x {type_}]"
            others = others[1:]
        self._variables[name] = type_
        self._out.append(", ".join([f"{head}{{ {type_}, [{RED_ZONE} x i8] }}", *others]))
        if name not in self._reborn:
            self._announce(name, type_, line, self._is_entry)

    def _announce(self, name: str, type_: str, line: str = "", has_contents: bool = False) -> None:
        hook = "argument" if has_contents else "private"
        self._out.append(f"  call void @sim.{hook}(ptr {name}, i64 {size_of(type_)}, i32 {self._site(line)})")

    def _load(self, line: str) -> None:
        head, _, rest = line.partition(" = load ")
        flags, rest = _split_flags(rest)
        type_, pointer, *others = split_operands(rest)
        checked, order = self._checked("load", type_, pointer, others, line)
        self._out.append(f"{head} = load {flags}{type_}, ptr {checked}{order}")

    def _store(self, line: str) -> None:
        flags, rest = _split_flags(line.removeprefix("  store "))
        value, pointer, *others = split_operands(rest)
        checked, order = self._checked("store", split_type(value)[0], pointer, others, line)
        self._out.append(f"  store {flags}{value}, ptr {checked}{order}")

    def _checked(self, hook: str, type_: str, pointer: str, others: list[str], line: str) -> tuple[str, str]:
        """Calls the hook; returns the pointer to use and what follows it in the instruction."""
        alignment = next(match[1] for other in others if (match := _ALIGN.match(other)))
        address, order = _split_pointer(pointer)
        checked = self._emit(
            f"call ptr @sim.{hook}(ptr {address}, i32 {store_size(type_)}, i32 {alignment}, i32 {self._site(line)})"
        )
        return checked, f"{order}, align {alignment}"

    def _call(self, line: str) -> None:
        if "@llvm.mem" in line:
            self._range(line)
        elif "@llvm.lifetime." in line:
            if (match := _BIRTH.search(line)) and match[1] in self._variables:
                self._announce(match[1], self._variables[match[1]], line, self._is_entry)
        else:
            self._out.append(line)

    def _range(self, line: str) -> None:
        opening = line.index("(", line.index("@llvm.mem"))
        target, source, size, volatile = split_operands(line[opening + 1 : line.rindex(")")])
        size = size.removeprefix("i64 ") if size.startswith("i64 ") else self._emit(f"zext {size} to i64")
        target = _without_attributes(target)
        if "@llvm.memset." not in line:
            source = _without_attributes(source)
            self._out.append(f"  call void @sim.copy({target}, {source}, i64 {size}, i32 {self._site(line)})")
            return
        checked = self._emit(f"call ptr @sim.store_range({target}, i64 {size}, i32 {self._site(line)})")
        self._out.append(f"  call void @llvm.memset.p0.i64(ptr {checked}, {source}, i64 {size}, {volatile})")

    def _division(self, line: str) -> None:
        head, _, rest = line.partition(" = ")
        dividend, divisor, *others = split_operands(rest)
        opcode, *_ = dividend.split()
        type_, _ = split_type(re.sub(r"^\w+ (?:exact )?", "", dividend))
        if divisor.startswith("%"):
            divisor = self._nonzero(type_, divisor, signed=opcode[0] == "s", line=line)
        self._out.append(f"{head} = {', '.join([dividend, divisor, *others])}")

    def _nonzero(self, type_: str, value: str, signed: bool, line: str) -> str:
        if vector := re.fullmatch(r"<(\d+) x (\w+)>", type_):
            result = value
            for index in range(int(vector[1])):
                element = self._emit(f"extractelement {type_} {value}, i32 {index}")
                element = self._nonzero(vector[2], element, signed, line)
                result = self._emit(f"insertelement {type_} {result}, {vector[2]} {element}, i32 {index}")
            return result
        if type_ != "i64":
            value = self._emit(f"{'sext' if signed else 'zext'} {type_} {value} to i64")
        value = self._emit(f"call i64 @sim.divisor(i64 {value}, i32 {self._site(line)})")
        return value if type_ == "i64" else self._emit(f"trunc i64 {value} to {type_}")


_REWRITES: dict[str, Callable[[_Function, str], None]] = {
    "alloca": _Function._alloca,
    "load": _Function._load,
    "store": _Function._store,
    "call": _Function._call,
    **dict.fromkeys(("sdiv", "udiv", "srem", "urem"), _Function._division),
    **dict.fromkeys(("br", "switch", "ret", "unreachable"), _Function._terminator),
}


def _split_flags(text: str) -> tuple[str, str]:
    flags = ""
    while text.startswith(("atomic ", "volatile ")):
        flag, _, text = text.partition(" ")
        flags += f"{flag} "
    return flags, text


def _without_attributes(operand: str) -> str:
    """`ptr nonnull align 4 %p` -> `ptr %p`."""
    return "ptr " + _OPERAND_ATTRIBUTES.sub("", operand)


_OPERAND_ATTRIBUTES = re.compile(
    r"^ptr (?:(?:noundef|nonnull|noalias|nofree|readonly|readnone|writeonly|writable|"
    r"align \d+|(?:captures|dereferenceable|dereferenceable_or_null)\([^)]*\)) )*"
)
_ATOMIC_ORDER = re.compile(r"( syncscope\(\"[^\"]*\"\))?( (?:unordered|monotonic|acquire|release|acq_rel|seq_cst))$")


def _split_pointer(pointer: str) -> tuple[str, str]:
    """Splits `ptr %p seq_cst` into address and memory order."""
    address = pointer.removeprefix("ptr ")
    order = _ATOMIC_ORDER.search(address)
    return (address[: order.start()], order[0]) if order else (address, "")
