"""Compiling and linking: what the optimiser must leave alone, places in the source, what is refused."""

from __future__ import annotations

import ctypes

import numpy as np
import pytest

from deltamoe_sim import jit
from deltamoe_sim.errors import LaunchError, SimError
from deltamoe_sim.sites import Frame, Sites, number_calls
from tests.sim.recorder import BOTH_MODES, FLOAT, POINTER, WORD, Recorder, module, run, zeros


def test_each_call_has_a_site_of_its_own() -> None:
    text = (
        "define void @f(i32 %x) {\n"
        "  %1 = tail call i32 @air.simd_sum.s.i32(i32 %x) #1\n"
        "  call void @air.wg.barrier(i32 2, i32 1), !dbg !3\n"
        "  %2 = call i1 @air.simd_is_first()\n"
        "  %3 = call float @air.exp.f32(float 0.0)\n"
        "  ret void\n"
        "}\n"
        "declare i32 @air.simd_sum.s.i32(i32 noundef) #2\n"
        "declare void @air.wg.barrier(i32, i32)\n"
        "declare i1 @air.simd_is_first()\n"
        "declare float @air.exp.f32(float)\n"
    )
    sites = Sites(text)
    assert number_calls(text, sites) == (
        "define void @f(i32 %x) {\n"
        "  %1 = tail call i32 @air.simd_sum.s.i32(i32 %x, i32 0) #1\n"
        "  call void @air.wg.barrier(i32 2, i32 1, i32 1), !dbg !3\n"
        "  %2 = call i1 @air.simd_is_first(i32 2)\n"
        "  %3 = call float @air.exp.f32(float 0.0)\n"
        "  ret void\n"
        "}\n"
        "declare i32 @air.simd_sum.s.i32(i32 noundef, i32) #2\n"
        "declare void @air.wg.barrier(i32, i32, i32)\n"
        "declare i1 @air.simd_is_first(i32)\n"
        "declare float @air.exp.f32(float)\n"
    )
    assert len(sites.table) == 3


BARRIERS = """
declare void @air.wg.barrier(i32, i32) #0
declare i32 @air.simd_sum.s.i32(i32) #0
define internal void @k(ptr %x) {
  %v = load i32, ptr %x
  %c = icmp eq i32 %v, 3
  br i1 %c, label %then, label %else
then:
  call void @air.wg.barrier(i32 2, i32 1) #0
  %s = call i32 @air.simd_sum.s.i32(i32 %v) #0
  br label %end
else:
  call void @air.wg.barrier(i32 2, i32 1) #0
  %t = call i32 @air.simd_sum.s.i32(i32 %v) #0
  br label %end
end:
  %r = phi i32 [ %s, %then ], [ 0, %else ]
  %d = icmp eq i32 %v, 4
  br i1 %d, label %use, label %leave
use:
  store i32 %r, ptr %x
  br label %leave
leave:
  ret void
}
attributes #0 = { nounwind willreturn memory(none) }
"""


@BOTH_MODES
def test_meetings_are_neither_merged_nor_dropped_nor_moved(checked: bool) -> None:
    """Even where their declarations would allow it."""
    recorder = Recorder()
    recorder.provide("air.wg.barrier", None, WORD, WORD, WORD)
    recorder.provide("air.simd_sum.s.i32", WORD, WORD, WORD)
    executable = jit.build(module(BARRIERS), "k", {}, checked, recorder.symbols)
    called = []
    for value in (3, 5):
        x = np.array([value], np.int32)
        entry = ctypes.CFUNCTYPE(None, POINTER, POINTER, POINTER)(executable.entry)
        entry((POINTER * 1)(x.ctypes.data), None, None)
        called.append([call for call in recorder.calls if call[0].startswith("air.")])
        recorder.calls.clear()
    names = [[name for name, *_ in calls] for calls in called]
    assert names == [["air.wg.barrier", "air.simd_sum.s.i32"]] * 2
    assert len({site for calls in called for *_, site in calls}) == 4


def test_memory_is_read_again_after_a_barrier() -> None:
    recorder = Recorder()
    x = np.array([1, 0], np.int32)
    recorder.provide("air.wg.barrier", None, WORD, WORD, WORD, returns=lambda *_: x.__setitem__(0, 42))
    run(
        """
        declare void @air.wg.barrier(i32, i32) #0
        define internal void @k(ptr %x) {
          %a = load i32, ptr %x
          call void @air.wg.barrier(i32 2, i32 1) #0
          %b = load i32, ptr %x
          %s = add i32 %a, %b
          %p = getelementptr i32, ptr %x, i64 1
          store i32 %s, ptr %p
          ret void
        }
        attributes #0 = { nounwind willreturn memory(none) }
        """,
        x,
        recorder=recorder,
    )
    assert x[1] == 43


DEBUG = """
declare void @air.wg.barrier(i32, i32)
define internal void @helper(ptr %p) alwaysinline !dbg !10 {
  call void @air.wg.barrier(i32 2, i32 1), !dbg !20
  store i32 1, ptr %p, !dbg !21
  ret void, !dbg !21
}
define internal void @k(ptr %x) !dbg !11 {
  call void @helper(ptr %x), !dbg !22
  call void @helper(ptr %x), !dbg !23
  store i32 2, ptr %x
  ret void, !dbg !23
}
!llvm.dbg.cu = !{!0}
!llvm.module.flags = !{!2}
!0 = distinct !DICompileUnit(language: DW_LANG_C_plus_plus, file: !1, emissionKind: LineTablesOnly)
!1 = !DIFile(filename: "user.metal", directory: "/")
!2 = !{i32 2, !"Debug Info Version", i32 3}
!3 = !DIFile(filename: "header.h", directory: "/")
!4 = !DISubroutineType(types: !5)
!5 = !{}
!10 = distinct !DISubprogram(name: "helper<int, 4>", file: !3, line: 4, type: !4, spFlags: DISPFlagDefinition, unit: !0)
!11 = distinct !DISubprogram(name: "k", scope: !1, file: !1, line: 9, type: !4, spFlags: DISPFlagDefinition, unit: !0)
!12 = distinct !DILexicalBlock(scope: !10, file: !3, line: 5, column: 2)
!20 = !DILocation(line: 6, column: 3, scope: !12)
!21 = !DILocation(line: 7, column: 5, scope: !10)
!22 = !DILocation(line: 10, column: 1, scope: !11)
!23 = !DILocation(line: 11, column: 2, scope: !11)
"""


def test_sites_name_the_source_and_what_it_was_inlined_into() -> None:
    recorder = Recorder()
    recorder.provide("air.wg.barrier", None, WORD, WORD, WORD)
    executable = run(DEBUG, zeros(np.int32), recorder=recorder, checked=True)
    places = [executable.sites[site] for *_, site in recorder.of("air.wg.barrier") + recorder.of("sim.store")]
    outer = [Frame("user.metal", 10, 1, "k"), Frame("user.metal", 11, 2, "k")]
    assert places == [
        *((Frame("header.h", 6, 3, "helper<int, 4>"), frame) for frame in outer),
        *((Frame("header.h", 7, 5, "helper<int, 4>"), frame) for frame in outer),
        (Frame("user.metal", 9, 0, "k"),),
    ]


def test_only_the_kernel_asked_for_is_compiled() -> None:
    text = "declare void @nobody.has.this()\ndefine void @other() {\n  call void @nobody.has.this()\n  ret void\n}\n"
    run(text + "define internal void @k() {\n  ret void\n}")


@BOTH_MODES
def test_unknown_functions_are_named(checked: bool) -> None:
    text = "declare float @air.nonsense.f32(float)\ndeclare void @f()\n"
    body = (
        "define internal void @k(ptr %x) {\n  %v = call float @air.nonsense.f32(float 1.0)\n  store float %v, ptr %x\n"
    )
    with pytest.raises(SimError, match=r"kernel k .* does not have: air\.nonsense\.f32, f$"):
        run(text + body + "  call void @f()\n  ret void\n}", zeros(np.float32), checked=checked)


def test_an_unknown_kernel_is_refused() -> None:
    with pytest.raises(LaunchError, match="unknown kernel 'other'; the library has: k"):
        jit.build(module("define void @k(ptr %x) {\n  ret void\n}"), "other", {}, False, {})


def test_malformed_ir_is_refused() -> None:
    with pytest.raises(SimError, match="malformed IR"):
        jit.build(module("define void @k(ptr %x) {\n  nonsense\n}"), "k", {}, False, {})


def test_names_that_must_not_be_mangled() -> None:
    recorder = Recorder()
    recorder.provide("air.exp.f32", FLOAT, FLOAT, returns=lambda x: x + 1)
    x = np.array([1], np.float32)
    run(
        """
        declare float @"\\01air.exp.f32"(float)
        define internal void @k(ptr %x) {
          %v = load float, ptr %x
          %r = call float @"\\01air.exp.f32"(float %v)
          store float %r, ptr %x
          ret void
        }
        """,
        x,
        recorder=recorder,
    )
    assert x[0] == 2


def test_two_kernels_do_not_see_each_other() -> None:
    text = """
    @c = global i32 {}
    define internal void @k(ptr %x) {{
      %v = load i32, ptr @c
      store i32 %v, ptr %x
      ret void
    }}
    """
    x, y = zeros(np.int32), zeros(np.int32)
    kept = [run(text.format(1), x), run(text.format(2), y)]
    assert (x[0], y[0], len({e.entry for e in kept})) == (1, 2, 2)
