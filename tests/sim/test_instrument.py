"""The hooks of the checked mode."""

from __future__ import annotations

import numpy as np
import pytest

from tests.sim.recorder import POINTER, WORD, Recorder, run, zeros


@pytest.mark.parametrize(
    ("type_", "size"),
    [
        ("i1", 1),
        ("i8", 1),
        ("i16", 2),
        ("i32", 4),
        ("i64", 8),
        ("half", 2),
        ("bfloat", 2),
        ("float", 4),
        ("<2 x half>", 4),
        ("<3 x float>", 12),
        ("<4 x i32>", 16),
        ("ptr", 8),
        ("{ i8, i64 }", 16),
        ("[3 x i16]", 6),
        ("%pair", 8),
    ],
)
def test_loads_and_stores_are_announced(type_: str, size: int) -> None:
    recorder = Recorder()
    x, y = np.arange(16, dtype=np.uint8), zeros(np.uint8, 16)
    run(
        f"""
        %pair = type {{ float, i32 }}
        define internal void @k(ptr %x, ptr %y) {{
          %v = load {type_}, ptr %x, align 2
          store volatile {type_} %v, ptr %y, align 1
          ret void
        }}
        """,
        x,
        y,
        recorder=recorder,
        checked=True,
    )
    assert [call[:3] for call in recorder.of("sim.load")] == [(x.ctypes.data, size, 2)]
    assert [call[:3] for call in recorder.of("sim.store")] == [(y.ctypes.data, size, 1)]
    touched = np.flatnonzero(y)
    assert touched.size == 0 or touched.max() < size


def test_the_address_that_a_hook_returns_is_used() -> None:
    recorder = Recorder()
    elsewhere = np.array([7], np.int32)
    for hook in ("sim.load", "sim.store"):
        recorder.provide(hook, POINTER, POINTER, WORD, WORD, WORD, returns=lambda *_: elsewhere.ctypes.data)
    x = np.array([1], np.int32)
    run(
        """
        define internal void @k(ptr %x) {
          %v = load i32, ptr %x
          %w = add i32 %v, 1
          store i32 %w, ptr %x
          ret void
        }
        """,
        x,
        recorder=recorder,
        checked=True,
    )
    assert (x[0], elsewhere[0]) == (1, 8)


def test_addresses_of_all_kinds() -> None:
    recorder = Recorder()
    x = np.array([1], np.int32)
    executable = run(
        """
        @table = internal constant [4 x i32] [i32 1, i32 2, i32 3, i32 4]
        @state = internal global [2 x i64] zeroinitializer
        define internal void @k(ptr %x) {
          %n = load i32, ptr %x
          %i = sext i32 %n to i64
          store i64 5, ptr getelementptr (i8, ptr @state, i64 8)
          %s = getelementptr [2 x i64], ptr @state, i64 0, i64 %i
          %a = load i64, ptr %s
          %p = getelementptr [4 x i32], ptr @table, i64 0, i64 %i
          %c = icmp eq i64 %a, 5
          br i1 %c, label %then, label %end
        then:
          br label %end
        end:
          %q = phi ptr [ %p, %then ], [ @table, %0 ]
          %b = load i32, ptr %q
          store i32 %b, ptr %x
          ret void
        }
        """,
        x,
        recorder=recorder,
        checked=True,
    )
    assert x[0] == 2
    (table, state) = (at for at, _ in executable.globals)
    assert [size for _, size in executable.globals] == [16, 16]
    assert [address for address, *_ in recorder.of("sim.load")] == [x.ctypes.data, state + 8, table + 4]
    assert [address for address, *_ in recorder.of("sim.store")] == [state + 8, x.ctypes.data]


PRIVATE = """
declare void @llvm.lifetime.start.p0(ptr)
declare void @llvm.lifetime.end.p0(ptr)
define internal void @k(ptr %x) {
  %a = alloca [4 x i32], align 16
  %b = alloca i32, i32 3, align 4
  %t = load i32, ptr %x
  br label %loop
loop:
  %i = phi i32 [ 0, %0 ], [ %j, %loop ]
  call void @llvm.lifetime.start.p0(ptr %a)
  %p = getelementptr i32, ptr %a, i32 %i
  store i32 -1431655766, ptr %p, align 4, !annotation !0
  %q = getelementptr i32, ptr %b, i32 %i
  store i32 %i, ptr %q, align 4
  %v = load i32, ptr %p, align 4
  store i32 %v, ptr %x
  call void @llvm.lifetime.end.p0(ptr %a)
  %j = add i32 %i, 1
  %c = icmp ult i32 %j, %t
  br i1 %c, label %loop, label %end
end:
  ret void
}
!0 = !{!"auto-init"}
"""


def test_private_variables() -> None:
    recorder = Recorder()
    x = np.array([2], np.int32)
    run(PRIVATE, x, recorder=recorder, checked=True)
    born = recorder.of("sim.private")
    assert [size for _, size, _ in born] == [12, 16, 16]  # the second once per round
    (b, _, _), (a, _, _), (again, _, _) = born
    assert a == again
    assert abs(a - b) >= 32 + min(12, 16)
    stores = [address for address, *_ in recorder.of("sim.store") if address != x.ctypes.data]
    assert stores == [b, b + 4]  # those marked auto-init are not announced
    assert np.uint32(x[0]) == 0xAAAAAAAA


def test_a_struct_passed_by_value_is_a_private_variable_with_contents() -> None:
    recorder = Recorder()
    x = np.arange(4, dtype=np.int64)
    run(
        """
        %big = type { i64, i64, i64 }
        define internal i64 @third(ptr byval(%big) align 8 %s) {
          %p = getelementptr %big, ptr %s, i32 0, i32 2
          %v = load i64, ptr %p
          ret i64 %v
        }
        define internal void @k(ptr %x) {
          %v = call i64 @third(ptr byval(%big) align 8 %x)
          store i64 %v, ptr %x
          ret void
        }
        """,
        x,
        recorder=recorder,
        checked=True,
    )
    [(address, size, _)] = recorder.of("sim.argument")
    assert recorder.of("sim.private") == []
    assert address != x.ctypes.data
    assert size == 24
    assert recorder.of("sim.store_range") == []
    assert recorder.of("sim.load")[0][0] == address + 16
    assert x[0] == 2


def test_copies_and_fills() -> None:
    recorder = Recorder()
    x, y = np.arange(8, dtype=np.int32), zeros(np.int32, 8)
    executable = run(
        """
        @t = internal constant [2 x i32] [i32 8, i32 9]
        declare void @llvm.memcpy.p0.p0.i64(ptr, ptr, i64, i1)
        declare void @llvm.memset.p0.i32(ptr, i8, i32, i1)
        define internal void @k(ptr %x, ptr %y) {
          call void @llvm.memcpy.p0.p0.i64(ptr nonnull align 4 dereferenceable(16) %y, ptr %x, i64 16, i1 false)
          %p = getelementptr inbounds i8, ptr %y, i64 16
          call void @llvm.memcpy.p0.p0.i64(ptr %p, ptr getelementptr inbounds (i8, ptr @t, i64 4), i64 4, i1 false)
          call void @llvm.memset.p0.i32(ptr align 4 %p, i8 1, i32 8, i1 false)
          ret void
        }
        """,
        x,
        y,
        recorder=recorder,
        checked=True,
    )
    [(table, _)] = executable.globals
    assert [call[:3] for call in recorder.of("sim.copy")] == [
        (y.ctypes.data, x.ctypes.data, 16),
        (y.ctypes.data + 16, table + 4, 4),
    ]
    assert [call[:2] for call in recorder.of("sim.store_range")] == [(y.ctypes.data + 16, 8)]
    assert y.tolist() == [0, 1, 2, 3, 0x01010101, 0x01010101, 0, 0]


@pytest.mark.parametrize(
    ("operation", "type_", "divisor", "announced"),
    [
        ("sdiv", "i32", -3, [2**64 - 3]),
        ("udiv", "i32", -3, [2**32 - 3]),
        ("srem", "i64", 5, [5]),
        ("urem", "i8", 5, [5]),
        ("udiv exact", "i32", 0, [0]),
    ],
)
def test_divisors_are_announced(operation: str, type_: str, divisor: int, announced: list[int]) -> None:
    recorder = Recorder()
    x = np.array([20, divisor], f"int{type_[1:]}")
    run(
        f"""
        define internal void @k(ptr %x) {{
          %a = load {type_}, ptr %x
          %p = getelementptr {type_}, ptr %x, i64 1
          %b = load {type_}, ptr %p
          %c = {operation} {type_} %a, %b
          %d = {operation} {type_} %c, 1
          store {type_} %d, ptr %x
          ret void
        }}
        """,
        x,
        recorder=recorder,
        checked=True,
    )
    assert [d for d, _ in recorder.of("sim.divisor")] == announced
    unsigned = operation[0] == "u"
    by = (divisor % 2 ** int(type_[1:]) if unsigned else divisor) or 1
    want = abs(20) // abs(by) * (1 if by > 0 else -1) if "div" in operation else 20 % by
    assert x[0] == (want if "div" in operation else 0)


def test_divisors_of_vectors_are_announced_one_by_one() -> None:
    recorder = Recorder()
    x = np.array([20, 30, 0, 7], np.int32)
    run(
        """
        define internal void @k(ptr %x) {
          %a = load <2 x i32>, ptr %x
          %p = getelementptr i32, ptr %x, i64 2
          %b = load <2 x i32>, ptr %p
          %c = sdiv <2 x i32> %a, %b
          %d = sdiv <2 x i32> %c, <i32 2, i32 2>
          store <2 x i32> %d, ptr %x
          ret void
        }
        """,
        x,
        recorder=recorder,
        checked=True,
    )
    assert [d for d, _ in recorder.of("sim.divisor")] == [0, 7]
    assert x.tolist() == [10, 2, 0, 7]


def test_counters() -> None:
    recorder = Recorder()
    run(
        """
        declare <4 x float> @llvm.fma.v4f32(<4 x float>, <4 x float>, <4 x float>)
        declare half @air.fma.f16(half, half, half)
        define internal void @k(ptr %x) {
          %n = load i32, ptr %x
          br label %loop
        loop:
          %i = phi i32 [ 0, %0 ], [ %j, %loop ]
          %p = getelementptr <4 x float>, ptr %x, i64 1
          %v = load <4 x float>, ptr %p
          %a = fadd <4 x float> %v, %v
          %b = call <4 x float> @llvm.fma.v4f32(<4 x float> %a, <4 x float> %v, <4 x float> %v)
          store <4 x float> %b, ptr %p
          %j = add i32 %i, 1
          %c = icmp ult i32 %j, %n
          br i1 %c, label %loop, label %end
        end:
          %h = load half, ptr %x
          %g = call half @air.fma.f16(half %h, half %h, half %h)
          store half %g, ptr %x
          ret void
        }
        """,
        np.array([3, 0, 0, 0, 0, 0, 0, 0], np.int32),
        recorder=recorder,
        checked=True,
    )
    assert recorder.steps.value == 2 + 3 * 8 + 8  # the fma of halfs is five instructions
    assert recorder.flops.value == 3 * (4 + 8) + 2
