"""Lint, and the compiler's errors: what is found before a shader runs."""

from __future__ import annotations

from pathlib import Path

import pytest

import deltamoe_sim as sim
from deltamoe_sim.lint import RULES
from tests.sim.planted import CASES, Case

HEAD = "#include <metal_stdlib>\nusing namespace metal;\n"
POSITIONS = (
    "uint i [[thread_position_in_grid]], uint tid [[thread_position_in_threadgroup]],"
    " uint lane [[thread_index_in_simdgroup]], uint simdgroup [[simdgroup_index_in_threadgroup]],"
    " uint group [[threadgroup_position_in_grid]]"
)
BARRIER = "threadgroup_barrier(mem_flags::mem_threadgroup);"
SIMD_SUM = "y[i] = simd_sum(y[i]);"


def kernel(body: str, *, parameters: str = "", before: str = "") -> str:
    """Source of a kernel k that writes y, of which n is the size; `before` is line 3, the body begins in line 5."""
    more = f", {parameters}" if parameters else ""
    arguments = f"device float* y [[buffer(0)]], constant uint& n [[buffer(1)]], {POSITIONS}{more}"
    return f"{HEAD}{before}\nkernel void k({arguments}) {{\n{body}\n}}\n"


def rules(text: str) -> list[str]:
    return [finding.rule for finding in sim.lint(text)]


@pytest.mark.parametrize("case", CASES, ids=str)
def test_planted_faults(case: Case) -> None:
    findings = sim.check(case.path, defines=case.defines)
    case.assert_found(case.due_before, {(f.rule, f.line) for f in findings}, "\n".join(map(str, findings)))


def test_every_rule_has_a_planted_fault_and_says_what_it_stands_for() -> None:
    planted = {kind for case in CASES for kind in case.due_before}
    assert planted == RULES.keys() | {"compile"}
    assert all(rule.__doc__ for rule in RULES.values())


# ---- divergent-exit


@pytest.mark.parametrize("rendezvous", [BARRIER, SIMD_SUM], ids=["barrier", "simd_sum"])
@pytest.mark.parametrize(
    "leave",
    [
        "if (i >= n) return;",
        "if (tid + 1 > n) return;",
        "if (lane == 3) { y[i] = 0.0f; return; }",
        "if (y[i] > 0.5f) return;",
        "uint row = tid; row += 1; if (row > n) return;",
        "bool done = i > n; if (done) return;",
        "if (n > 2) { if (lane < 3) return; }",
        "for (uint j = 0; j < n; j++) { if (j > lane) return; }",
        "switch (lane) { case 0: return; default: break; }",
        "if (simd_prefix_inclusive_sum(y[i]) > 0.5f) return;",
        "if (min(i, 4u) > n) return;",
    ],
)
def test_leaving_lane_by_lane(leave: str, rendezvous: str) -> None:
    assert rules(kernel(f"{leave}\n{rendezvous}")) == ["divergent-exit"]


@pytest.mark.parametrize(
    "leave", ["if (simdgroup == 1) return;", "if (tid >= 32) return;", "if (simd_sum(y[i]) > n) return;"]
)
def test_leaving_by_whole_simdgroups(leave: str) -> None:
    assert rules(kernel(f"{leave}\n{SIMD_SUM}")) == []
    assert rules(kernel(f"{leave}\n{BARRIER}")) == ["divergent-exit"]


@pytest.mark.parametrize("rendezvous", [BARRIER, SIMD_SUM], ids=["barrier", "simd_sum"])
@pytest.mark.parametrize(
    "leave",
    [
        "if (group >= n) return;",
        "if (n == 0) return;",
        "if (y[group] > 0.5f) return;",
        "if (y[0] > 0.5f) { return; } else { y[i] = 1.0f; }",
        "for (uint j = 0; j < n; j++) { if (y[j] > 0.5f) return; }",
        "if (i / 64 >= n) return;",
        "if (i >> 6 >= n) return;",
        "for (uint j = lane; j < n; j += 32) { if (j == 7) break; y[i] += 1.0f; }",
        "for (uint j = 0; j < n; j++) { if (j == lane) continue; y[i] += 1.0f; }",
        "auto leave = [&](uint j) { if (j > lane) return 1.0f; return 2.0f; }; y[i] = leave(n);",
    ],
)
def test_staying_together(leave: str, rendezvous: str) -> None:
    assert rules(kernel(f"{leave}\n{rendezvous}")) == []


@pytest.mark.parametrize("exit", ["break", "continue"])
def test_leaving_a_loop_or_a_turn(exit: str) -> None:
    assert rules(kernel(f"for (uint j = 0; j < n; j++) {{ if (j == lane) {exit};\n{BARRIER} }}")) == ["divergent-exit"]
    assert rules(kernel(f"for (uint j = 0; j < n; j++) {{ if (j == n / 2) {exit};\n{BARRIER} }}")) == []


def test_whoever_left_an_outer_loop_is_missed_in_an_inner_one() -> None:
    inner = f"for (uint j = 0; j < n; j++) {{\n{BARRIER} }}"
    assert rules(kernel(f"for (uint m = 0; m < n; m++) {{ if (m == lane) break; {inner} }}")) == ["divergent-exit"]
    assert rules(kernel(f"for (uint m = 0; m < n; m++) {{ if (m == lane) break; }} {inner}")) == []


def test_a_branch_that_the_template_discards_does_not_count() -> None:
    head = "template <bool Leave> void meet(uint lane) { if constexpr (Leave) { if (lane > 2) return; }"
    text = f"{head} {BARRIER} }}"
    assert rules(kernel("meet<false>(lane);", before=text)) == []


def test_breaking_is_missed_in_the_next_turn_and_skipping_is_not() -> None:
    assert rules(kernel(f"for (uint j = 0; j < n; j++) {{\n{BARRIER} if (j == lane) break; }}")) == ["divergent-exit"]
    assert rules(kernel(f"for (uint j = 0; j < n; j++) {{\n{BARRIER} if (j == lane) continue; }}")) == []


def test_a_rendezvous_in_a_helper_is_found_where_it_is_called() -> None:
    inner = f"void wait() {{ {BARRIER} }}"
    text = kernel("if (i >= n) return;\ny[i] = 1.0f;\nouter();", before=f"{inner} void outer() {{ wait(); }}")
    assert [(f.rule, f.line) for f in sim.lint(text)] == [("divergent-exit", 7)]


def test_positions_in_other_dimensions_count_as_uniform() -> None:
    text = f"{HEAD}kernel void k(device float* y [[buffer(0)]], uint3 i [[thread_position_in_grid]]) {{\n"
    assert rules(f"{text}if (i.y > 3) return;\n{BARRIER} y[i.x] = 1.0f; }}\n") == []
    assert rules(f"{text}if (i.x > 3) return;\n{BARRIER} y[i.x] = 1.0f; }}\n") == ["divergent-exit"]


@pytest.mark.parametrize("vote", ["simd_all", "simd_any", "simd_ballot"])
def test_votes_are_among_those_that_are_there(vote: str) -> None:
    assert rules(kernel(f"if (i >= n) return;\nauto result = {vote}(y[i] > 0.5f);")) == []


# ---- scope and robustness


def test_findings_of_included_files_name_them(tmp_path: Path) -> None:
    (tmp_path / "helper.h").write_text("inline float first(float* values) {\n  return values[0];\n}\n")
    (tmp_path / "shader.metal").write_text(kernel("y[i] = 1.0f;", before='#include "helper.h"'))
    (finding,) = sim.lint(tmp_path / "shader.metal")
    assert (finding.rule, Path(finding.file).name, finding.line, finding.column) == (
        "unqualified-pointer",
        "helper.h",
        1,
        27,
    )


def test_library_headers_are_not_examined() -> None:
    names = ["metal_stdlib", "metal_simdgroup", "metal_simdgroup_matrix", "metal_atomic", "metal_math", "metal_compute"]
    assert sim.lint("".join(f"#include <{name}>\n" for name in names)) == []


def test_a_shader_that_does_not_compile_is_examined_all_the_same() -> None:
    text = kernel("y[i] = unknown(i);\ngoto end;\nend: return;", parameters="device float* z [[buffer(31)]]")
    assert {f.rule for f in sim.check(text)} == {"compile", "buffer-index", "unsupported-keyword"}
    assert set(rules(text)) == {"buffer-index", "unsupported-keyword"}


def test_a_missing_include_is_the_only_error() -> None:
    (finding,) = sim.check(f'{HEAD}#include "nowhere.h"\n')
    assert (finding.rule, finding.line) == ("compile", 3)
    assert sim.lint(f'{HEAD}#include "nowhere.h"\n') == []


def test_defines_and_version_reach_the_preprocessor() -> None:
    text = kernel("y[i] = 1.0f;", before="#if defined(WIDE) && __METAL_VERSION__ >= 320\ndouble wide;\n#endif")
    assert sim.lint(text) == []
    assert sim.lint(text, defines={"WIDE": "1"}) == []
    assert "double" in {f.rule for f in sim.lint(text, defines={"WIDE": "1"}, version=320)}


def test_columns_are_those_of_the_source() -> None:
    (finding,) = sim.lint(
        kernel("  threadgroup float tile[64]; tile[tid] = y[i]; static int calls = 0; y[i] = tile[tid];")
    )
    assert (finding.rule, finding.line, finding.column) == ("static-local", 5, 60)


def test_one_finding_for_all_instantiations() -> None:
    body = (
        "template <typename T> [[kernel]] void k(device T* y [[buffer(0)]]) { static int calls = 0; y[0] = T(calls); }"
    )
    names = "".join(
        f'template [[host_name("k_{t}")]] [[kernel]] decltype(k<{t}>) k<{t}>;\n' for t in ("float", "half", "int")
    )
    assert rules(f"{HEAD}{body}\n{names}") == ["static-local"]


# ---- what must pass


@pytest.mark.parametrize(
    "parameter",
    [
        "device float* z [[buffer(30)]]",
        "device const half4* z [[buffer(2)]]",
        "constant float (&table)[4] [[buffer(2)]]",
        "const constant int* shape [[buffer(2)]]",
        "constant const int64_t& stride [[buffer(2)]]",
        "device float* z",
        "threadgroup float* z [[threadgroup(0)]]",
        "device atomic<float>* z [[buffer(2)]]",
        "ushort quad [[quadgroup_index_in_threadgroup]]",
    ],
)
def test_kernel_parameters(parameter: str) -> None:
    assert sim.check(kernel("y[i] = 1.0f;", parameters=parameter)) == []


@pytest.mark.parametrize(
    "code",
    [
        "struct S { S() = default; S(thread const S&) = delete; };",
        "template <typename T> struct Box { T value; thread T& get() thread { return value; } };",
        "float sum(const float values[4]) { return values[0]; }",
        "float twice(const thread float& value) { return 2 * value; }",
        "template <typename T> T id(const thread T& value) { return value; }",
        "typedef device float* Row; using Table = constant float*;",
        "constant constexpr int a = 1; static constant constexpr int b = 2; constexpr constant int c = 3;",
        "struct Shape { static constant constexpr int rows = 8; enum { columns = 4 }; };",
        "namespace a { namespace b { constant float table[2] = {1.0f, 2.0f}; } }",
        "template <int N> int depth() { return N + depth<N - 1>(); } template <> int depth<0>() { return 0; }",
        "int a(int n); int b(int n) { return n; } int a(int n) { return b(n); }",
        "struct Op { float of(float x) thread { return x; } float of(half x) thread { return of(float(x)); } };",
        "bool less(int a, int b) { return a * 2 < b && a & 1; }",
        "void f(device float* device* rows) { rows[0][0] = 1.0f; }",
    ],
)
def test_declarations(code: str) -> None:
    assert sim.check(kernel("y[i] = 1.0f;", before=code)) == []
