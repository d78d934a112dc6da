"""Launching kernels: what a run gives back, and that bad input is refused before anything runs."""

from __future__ import annotations

import platform
import subprocess
import sys
import time
from typing import Any

import numpy as np
import pytest

import deltamoe_sim as sim

SOURCE = """
#include <metal_stdlib>
using namespace metal;

constant bool negate [[function_constant(3)]];

struct Shape { int rows; int columns; };

kernel void scale(device const float* x [[buffer(0)]],
                  device float* y [[buffer(1)]],
                  constant float& factor [[buffer(2)]],
                  uint i [[thread_position_in_grid]]) {
  y[i] = factor * x[i];
}

kernel void flip(device const float* x, device float* y, uint i [[thread_position_in_grid]]) {
  y[i] = negate ? -x[i] : x[i];
}

struct Box { int sides[6]; };

__attribute__((noinline)) int longest(Box box) {
  int side = 0;
  for (int i = 0; i < 6; i++) {
    side = max(side, box.sides[i]);
  }
  return side;
}

kernel void longest_side(constant Box& box, device int* y) {
  y[0] = longest(box);
}

kernel void area(constant Shape& shape [[buffer(0)]], device int* y [[buffer(1)]]) {
  y[0] = shape.rows * shape.columns;
}

[[kernel, max_total_threads_per_threadgroup(64)]] void small(device float* y, uint i [[thread_position_in_grid]]) {
  y[i] = 1;
}

kernel void half_of(device const half* x, device bfloat* y, uint i [[thread_position_in_grid]]) {
  y[i] = bfloat(float(x[i]) / 2);
}

kernel void reverse(device float* y,
                    threadgroup float* shared [[threadgroup(0)]],
                    uint i [[thread_position_in_threadgroup]],
                    uint n [[threads_per_threadgroup]]) {
  shared[i] = i;
  threadgroup_barrier(mem_flags::mem_threadgroup);
  y[i] = shared[n - 1 - i];
}

kernel void positions(device uint* y,
                      uint3 in_grid [[thread_position_in_grid]],
                      uint3 in_group [[thread_position_in_threadgroup]],
                      uint3 group [[threadgroup_position_in_grid]],
                      uint3 size [[threads_per_threadgroup]],
                      uint3 threads [[threads_per_grid]],
                      uint index [[thread_index_in_threadgroup]],
                      uint lane [[thread_index_in_simdgroup]],
                      uint simdgroup [[simdgroup_index_in_threadgroup]]) {
  uint at = in_grid.x + threads.x * (in_grid.y + threads.y * in_grid.z);
  uint own = in_group.x + size.x * (in_group.y + size.y * in_group.z);
  y[at] = own == index && lane == index % 32 && simdgroup == index / 32 ? 100 * group.x + 10 * group.y + group.z : ~0u;
}

kernel void spin(device atomic_int* y) {
  while (atomic_load_explicit(y, memory_order_relaxed) == 0) {
  }
}

kernel void lost(device atomic_int* y) {
  while (atomic_load_explicit(y, memory_order_relaxed) != 0) {
  }
}

kernel void wild(device int* y, constant long& far) {
  y[far] = 1;
}

kernel void quotient(device int* y) {
  y[0] = 7 / y[0];
}

kernel void hidden_race(device float* y, uint i [[thread_position_in_threadgroup]]) {
  threadgroup float shared[64];
  shared[i] = 0;
  threadgroup_barrier(mem_flags::mem_threadgroup);
  shared[i] = i;
  y[i] = shared[63 - i];
}

kernel void work(device const float4* x, device float* y, uint i [[thread_position_in_grid]]) {
  float4 v = x[i];
  float sum = v.x + v.y + v.z + v.w;
  if (i % 32 < 16) {
    sum = fma(sum, sum, sum);
  }
  y[i] = simd_sum(sum);
}
"""


@pytest.fixture(scope="module")
def library() -> sim.Library:
    return sim.compile(SOURCE)


def ramp(n: int, dtype: str = "float32") -> Any:
    return np.arange(n).astype(dtype)


@pytest.mark.parametrize("checked", [True, False], ids=["checked", "fast"])
class TestRuns:
    def test_by_name_and_by_index(self, library: sim.Library, checked: bool) -> None:
        kernel = library.kernel("scale", checked=checked)
        by_name, by_index = np.empty(64, np.float32), np.empty(64, np.float32)
        launch: dict[str, Any] = {"grid": (2, 1, 1), "threadgroup": (32, 1, 1)}
        x, factor = ramp(64), np.float32(3)
        result = kernel.run(**launch, buffers={"x": x, "y": by_name, "factor": factor}, outputs=["y"])
        kernel.run(**launch, buffers={0: x, 1: by_index, 2: factor}, outputs=[1])
        np.testing.assert_array_equal(by_name, 3 * x)
        np.testing.assert_array_equal(by_index, 3 * x)
        assert result.reports == ()
        assert result.seconds > 0

    @pytest.mark.parametrize("constants", [{"negate": True}, {3: True}, {3: False}], ids=str)
    def test_function_constants(self, library: sim.Library, constants: dict[Any, bool], checked: bool) -> None:
        x, y = ramp(32), np.empty(32, np.float32)
        kernel = library.kernel("flip", constants=constants, checked=checked)
        kernel.run(grid=(1, 1, 1), threadgroup=(32, 1, 1), buffers={"x": x, "y": y})
        np.testing.assert_array_equal(y, -x if next(iter(constants.values())) else x)

    def test_struct_and_offset(self, library: sim.Library, checked: bool) -> None:
        y = np.zeros(1, np.int32)
        shapes = np.array([1, 2, 6, 7], np.int32)
        buffers: dict[Any, Any] = {"shape": (shapes, 8), "y": y}
        library.kernel("area", checked=checked).run(grid=(1, 1, 1), threadgroup=(1, 1, 1), buffers=buffers)
        assert y[0] == 42

    def test_struct_by_value(self, library: sim.Library, checked: bool) -> None:
        y = np.zeros(1, np.int32)
        buffers: dict[Any, Any] = {"box": np.array([3, 1, 4, 1, 5, 2], np.int32), "y": y}
        kernel = library.kernel("longest_side", checked=checked)
        assert kernel.run(grid=(1, 1, 1), threadgroup=(1, 1, 1), buffers=buffers).reports == ()
        assert y[0] == 5

    def test_sixteen_bit_floats(self, library: sim.Library, checked: bool) -> None:
        y = np.empty(32, np.uint16)
        buffers: dict[Any, Any] = {"x": ramp(32, "float16"), "y": y}
        library.kernel("half_of", checked=checked).run(grid=(1, 1, 1), threadgroup=(32, 1, 1), buffers=buffers)
        np.testing.assert_array_equal((y.astype(np.uint32) << 16).view(np.float32), ramp(32) / 2)

    def test_dynamic_threadgroup_memory(self, library: sim.Library, checked: bool) -> None:
        y = np.empty(100, np.float32)
        kernel = library.kernel("reverse", checked=checked)
        result = kernel.run(
            grid=(1, 1, 1), threadgroup=(100, 1, 1), buffers={"y": y}, threadgroup_memory={0: 400}, outputs=["y"]
        )
        np.testing.assert_array_equal(y, ramp(100)[::-1])
        assert result.reports == ()
        assert (result.counters.barriers, result.counters.threadgroup_memory) == (1, 400)

    def test_grid_of_threads_has_smaller_last_threadgroups(self, library: sim.Library, checked: bool) -> None:
        y = np.zeros(7 * 5 * 3, np.uint32)
        library.kernel("positions", checked=checked).run(
            grid=(7, 5, 3), threadgroup=(4, 2, 2), buffers={"y": y}, outputs=["y"], grid_in_threads=True
        )
        z, y_index, x = np.indices((3, 5, 7))
        np.testing.assert_array_equal(y.reshape(3, 5, 7), 100 * (x // 4) + 10 * (y_index // 2) + z // 2)

    def test_same_array_twice(self, library: sim.Library, checked: bool) -> None:
        x = ramp(64)
        buffers: dict[Any, Any] = {"x": x, "y": x, "factor": np.float32(2)}
        result = library.kernel("scale", checked=checked).run(grid=(2, 1, 1), threadgroup=(32, 1, 1), buffers=buffers)
        np.testing.assert_array_equal(x, 2 * ramp(64))
        assert result.reports == ()

    def test_endless_loop_ends(self, library: sim.Library, checked: bool) -> None:
        y = np.zeros(1, np.int32)
        start = time.monotonic()
        with pytest.raises(sim.KernelFault, match="did not end in time"):
            library.kernel("spin", checked=checked).run(
                grid=(2, 1, 1), threadgroup=(64, 1, 1), buffers={"y": y}, timeout=0.3
            )
        assert time.monotonic() - start < 10


def test_fast_mode_survives_wild_writes(library: sim.Library) -> None:
    y = np.zeros(4, np.int32)
    kernel = library.kernel("wild", checked=False)
    for far in (1, 10_000, -10_000, 1 << 40, -(1 << 40)):
        arguments: dict[str, Any] = {"grid": (1, 1, 1), "threadgroup": (1, 1, 1)}
        if far == 1:
            kernel.run(**arguments, buffers={"y": y, "far": np.int64(far)})
        else:
            with pytest.raises(sim.KernelFault, match="not the kernel's"):
                kernel.run(**arguments, buffers={"y": y, "far": np.int64(far)})
    np.testing.assert_array_equal(y, [0, 1, 0, 0])


def test_fast_mode_survives_division_by_zero(library: sim.Library) -> None:
    launch: dict[str, Any] = {"grid": (1, 1, 1), "threadgroup": (1, 1, 1), "buffers": {"y": np.zeros(1, np.int32)}}
    kernel = library.kernel("quotient", checked=False)
    if platform.machine() == "x86_64":  # where it traps
        with pytest.raises(sim.KernelFault, match="division by zero"):
            kernel.run(**launch)
    else:
        kernel.run(**launch)


def test_a_fault_leaves_the_arrays_alone(library: sim.Library) -> None:
    y = np.full(4, 5, np.int32)
    with pytest.raises(sim.KernelFault):
        library.kernel("wild", checked=False).run(
            grid=(1, 1, 1), threadgroup=(1, 1, 1), buffers={"y": y, "far": np.int64(1 << 40)}
        )
    np.testing.assert_array_equal(y, [5, 5, 5, 5])


def test_a_fault_tells_what_was_found_before(library: sim.Library) -> None:
    y = np.zeros(1, np.int32)
    with pytest.raises(sim.KernelFault, match="did not end in time") as caught:
        library.kernel("lost").run(grid=(1, 1, 1), threadgroup=(1, 1, 1), buffers={"y": y}, outputs=["y"], timeout=0.3)
    assert [r.kind for r in caught.value.reports] == ["uninitialised-read"]
    assert "uninitialised-read" in str(caught.value)


def test_threads_share_the_work_in_fast_mode(library: sim.Library) -> None:
    x, kernel = ramp(32 * 1000), library.kernel("scale", checked=False)
    for workers in (1, 2, 5):
        y = np.empty_like(x)
        kernel.run(
            grid=(1000, 1, 1),
            threadgroup=(32, 1, 1),
            buffers={"x": x, "y": y, "factor": np.float32(2)},
            outputs=["y"],
            workers=workers,
        )
        np.testing.assert_array_equal(y, 2 * x)


def test_seeds_change_what_a_race_gives(library: sim.Library) -> None:
    kernel = library.kernel("hidden_race", checked=False)
    results = set()
    for seed in range(8):
        y = np.empty(64, np.float32)
        kernel.run(grid=(1, 1, 1), threadgroup=(64, 1, 1), buffers={"y": y}, outputs=["y"], seed=seed)
        results.add(y.tobytes())
    assert len(results) > 1


def test_counters(library: sim.Library) -> None:
    x, y = np.ones((64, 4), np.float32), np.empty(64, np.float32)
    result = library.kernel("work").run(grid=(2, 1, 1), threadgroup=(32, 1, 1), buffers={"x": x, "y": y}, outputs=["y"])
    c = result.counters
    assert result.reports == ()
    assert (c.simd_ops, c.barriers, c.matrix_ops) == (2, 0, 0)
    assert (c.device_bytes_loaded, c.device_bytes_stored) == (64 * 16, 64 * 4)
    assert (c.device_lines_loaded, c.device_lines_stored) == (64 * 16 // 128, 64 * 4 // 128)
    assert c.flops == 64 * 3 + 32 * 2
    assert vars(result.traffic[0]) == {"bytes_loaded": 1024, "bytes_stored": 0, "lines_loaded": 8, "lines_stored": 0}
    assert vars(result.traffic[1]) == {"bytes_loaded": 0, "bytes_stored": 256, "lines_loaded": 0, "lines_stored": 2}
    assert 0 < c.idle_lanes < 0.5


def test_outputs_that_are_not_written_throughout(library: sim.Library) -> None:
    y = np.empty(100, np.float32)
    result = library.kernel("scale").run(
        grid=(2, 1, 1),
        threadgroup=(32, 1, 1),
        buffers={"x": ramp(64), "y": y, "factor": np.float32(1)},
        outputs=["y"],
    )
    assert result.unwritten == {"y": 36 * 4}
    assert np.isnan(y[64:]).all()


BUFFERS: dict[Any, Any] = {"x": ramp(32), "y": ramp(32), "factor": np.float32(1)}
GOOD: dict[str, Any] = {"grid": (1, 1, 1), "threadgroup": (32, 1, 1), "buffers": BUFFERS}
BAD: dict[str, tuple[dict[str, Any], str]] = {
    "missing buffer": ({"buffers": {"x": ramp(32), "y": ramp(32)}}, r"factor \[\[buffer\(2\)\]\] is not given"),
    "unknown name": ({"buffers": {**BUFFERS, "z": ramp(1)}}, "no buffer 'z': it takes x"),
    "unknown index": ({"buffers": {**BUFFERS, 7: ramp(1)}}, "no buffer 7"),
    "dtype": ({"buffers": {**BUFFERS, "x": ramp(32, "float64")}}, r"x .* holds float32, the array float64"),
    "strides": ({"buffers": {**BUFFERS, "x": ramp(64)[::2]}}, "not C-contiguous"),
    "too small": ({"buffers": {**BUFFERS, "factor": np.zeros(0, np.float32)}}, r"factor .* refers to 4 bytes"),
    "offset": ({"buffers": {**BUFFERS, "x": (ramp(32), 129)}}, "offset 129 is outside"),
    "1025 threads": ({"threadgroup": (1025, 1, 1)}, "1025 threads: at most 1024"),
    "32 x 33 threads": ({"threadgroup": (32, 33, 1)}, "1056 threads: at most 1024"),
    "no threads": ({"threadgroup": (0, 1, 1)}, "three positive numbers"),
    "grid of two": ({"grid": (1, 1)}, "three positive numbers"),
    "negative grid": ({"grid": (-1, 1, 1)}, "three positive numbers"),
    "no such slot": ({"threadgroup_memory": {0: 16}}, r"no \[\[threadgroup\(0\)\]\]"),
    "unknown output": ({"outputs": ["z"]}, "no buffer 'z'"),
}


@pytest.mark.parametrize("what", BAD)
def test_bad_launches_are_refused(library: sim.Library, what: str) -> None:
    changes, message = BAD[what]
    with pytest.raises(sim.LaunchError, match=message):
        library.kernel("scale").run(**{**GOOD, **changes})


def test_read_only_array_for_what_is_written(library: sim.Library) -> None:
    y = ramp(32)
    y.flags.writeable = False
    with pytest.raises(sim.LaunchError, match="the kernel writes it"):
        library.kernel("scale").run(**{**GOOD, "buffers": {**GOOD["buffers"], "y": y}})


def test_arrays_that_overlap_in_part(library: sim.Library) -> None:
    both = ramp(48)
    with pytest.raises(sim.LaunchError, match="x and y overlap in part"):
        library.kernel("scale").run(**{**GOOD, "buffers": {**GOOD["buffers"], "x": both[:32], "y": both[16:]}})


def test_max_total_threads(library: sim.Library) -> None:
    y = np.empty(65, np.float32)
    with pytest.raises(sim.LaunchError, match=r"65 threads: at most 64 \(its max_total_threads_per_threadgroup"):
        library.kernel("small").run(grid=(1, 1, 1), threadgroup=(65, 1, 1), buffers={"y": y})


@pytest.mark.parametrize(
    ("memory", "message"),
    [
        ({}, r"no size given for shared \[\[threadgroup\(0\)\]\]"),
        ({0: 40}, "40 bytes: Metal wants a positive multiple of 16"),
        ({0: 32784}, "32784 bytes of threadgroup memory: at most 32768"),
    ],
    ids=["missing", "40", "32784"],
)
def test_bad_threadgroup_memory(library: sim.Library, memory: dict[int, int], message: str) -> None:
    with pytest.raises(sim.LaunchError, match=message):
        library.kernel("reverse").run(
            grid=(1, 1, 1), threadgroup=(4, 1, 1), buffers={"y": ramp(4)}, threadgroup_memory=memory
        )


def test_unknown_kernel(library: sim.Library) -> None:
    with pytest.raises(sim.LaunchError, match=r"no kernel 'scal': this library has .*scale"):
        library.kernel("scal")


def test_unknown_constant(library: sim.Library) -> None:
    with pytest.raises(sim.LaunchError, match="no function constant 'sign': this library has negate"):
        library.kernel("flip", constants={"sign": True})


def test_missing_constant(library: sim.Library) -> None:
    with pytest.raises(sim.LaunchError, match="negate"):
        library.kernel("flip")


def test_interrupt_ends_a_run() -> None:
    """Ctrl-C during a long run raises KeyboardInterrupt long before the run's own limit ends it."""
    program = (
        "import _thread, signal, sys, threading, numpy as np, deltamoe_sim as sim\n"
        "signal.signal(signal.SIGINT, signal.default_int_handler)\n"  # ignored if the tests run in the background
        "kernel = sim.compile(sys.argv[1]).kernel('spin', checked=False)\n"
        "threading.Timer(0.5, _thread.interrupt_main).start()\n"
        "try:\n"
        "    kernel.run(grid=(1, 1, 1), threadgroup=(1, 1, 1), buffers={'y': np.zeros(1, np.int32)}, timeout=50)\n"
        "except KeyboardInterrupt:\n"
        "    print('interrupted')\n"
    )
    done = subprocess.run([sys.executable, "-c", program, SOURCE], capture_output=True, text=True, timeout=300)
    assert done.stdout == "interrupted\n", done.stderr
