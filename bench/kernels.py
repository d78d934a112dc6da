"""One kernel measured: first whether it is right, then how fast, beside mlx-lm's way and the machine's limit."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import cache
from typing import Any

import mlx.core as mx
import numpy as np

from bench.cases import ARMS, DTYPES, OURS, Case, Setup, small
from bench.rounds import Calls, Samples, Timed, compare, time_arms
from deltamoe import _ext
from deltamoe.measure import statistics
from deltamoe.measure.limits import BANDWIDTH, Probe, cold_bytes, probes
from deltamoe.measure.statistics import Kind, Summary, Verdict
from deltamoe.track.store import Measurement
from tests.arrays import numpy_of
from tests.ops.case import Case as OracleCase
from tests.tolerance import norm

__all__ = ["Budget", "Row", "measure", "verify"]

LIMIT = "limit"
VERIFY_SECONDS = 0.1
LOOSE = {mx.float32: 1e-4, mx.float16: 2e-2, mx.bfloat16: 1e-1}
"""How far an arm that is not ours may be off, relative: enough to tell that it computes the same thing. mlx-lm adds
bfloat16 numbers in bfloat16 on the CPU."""


@dataclass(frozen=True)
class Budget:
    """What a row may cost.

    Attributes:
        seconds: of measuring, roughly.
        stock_seconds: an arm of which one call takes longer is left out.
        room: bytes of expert stacks.
    """

    seconds: float = 2.0
    stock_seconds: float = 1.5
    room: int = 1 << 30


@dataclass
class Row:
    """What was found.

    Attributes:
        case: what was measured.
        work: of a call.
        note: what differs from the model.
        limit: the probe that bounds a call, None where the operands are warm.
        units: of the probe's that a call needs at least.
        samples: by arm; those of the limit are seconds of one of its units.
        left_out: arms that were not timed, and why.
        threads: of the kernels.
    """

    case: Case
    work: Any
    note: str
    limit: Probe | None
    units: float
    samples: dict[str, Samples]
    left_out: dict[str, str] = field(default_factory=dict)
    threads: int = 0

    @property
    def time(self) -> Summary:
        """Seconds of a call of ours."""
        return statistics.summarize(self.samples[OURS].seconds)

    @property
    def noisy(self) -> bool:
        """Whether our own time is too uncertain."""
        return statistics.noisy(self.samples[OURS].seconds)

    @property
    def rate(self) -> tuple[float, str] | None:
        """Of what the limit bounds: GB/s or GFLOP/s."""
        if self.limit is None:
            return None
        return 1e-9 * self.units / self.time.median, "GB/s" if self.limit.unit == "B" else "GFLOP/s"

    @property
    def fraction(self) -> Verdict | None:
        """Of the limit, measured in the same rounds."""
        return compare(self.samples[LIMIT], self.samples[OURS], self.units) if self.limit else None

    @property
    def limit_seconds(self) -> float | None:
        """What a call takes at the limit."""
        return self.units * float(np.median(self.samples[LIMIT].seconds)) if self.limit else None

    @property
    def limit_text(self) -> str:
        """The limit, for a person."""
        if self.limit is None:
            return ""
        rate = 1e-9 / float(np.median(self.samples[LIMIT].seconds))
        return f"{self.limit.what} {rate:.3g} {'GB/s' if self.limit.unit == 'B' else 'GFLOP/s'}"

    @property
    def limit_note(self) -> dict[str, Any]:
        """What a database keeps beside seconds of a call: those that it takes at the limit, and which limit that is."""
        return {"limit": {"value": self.limit_seconds, "what": self.limit_text}} if self.limit else {}

    def measurements(self) -> Iterator[Measurement]:
        """As ``deltamoe track`` keeps it: seconds of a call, one measurement for each arm."""
        for arm in (arm for arm in self.samples if arm != LIMIT):
            samples = self.samples[arm]
            yield Measurement(
                name=self.case.name,
                side=arm,
                unit="s",
                higher_is_better=False,
                settings=self.settings,
                samples=samples.seconds,
                offsets=samples.offsets,
                noisy=statistics.noisy(samples.seconds),
                notes=self.limit_note,
            )

    def against(self, arm: str) -> Verdict | None:
        """Our speed over another arm's, None where that was left out."""
        return compare(self.samples[arm], self.samples[OURS]) if arm in self.samples else None

    def winner(self, arm: str) -> str:
        """``faster``, ``slower`` or ``same``; ``noisy`` where nothing can be told because samples scatter."""
        found = self.against(arm)
        if found is None:
            return ""
        if found.kind is not Kind.NO_EVIDENCE:
            return found.kind.value
        return "noisy" if self.noisy or statistics.noisy(self.samples[arm].seconds) else "same"

    @property
    def settings(self) -> dict[str, Any]:
        """What must be equal for two rows to be comparable; what a case has not is left out."""
        case = self.case
        found = {
            "op": case.op,
            "model": case.model,
            "part": case.part,
            "kind": "decode" if case.tokens == 1 else "prefill",
            "prompt": case.tokens,
            "depth": case.depth,
            "batch": case.batch,
            "dtype": case.dtype,
            "threads": self.threads,
            "device": "gpu" if mx.default_device() == mx.gpu else "cpu",
            "isa": _ext.cpu_features()["isa"],
            "note": self.note,
        }
        return {name: value for name, value in found.items() if value != ""}


def verify(case: Case, arm: str) -> float:
    """Hold an arm to the float64 oracle at a small shape of the case.

    Ours is held to the table of the tests, any other only to a bar that tells whether it computes the same.

    Returns:
        The arm's floating-point operations per second there.

    Raises:
        AssertionError: it is wrong.
    """
    setup = small(case)
    oracle = OracleCase(case.op, **setup.sets[0])
    call = setup.calls(arm)[0]
    results = _tuple(call())
    mx.eval(results)  # untimed: MLX compiles what it meets for the first time
    seconds: list[float] = []
    while len(seconds) < 5 and sum(seconds) < VERIFY_SECONDS:
        seconds.append(_seconds(call))
    if arm == OURS:
        oracle.compare(results)
    else:
        allowed = LOOSE[DTYPES[case.dtype]]
        for result, want in zip(results, oracle.want, strict=True):
            if not mx.issubdtype(result.dtype, mx.floating):
                continue  # a router's choice: of nearly equal experts, in any order
            got = numpy_of(result)
            if case.op == "moe_router":
                got, want = np.sort(got), np.sort(want)
            error = norm(got - want) / norm(want)
            assert error <= allowed, f"{arm}: relative L2 error {error:.2g}, allowed {allowed}"
    return setup.work.flops / min(seconds)


def measure(case: Case, budget: Budget) -> Row:
    """Verify and time all arms of a case.

    Raises:
        AssertionError: an arm is wrong: then nothing of it is timed.
    """
    speeds = {arm: verify(case, arm) for arm in ARMS[case.op]}
    setup = case.set_up(np.random.default_rng(1), cold_bytes(), budget.room)
    arms: dict[str, Timed] = {OURS: Calls(setup.calls(OURS))}
    limit, units = _limit(setup)
    if limit is not None:
        arms[LIMIT] = limit
    left_out = {}
    for arm in ARMS[case.op][1:]:
        seconds = setup.work.flops / speeds[arm]
        if seconds <= budget.stock_seconds:
            calls = setup.calls(arm)
            seconds = _seconds(calls[0])
            if seconds > budget.stock_seconds:  # perhaps MLX compiled something
                seconds = _seconds(calls[0])
        if seconds > budget.stock_seconds:
            left_out[arm] = f"~{float(f'{seconds:.2g}'):g} s a call"
        else:
            arms[arm] = Calls(calls)
    samples = time_arms(arms, budget.seconds)
    threads = _ext.cpu_features()["threads"]
    row = Row(case, setup.work, setup.note, limit, units, samples, left_out, threads)
    del setup, arms
    mx.clear_cache()
    return row


@cache
def _probes() -> dict[str, tuple[Probe, float]]:
    """With the rate that each had at first."""
    found = probes().values()
    return {probe.name: (probe, 1 / min(probe.sample(0.01) for _ in range(5))) for probe in found}


def _limit(setup: Setup) -> tuple[Probe | None, float]:
    """What a call needs most time for at least: its bytes or its operations."""
    if setup.work.bytes == 0:
        return None, 0.0
    found = _probes()
    needs = {BANDWIDTH: setup.work.bytes}
    needs |= {setup.work.peak if setup.work.peak in found else "float32": setup.work.flops}
    name = max((name for name in needs if name in found), key=lambda name: needs[name] / found[name][1])
    return found[name][0], needs[name]


def _seconds(call: Callable[[], Any]) -> float:
    """Of one call, evaluated."""
    start = time.perf_counter()
    mx.eval(call())
    return time.perf_counter() - start


def _tuple(results: Any) -> tuple[mx.array, ...]:
    return tuple(results) if isinstance(results, tuple | list) else (results,)
