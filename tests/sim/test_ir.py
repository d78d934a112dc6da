"""Taking IR text apart, and the passes of every module: targets, address spaces, function constants."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from deltamoe_sim import ir
from deltamoe_sim.errors import LaunchError
from deltamoe_sim.module import FunctionConstant
from tests.sim.recorder import BOTH_MODES, FLOAT, Recorder, run, zeros


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        ("i32 %a, i32 %b", ["i32 %a", "i32 %b"]),
        ("<2 x i32> <i32 1, i32 2>, ptr @x", ["<2 x i32> <i32 1, i32 2>", "ptr @x"]),
        ("ptr getelementptr (i8, ptr @x, i64 4), i64 %n", ["ptr getelementptr (i8, ptr @x, i64 4)", "i64 %n"]),
        ('%"struct.a, b" %x, { i8, [2 x i32] } %y', ['%"struct.a, b" %x', "{ i8, [2 x i32] } %y"]),
        ('i32 0, !"air.a, b", !4', ["i32 0", '!"air.a, b"', "!4"]),
    ],
    ids=["plain", "vector", "expression", "struct", "string"],
)
def test_operands_are_split_outside_of_brackets_and_quotes(text: str, parts: list[str]) -> None:
    assert ir.split_operands(text) == parts


@pytest.mark.parametrize(
    ("type_", "size"),
    [("i1", "1"), ("i24", "3"), ("half", "2"), ("bfloat", "2"), ("ptr", "8"), ("<3 x float>", "12"), ("<8 x i1>", "1")],
)
def test_bytes_that_an_access_touches(type_: str, size: str) -> None:
    assert ir.store_size(type_) == size


def test_what_ties_a_module_to_a_target_is_dropped() -> None:
    text = ir.drop_target(
        'target triple = "air64"\n'
        "$f = comdat any\n"
        '@llvm.used = appending global [1 x ptr] [ptr @x], section "llvm.metadata"\n'
        "@x = linkonce_odr global i32 0, comdat, align 4\n"
        "define linkonce_odr void @f() #0 comdat {\n"
        "  br label %1, !dbg !3, !llvm.loop !4\n"
        'attributes #0 = { convergent "frame-pointer"="all" nounwind uwtable "target-cpu"="x86-64" "no-builtins" }\n'
    )
    assert text == (
        "@x = linkonce_odr global i32 0, align 4\n"
        "define linkonce_odr void @f() #0 {\n"
        "  br label %1, !dbg !3\n"
        'attributes #0 = { convergent nounwind "no-builtins" }\n'
    )


def test_address_spaces_are_dropped() -> None:
    text = ir.drop_address_spaces(
        "@t = internal addrspace(2) constant [2 x i32] zeroinitializer\n"
        "declare void @llvm.memcpy.p0.p2.i64(ptr, ptr addrspace(2), i64, i1)\n"
        "  %1 = load ptr, ptr addrspacecast (ptr addrspace(2) getelementptr (i8, ptr addrspace(2) @t, i64 4) to ptr)\n"
        "  %2 = addrspacecast ptr addrspace(1) %0 to ptr\n"
        "  call void @llvm.memcpy.p0.p2.i64(ptr %2, ptr addrspace(2) @t, i64 8, i1 false)\n"
    )
    assert text == (
        "@t = internal constant [2 x i32] zeroinitializer\n"
        "  %1 = load ptr, ptr getelementptr (i8, ptr @t, i64 4)\n"
        "  %2 = bitcast ptr %0 to ptr\n"
        "  call void @llvm.memcpy.p0.p0.i64(ptr %2, ptr @t, i64 8, i1 false)\n"
    )


CONSTANTS = {
    3: FunctionConstant("flag", "sim.constant.3", "bool"),
    26: FunctionConstant("length", "sim.constant.26", "int32"),
}


@pytest.mark.parametrize(
    ("type_", "value", "text"),
    [
        ("i8", True, "1"),
        ("i8", np.uint8(200), "-56"),
        ("i32", np.int32(-7), "-7"),
        ("i32", 5.0, "5"),
        ("i64", np.uint64(2**64 - 1), "-1"),
        ("float", np.float32(0.1), "0x3FB99999A0000000"),
        ("half", np.float16(1.5), "0xH3E00"),
        ("bfloat", 1.00390625, "0xR3F80"),  # a tie, to even
    ],
)
def test_literals(type_: str, value: Any, text: str) -> None:
    assert ir.literal(type_, value) == text


@pytest.mark.parametrize(("type_", "value"), [("i8", 256), ("i32", -(2**31) - 1), ("i32", 0.5), ("i32", float("inf"))])
def test_literals_that_do_not_fit(type_: str, value: Any) -> None:
    with pytest.raises(ValueError, match="bit integer"):
        ir.literal(type_, value)


DERIVED = """
@sim.constant.3 = global i8 0
@sim.constant.26 = internal unnamed_addr addrspace(2) externally_initialized constant i32 undef, align 4
@sim.constant.26.defined = global i8 0
@both = internal global i32 0
@other = internal global i8 0
@llvm.global_ctors = appending global [1 x { i32, ptr, ptr }] [{ i32, ptr, ptr } { i32 65535, ptr @start, ptr null }]
define internal void @start() section ".text.startup" {
  call void @start.1()
  call void @start.2()
  ret void
}
define internal void @start.1() section ".text.startup" {
  %d = load i8, ptr @sim.constant.26.defined
  %c = trunc i8 %d to i1
  br i1 %c, label %set, label %end
set:
  %n = load i32, ptr addrspace(2) @sim.constant.26
  br label %end
end:
  %v = phi i32 [ %n, %set ], [ -1, %0 ]
  store i32 %v, ptr @both
  ret void
}
define internal void @start.2() section ".text.startup" {
  %f = load i8, ptr @sim.constant.3
  %g = xor i8 %f, 1
  store i8 %g, ptr @other
  ret void
}
define internal void @k(ptr %x, ptr %y) {
  %n = load i32, ptr @both
  store i32 %n, ptr %x
  %f = load i8, ptr @other
  store i8 %f, ptr %y
  ret void
}
"""


@BOTH_MODES
@pytest.mark.parametrize(("values", "length"), [({3: False, 26: 128}, 128), ({3: False}, -1)], ids=["all", "optional"])
def test_function_constants_reach_what_is_derived_from_them(values: dict[int, Any], length: int, checked: bool) -> None:
    x, y = zeros(np.int32), zeros(np.int8)
    run(DERIVED, x, y, checked=checked, constants=CONSTANTS, values=values)
    assert (x[0], y[0]) == (length, 1)


@BOTH_MODES
def test_an_unset_function_constant_in_use_is_named(checked: bool) -> None:
    with pytest.raises(LaunchError, match=r"kernel k .* no value: flag \(index 3\)$"):
        run(DERIVED, zeros(np.int32), zeros(np.int8), checked=checked, constants=CONSTANTS, values={26: 4})


@BOTH_MODES
def test_an_unset_function_constant_behind_a_constant_branch_is_not_in_use(checked: bool) -> None:
    x = zeros(np.int32)
    text = """
    @sim.constant.3 = global i8 0
    @sim.constant.26 = global i32 0
    define internal void @k(ptr %x) {
      %f = load i8, ptr @sim.constant.3
      %c = icmp ne i8 %f, 0
      br i1 %c, label %then, label %end
    then:
      %n = load i32, ptr @sim.constant.26
      store i32 %n, ptr %x
      br label %end
    end:
      ret void
    }
    """
    run(text, x, checked=checked, constants=CONSTANTS, values={3: False})
    with pytest.raises(LaunchError, match="length"):
        run(text, x, checked=checked, constants=CONSTANTS, values={3: True})


@BOTH_MODES
def test_an_unset_function_constant_does_not_keep_others_from_being_derived(checked: bool) -> None:
    """Apple's compiler sets all of a module's variables in one constructor."""
    x = zeros(np.int32)
    text = """
    @sim.constant.3 = internal addrspace(2) externally_initialized constant i8 undef, align 1
    @sim.constant.26 = internal addrspace(2) externally_initialized constant i32 undef, align 4
    @flag = internal addrspace(2) global i8 undef
    @length = internal addrspace(2) global i32 undef
    @llvm.global_ctors = appending global [1 x { i32, ptr, ptr }] [{ i32, ptr, ptr } { i32 0, ptr @start, ptr null }]
    define internal void @start() section "air.static_init" {
      %1 = load i32, ptr addrspace(2) @sim.constant.26
      store i32 %1, ptr addrspace(2) @length
      %2 = load i8, ptr addrspace(2) @sim.constant.3
      store i8 %2, ptr addrspace(2) @flag
      ret void
    }
    define internal void @k(ptr %x) {
      %f = load i8, ptr addrspace(2) @flag
      %c = icmp ne i8 %f, 0
      br i1 %c, label %then, label %end
    then:
      %n = load i32, ptr addrspace(2) @length
      store i32 %n, ptr %x
      br label %end
    end:
      ret void
    }
    """
    run(text, x, checked=checked, constants=CONSTANTS, values={3: False})
    with pytest.raises(LaunchError, match="length"):
        run(text, x, checked=checked, constants=CONSTANTS, values={3: True})


def test_a_function_constant_of_the_wrong_type_is_refused() -> None:
    with pytest.raises(LaunchError, match=r"flag \(index 3\): 2 is not a bool"):
        run(DERIVED, zeros(np.int32), zeros(np.int8), constants=CONSTANTS, values={3: 2, 26: 1})


@BOTH_MODES
def test_constructors_that_cannot_be_evaluated_are_run(checked: bool) -> None:
    recorder = Recorder()
    recorder.provide("air.exp.f32", FLOAT, FLOAT, returns=lambda x: x + 1)
    x = zeros(np.float32)
    run(
        """
        @e = internal global float 0.0
        @llvm.global_ctors = appending global [1 x { i32, ptr, ptr }] [{ i32, ptr, ptr } { i32 0, ptr @s, ptr null }]
        declare float @air.exp.f32(float)
        define internal void @s() section ".text.startup" {
          %v = call float @air.exp.f32(float 2.0)
          store float %v, ptr @e
          ret void
        }
        define internal void @k(ptr %x) {
          %v = load float, ptr @e
          store float %v, ptr %x
          ret void
        }
        """,
        x,
        recorder=recorder,
        checked=checked,
    )
    assert x[0] == 3
