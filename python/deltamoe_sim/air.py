"""Kernels that Apple's compiler made: modules out of a .metallib."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from os import PathLike
from typing import Literal

import llvmlite.binding as llvm

from deltamoe_sim.errors import SimError
from deltamoe_sim.ir import quote, split_operands, split_type, unquote
from deltamoe_sim.metallib import Metallib
from deltamoe_sim.module import POSITION_FIELDS, FunctionConstant, KernelInfo, Module, Parameter

_DTYPES = {
    "float": "float32",
    "half": "float16",
    "bfloat": "bfloat16",
    "bool": "bool",
    "char": "int8",
    "uchar": "uint8",
    "short": "int16",
    "ushort": "uint16",
    "int": "int32",
    "uint": "uint32",
    "long": "int64",
    "ulong": "uint64",
}


def load_module(path: str | PathLike[str], names: Iterable[str]) -> Module:
    """Reads kernels out of a .metallib and makes one module of them."""
    library = Metallib(path)
    context = llvm.create_context()
    modules = [_parse(library, name, context) for name in dict.fromkeys(names)]
    if not modules:
        raise SimError(f"{path}: no kernels were named")
    first, *others = modules
    for other in others:
        first.link_in(other)
    return parse_module(str(first))


def _parse(library: Metallib, name: str, context: llvm.ContextRef) -> llvm.ModuleRef:
    try:
        module = llvm.parse_bitcode(library.bitcode(name), context)
    except RuntimeError as error:
        raise SimError(f"{library.path}: the bitcode of {name!r} cannot be read: {error}") from error
    for variable in module.global_variables:
        if match := _CONSTANT_NAME.search(variable.name):  # one name for the same constant of all kernels
            variable.name = f"sim.constant.{match[1]}"
            variable.linkage = "weak_odr"
    return module


_CONSTANT_NAME = re.compile(r"\.MTL_FC_INIT_(\d+)_")
_NODE = re.compile(r"^!(\d+) = (?:distinct )?!\{(.*)\}$", re.M)
_STRING = re.compile(r'!"([^"]*)"')


def parse_module(ir: str) -> Module:
    """Describes the kernels of a module of AIR by its metadata, and gives each an entry that the executor can call."""
    nodes = dict(_NODE.findall(ir))
    kernels: dict[str, KernelInfo] = {}
    entries: list[str] = []
    for number in _named(ir, "air.kernel"):
        function, _, arguments, *_ = split_operands(nodes[number])
        symbol = unquote(function.removeprefix("ptr @"))
        entry = f"sim.kernel.{len(entries)}"
        parameters = tuple(_parameter(symbol, nodes[node[1:]]) for node in split_operands(nodes[arguments[1:]]) if node)
        limit = re.search(r'!"air\.max_work_group_size", i32 (\d+)', _expand(nodes, nodes[number]))
        kernels[symbol] = KernelInfo(symbol, entry, parameters, int(limit[1]) if limit else None)
        entries.append(_entry(entry, symbol, _types(ir, symbol), parameters))
    constants = {}
    for number in _named(ir, "air.function_constants"):
        variable, type_, name, index, *_ = split_operands(nodes[number])
        dtype = _dtype(type_[2:-1])
        constants[int(index.removeprefix("i32 "))] = FunctionConstant(name[2:-1], variable.rpartition("@")[2], dtype)
    return Module("\n".join([ir, *entries]), kernels, constants)


def _named(ir: str, name: str) -> list[str]:
    """Nodes of a named metadata list."""
    match = re.search(rf"^!{re.escape(name)} = !\{{(.*)\}}$", ir, re.M)
    return re.findall(r"!(\d+)", match[1]) if match else []


def _expand(nodes: dict[str, str], text: str) -> str:
    """A node's text with that of the nodes it refers to, one level deep."""
    return text + "".join(nodes.get(number, "") for number in re.findall(r"!(\d+)", text))


def _dtype(type_name: str) -> str:
    """Of the elements of a Metal type: float4 and packed_float4 are vectors of float32."""
    match = re.fullmatch(r"(?:packed_)?([a-z]+?)[234]?", type_name)
    return _DTYPES.get(match[1], "struct") if match else "struct"


def _parameter(kernel: str, node: str) -> Parameter:
    fields = split_operands(node)
    strings = dict.fromkeys(_STRING.findall(node))

    def after(key: str, offset: int = 1) -> str:
        return fields[fields.index(f'!"air.{key}"') + offset]

    def number(key: str) -> int:
        return int(after(key).removeprefix("i32 "))

    name = after("arg_name")[2:-1] if "air.arg_name" in strings else ""
    if "air.buffer" in strings:
        kind: Literal["buffer", "threadgroup"] = "threadgroup" if number("address_space") == 3 else "buffer"
        return Parameter(
            kind,
            name,
            number("location_index"),
            _dtype(after("arg_type_name")[2:-1]),
            number("arg_type_size"),
            reference="air.buffer_size" in strings,
            read_only="air.read" in strings,
            optional="air.function_constant" in strings,
        )
    field = fields[1][2:-1].removeprefix("air.")
    if field not in POSITION_FIELDS:
        raise SimError(f"kernel {kernel}: the simulator has no {field} (parameter {name!r})")
    return Parameter("position", name, POSITION_FIELDS[field])


_TYPE = re.compile(r"ptr addrspace\(\d+\)")


def _types(ir: str, symbol: str) -> list[str]:
    """Parameter types of a defined function."""
    match = re.search(rf"^define [^@]*@{re.escape(quote(symbol))}\((.*)\)", ir, re.M)
    if not match:
        raise SimError(f"kernel {symbol} is not defined in its module")
    operands = split_operands(match[1]) if match[1] else []
    return [space[0] if (space := _TYPE.match(operand)) else split_type(operand)[0] for operand in operands]


def _entry(name: str, kernel: str, types: Sequence[str], parameters: Sequence[Parameter]) -> str:
    """A function that unpacks the executor's records and calls the kernel."""
    lines = [f"define void @{name}(ptr %buffer, ptr %threadgroup, ptr %position) {{"]
    arguments = []
    for number, (type_, parameter) in enumerate(zip(types, parameters, strict=True)):
        slot, value = f"%slot.{number}", f"%value.{number}"
        if parameter.kind != "position":
            lines.append(f"  {slot} = getelementptr ptr, ptr %{parameter.kind}, i64 {parameter.index}")
            lines.append(f"  {value} = load {type_}, ptr {slot}, align 8")
        else:
            words = re.sub(r"i\d+", "i32", type_)
            lines.append(f"  {slot} = getelementptr i32, ptr %position, i64 {parameter.index}")
            lines.append(f"  {value}.words = load {words}, ptr {slot}, align 4")
            change = "bitcast" if words == type_ else "trunc"
            lines.append(f"  {value} = {change} {words} {value}.words to {type_}")
        arguments.append(f"{type_} {value}")
    return "\n".join([*lines, f"  call void @{quote(kernel)}({', '.join(arguments)})", "  ret void", "}", ""])
