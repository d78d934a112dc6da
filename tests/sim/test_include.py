"""The shim's headers: what they compute, checked by the compiler where it can, else on the simulator."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

import deltamoe_sim as sim
from deltamoe_sim import _executor, clang
from deltamoe_sim.errors import CompileError
from deltamoe_sim.source import compile_module
from tests.sim.mlx_headers import INCLUDE, INSTANTIATIONS, text_of

HEADER = "#include <metal_stdlib>\nusing namespace metal;\n"
HEADERS = sorted(path.name for path in clang.INCLUDE.iterdir() if path.is_file())


def run(body: str, *arrays: npt.NDArray[Any], threads: int = 1, before: str = "", type_name: str = "float") -> None:
    """Runs a kernel whose buffers are a, b, c, ... of one type; in checked mode, without a report."""
    names = "abcdefgh"[: len(arrays)]
    parameters = "".join(f"device {type_name}* {name}, " for name in names)
    text = f"{HEADER}{before}\nkernel void k({parameters}uint i [[thread_position_in_grid]]) {{ {body} }}\n"
    kernel = sim.compile(text).kernel("k", checked=True)
    buffers: dict[int | str, Any] = dict(zip(names, arrays, strict=True))
    result = kernel.run(grid=(1, 1, 1), threadgroup=(threads, 1, 1), buffers=buffers)
    assert result.reports == ()


def floats(body: str, size: int, **options: Any) -> list[float]:
    """What the body writes to the floats at a."""
    a = np.zeros(size, np.float32)
    run(body, a, **options)
    return a.tolist()


# ---- headers


@pytest.mark.parametrize("header", HEADERS)
def test_header_stands_alone(header: str) -> None:
    assert "k" in compile_module(f"#include <{header}>\nkernel void k(device float* y) {{ y[0] = 1; }}\n").kernels


def test_all_that_the_headers_call_is_in_the_executor() -> None:
    text = clang._expanded(["-E", "-isystem", str(clang.INCLUDE)], "#include <metal_stdlib>\n")
    names = {"".join(re.findall(r'"([^"]*)"', match)) for match in re.findall(r"__asm__\(([^()]*)\)", text)}
    called = {name for name in names if name.startswith(("air.", "sim."))}
    assert len(called) > 300
    assert called - set(_executor.symbols()) == set()


@pytest.mark.parametrize("name", sorted(INSTANTIATIONS))
def test_headers_of_mlx_compile(name: str) -> None:
    instances = INSTANTIATIONS[name]
    kernels = compile_module(text_of(instances), include=[INCLUDE]).kernels
    assert {str(n) for n in range(len(instances.kernels))} <= set(kernels)


# ---- what the compiler can compute

ASSERTIONS = {
    "limits": """
        numeric_limits<int>::max() == 2147483647; numeric_limits<int>::min() == -2147483647 - 1;
        numeric_limits<uint>::max() == 4294967295u; numeric_limits<char>::min() == -128;
        numeric_limits<uchar>::max() == 255; numeric_limits<long>::min() == -9223372036854775807l - 1;
        numeric_limits<ulong>::max() == 18446744073709551615ul; numeric_limits<bool>::max() == true;
        numeric_limits<short>::lowest() == -32768; numeric_limits<half>::max() == 65504.0h;
        numeric_limits<float>::epsilon() == 0x1p-23f; numeric_limits<float>::infinity() == INFINITY;
        float(numeric_limits<bfloat>::max()) == 0x1.fep127f; numeric_limits<int>::digits == 31;
        numeric_limits<float>::digits == 24; numeric_limits<bfloat>::lowest() < -3e38f;
        !numeric_limits<int>::has_infinity
        """,
    "traits": """
        is_same_v<float, float>; !is_same_v<float, half>; is_integral_v<ushort>; !is_integral_v<half>;
        is_floating_point_v<bfloat>; is_signed_v<int>; is_unsigned_v<uint>; is_arithmetic_v<bool>;
        is_same_v<make_unsigned_t<int>, uint>; is_same_v<remove_cv_t<const float>, float>;
        is_same_v<conditional_t<true, int, float>, int>; is_same_v<remove_addrspace_t<device float>, float>;
        is_same_v<remove_addrspace_t<constant float>, const float>; is_same_v<decay_t<const int&>, int>;
        is_convertible_v<int, float>; is_pointer_v<device int*>; is_class_v<float4>; is_const_v<const int>;
        conjunction_v<true_type, true_type>; !disjunction_v<false_type, false_type>; negation_v<false_type>
        """,
    "sizes": """
        sizeof(float3) == 16; alignof(float3) == 16; sizeof(packed_float3) == 12; alignof(packed_float3) == 4;
        sizeof(half3) == 8; sizeof(uchar2) == 2; sizeof(bool4) == 4; sizeof(ulong4) == 32; alignof(ulong4) == 32;
        sizeof(float3x3) == 48; sizeof(float4x2) == 32; sizeof(half2x4) == 16; sizeof(long) == 8; sizeof(half) == 2;
        sizeof(bfloat) == 2; sizeof(array<float, 3>) == 12; sizeof(atomic_int) == 4; sizeof(size_t) == 8
        """,
    "integers": """
        clz(1u) == 31; clz(0u) == 32; clz(uchar(1)) == 7; clz(short(-1)) == 0; clz(1ul) == 63;
        ctz(8u) == 3; ctz(0) == 32; ctz(ushort(0)) == 16; popcount(0xffu) == 8; popcount(char(-1)) == 8;
        reverse_bits(1u) == 0x80000000u; reverse_bits(uchar(1)) == 128; rotate(0x80000001u, 1u) == 3;
        rotate(1u, 32u) == 1; extract_bits(0xabcdu, 4, 8) == 0xbc; extract_bits(-16, 4, 8) == -1;
        extract_bits(5u, 3, 0) == 0; extract_bits(0xffffffffu, 0, 32) == 0xffffffffu;
        insert_bits(0u, 0xffu, 4, 4) == 0xf0; insert_bits(0xffffu, 0u, 4, 8) == 0xf00f;
        mulhi(0x80000000u, 4u) == 2; mulhi(-1, 1) == -1; mulhi(ushort(256), ushort(256)) == 1;
        mulhi(1ul << 63, 4ul) == 2; madhi(1 << 30, 4, 5) == 6;
        mul24(-2, 3) == -6; mad24(0xffffffu, 1u, 1u) == 0x1000000;
        absdiff(3, 5) == 2; absdiff(-2147483647, 2147483647) == 4294967294u; abs(-3) == 3; abs(short(-3)) == 3;
        addsat(uchar(200), uchar(100)) == 255; addsat(char(-100), char(-100)) == -128; subsat(1u, 2u) == 0;
        subsat(short(32767), short(-1)) == 32767; subsat(-2147483647, 2) == -2147483647 - 1; hadd(3u, 4u) == 3;
        rhadd(3u, 4u) == 4; hadd(4294967295u, 4294967295u) == 4294967295u; madsat(100000, 100000, 1) == 2147483647;
        madsat(-100000, 100000, 1) == -2147483647 - 1; madsat(2, 3, 4) == 10; max(3, 4) == 4; min(3u, 4u) == 3;
        max(true, 3) == 3; clamp(7, 1, 5) == 5; max3(1, 3, 2) == 3; min3(1, 3, 2) == 1; median3(1, 3, 2) == 2
        """,
    "relations": """
        isnan(NAN); !isnan(1.0f); isinf(-INFINITY); isfinite(1.0h); !isfinite(numeric_limits<half>::infinity());
        signbit(-0.0f); !signbit(0.0h); signbit(bfloat(-1.0f)); select(1, 2, true) == 2; select(1, 2, false) == 1;
        all(bool2(true, true)); !all(bool3(true, false, true)); any(bool4(false, false, true, false));
        !any(bool2(false))
        """,
    "conversions": """
        as_type<uint>(1.0f) == 0x3f800000; as_type<float>(0x40000000) == 2.0f; as_type<ushort>(1.0h) == 0x3c00;
        as_type<ushort>(bfloat(1.0f)) == 0x3f80; float(bfloat(1.00390625f)) == 1.0f; half(1.0f) == 1.0h; int(2.9f) == 2;
        float2(1, 2).y == 2; int4(float4(1.5f, 2.5f, 3.5f, 4.5f)).w == 4; float3(7).z == 7; bool2(2, 0).x
        """,
}


@pytest.mark.parametrize("subject", sorted(ASSERTIONS))
def test_at_compile_time(subject: str) -> None:
    conditions = [condition.strip() for condition in ASSERTIONS[subject].split(";")]
    text = "".join(f'static_assert({condition}, "");\n' for condition in conditions)
    compile_module(HEADER + text + "kernel void k(device float* y) {}\n")


def test_a_wrong_condition_is_seen() -> None:
    with pytest.raises(CompileError, match="static assertion failed"):
        compile_module(HEADER + 'static_assert(clz(1u) == 30, "");\n')


# ---- vectors and matrices


@pytest.mark.parametrize(
    ("expression", "expected"),
    [
        ("v.xyzw", [1, 2, 3, 4]),
        ("v.wzyx", [4, 3, 2, 1]),
        ("v.xxyy", [1, 1, 2, 2]),
        ("v.rgba", [1, 2, 3, 4]),
        ("v.xy.yxyx", [2, 1, 2, 1]),
        ("float4(v.zw, v.xy)", [3, 4, 1, 2]),
        ("float4(v.x, v.yz, 9)", [1, 2, 3, 9]),
        ("float4(9, v.xyz)", [9, 1, 2, 3]),
        ("float4(v.xyz, 9)", [1, 2, 3, 9]),
        ("float4(7)", [7, 7, 7, 7]),
        ("float4(int4(v) << 2)", [4, 8, 12, 16]),
        ("float4(half4(v) * 0.5h)", [0.5, 1, 1.5, 2]),
        ("float4(bfloat4(half4(v)))", [1, 2, 3, 4]),
        ("v + v * 2.0f - 1", [2, 5, 8, 11]),
        ("10 / v", [10, 5, np.float32(10) / 3, 2.5]),
        ("-v", [-1, -2, -3, -4]),
        ("float4(v.xy[1], (v + v)[2], v[i], 0)", [2, 6, 1, 0]),
        ("float4(v > 2)", [0, 0, 1, 1]),
        ("float4(!(v > 2))", [1, 1, 0, 0]),
        ("float4((v > 1) && (v < 4))", [0, 1, 1, 0]),
        ("float4(uint4(v) & 1u)", [1, 0, 1, 0]),
        ("float4(int4(v) % 3)", [1, 2, 0, 1]),
        ("select(v, -v, v > 2)", [1, 2, -3, -4]),
        ("max(v, 2.5f)", [2.5, 2.5, 3, 4]),
        ("clamp(v, 2.0f, 3.0f)", [2, 2, 3, 3]),
        ("mix(v, -v, 0.25f)", [0.5, 1, 1.5, 2]),
        ("fma(v, v, v)", [2, 6, 12, 20]),
        ("abs(-v)", [1, 2, 3, 4]),
        ("float4(popcount(uint4(v)))", [1, 1, 2, 1]),
        ("float4(dot(v, v), length(float2(3, 4)), distance(v.xy, float2(4, 6)), 0)", [30, 5, 5, 0]),
        ("float4(cross(float3(1, 0, 0), float3(0, 1, 0)), normalize(float2(0, 2)).y)", [0, 0, 1, 1]),
        ("float4(packed_float4(v) * 2.0f)", [2, 4, 6, 8]),
        ("float4(packed_float3(v.xyz) + v.xyz, packed_float2(5, 6).y)", [2, 4, 6, 6]),
    ],
)
def test_vectors(expression: str, expected: list[float]) -> None:
    body = f"float4 v = float4(1, 2, 3, 4); float4 r = {expression}; for (int j = 0; j < 4; j++) a[j] = r[j];"
    assert floats(body, 4) == expected


@pytest.mark.parametrize(
    ("statement", "expected"),
    [
        ("v.x = 9;", [9, 2, 3, 4]),
        ("v[2] = 9;", [1, 2, 9, 4]),
        ("v.wx = float2(8, 9);", [9, 2, 3, 8]),
        ("v.zyx = v.xyz;", [3, 2, 1, 4]),
        ("v.yz += 1;", [1, 3, 4, 4]),
        ("v.xy *= v.zw;", [3, 8, 3, 4]),
        ("v -= float4(1, 1, 1, 1);", [0, 1, 2, 3]),
        ("v /= 2;", [0.5, 1, 1.5, 2]),
        ("v = {4, 3, 2, 1};", [4, 3, 2, 1]),
        ("v++; ++v;", [3, 4, 5, 6]),
    ],
)
@pytest.mark.parametrize("space", ["thread", "threadgroup", "device"])
def test_writing_to_vectors(space: str, statement: str, expected: list[float]) -> None:
    if "++" in statement and space != "thread":
        statement = "v += 2;"
    declare = {
        "thread": "float4 v;",
        "threadgroup": "threadgroup float4 memory[1]; threadgroup float4& v = memory[0];",
        "device": "device float4& v = *(device float4*)(a + 4);",
    }[space]
    body = f"{declare} v = float4(1, 2, 3, 4); {statement} for (int j = 0; j < 4; j++) a[j] = v[j];"
    assert floats(body, 8)[:4] == expected


def test_the_padding_of_three_lanes_is_left_alone() -> None:
    a = np.arange(8, dtype=np.float32)
    run("device float3* v = (device float3*)a; v[1] = v[0] * 10.0f; float3 w = v[1]; w.y = 7; v[0] = w;", a)
    assert a.tolist() == [0, 7, 20, 3, 0, 10, 20, 7]


def test_matrices() -> None:
    body = """
        float2x3 m(1, 2, 3, 4, 5, 6); float3x2 t = transpose(m); float2x2 p = t * m;
        float3 v = m * float2(1, 10); float2 w = float3(1, 10, 100) * m;
        a[0] = v.x; a[1] = v.y; a[2] = v.z; a[3] = w.x; a[4] = w.y;
        a[5] = p[0][0]; a[6] = p[0][1]; a[7] = p[1][1]; a[8] = determinant(p); a[9] = float3x3(2.0f)[1][1];
        """
    m = np.array([[1, 4], [2, 5], [3, 6]])
    p = m.T @ m
    expected = [*(m @ [1, 10]), *([1, 10, 100] @ m), p[0, 0], p[1, 0], p[1, 1], 14 * 77 - 32 * 32, 2]
    assert floats(body, 10) == expected


# ---- mathematics

MATH_1: dict[str, Callable[..., npt.NDArray[Any]]] = {
    "exp": np.exp, "exp2": np.exp2, "log": np.log, "log2": np.log2, "log10": np.log10, "sqrt": np.sqrt,
    "sin": np.sin, "cos": np.cos, "tan": np.tan, "tanh": np.tanh, "sinh": np.sinh, "cosh": np.cosh,
    "atan": np.arctan, "asinh": np.arcsinh, "floor": np.floor, "ceil": np.ceil, "trunc": np.trunc, "rint": np.rint,
    "rsqrt": lambda x: 1 / np.sqrt(x), "fract": lambda x: x - np.floor(x), "exp10": lambda x: 10**x,
    "sinpi": lambda x: np.sin(np.pi * x), "fabs": np.abs, "abs": np.abs,
    "saturate": lambda x: np.clip(x, 0, 1), "sign": np.sign,
}  # fmt: skip
MATH_2: dict[str, Callable[..., npt.NDArray[Any]]] = {
    "pow": np.power, "powr": np.power, "atan2": np.arctan2, "fmod": np.fmod, "fmax": np.maximum, "fmin": np.minimum,
    "max": np.maximum, "min": np.minimum, "copysign": np.copysign, "divide": np.divide,
    "fdim": lambda x, y: np.maximum(x - y, 0), "step": lambda x, y: (y >= x) * 1.0,
}  # fmt: skip
TYPES = {"float": (np.float32, 2e-6), "half": (np.float16, 1e-3)}


@pytest.mark.parametrize("namespace", ["metal", "metal::fast", "metal::precise"])
@pytest.mark.parametrize("type_name", sorted(TYPES))
def test_mathematics(type_name: str, namespace: str) -> None:
    dtype, tolerance = TYPES[type_name]
    x, y = np.array([0.3, 0.75, 1.5, 2.25], dtype), np.array([1.25, 0.5, 0.75, 2], dtype)
    functions = [*MATH_1, *MATH_2]
    body = "".join(
        f"c[{n * 4} + i] = {namespace}::{name}({'a[i]' if name in MATH_1 else 'a[i], b[i]'});"
        for n, name in enumerate(functions)
    )
    result = np.zeros((len(functions), 4), dtype)
    run(body, x, y, result, threads=4, type_name=type_name)
    x, y = x.astype(np.float64), y.astype(np.float64)
    for name, got in zip(functions, result, strict=True):
        expected = MATH_1[name](x) if name in MATH_1 else MATH_2[name](x, y)
        np.testing.assert_allclose(got, expected, rtol=tolerance, atol=tolerance, err_msg=f"{namespace}::{name}")


@pytest.mark.parametrize(
    ("expression", "value"),
    [
        ("frexp(10.0f, n) * 100 + n", 62.5 + 4),
        ("frexp(0x1p-130f, n) * 100 + n", 50 - 129),
        ("ldexp(0.75f, 3)", 6),
        ("modf(-2.5f, f) * 10 + f", -7),
        ("sincos(0.0f, f) + f", 1),
        ("float(ilogb(10.0f))", 3),
        ("nextafter(1.0f, 2.0f)", 1 + 2**-23),
        ("fma(0x1.000002p0f, 0x1.000002p0f, -1.0f)", 2**-22 + 2**-46),
        ("smoothstep(0.0f, 2.0f, 0.5f)", 0.15625),
        ("float(max(bfloat(1.0f), bfloat(2.0f)))", 2),
        ("exp(0)", 1),
        ("fmedian3(3.0f, 1.0f, 2.0f)", 2),
        ("float(fmax3(3.0h, 1.0h, 2.0h))", 3),
        ("float(round(2.5f) + round(-2.5f) * 10)", -27),
    ],
)
def test_mathematics_with_more_arguments(expression: str, value: float) -> None:
    assert floats(f"int n = 0; float f = 0; a[0] = {expression};", 1) == [np.float32(value)]


def test_packing() -> None:
    body = """
        float4 v = unpack_unorm4x8_to_float(0xff008001u);
        for (int j = 0; j < 4; j++) a[j] = v[j] * 255;
        v = unpack_snorm4x8_to_float(0x7f8081ffu);
        for (int j = 0; j < 4; j++) a[4 + j] = v[j] * 127;
        a[8] = pack_float_to_unorm4x8(float4(0, 1, 0.5f, 2)) == 0xff80ff00u;
        a[9] = pack_float_to_snorm2x16(float2(-1, 1)) == 0x7fff8001u;
        """
    assert floats(body, 10) == [1, 128, 0, 255, -1, -127, -127, 127, 1, 1]


# ---- lanes that work together

LANES = np.arange(32)
SIMD = {
    "simd_sum(x)": np.full(32, LANES.sum()),
    "simd_max(x)": np.full(32, 31),
    "simd_min(x)": np.full(32, 0),
    "simd_prefix_inclusive_sum(x)": LANES.cumsum(),
    "simd_prefix_exclusive_sum(x)": LANES.cumsum() - LANES,
    "simd_broadcast(x, 5)": np.full(32, 5),
    "simd_broadcast_first(x)": np.full(32, 0),
    "simd_shuffle(x, 31 - i)": LANES[::-1],
    "simd_shuffle_xor(x, 3)": LANES ^ 3,
    "simd_shuffle_rotate_up(x, 1)": np.roll(LANES, 1),
    "simd_shuffle_rotate_down(x, 2)": np.roll(LANES, -2),
    "simd_shuffle_and_fill_up(x, T(90), 1)": np.r_[121 - 32 + 1, LANES[:-1]],
    "simd_shuffle_and_fill_down(x, T(90), 1)": np.r_[LANES[1:], 90],
    "quad_sum(x)": LANES // 4 * 16 + 6,
    "quad_max(x)": LANES | 3,
    "quad_broadcast(x, 2)": LANES & ~3 | 2,
    "quad_shuffle_xor(x, 1)": LANES ^ 1,
    "simd_sum(vec<T, 2>(x, T(1))).y": np.full(32, 32),
    "T(simd_any(x > T(30)))": np.full(32, 1),
    "T(simd_all(x > T(30)))": np.full(32, 0),
    "T(simd_is_first())": LANES == 0,
    "T(popcount(ulong(simd_ballot(x < T(7)))))": np.full(32, 7),
}
INTEGER_SIMD = {
    "simd_or(x)": np.full(32, 31),
    "simd_and(T(x | 8))": np.full(32, 8),
    "simd_xor(x)": np.full(32, 0),
}


@pytest.mark.parametrize("type_name", ["float", "half", "int", "uint", "short", "ushort"])
def test_simd_functions(type_name: str) -> None:
    cases = SIMD | ({} if type_name in TYPES else INTEGER_SIMD)
    dtype = {"float": "float32", "half": "float16", "int": "int32", "uint": "uint32", "short": "int16"}
    result = np.zeros((len(cases), 32), dtype.get(type_name, "uint16"))
    body = "T x = T(i);" + "".join(f"a[{n * 32} + i] = {expression};" for n, expression in enumerate(cases))
    run(body, result, threads=32, before=f"using T = {type_name};", type_name=type_name)
    for expression, got, expected in zip(cases, result, cases.values(), strict=True):
        np.testing.assert_array_equal(got, expected, err_msg=expression)


@pytest.mark.parametrize("type_name", ["float", "half", "bfloat"])
@pytest.mark.parametrize("transposed", ["false", "true"])
def test_simdgroup_matrices(type_name: str, transposed: str) -> None:
    """A product of small integers, which every type holds exactly."""
    body = f"""
        threadgroup T tile[64 + 8];
        tile[i] = T(a[i]); tile[i + 32] = T(a[i + 32]);
        simdgroup_barrier(mem_flags::mem_threadgroup | mem_flags::mem_device);
        simdgroup_matrix<T, 8, 8> x, y = make_diagonal_simdgroup_matrix<T, 8, 8>(T(2));
        simdgroup_load(x, tile, 8, ulong2(0, 0), {transposed});
        simdgroup_float8x8 c = make_filled_simdgroup_matrix<float, 8, 8>(1.0f), d;
        simdgroup_load(d, b, 8);
        simdgroup_multiply_accumulate(c, x, d, c);
        simdgroup_multiply(d, x, y);
        c.thread_elements()[0] += d.thread_elements()[0];
        c.thread_elements()[1] += d.thread_elements()[1];
        simdgroup_store(c, a, 8);
        """
    x, y = np.arange(64).reshape(8, 8) % 7, np.arange(64).reshape(8, 8) % 5
    a, b = x.astype(np.float32), y.astype(np.float32)
    run(body, a, b, threads=32, before=f"using T = {type_name};")
    x = x.T if transposed == "true" else x
    np.testing.assert_array_equal(a, x @ y + 1 + 2 * x)


def test_atomics() -> None:
    body = """
        device atomic_int* n = (device atomic_int*)a;
        device atomic_float* f = (device atomic_float*)(a + 4);
        threadgroup atomic_uint t;
        if (i == 0) atomic_store_explicit(&t, 0, memory_order_relaxed);
        threadgroup_barrier(mem_flags::mem_threadgroup);
        atomic_fetch_add_explicit(n, 2, memory_order_relaxed);
        atomic_fetch_max_explicit(n + 1, int(i), memory_order_relaxed);
        atomic_fetch_or_explicit(n + 2, 1 << i, memory_order_relaxed);
        const memory_order order = memory_order_relaxed;
        int seen = atomic_load_explicit(n + 3, order);
        while (!atomic_compare_exchange_weak_explicit(n + 3, &seen, seen + 3, order, order)) {}
        atomic_fetch_add_explicit(f, 0.5f, memory_order_relaxed);
        atomic_fetch_add_explicit(&t, 1, memory_order_relaxed);
        threadgroup_barrier(mem_flags::mem_threadgroup);
        if (i == 0) a[5] = atomic_load_explicit(&t, memory_order_relaxed);
        """
    a = np.zeros(6, np.int32)
    run(body, a, threads=16, type_name="int")
    assert [*a[:4], *a[4:5].view(np.float32), a[5]] == [32, 15, 65535, 48, 8.0, 16]


def test_arrays_and_uniforms() -> None:
    body = """
        array<float, 3> values = {1, 2, 3};
        values[1] = 5;
        uniform<int> n = make_uniform(2) * make_uniform(3) + 1;
        a[0] = values[0] + values[1] * values.size() + n;
        """
    assert floats(body, 1) == [1 + 15 + 7]
