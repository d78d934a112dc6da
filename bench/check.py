"""Are the kernels as fast as bench/baseline.json says? ``python -m bench.check``, exit status 1 on a confirmed loss.

The baseline holds ratios, not times: our speed over mlx-lm's, and the share of the machine's limit, each with the band
in which several measurements of a quiet machine lay. They depend on the kind of CPU, so each kind has its own. A ratio
is lost if its whole 95% interval lies more than 5% below its band, and does so again each time it is measured anew.
``--write`` makes this machine's part of the baseline.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import mlx.core as mx
from rich.table import Table

from bench.cases import FAST, STOCK, Case
from bench.kernels import Budget, Row, measure
from bench.table import wide_console
from deltamoe.measure import machine
from deltamoe.measure.statistics import Verdict

__all__ = ["BASELINE", "CASES", "Band", "Finding", "check", "kind_of_machine", "ratios", "write"]

BASELINE = Path(__file__).with_name("baseline.json")
MARGIN = 0.05  # of the band's lower end
CONFIRMATIONS = 2  # measurements that must find the loss again
PASSES = 5  # of --write
BUDGET = Budget()

CASES = [
    Case("moe_router", "35B-A3B"),
    Case("moe_experts", "35B-A3B"),
    Case("moe_experts", "397B-A17B"),
    Case("moe_experts", "35B-A3B", tokens=64),
    Case("gated_delta", "35B-A3B"),
    Case("gated_delta", "35B-A3B", tokens=64),
    Case("gated_delta_block", "35B-A3B"),
    Case("gated_delta_block", "35B-A3B", tokens=64),
    Case("qlinear", "35B-A3B", part="qkv"),
    Case("qlinear", "35B-A3B", dtype="f32", part="qkv"),
    Case("attention", "35B-A3B", depth=1024),
    Case("attention", "35B-A3B", tokens=64, depth=64),
    Case("rms_norm", "35B-A3B", tokens=64),
]

Measure = Callable[[Case], Row]


@dataclass(frozen=True)
class Band:
    """Where a ratio lay."""

    low: float
    high: float

    def is_below(self, now: Verdict) -> bool:
        """Whether the ratio is now below the band by more than the margin, without doubt."""
        return now.high < self.low * (1 - MARGIN)


@dataclass(frozen=True)
class Finding:
    """A ratio beside its band.

    Attributes:
        case: the case's name.
        of: ``stock`` (mlx-lm's way), ``mx.fast`` or ``limit``.
        band: of the baseline; None where it has none.
        now: each measurement; several where the first found a loss.
    """

    case: str
    of: str
    band: Band | None
    now: tuple[Verdict, ...]

    @property
    def is_loss(self) -> bool:
        """Whether every measurement found it."""
        return self.band is not None and all(self.band.is_below(verdict) for verdict in self.now)


def ratios(row: Row) -> dict[str, Verdict]:
    """What of a row is compared, by what it is a ratio to."""
    found = {arm: row.against(arm) for arm in row.samples if arm in (STOCK, FAST)}
    found["limit"] = row.fraction
    return {name: verdict for name, verdict in found.items() if verdict is not None}


def check(baseline: dict[str, dict[str, list[float]]], cases: list[Case], measured: Measure) -> Iterator[Finding]:
    """Measure cases and hold them to a machine's baseline; again where a ratio is below it.

    Args:
        baseline: bands, ``[low, high]``, by case's name and by what the ratio is to.
        cases: what to measure.
        measured: measures one.
    """
    for case in cases:
        bands = {of: Band(*band) for of, band in baseline.get(case.name, {}).items()}
        now = {of: [verdict] for of, verdict in ratios(measured(case)).items()}
        for _ in range(CONFIRMATIONS):
            suspects = [of for of in now if of in bands and all(bands[of].is_below(one) for one in now[of])]
            if not suspects:
                break
            again = ratios(measured(case))
            for of in (of for of in suspects if of in again):
                now[of].append(again[of])
        for of, verdicts in now.items():
            yield Finding(case.name, of, bands.get(of), tuple(verdicts))


def write(cases: list[Case], measured: Measure, passes: int = PASSES) -> dict[str, dict[str, list[float]]]:
    """A machine's part of the baseline: the lowest and the highest median of several measurements."""
    seen: dict[str, dict[str, list[float]]] = {}
    for _ in range(passes):
        for case in cases:
            for of, verdict in ratios(measured(case)).items():
                seen.setdefault(case.name, {}).setdefault(of, []).append(verdict.ratio)
    return {
        name: {of: [float(f"{end:.4g}") for end in (min(values), max(values))] for of, values in by.items()}
        for name, by in seen.items()
    }


def kind_of_machine() -> str:
    """What ratios depend on: the CPU, its instruction set in use and the number of threads."""
    facts, versions = machine.machine(), machine.versions()
    return f"{facts['cpu']}, {versions['isa']}, {versions['threads']} threads"


def table(findings: list[Finding]) -> Table:
    """For a terminal."""
    result = Table(title="Ratios of our speed, now and in the baseline", title_justify="left")
    for name in ("case", "to", "now [95%]", "baseline", ""):
        result.add_column(name)
    for finding in findings:
        now, band = finding.now[-1], finding.band
        word = "LOSS" if finding.is_loss else "not confirmed" if len(finding.now) > 1 else ""
        result.add_row(
            finding.case,
            finding.of,
            f"{now.ratio:.3g} [{now.low:.3g}, {now.high:.3g}]",
            f"{band.low:.3g} to {band.high:.3g}" if band else "none",
            word,
        )
    return result


def main() -> None:
    """Check, or write the baseline."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--write", action="store_true", help="measure several times and write this machine's baseline")
    parser.add_argument("--passes", type=int, default=PASSES, help="measurements that --write makes of each case")
    parser.add_argument("--baseline", type=Path, default=BASELINE)
    arguments = parser.parse_args()
    mx.set_default_device(mx.cpu)
    console = wide_console()
    kind, whole = kind_of_machine(), _read(arguments.baseline)

    def measured(case: Case) -> Row:
        with console.status(case.name):
            return measure(case, BUDGET)

    if arguments.write:
        whole[kind] = {"made_of": _made_of(), "ratios": write(CASES, measured, arguments.passes)}
        arguments.baseline.write_text(json.dumps(whole, indent=2, sort_keys=True) + "\n")
        console.print(f"{arguments.baseline}: written for {kind}")
        return
    if kind not in whole:
        known = "; ".join(whole) or "none"
        console.print(f"bench-check: no baseline of this machine ({kind}; there are: {known}): NOTHING WAS CHECKED")
        console.print("run make bench-check ARGS=--write on a quiet machine, at the revision to compare with")
        return
    findings = list(check(whole[kind]["ratios"], CASES, measured))
    console.print(table(findings))
    losses = [finding for finding in findings if finding.is_loss]
    console.print(f"bench-check: {len(findings)} ratios, {len(losses)} confirmed losses")
    sys.exit(bool(losses))


def _made_of() -> dict[str, Any]:
    revision, versions = machine.revision(), machine.versions()
    return {
        "revision": revision.name + ("+dirty" if revision.dirty else ""),
        **{name: versions[name] for name in ("mlx", "mlx_lm")},
    }


def _read(path: Path) -> dict[str, Any]:
    if not path.is_file():
        return {}
    try:
        whole: dict[str, Any] = json.loads(path.read_text())
    except ValueError as error:
        sys.exit(f"{path} is no JSON ({error}): restore it, or delete it and run make bench-check ARGS=--write")
    return whole


if __name__ == "__main__":
    main()
