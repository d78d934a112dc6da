"""The number of threads changes no bit of a result, and ops run at the same time do not disturb each other."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from threading import Barrier

import mlx.core as mx
import pytest

from deltamoe import _ext, ops
from tests.arrays import BF16, F32
from tests.backends import Backend, threads
from tests.ops import test_attention, test_gated_delta, test_gated_delta_block, test_moe_experts, test_qlinear
from tests.ops.case import Case
from tests.ops.small import OPS, small


def large(op: str, dtype: mx.Dtype, steps: int) -> Case:
    """A case with work for several threads."""
    if op == "attention":
        return test_attention.case((1, 8, 2, steps, 300 + steps, 128), dtype)
    if op == "gated_delta":
        return test_gated_delta.case((1, steps, 2, 6, 128, 96), dtype)
    if op == "gated_delta_block":
        return test_gated_delta_block.case((1, steps, 2, 6, 128, 96), dtype)
    if op == "moe_experts":
        return test_moe_experts.case((steps, 10, 4, 512, 160), dtype, BF16, shared="gated")
    if op == "qlinear":
        return test_qlinear.case((steps, 1003, 512), dtype)
    return small(op, dtype, 500 * steps)


@pytest.mark.parametrize("steps", [1, 5, 70])
@pytest.mark.parametrize("dtype", [F32, BF16])
@pytest.mark.parametrize("op", OPS)
def test_thread_count_changes_nothing(backend: Backend, op: str, dtype: mx.Dtype, steps: int) -> None:
    arguments = large(op, dtype, steps).arguments
    with threads(1):
        want = backend.run(op, **arguments)
    for count in (2, 3, 5):
        with threads(count):
            got = backend.run(op, **arguments)
        for one, other in zip(want, got, strict=True):
            assert mx.array_equal(one, other, equal_nan=True), f"{count} threads differ from 1"


def test_set_threads_is_seen() -> None:
    with threads(3):
        assert _ext.cpu_features()["threads"] == 3


@pytest.mark.parametrize("op", OPS)
def test_two_streams_at_once(op: str) -> None:
    """Two Python threads, each with a stream of its own, get what one alone gets."""
    arguments = [large(op, F32, 33).arguments, small(op).arguments]
    mx.eval([value for some in arguments for value in some.values() if isinstance(value, mx.array)])
    want = [evaluated(op, some, None) for some in arguments]
    start = Barrier(2)

    def work(which: int) -> bool:
        stream = mx.new_stream(mx.cpu)
        start.wait()
        rounds = [evaluated(op, arguments[which], stream) for _ in range(15)]
        return all(
            mx.array_equal(a, b, equal_nan=True).item() for one in rounds for a, b in zip(one, want[which], strict=True)
        )

    with ThreadPoolExecutor(2) as pool:
        assert all(pool.map(work, range(2)))


def test_two_streams_in_one_graph() -> None:
    """One evaluation that spans two streams of one Python thread."""
    case = large("qlinear", F32, 33)
    first, second = mx.new_stream(mx.cpu), mx.new_stream(mx.cpu)
    parts = [ops.qlinear(**case.arguments, stream=stream) for stream in (first, second) * 4]
    mx.eval(parts)
    for part in parts:
        case.compare((part,))


def evaluated(op: str, arguments: dict[str, object], stream: mx.Stream | None) -> tuple[mx.array, ...]:
    """The op's results on a stream."""
    results = getattr(ops, op)(**arguments, stream=stream)
    results = results if isinstance(results, tuple) else (results,)
    mx.eval(results)
    return results
