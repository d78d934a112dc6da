"""What Apple's AIR says in its own way."""

from __future__ import annotations

import ctypes
from typing import Any

import numpy as np
import pytest

from deltamoe_sim import jit
from deltamoe_sim.errors import SimError
from deltamoe_sim.lower import lower_matrices
from deltamoe_sim.module import FunctionConstant
from tests.sim.recorder import BOTH_MODES, DOUBLE, POINTER, SIZE, WORD, Recorder, module, run, zeros

FLOAT16 = {"half": np.float16, "bfloat": np.uint16, "float": np.float32}


def bits(value: float, dtype: str) -> int:
    """Of a number as bfloat (which it must be exactly), half, or an integer."""
    if dtype == "bfloat":
        return int(np.float32(value).view(np.uint32)) >> 16
    return int(np.array(value, dtype))


@pytest.mark.parametrize(
    ("name", "source", "result", "value", "expected"),
    [
        ("f.f32.s.i32", "i32", "float", np.int32(-3), np.float32(-3)),
        ("f.f32.u.i32", "i32", "float", np.int32(-1), np.float32(2**32)),
        ("f.f16.u.i1", "i1", "half", np.uint8(1), np.float16(1)),
        ("s.i32.f.f32", "float", "i32", np.float32(-2.9), np.int32(-2)),
        ("s.i32.f.f32", "float", "i32", np.float32(1e20), np.int32(2**31 - 1)),
        ("s.i32.f.f32", "float", "i32", np.float32("nan"), np.int32(0)),
        ("u.i8.f.f16", "half", "i8", np.float16(-1), np.uint8(0)),
        ("u.i1.f.f32", "float", "i1", np.float32(0.1), np.uint8(1)),
        ("s.i64.f.f16", "half", "i64", np.float16(-8.5), np.int64(-8)),
        ("f.bf16.f.f16", "half", "bfloat", np.float16(1.5), np.uint16(0x3FC0)),
        ("f.f32.f.bf16", "bfloat", "float", np.uint16(0xC040), np.float32(-3)),
        ("f.bf16.f.f32", "float", "bfloat", np.float32(1.00390625), np.uint16(0x3F80)),
        ("s.i64.s.i8", "i8", "i64", np.int8(-5), np.int64(-5)),
        ("u.i64.u.i8", "i8", "i64", np.int8(-5), np.int64(251)),
        ("u.i8.u.i32", "i32", "i8", np.int32(0x1FF), np.uint8(255)),
        ("u.i1.s.i32", "i32", "i1", np.int32(4), np.uint8(1)),
    ],
)
@BOTH_MODES
def test_conversions(name: str, source: str, result: str, value: Any, expected: Any, checked: bool) -> None:
    x, y = np.array([value]), np.zeros(1, expected.dtype)
    run(
        f"""
        declare {result} @air.convert.{name}({source})
        define internal void @k(ptr %x, ptr %y) {{
          %v = load {source}, ptr %x
          %r = call {result} @air.convert.{name}({source} %v)
          store {result} %r, ptr %y
          ret void
        }}
        """,
        x,
        y,
        checked=checked,
    )
    assert y[0] == expected


def test_conversions_of_vectors() -> None:
    x, y = np.array([0.5, -2, 3, np.inf], np.float16), zeros(np.float32, 4)
    run(
        """
        declare <4 x float> @air.convert.f.v4f32.f.v4f16(<4 x half>)
        define internal void @k(ptr %x, ptr %y) {
          %v = load <4 x half>, ptr %x
          %r = call <4 x float> @air.convert.f.v4f32.f.v4f16(<4 x half> %v)
          store <4 x float> %r, ptr %y
          ret void
        }
        """,
        x,
        y,
    )
    assert (y == x.astype(np.float32)).all()


def test_a_conversion_with_a_rounding_mode_is_refused() -> None:
    text = "declare float @air.convert.f.f32.s.i32.rtz(i32)\n"
    body = "define internal void @k() {\n  %r = call float @air.convert.f.f32.s.i32.rtz(i32 1)\n  ret void\n}"
    with pytest.raises(SimError, match="rounding mode"):
        run(text + body)


@pytest.mark.parametrize(
    ("name", "type_", "dtype", "arguments", "expected"),
    [
        ("min.s.i32", "i32", np.int32, (-1, 1), -1),
        ("min.u.i32", "i32", np.int32, (-1, 1), 1),
        ("max.s.i8", "i8", np.int8, (-1, 1), 1),
        ("fast_fmax.f32", "float", np.float32, (np.nan, 2), 2),
        ("fma.f16", "half", np.float16, (2, 3, 4), 10),
        ("floor.f32", "float", np.float32, (-1.5,), -2),
        ("round.f32", "float", np.float32, (2.5,), 3),
        ("rint.f32", "float", np.float32, (2.5,), 2),
        ("popcount.i32", "i32", np.int32, (255,), 8),
        ("normalize_function_constant_predicate.i8", "i8", np.int8, (4,), 1),
    ],
)
def test_functions_that_llvm_has(name: str, type_: str, dtype: Any, arguments: tuple[Any, ...], expected: Any) -> None:
    x, y = np.array(arguments, dtype), zeros(dtype)
    loads = "".join(
        f"  %p{i} = getelementptr {type_}, ptr %x, i64 {i}\n  %v{i} = load {type_}, ptr %p{i}\n"
        for i in range(len(arguments))
    )
    values = ", ".join(f"{type_} %v{i}" for i in range(len(arguments)))
    run(
        f"declare {type_} @air.{name}({', '.join([type_] * len(arguments))})\n"
        f"define internal void @k(ptr %x, ptr %y) {{\n{loads}"
        f"  %r = call {type_} @air.{name}({values})\n  store {type_} %r, ptr %y\n  ret void\n}}",
        x,
        y,
    )
    assert y[0] == expected


@pytest.mark.parametrize("name", ["air.fma", "llvm.fma", "llvm.fmuladd"])
@pytest.mark.parametrize(("type_", "suffix"), [("half", "f16"), ("bfloat", "bf16")])
@BOTH_MODES
def test_16_bit_products_and_sums_are_rounded_once(name: str, type_: str, suffix: str, checked: bool) -> None:
    """(1 + e)(1 - e) - 1 is -e**2, and 0 if the product is rounded first."""
    e = 2.0**-7 if suffix == "bf16" else 2.0**-10
    x = np.array([1 + e, 1 - e, -1], np.float32)
    run(
        f"""
        declare {type_} @{name}.{suffix}({type_}, {type_}, {type_})
        define internal void @k(ptr %x) {{
          %v = load <3 x float>, ptr %x, align 4
          %n = fptrunc <3 x float> %v to <3 x {type_}>
          %a = extractelement <3 x {type_}> %n, i32 0
          %b = extractelement <3 x {type_}> %n, i32 1
          %c = extractelement <3 x {type_}> %n, i32 2
          %r = call {type_} @{name}.{suffix}({type_} %a, {type_} %b, {type_} %c)
          %w = fpext {type_} %r to float
          store float %w, ptr %x
          ret void
        }}
        """,
        x,
        checked=checked,
        constants={7: FunctionConstant("other", "sim.constant.7", "int32")},
    )
    assert x[0] == -(e**2)


@BOTH_MODES
def test_16_bit_floats_travel_as_bits(checked: bool) -> None:
    recorder = Recorder()
    recorder.provide("air.ldexp.f16", WORD, WORD, WORD, returns=lambda *_: 0xABCD3C00)  # the low half counts
    x = np.array([1.5], np.float16)
    run(
        """
        declare half @air.ldexp.f16(half, i32)
        define internal void @k(ptr %x) {
          %v = load half, ptr %x
          %r = tail call half @air.ldexp.f16(half %v, i32 7)
          store half %r, ptr %x
          ret void
        }
        """,
        x,
        recorder=recorder,
        checked=checked,
    )
    [(value, exponent)] = recorder.of("air.ldexp.f16")
    assert (value & 0xFFFF, exponent) == (0x3E00, 7)
    assert x[0] == 1


def test_vectors_are_split_into_scalar_calls() -> None:
    recorder = Recorder()
    name = "air.simd_shuffle_down.u.i32"
    recorder.provide(name, WORD, WORD, WORD, WORD, returns=lambda value, *_: value * 10)
    x = np.array([3, 4], np.uint32)
    run(
        """
        declare <2 x i32> @air.simd_shuffle_down.u.v2i32(<2 x i32>, i16)
        define internal void @k(ptr %x) {
          %v = load <2 x i32>, ptr %x
          %r = call <2 x i32> @air.simd_shuffle_down.u.v2i32(<2 x i32> %v, i16 5)
          store <2 x i32> %r, ptr %x
          ret void
        }
        """,
        x,
        recorder=recorder,
    )
    assert [(value, delta & 0xFFFF) for value, delta, _ in recorder.of(name)] == [(3, 5), (4, 5)]
    assert len({site for *_, site in recorder.of(name)}) == 2
    assert x.tolist() == [30, 40]


def test_dot() -> None:
    x, y = np.arange(8, dtype=np.float32), zeros(np.float32)
    run(
        """
        declare float @air.dot.v4f32(<4 x float>, <4 x float>)
        define internal void @k(ptr %x, ptr %y) {
          %a = load <4 x float>, ptr %x
          %p = getelementptr float, ptr %x, i64 4
          %b = load <4 x float>, ptr %p, align 4
          %r = call float @air.dot.v4f32(<4 x float> %a, <4 x float> %b)
          store float %r, ptr %y
          ret void
        }
        """,
        x,
        y,
    )
    assert y[0] == np.dot(x[:4], x[4:])


@BOTH_MODES
def test_threadgroup_variables_are_asked_for(checked: bool) -> None:
    recorder = Recorder()
    memory = np.zeros((2, 64), np.int32)
    recorder.provide(
        "sim.threadgroup",
        POINTER,
        WORD,
        SIZE,
        SIZE,
        ctypes.c_char_p,
        returns=lambda index, *_: memory[index].ctypes.data,
    )
    x = zeros(np.int64, 2)
    run(
        """
        @_ZZ1kvE4tile.3 = internal unnamed_addr addrspace(3) global [16 x i32] undef, align 8
        @counter = internal addrspace(3) global i32 undef, align 4
        define internal void @k(ptr %x) {
          store i32 5, ptr addrspace(3) @_ZZ1kvE4tile.3
          store i32 6, ptr addrspace(3) getelementptr inbounds (i8, ptr addrspace(3) @_ZZ1kvE4tile.3, i64 8)
          store i64 ptrtoint (ptr addrspace(3) getelementptr (i8, ptr addrspace(3) @_ZZ1kvE4tile.3, i64 12) to i64), \
ptr %x
          br i1 true, label %then, label %end
        then:
          br label %end
        end:
          %p = phi ptr addrspace(3) [ @counter, %then ], [ null, %0 ]
          store i32 7, ptr addrspace(3) %p
          %q = addrspacecast ptr addrspace(3) %p to ptr
          %a = ptrtoint ptr %q to i64
          %n = getelementptr i64, ptr %x, i64 1
          store i64 %a, ptr %n
          ret void
        }
        """,
        x,
        recorder=recorder,
        checked=checked,
    )
    assert sorted(set(recorder.of("sim.threadgroup"))) == [
        (0, 64, 8, b"tile"),
        (1, 4, 4, b"counter"),
    ]
    assert memory[0, :3].tolist() == [5, 0, 6]
    assert memory[1, 0] == 7
    assert x.tolist() == [memory[0].ctypes.data + 12, memory[1].ctypes.data]


def matrix_of(memory: np.ndarray, stride: int, origin: tuple[int, int], transposed: bool) -> np.ndarray:
    """The 8x8 matrix that a simdgroup_load reads."""
    outer, inner = np.mgrid[:8, :8]
    x, y = origin
    offsets = (x + inner) * stride + y + outer if transposed else (y + outer) * stride + x + inner
    matrix: np.ndarray = memory[offsets]
    return matrix


@pytest.mark.parametrize("dtype", ["float", "half", "bfloat"])
@pytest.mark.parametrize("transposed", [False, True], ids=["rows", "columns"])
@BOTH_MODES
def test_matrices_are_loaded_and_stored_by_element(dtype: str, transposed: bool, checked: bool) -> None:
    recorder = Recorder()
    lane = 0
    recorder.provide("air.get_thread_index_in_simdgroup.i16", WORD, returns=lambda: lane)
    stride, origin = 21, (2, 3)
    memory = np.arange(stride * 20).astype(FLOAT16[dtype])
    back = np.zeros_like(memory)
    pair = zeros(memory.dtype, 2)
    short = {"float": "f32", "half": "f16", "bfloat": "bf16"}[dtype]
    rest = f"i64 {stride}, <2 x i64> <i64 {origin[0]}, i64 {origin[1]}>, i1 {str(transposed).lower()}"
    address = "ptr addrspace(1), i64, <2 x i64>, i1"
    text = f"""
    declare <64 x {dtype}> @air.simdgroup_matrix_8x8_load.v64{short}.p1{short}({address})
    declare void @air.simdgroup_matrix_8x8_store.v64{short}.p1{short}(<64 x {dtype}>, {address})
    define internal void @k(ptr %x.0, ptr %y.0, ptr %z) {{
      %x = addrspacecast ptr %x.0 to ptr addrspace(1)
      %y = addrspacecast ptr %y.0 to ptr addrspace(1)
      %m = call <64 x {dtype}> @air.simdgroup_matrix_8x8_load.v64{short}.p1{short}(ptr addrspace(1) %x, {rest})
      call void @air.simdgroup_matrix_8x8_store.v64{short}.p1{short}(<64 x {dtype}> %m, ptr addrspace(1) %y, {rest})
      %p = shufflevector <64 x {dtype}> %m, <64 x {dtype}> poison, <2 x i32> <i32 0, i32 1>
      store <2 x {dtype}> %p, ptr %z
      ret void
    }}
    """
    executable = jit.build(module(text, 3), "k", {}, checked, recorder.symbols)
    addresses = (POINTER * 3)(memory.ctypes.data, back.ctypes.data, pair.ctypes.data)
    want = matrix_of(memory, stride, origin, transposed)
    for lane in range(32):
        ctypes.CFUNCTYPE(None, POINTER, POINTER, POINTER)(executable.entry)(addresses, None, None)
        quarter = lane // 4
        row, column = (quarter & 4) + lane // 2 % 4, (quarter & 2) * 2 + lane % 2 * 2
        assert (pair == want[row, column : column + 2]).all(), lane
    assert (matrix_of(back, stride, origin, transposed) == want).all()
    assert np.count_nonzero(back) == np.count_nonzero(want)
    accesses = [(size, alignment) for _, size, alignment, _ in recorder.of("sim.load")]
    assert set(accesses) <= {(memory.itemsize, memory.itemsize)}
    assert len(accesses) == 64 * checked


def test_matrix_products_take_pairs_of_floats_in_doubles() -> None:
    recorder = Recorder()
    recorder.provide(
        "sim.matrix_multiply_accumulate", DOUBLE, DOUBLE, DOUBLE, DOUBLE, WORD, returns=lambda a, b, c, _: b
    )
    x = np.array([1.5, -2], np.float32)
    poison = ", ".join(["i32 poison"] * 62)
    product = "air.simdgroup_matrix_8x8_multiply_accumulate.v64f32.v64f32.v64bf16.v64f32"
    run(
        f"""
        declare <64 x float> @air.simdgroup_matrix_8x8_init_filled.v64f32.f32(float)
        declare <64 x float> @{product}(<64 x float>, <64 x bfloat>, <64 x float>)
        define internal void @k(ptr %x) {{
          %f = load <2 x float>, ptr %x
          %b = fptrunc <2 x float> %f to <2 x bfloat>
          %m = shufflevector <2 x bfloat> %b, <2 x bfloat> poison, <64 x i32> <i32 0, i32 1, {poison}>
          %o = call <64 x float> @air.simdgroup_matrix_8x8_init_filled.v64f32.f32(float 3.0)
          %r = call <64 x float> @{product}(<64 x float> %o, <64 x bfloat> %m, <64 x float> zeroinitializer)
          %p = shufflevector <64 x float> %r, <64 x float> %o, <2 x i32> <i32 1, i32 65>
          store <2 x float> %p, ptr %x
          ret void
        }}
        """,
        x,
        recorder=recorder,
    )
    [(a, b, c, _)] = recorder.of("sim.matrix_multiply_accumulate")
    assert [np.float64(v).view(np.uint64).item() for v in (a, b, c)] == [
        np.array(pair, np.float32).view(np.uint64).item() for pair in ([3, 3], [1.5, -2], [0, 0])
    ]
    assert x.tolist() == [-2, 3]


def test_matrices_keep_their_size_in_memory() -> None:
    text = (
        "%m = type { <64 x float> }\n"
        "  %a = alloca [4 x <64 x float>], align 256\n"
        "  %p = getelementptr <64 x float>, ptr %a, i64 1\n"
        "  %v = load <64 x float>, ptr %p, align 256\n"
    )
    assert lower_matrices(text) == text.replace("load <64", "load <2")


@pytest.mark.parametrize(
    ("before", "after"),
    [
        (
            "<64 x float> %r, <64 x float> %o, <64 x i32> <i32 0, i32 65, i32 2>",
            "%r, <2 x float> %o, <2 x i32> <i32 0, i32 3>",
        ),
        (
            "<64 x float> %r, <64 x float> %o, <64 x i32> zeroinitializer",
            "%r, <2 x float> %o, <2 x i32> <i32 0, i32 0>",
        ),
        (
            "<64 x float> <float 1.0, float 2.0, float poison>, <64 x float> %o, <2 x i32> <i32 0, i32 poison>",
            "<float 1.0, float 2.0>, <2 x float> %o, <2 x i32> <i32 0, i32 poison>",
        ),
    ],
    ids=["both", "splat", "constant"],
)
def test_shuffles_of_matrices_are_narrowed(before: str, after: str) -> None:
    assert lower_matrices(f"  %p = shufflevector {before}") == f"  %p = shufflevector <2 x float> {after}"


@pytest.mark.parametrize(
    "text",
    [
        "  %p = shufflevector <64 x float> %r, <64 x float> %o, <2 x i32> <i32 1, i32 2>",
        "  %p = extractelement <64 x half> %r, i64 2",
        "  %p = insertelement <64 x float> %r, float %x, i32 2",
    ],
    ids=["shuffle", "extract", "insert"],
)
def test_an_element_of_a_matrix_that_no_lane_holds_is_refused(text: str) -> None:
    with pytest.raises(SimError, match="element 2 "):
        lower_matrices(text)
