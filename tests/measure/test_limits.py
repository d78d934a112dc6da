"""The machine's limits: what the probes do, and how they are timed."""

from __future__ import annotations

import platform
from collections.abc import Iterator
from pathlib import Path

import mlx.core as mx
import numpy as np
import pytest

from deltamoe import _ext
from deltamoe.measure import limits
from deltamoe.measure.limits import Probe

KNOWN = platform.machine() in ("x86_64", "AMD64", "arm64", "aarch64")


@pytest.fixture(autouse=True)
def _threads_restored() -> Iterator[None]:
    before = _ext.cpu_features()["threads"]
    yield
    _ext.set_threads(before)


@pytest.mark.parametrize("threads", [1, 3])
@pytest.mark.parametrize("words", [0, 1, 7, 8, 9, 131071, 131072, 131080, 400_003])
def test_every_word_is_read_once(words: int, threads: int) -> None:
    _ext.set_threads(threads)
    values = np.random.default_rng(words).integers(0, 2**64, words, np.uint64)
    assert _ext.read_all(values) == int(values.sum(dtype=np.uint64))


def test_read_refuses_what_it_would_misread() -> None:
    for wrong in (np.zeros(4, np.float64), np.zeros((2, 2), np.uint64), np.zeros(8, np.uint64)[::2]):
        with pytest.raises(TypeError):
            _ext.read_all(wrong)


@pytest.mark.parametrize("multiply", [_ext.multiply_f32, _ext.multiply_bf16])
def test_operations_are_counted_by_task(multiply: object) -> None:
    assert callable(multiply)
    assert multiply(0) == 0
    assert multiply(6) == 6 * multiply(1)


@pytest.mark.skipif(not KNOWN, reason="no chains for this CPU")
def test_multiplies_are_known_here() -> None:
    assert _ext.multiply_f32(1) > 0
    if "avx512_bf16" in _ext.cpu_features()["available"]:
        assert _ext.multiply_bf16(1) == 2 * _ext.multiply_f32(1)


def test_a_sample_is_seconds_per_unit() -> None:
    now = 10.0

    def work() -> float:
        nonlocal now
        now += 0.25
        return 100.0

    assert Probe("bandwidth", "reads", "B", work).sample(1.0, lambda: now) == pytest.approx(0.25 / 100)
    assert now == 11.0


def test_measure_has_every_probe_with_one_thread_and_with_all() -> None:
    _ext.set_threads(3)
    found = limits.measure(seconds=1e-6, rounds=3, device=mx.Device(mx.cpu))
    names = set(limits.probes(mx.Device(mx.cpu)))
    arms = {(limit.probe.name, limit.threads) for limit in found}
    assert arms == {(name, count) for name in names for count in (1, 3)}
    assert all(limit.rate.n == 3 and limit.rate.median > 0 for limit in found)
    assert _ext.cpu_features()["threads"] == 3


def test_threads_come_back_after_an_error() -> None:
    _ext.set_threads(2)

    def fail_on_one() -> None:
        with limits.threads(1):
            assert _ext.cpu_features()["threads"] == 1
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail_on_one()
    assert _ext.cpu_features()["threads"] == 2


def test_memory_is_cold_after_several_caches(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "last_level_cache", lambda: 8 << 20)
    assert limits.cold_bytes() == 32 << 20
    monkeypatch.setattr(limits, "last_level_cache", lambda: None)
    assert limits.cold_bytes() >= 4 * 96 << 20  # an M3 Ultra's is 96 MiB, and not reported


@pytest.mark.skipif(platform.system() != "Linux", reason="reads Linux's files")
def test_last_level_cache_is_the_largest(monkeypatch: pytest.MonkeyPatch) -> None:
    texts = iter(["48K", "2048K", "32M"])
    monkeypatch.setattr(Path, "glob", lambda *_: [Path("a"), Path("b"), Path("c")])
    monkeypatch.setattr(Path, "read_text", lambda _: next(texts) + "\n")
    assert limits.last_level_cache() == 32 << 20
