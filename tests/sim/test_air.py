"""Reading .metallib files: a container made here, around small modules such as Apple's compiler writes."""

from __future__ import annotations

import ctypes
import struct
from collections.abc import Mapping
from pathlib import Path

import llvmlite.binding as llvm
import numpy as np
import pytest

from deltamoe_sim import air, jit
from deltamoe_sim.errors import LaunchError, SimError
from deltamoe_sim.metallib import Metallib
from deltamoe_sim.module import POSITION_WORDS, FunctionConstant, Parameter

MODULES = Path(__file__).parent / "modules"
SCALE = (MODULES / "scale.ll").read_text()
INDICES = (MODULES / "indices.ll").read_text()


def tag(name: bytes, value: bytes) -> bytes:
    return name + struct.pack("<H", len(value)) + value


def container(functions: Mapping[str, bytes]) -> bytes:
    """A .metallib file."""
    entries, code = b"", b""
    for name, bitcode in functions.items():
        tags = (
            tag(b"NAME", name.encode() + b"\0")
            + tag(b"TYPE", b"\2")
            + tag(b"MDSZ", struct.pack("<Q", len(bitcode)))
            + tag(b"OFFT", struct.pack("<3Q", 0, 0, len(code)))
            + b"ENDT"
        )
        entries += struct.pack("<I", len(tags) + 4) + tags
        code += bitcode
    listing = struct.pack("<I", len(functions)) + entries
    start = 88 + len(listing)
    sections = struct.pack("<8Q", 88, len(listing), start, 0, start, 0, start, len(code))
    header = b"MTLB" + bytes(12) + struct.pack("<Q", start + len(code)) + sections
    return header + listing + code


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """Of a file with the kernels above."""
    file = tmp_path / "small.metallib"
    kernels = {"scale": SCALE, "indices": INDICES}
    file.write_bytes(container({name: llvm.parse_assembly(text).as_bitcode() for name, text in kernels.items()}))
    return file


def call(executable: jit.Executable, buffers: Mapping[int, np.ndarray], shared: np.ndarray, words: np.ndarray) -> None:
    slots = (ctypes.c_void_p * 31)(*[buffers[i].ctypes.data if i in buffers else None for i in range(31)])
    groups = (ctypes.c_void_p * 31)(*[shared.ctypes.data] * 31)
    entry = ctypes.CFUNCTYPE(None, ctypes.c_void_p, ctypes.c_void_p, ctypes.c_void_p)(executable.entry)
    entry(slots, groups, words.ctypes.data_as(ctypes.c_void_p))


def test_names_and_bitcode(tmp_path: Path) -> None:
    file = tmp_path / "some.metallib"
    file.write_bytes(container({"a": b"first", "kernel_b": b"second one"}))
    library = Metallib(file)
    assert library.names == ("a", "kernel_b")
    assert [library.bitcode(name) for name in library.names] == [b"first", b"second one"]
    with pytest.raises(SimError, match=r"some\.metallib: has no function 'c'; it holds 2 others"):
        library.bitcode("c")


WHOLE = container({"a": b"first", "kernel_b": b"second one"})


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "not a metallib: the file is empty"),
        (b"\x7fELF" + bytes(200), r"not a metallib: it starts with b'\\x7fELF', expected b'MTLB'"),
        (WHOLE[:40], "truncated: 40 bytes, the header alone has 88"),
        (WHOLE[:-1], f"truncated: {len(WHOLE) - 1} of {len(WHOLE)} bytes"),
        (WHOLE.replace(b"OFFT", b"XXXX"), "damaged function list: KeyError"),
        (WHOLE.replace(struct.pack("<I", 2), struct.pack("<I", 2000), 1), "damaged function list: "),
        (WHOLE.replace(b"MDSZ\x08\0\x0a", b"MDSZ\x08\0\xff"), "bitcode ends behind the file"),
    ],
    ids=["empty", "foreign", "header", "tail", "no offset", "too few", "too long"],
)
def test_damaged_files_are_refused(tmp_path: Path, content: bytes, message: str) -> None:
    file = tmp_path / "bad.metallib"
    file.write_bytes(content)
    with pytest.raises(SimError, match=message):
        Metallib(file)


def test_bitcode_that_is_none_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "bad.metallib"
    file.write_bytes(WHOLE)
    with pytest.raises(SimError, match="the bitcode of 'a' cannot be read"):
        air.load_module(file, ["a"])


def test_kernels_are_described(path: Path) -> None:
    module = air.load_module(path, ["scale", "indices"])
    assert list(module.kernels) == ["scale", "indices"]
    scale, indices = module.kernels.values()
    assert scale.parameters == (
        Parameter("buffer", "x", 2, "float32", 4),
        Parameter("buffer", "factor", 0, "float32", 4, reference=True, read_only=True),
        Parameter("buffer", "halves", 3, "float32", 4, optional=True),
        Parameter("position", "position", 0),
    )
    assert indices.parameters == (
        Parameter("buffer", "y", 0, "uint32", 4),
        Parameter("threadgroup", "shared", 1, "int32", 4),
        Parameter("position", "lane", 25),
        Parameter("position", "group", 6),
        Parameter("position", "all", 18),
    )
    assert (scale.max_threads, indices.max_threads) == (128, None)
    assert module.constants == {7: FunctionConstant("half", "sim.constant.7", "bool")}


@pytest.mark.parametrize(
    ("metal", "dtype"),
    [
        ("half", "float16"),
        ("bfloat4", "bfloat16"),
        ("packed_float3", "float32"),
        ("uchar", "uint8"),
        ("long", "int64"),
        ("bool", "bool"),
        ("mlx::steel::GEMMParams", "struct"),
        ("float3x3", "struct"),
    ],
)
def test_types_of_elements(metal: str, dtype: str) -> None:
    text = INDICES.replace(
        '!"air.arg_type_name", !"uint", !"air.arg_name", !"y"',
        f'!"air.arg_type_name", !"{metal}", !"air.arg_name", !"y"',
    )
    module = air.parse_module(str(llvm.parse_assembly(text)))
    assert module.kernels["indices"].parameters[0].dtype == dtype


def test_a_position_that_is_unknown_is_refused() -> None:
    text = str(llvm.parse_assembly(INDICES.replace("air.threads_per_grid", "air.amplification_id")))
    with pytest.raises(SimError, match=r"kernel indices: the simulator has no amplification_id \(parameter 'all'\)"):
        air.parse_module(text)


@pytest.mark.parametrize("half", [False, True])
@pytest.mark.parametrize("names", [["scale"], ["indices", "scale"]], ids=["alone", "two"])
def test_a_kernel_runs(path: Path, names: list[str], half: bool) -> None:
    module = air.load_module(path, names)
    executable = jit.build(module, "scale", {7: half}, False, {})
    x, halves = np.arange(4, dtype=np.float32), np.zeros(4, np.float32)
    words = np.arange(POSITION_WORDS, dtype=np.uint32) + 2
    call(executable, {2: x, 0: np.array([3], np.float32), 3: halves}, x, words)  # thread (2, 3, 4)
    assert x.tolist() == [0, 1, 2, 9]
    assert halves.tolist() == [0, 0, 0, 4.5 * half]


def test_positions_and_threadgroup_memory(path: Path) -> None:
    executable = jit.build(air.load_module(path, ["scale", "indices"]), "indices", {7: True}, False, {})
    y, shared = np.zeros(4, np.uint32), np.zeros(1, np.int32)
    call(executable, {0: y}, shared, np.arange(POSITION_WORDS, dtype=np.uint32) + 100)
    assert y.tolist() == [125, 107, 1, 0]
    assert shared[0] == 118


def test_an_unset_function_constant_is_named(path: Path) -> None:
    with pytest.raises(LaunchError, match=r"half \(index 7\)"):
        jit.build(air.load_module(path, ["scale"]), "scale", {}, False, {})


def test_no_names(path: Path) -> None:
    with pytest.raises(SimError, match="no kernels were named"):
        air.load_module(path, [])
