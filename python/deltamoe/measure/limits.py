"""The machine's limits, measured: how fast it reads or copies memory and multiplies at most, to judge kernels by.

A limit is a :class:`Probe`: work of a known amount that a benchmark runs in turns with the kernel, so that both meet
the same machine. On the CPU the probes work on the kernels' own threads; on a GPU they run through MLX.
"""

from __future__ import annotations

import contextlib
import itertools
import platform
import subprocess
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import mlx.core as mx
import numpy as np

from deltamoe import _ext
from deltamoe.measure.order import thue_morse
from deltamoe.measure.statistics import Summary, summarize
from deltamoe.measure.timing import Clock, seconds_per_unit

__all__ = ["Limit", "Probe", "cold_bytes", "last_level_cache", "measure", "probes", "threads"]

BANDWIDTH, F32, BF16 = "bandwidth", "float32", "bfloat16"
"""What the probes are called: bytes per second, and operations per second on these types."""

UNKNOWN_CACHE = 128 << 20  # larger than any cache known to us that is not reported, such as an M3 Ultra's
COLD = 4  # times the last-level cache: what is read again after so many bytes is no longer in it
PIECE = 32 << 20  # bytes read at a time
CHAIN_TASKS = 8  # for each thread
MATRIX = 4096  # rows and columns of a GPU's product


@dataclass(frozen=True)
class Probe:
    """Work at a limit of the machine.

    Attributes:
        name: ``bandwidth``, ``float32`` or ``bfloat16``.
        what: what is done, for a person.
        unit: of the amount: ``B`` or ``FLOP``.
        work: does some, and returns how much.
    """

    name: str
    what: str
    unit: str
    work: Callable[[], float]

    def sample(self, seconds: float, clock: Clock = time.perf_counter) -> float:
        """Work for about ``seconds``; returns the seconds that one unit took."""
        return seconds_per_unit(self.work, seconds, clock)


@dataclass(frozen=True)
class Limit:
    """A limit as it was measured.

    Attributes:
        probe: what did it.
        threads: of the CPU; 0 on a GPU.
        rate: units per second.
    """

    probe: Probe
    threads: int
    rate: Summary


def probes(device: mx.Device | None = None) -> dict[str, Probe]:
    """The probes of a device, by name; those that this machine has instructions for.

    Args:
        device: None means MLX's default device.
    """
    device = mx.default_device() if device is None else device
    found = _of_gpu(device) if device == mx.gpu else _of_cpu()
    return {probe.name: probe for probe in found}


def measure(seconds: float = 0.02, rounds: int = 16, device: mx.Device | None = None) -> list[Limit]:
    """All limits of a device, on the CPU with one thread and with all, in turns.

    Args:
        seconds: of one sample.
        rounds: samples of each.
        device: None means MLX's default device.
    """
    device = mx.default_device() if device is None else device
    found = probes(device)
    counts = [0] if device == mx.gpu else sorted({1, _ext.cpu_features()["threads"]})
    rates: dict[tuple[str, int], list[float]] = {arm: [] for arm in itertools.product(found, counts)}
    for name, count in rates:
        with threads(count):
            found[name].sample(seconds)  # touches all memory
    for name, count in thue_morse(list(rates), rounds):
        with threads(count):
            rates[name, count].append(1 / found[name].sample(seconds))
    return [Limit(found[name], count, summarize(samples)) for (name, count), samples in rates.items()]


@contextlib.contextmanager
def threads(count: int) -> Iterator[None]:
    """Run kernels on so many threads meanwhile; 0 leaves them as they are."""
    before = _ext.cpu_features()["threads"]
    if count in (0, before):
        yield
        return
    _ext.set_threads(count)
    try:
        yield
    finally:
        _ext.set_threads(before)


def last_level_cache() -> int | None:
    """Bytes of the largest cache that the operating system reports; None where it reports none."""
    if platform.system() == "Darwin":
        names = ("hw.l3cachesize", "hw.perflevel0.l2cachesize", "hw.l2cachesize")
        done = [subprocess.run(["sysctl", "-n", name], capture_output=True, text=True, check=False) for name in names]
        sizes = [int(text) for text in (run.stdout.strip() for run in done) if text.isdigit()]
    else:
        files = Path("/sys/devices/system/cpu/cpu0/cache").glob("index*/size")
        sizes = [_bytes(path.read_text().strip()) for path in files]
    return max(sizes, default=None)


def cold_bytes() -> int:
    """How much must have been read in between for memory to be cold again."""
    return COLD * (last_level_cache() or UNKNOWN_CACHE)


def _bytes(text: str) -> int:
    """Linux's ``32768K``."""
    unit = {"K": 1 << 10, "M": 1 << 20, "G": 1 << 30}
    return int(text[:-1]) * unit[text[-1]] if text[-1] in unit else int(text)


def _of_cpu() -> Iterator[Probe]:
    # numpy asks for huge pages, as the kernels' own buffers do; zeros would all be one page
    words = np.ones(max(cold_bytes(), 2 * PIECE) // 8, np.uint64)
    pieces = itertools.cycle([words[at : at + PIECE // 8] for at in range(0, len(words) - PIECE // 8 + 1, PIECE // 8)])

    def read() -> float:
        piece = next(pieces)
        _ext.read_all(piece)
        return float(piece.nbytes)

    yield Probe(BANDWIDTH, "read bandwidth", "B", read)
    for name, what, multiply in (
        (F32, "float32 FMA peak", _ext.multiply_f32),
        (BF16, "bf16 dot peak", _ext.multiply_bf16),
    ):
        if multiply(1) > 0:
            yield Probe(name, what, "FLOP", _chains(multiply))


def _chains(multiply: Callable[[int], float]) -> Callable[[], float]:
    return lambda: multiply(CHAIN_TASKS * _ext.cpu_features()["threads"])


def _of_gpu(device: mx.Device) -> Iterator[Probe]:
    with mx.stream(device):
        source = mx.ones((max(cold_bytes(), 1 << 30) // 4,))
        factors = {
            name: mx.random.normal((MATRIX, MATRIX)).astype(dtype)
            for name, dtype in ((F32, mx.float32), (BF16, mx.bfloat16))
        }
        mx.eval(source, *factors.values())

    def copy() -> float:
        mx.eval(mx.negative(source, stream=device))
        return 2.0 * source.nbytes

    def product(factor: mx.array) -> Callable[[], float]:
        def multiply() -> float:
            mx.eval(mx.matmul(factor, factor, stream=device))
            return 2.0 * MATRIX**3

        return multiply

    yield Probe(BANDWIDTH, "copy bandwidth, read and written", "B", copy)
    for name, factor in factors.items():
        yield Probe(name, f"{name} matmul peak", "FLOP", product(factor))
