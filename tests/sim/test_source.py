"""From Metal source to a module: what is rewritten, what is said of kernels, and where errors are shown."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import deltamoe_sim as sim
from deltamoe_sim import clang
from deltamoe_sim.errors import CompileError, Diagnostic
from deltamoe_sim.module import FunctionConstant, Module, Parameter
from deltamoe_sim.source import Rewriting, compile_module, is_hidden
from deltamoe_sim.tokens import Source

HEADER = "#include <metal_stdlib>\nusing namespace metal;\n"


def module(text: str, **options: Any) -> Module:
    return compile_module(HEADER + text + "\n", **options)


def errors(text: str) -> list[Diagnostic]:
    with pytest.raises(CompileError) as caught:
        module(text)
    return caught.value.diagnostics


def rewritten(text: str) -> str:
    rewriting = Rewriting(Source(text, hidden=is_hidden), None)
    rewriting.run()
    return rewriting.source.result()


def result_of(text: str, dtype: str = "float32", size: int = 1) -> list[float]:
    """What a kernel k writes to its one buffer, in checked mode without a report."""
    kernel = sim.compile(HEADER + text + "\n").kernel("k", checked=True)
    y = np.zeros(size, dtype)
    result = kernel.run(grid=(1, 1, 1), threadgroup=(1, 1, 1), buffers={0: y})
    assert result.reports == ()
    return y.tolist()


# ---- kernels and their parameters


def test_plain_kernels_and_instantiations_are_named_by_host_name() -> None:
    kernels = module(
        """
        kernel void plain(device float* y) { y[0] = 1; }
        [[kernel]] void attributed(device float* y) { y[0] = 1; }
        template <typename T> [[kernel]] void generic(device T* y) { y[0] = T(1); }
        template [[host_name("generic_" "float")]] [[kernel]] decltype(generic<float>) generic<float>;
        template [[host_name("generic_half")]] kernel void generic<half>(device half* y);
        """
    ).kernels
    assert sorted(kernels) == ["attributed", "generic_float", "generic_half", "plain"]
    assert all(name == info.name for name, info in kernels.items())
    assert len({info.symbol for info in kernels.values()}) == 4


def test_kernels_in_namespaces_and_named_as_functions_of_metal() -> None:
    kernels = module(
        """
        kernel void divide(device float* y) { y[0] = 1; }
        namespace a { namespace b {
          template <int N> kernel void select(device int* y) { y[0] = N; }
          kernel void inner(device int* y) { y[0] = 1; }
        } }
        template [[host_name("three")]] [[kernel]] decltype(a::b::select<3>) a::b::select<3>;
        """
    ).kernels
    assert sorted(kernels) == ["divide", "inner", "three"]


def test_overloaded_kernel_templates_are_told_apart() -> None:
    kernels = module(
        """
        template <typename T, typename M> kernel void f(device T* a, device M* mask [[buffer(5)]]) {}
        template <typename T, int N> kernel void f(device T* b) {}
        template [[host_name("masked")]] [[kernel]] decltype(f<float, bool>) f<float, bool>;
        template [[host_name("plain")]] [[kernel]] decltype(f<float, 4>) f<float, 4>;
        """
    ).kernels
    assert [p.name for p in kernels["masked"].parameters] == ["a", "mask"]
    assert [p.name for p in kernels["plain"].parameters] == ["b"]


def test_only_the_wanted_kernels_are_compiled() -> None:
    text = """
        kernel void a(device float* y) { y[0] = 1; }
        template <int N> kernel void b(device float* y) { y[0] = N; }
        template [[host_name("b1")]] [[kernel]] decltype(b<1>) b<1>;
        template [[host_name("b2")]] [[kernel]] decltype(b<2>) b<2>;
        """
    wanted = module(text, kernels={"b2"})
    assert list(wanted.kernels) == ["b2"]
    assert wanted.ir.count("define dso_local void @sim.kernel.") == 1


@pytest.mark.parametrize(
    ("declared", "expected"),
    [
        ("device float* x [[buffer(3)]]", Parameter("buffer", "x", 3, "float32", 4)),
        ("const device half* x", Parameter("buffer", "x", 0, "float16", 2, read_only=True)),
        ("device const bfloat* x", Parameter("buffer", "x", 0, "bfloat16", 2, read_only=True)),
        ("device uchar* x", Parameter("buffer", "x", 0, "uint8", 1)),
        ("device int8_t* x", Parameter("buffer", "x", 0, "int8", 1)),
        ("device ushort* x", Parameter("buffer", "x", 0, "uint16", 2)),
        ("device long* x", Parameter("buffer", "x", 0, "int64", 8)),
        ("device bool* x", Parameter("buffer", "x", 0, "bool", 1)),
        ("device float4* x", Parameter("buffer", "x", 0, "float32", 16)),
        ("device float3* x", Parameter("buffer", "x", 0, "float32", 16)),
        ("device packed_half3* x", Parameter("buffer", "x", 0, "float16", 6)),
        ("device atomic_uint* x", Parameter("buffer", "x", 0, "uint32", 4)),
        ("device atomic<float>& x", Parameter("buffer", "x", 0, "float32", 4, reference=True)),
        ("constant uint& x", Parameter("buffer", "x", 0, "uint32", 4, reference=True, read_only=True)),
        ("constant S* x", Parameter("buffer", "x", 0, "struct", 24, read_only=True)),
        ("const constant S& x", Parameter("buffer", "x", 0, "struct", 24, reference=True, read_only=True)),
        ("device void* x", Parameter("buffer", "x", 0, "struct", 1)),
        ("constant float (&x)[4]", Parameter("buffer", "x", 0, "float32", 16, reference=True, read_only=True)),
        ("threadgroup half* x [[threadgroup(2)]]", Parameter("threadgroup", "x", 2, "float16", 2)),
        ("uint x [[thread_index_in_simdgroup]]", Parameter("position", "x", 25, "uint32", 4)),
        ("ushort2 x [[thread_position_in_grid]]", Parameter("position", "x", 0, "uint16", 4)),
        ("const uint3 x [[threadgroup_position_in_grid]]", Parameter("position", "x", 6, "uint32", 16)),
    ],
)
def test_parameter(declared: str, expected: Parameter) -> None:
    text = f"struct S {{ float a; long b; char c; }};\nkernel void k({declared}) {{}}"
    assert module(text).kernels["k"].parameters == (expected,)


def test_parameters_of_templates_are_those_of_the_instance() -> None:
    text = """
        template <typename T, int N> struct Block { T values[N]; };
        template <typename T, int N>
        kernel void f(const device T* x, constant Block<T, N>& block, device vec<T, N>* y) {}
        template [[host_name("bf16")]] [[kernel]] decltype(f<bfloat, 4>) f<bfloat, 4>;
        template [[host_name("i64")]] [[kernel]] decltype(f<long, 2>) f<long, 2>;
        """
    kernels = module(text).kernels
    assert [(p.dtype, p.size) for p in kernels["bf16"].parameters] == [("bfloat16", 2), ("struct", 8), ("bfloat16", 8)]
    assert [(p.dtype, p.size) for p in kernels["i64"].parameters] == [("int64", 8), ("struct", 16), ("int64", 16)]


def test_parameters_without_an_index_get_the_next_free_one() -> None:
    text = """
        constant int three = 3;
        kernel void k(device float* a, device float* b [[buffer(0)]], threadgroup float* s, device float* c,
                      device float* d [[buffer(1 + 1)]], threadgroup float* t [[threadgroup(0)]], device float* e) {}
        """
    parameters = module(text).kernels["k"].parameters
    assert [(p.name, p.kind, p.index) for p in parameters] == [
        ("a", "buffer", 1),
        ("b", "buffer", 0),
        ("s", "threadgroup", 1),
        ("c", "buffer", 3),
        ("d", "buffer", 2),
        ("t", "threadgroup", 0),
        ("e", "buffer", 4),
    ]


def test_most_threads_may_depend_on_template_parameters() -> None:
    kernels = module(
        """
        [[kernel, max_total_threads_per_threadgroup(64)]] void plain(device float* y) {}
        template <int W, int N = 2> [[kernel, max_total_threads_per_threadgroup(W * N * 32)]] void f(device float* y) {}
        template [[host_name("f")]] [[kernel]] decltype(f<4>) f<4>;
        kernel void none(device float* y) {}
        """
    ).kernels
    assert {name: info.max_threads for name, info in kernels.items()} == {"plain": 64, "f": 256, "none": None}


def test_parameters_for_some_function_constants_only_are_optional() -> None:
    text = """
        constant bool has_bias [[function_constant(1)]];
        kernel void k(device float* y, const device float* bias [[buffer(1), function_constant(has_bias)]]) {}
        """
    assert [p.optional for p in module(text).kernels["k"].parameters] == [False, True]


def test_kernels_know_where_they_are() -> None:
    kernel = module("\nkernel\nvoid k(device float* y) {}").kernels["k"]
    assert (kernel.file, kernel.line) == ("<source>", 5)


# ---- function constants

CONSTANTS = """
constant bool flag [[function_constant(3)]];
constant uint count [[ function_constant(7) ]];
constant bool both = flag && count > 1;
constant uint chosen = is_function_constant_defined(count) ? count : 42;
kernel void k(device uint* y) { y[0] = both; y[1] = chosen; y[2] = flag; }
"""


def test_function_constants_are_external_variables() -> None:
    compiled = module(CONSTANTS)
    assert compiled.constants == {
        3: FunctionConstant("flag", "sim.constant.3", "bool"),
        7: FunctionConstant("count", "sim.constant.7", "uint32"),
    }
    assert re.search(r"^@sim\.constant\.7 = .*global i32 0", compiled.ir, re.MULTILINE)
    assert re.search(r"^@sim\.constant\.7\.defined = .*global i8 0", compiled.ir, re.MULTILINE)
    assert ".dtype" not in compiled.ir


@pytest.mark.parametrize("checked", [False, True], ids=["fast", "checked"])
@pytest.mark.parametrize(
    ("constants", "expected"),
    [({3: True, 7: 5}, [1, 5, 1]), ({3: True, 7: 1}, [0, 1, 1]), ({3: False}, [0, 42, 0])],
    ids=str,
)
def test_constants_derived_from_function_constants(
    checked: bool, constants: dict[int | str, int], expected: list[int]
) -> None:
    kernel = sim.compile(HEADER + CONSTANTS).kernel("k", constants=constants, checked=checked)
    y = np.zeros(3, np.uint32)
    kernel.run(grid=(1, 1, 1), threadgroup=(1, 1, 1), buffers={"y": y})
    assert y.tolist() == expected


def test_one_function_constant_under_two_names() -> None:
    text = """
        constant bool a [[function_constant(0)]];
        namespace n { constant bool b [[function_constant(0)]]; }
        kernel void k(device int* y) { y[0] = a + 2 * n::b; }
        """
    kernel = sim.compile(HEADER + text).kernel("k", constants={0: True})
    y = np.zeros(1, np.int32)
    kernel.run(grid=(1, 1, 1), threadgroup=(1, 1, 1), buffers={0: y})
    assert y.tolist() == [3]


# ---- threadgroup variables


def test_threadgroup_variables_of_templates_and_of_many_dimensions() -> None:
    text = """
        template <typename T, int N>
        kernel void f(device T* y, uint i [[thread_position_in_threadgroup]]) {
          threadgroup T tile[N][2 * N], row[N];
          threadgroup metal::vec<T, 4> v;
          threadgroup uint count;
          for (uint j = i; j < N * 2 * N; j += 4) tile[j / (2 * N)][j % (2 * N)] = T(j);
          row[i] = T(100);
          if (i == 0) { v = metal::vec<T, 4>(7); count = N; }
          threadgroup_barrier(mem_flags::mem_threadgroup);
          y[i] = tile[i][2 * i + 1] + row[N - 1 - i] + v[i] + T(count);
        }
        template [[host_name("f32")]] [[kernel]] decltype(f<float, 4>) f<float, 4>;
        template [[host_name("f16")]] [[kernel]] decltype(f<half, 4>) f<half, 4>;
        """
    library = sim.compile(HEADER + text)
    for name, dtype in (("f32", np.float32), ("f16", np.float16)):
        y = np.zeros(4, dtype)
        result = library.kernel(name, checked=True).run(grid=(1, 1, 1), threadgroup=(4, 1, 1), buffers={0: y})
        assert result.reports == ()
        assert y.tolist() == [8 * i + 2 * i + 1 + 100 + 7 + 4 for i in range(4)]
        itemsize = np.dtype(dtype).itemsize
        assert result.counters.threadgroup_memory >= (32 + 4 + 4) * itemsize + 4


def test_pointers_into_threadgroup_memory_are_no_variables() -> None:
    text = """
        kernel void k(device float* y) {
          threadgroup float a[4];
          threadgroup float* p = a + 1;
          threadgroup float& r = *p;
          r = 3;
          y[0] = a[1];
        }
        """
    assert result_of(text) == [3]


def test_threadgroup_variables_cannot_be_initialised() -> None:
    (error,) = errors("kernel void k(device float* y) {\n  threadgroup float a[2] = {0}, b;\n  y[0] = a[0];\n}")
    assert (error.line, error.message) == (4, "a: a threadgroup variable cannot be initialised")


# ---- methods, literals, casts, constants


def test_methods_without_an_address_space_are_for_thread_memory() -> None:
    text = """
        struct S { float v; float get() const { return v; } };
        kernel void k(device S* s) { s[0].v = s[1].get(); }
        """
    (error,) = errors(text)
    assert error.line == 5
    assert "of type 'const thread S' with an expression of type 'device S'" in error.message


def test_methods_overloaded_by_address_space() -> None:
    text = """
        struct S {
          float v;
          S(float v) thread : v(v) {}
          float get() const thread { return v; }
          float get() const device { return v + 10; }
          float get() const threadgroup { return v + 20; }
          float get() const constant { return v + 30; }
          thread S& operator+=(float x) { v += x; return *this; }
          static float twice(float x) { return 2 * x; }
        };
        kernel void k(device float* y) {
          S s(1);
          s += 1;
          device S* d = (device S*)y;
          y[0] = s.get() + d[1].get() + S::twice(4);
        }
        """
    assert result_of(text, size=2) == [2 + 10 + 8, 0]


@pytest.mark.parametrize(
    ("expression", "value"),
    [
        ("1.5bf", 1.5),
        ("3BF", 3.0),
        ("2h", 2.0),
        ("0.1h", float(np.float16(0.1))),
        ("1e2h", 100.0),
        ("0.1", float(np.float32(0.1))),
        (".5", 0.5),
        ("1e-3", float(np.float32(1e-3))),
        ("0x1.8p1", 3.0),
        ("0xe + 1", 15.0),
        ("sizeof(1.0)", 4.0),
        ("sizeof(1.0h)", 2.0),
        ("float(static_cast<bfloat>(1.5h))", 1.5),
        ("float(static_cast<half>(1.5bf))", 1.5),
    ],
)
def test_literals_and_casts(expression: str, value: float) -> None:
    assert result_of(f"kernel void k(device float* y) {{ y[0] = {expression}; }}") == [value]


def test_constants_of_programs_classes_and_functions() -> None:
    text = """
        constant float table[2][2] = {{1, 2}, {3, 4}};
        constant constexpr int n = 3;
        struct S { static constexpr constant int width = 4; };
        template <typename T> constant constexpr int bytes = sizeof(T);
        kernel void k(device float* y) {
          constexpr constant int local = 5;
          constant float* row = table[1];
          y[0] = row[0] + n + S::width + bytes<half> + local;
        }
        """
    assert result_of(text) == [3 + 3 + 4 + 2 + 5]


def test_references_to_const_thread_scalars_take_temporaries() -> None:
    text = """
        float sum(const thread float& a, thread const float& b) { return a + b; }
        kernel void k(device float* y) { float x = 1; y[0] = sum(x, 2); }
        """
    assert result_of(text) == [3]


def test_functions_as_template_arguments() -> None:
    text = """
        float twice(float x) { return 2 * x; }
        template <typename T> T thrice(T x) { return 3 * x; }
        template <typename T> using Function = T (*)(T);
        template <float (*f)(float)> float direct(float x) { return f(x); }
        template <typename T, Function<T> f> T aliased(T x) { return f(x); }
        kernel void k(device float* y) { y[0] = direct<twice>(1) + aliased<float, thrice<float>>(1); }
        """
    assert result_of(text) == [5]


def test_words_that_opencl_reserves_are_free() -> None:
    names = ["global", "local", "generic", "pipe", "read_only", "event_t"]
    text = "".join(f"float {name} = 1; y[0] += {name}; " for name in names)
    text = f"kernel void k(device float* y) {{ y[0] = 0; {text} }}"
    assert result_of(text) == [6]


@pytest.mark.parametrize("version", [310, 320])
def test_language_version(version: int) -> None:
    text = f'static_assert(__METAL_VERSION__ == {version} && __METAL__ == 1, "");\nkernel void k(device float* y) {{}}'
    assert list(module(text, version=version).kernels) == ["k"]


def test_other_language_versions_are_refused() -> None:
    with pytest.raises(ValueError, match="language version 300: expected one of 310, 320"):
        module("kernel void k(device float* y) {}", version=300)


# ---- files, lines and errors


def test_lines_stay_where_they_are() -> None:
    text = """# 1 "a.metal"
constant bool flag [[function_constant(0)]];
template <typename T,
          int N>
[[kernel]] void f(
    device T* x [[buffer(0)]],
    uint i [[thread_position_in_grid]]) {
  threadgroup T tile[N]
                    [2];
  x[i] = static_cast<T>(1.5);
}
template [[host_name(
    "f")]] [[kernel]] decltype(f<float, 4>) f<float, 4>;
int last;
"""
    result = rewritten(text)
    assert "[[" not in result
    source = Source(result, hidden=is_hidden)
    for name, line in (("flag", 1), ("x", 9), ("last", 13)):
        assert source.location(max(source.find(name)))[:2] == ("a.metal", line)


@pytest.mark.parametrize(
    ("text", "line", "column", "message"),
    [
        ("kernel void k(device float* y) {\n  y[0] = 1\n}", 4, 11, "expected ';'"),
        ("kernel void k(device float* y [[buffer(0)]]) { y[0] = x; }", 3, 55, "undeclared identifier 'x'"),
        ("kernel void k(device float* y) {\n  double x = 1; y[0] = x;\n}", 4, 3, "no double"),
        ("kernel void k(device float* y) {\n  threadgroup float* p = y;\n}", 4, 22, "'device float *'"),
        ("kernel void k(device float* y) { float z = 1.5; y[0] = x; }", 3, 56, "undeclared identifier 'x'"),
        ("kernel void k(constant float* x) { x[0] = 1; }", 3, 41, "read-only"),
        ("kernel void k(device bfloat* y, device float* x) { y[0] = x[0]; }", 3, 59, "no implicit conversion"),
        ("kernel void k(device float* y) { y[0] = simd_sum(true); }", 3, 41, "no matching function"),
        ("kernel void k(device float* y) { float4 v = float4(1); v.xx = float2(1); }", 3, 58, "names a lane twice"),
        ("kernel void k(device int* a,\nint n [[buffer(1)]]) {}", 4, 0, "pointer or reference"),
        ("kernel void k(device int* a,\ndevice float* y [[buffer(31)]]) {}", 4, 0, "0 to 30"),
        ("kernel void k(device int* a,\ndevice float* y [[threadgroup(0)]]) {}", 4, 0, "does not fit its type"),
        ("kernel void k(device int* a,\nfloat n [[thread_position_in_grid]]) {}", 4, 0, "a position is an integer"),
        ("kernel int k(device int* y) { return 0; }", 3, 0, "a kernel returns void"),
        ("struct T; kernel void k(T t [[texture(0)]]) {}", 3, 31, "buffers and positions only"),
        ('template [[host_name("f")]] [[kernel]] decltype(f<int>) f<int>;', 3, 1, "no such kernel"),
    ],
)
def test_errors_are_shown_where_the_user_wrote_them(text: str, line: int, column: int, message: str) -> None:
    error = errors(text)[0]
    assert message in error.message
    assert (error.file, error.line, error.rule) == ("<source>", line, "compile")
    if column:  # errors in generated code know the line only
        assert error.column == column


def test_an_error_in_a_template_is_shown_once() -> None:
    text = """
        template <typename T> kernel void f(device T* y) {
          y[0] = nothing(y[0]);
        }
        template [[host_name("a")]] [[kernel]] decltype(f<float>) f<float>;
        template [[host_name("b")]] [[kernel]] decltype(f<half>) f<half>;
        """
    (error,) = errors(text)
    assert (error.line, "nothing" in error.message) == (5, True)


def test_missing_headers_are_errors(tmp_path: Path) -> None:
    path = tmp_path / "a.metal"
    path.write_text('#include "nowhere.h"\n')
    with pytest.raises(CompileError, match=r"a\.metal:1:10: 'nowhere\.h' file not found"):
        compile_module(path)


def test_without_the_standard_library_there_are_no_vectors() -> None:
    with pytest.raises(CompileError, match="float4"):
        compile_module("\nkernel void k(device float4* y) {}\n")


def test_errors_of_an_included_file_name_it(tmp_path: Path) -> None:
    (tmp_path / "inner").mkdir()
    (tmp_path / "inner" / "b.h").write_text("#pragma once\n\ninline float f() { return g(); }\n")
    (tmp_path / "a.metal").write_text('#include <metal_stdlib>\n#include "b.h"\n')
    with pytest.raises(CompileError) as caught:
        compile_module(tmp_path / "a.metal", include=[tmp_path / "inner"])
    (error,) = caught.value.diagnostics
    assert (error.file, error.line, error.column) == (str(tmp_path / "inner" / "b.h"), 3, 27)


def test_text_beyond_ascii_passes_through() -> None:
    assert result_of("// \u00b5s, \u2264\nkernel void k(device float* y) { y[0] = 1; } // \u2713") == [1]


def test_defines() -> None:
    compiled = compile_module(
        HEADER + "kernel void NAME(device float* y) { y[0] = N; }\n", defines={"NAME": "k", "N": "4"}
    )
    assert list(compiled.kernels) == ["k"]


def test_debug_information_shows_the_users_lines_and_hides_the_shim(tmp_path: Path) -> None:
    (tmp_path / "h.h").write_text("#pragma once\ninline float f(float x) {\n  return simd_sum(x);\n}\n")
    path = tmp_path / "a.metal"
    path.write_text(HEADER + '#include "h.h"\nkernel void k(device float* y) {\n  y[0] = f(y[1]);\n}\n')
    compiled = compile_module(path)
    files = set(re.findall(r'DIFile\(filename: "([^"]*)"', compiled.ir))
    assert {str(path), str(tmp_path / "h.h")} <= files
    assert all(file.startswith(compiled.hidden) for file in files if file.endswith("metal_simdgroup"))
    assert compiled.hidden == (str(clang.INCLUDE),)


def test_the_same_source_gives_the_same_ir(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = module(CONSTANTS)
    monkeypatch.chdir(tmp_path)
    assert module(CONSTANTS) == first


def test_uninitialised_variables_are_marked() -> None:
    ir = module("kernel void k(device float* y, uint i [[thread_position_in_grid]]) { float a[4]; y[0] = a[i]; }").ir
    assert re.search(r"store float .*!annotation", ir)
    assert '"auto-init"' in ir


@pytest.mark.parametrize("type_name", ["float", "half", "bfloat"])
def test_operations_are_rounded_one_by_one_and_contracted_within_a_statement(type_name: str) -> None:
    text = f"""
        {type_name} fused({type_name} a, {type_name} b, {type_name} c) {{ return a * b + c; }}
        {type_name} apart({type_name} a, {type_name} b, {type_name} c) {{ {type_name} t = a * b; return t + c; }}
        kernel void k(device {type_name}* y) {{ y[0] = fused(y[0], y[1], y[2]) + apart(y[0], y[1], y[2]); }}
        """
    ir = module(text).ir
    suffix = {"float": "f32", "half": "f16", "bfloat": "bf16"}[type_name]
    assert len(re.findall(rf"call {type_name} @llvm\.fmuladd\.{suffix}", ir)) == 1
    assert len(re.findall(rf"fmul {type_name} ", ir)) == 1
    assert "fast" not in ir
