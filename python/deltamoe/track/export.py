"""Out to github-action-benchmark, in from pytest-benchmark or another store."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from deltamoe.errors import DeltamoeError
from deltamoe.measure.machine import fingerprint
from deltamoe.measure.statistics import noisy, summarize
from deltamoe.track.compare import ratios
from deltamoe.track.store import Measurement, Run, Store

__all__ = ["bring_in", "github_entries"]

SQLITE_HEADER = b"SQLite format 3\0"


def github_entries(measurements: Sequence[Measurement]) -> list[dict[str, Any]]:
    """What github-action-benchmark reads with ``tool: customBiggerIsBetter``: medians, with their 95% intervals.

    The ratios to stock are among them: they move less with the machine.

    Measurements of which less is better are left out: that tool would take their rise for a gain.
    """
    entries = []
    for measurement in (*measurements, *ratios(measurements)):
        if not (measurement.higher_is_better and measurement.samples):
            continue
        short = summarize(measurement.samples)
        model = measurement.settings.get("model")
        entries.append(
            {
                "name": ", ".join(filter(None, (model, measurement.name, measurement.side))),
                "unit": measurement.unit,
                "value": short.median,
                "range": f"{short.low:.4g} to {short.high:.4g}",
                "extra": "\n".join(
                    [
                        f"{short.n} samples, coefficient of variation {short.cv:.1%}{', noisy' * measurement.noisy}",
                        *(f"{key}: {value}" for key, value in sorted(measurement.settings.items())),
                    ]
                ),
            }
        )
    return entries


def bring_in(store: Store, path: Path) -> list[Run]:
    """Add the runs of a file: pytest-benchmark's JSON, or a store of another machine.

    Returns:
        Those that were not there before.

    Raises:
        DeltamoeError: a file that is neither, or has no samples.
    """
    with path.open("rb") as file:
        is_store = file.read(len(SQLITE_HEADER)) == SQLITE_HEADER
    if is_store:
        with Store.open(path) as source:
            found = [(run, source.measurements(run)) for run in source.runs()]
    else:
        found = [_read_pytest_benchmark(path)]
    known = [replace(run, id=0) for run in store.runs()]
    return [store.copy(run, measurements) for run, measurements in found if replace(run, id=0) not in known]


def _read_pytest_benchmark(path: Path) -> tuple[Run, list[Measurement]]:
    """Times in seconds, and what our suite adds.

    That is ``{"machine": ..., "versions": ...}`` in ``machine_info["deltamoe"]``, and in a benchmark's ``extra_info``
    ``name``, ``side``, ``settings`` and ``limit`` of the :class:`Measurement`.
    """
    expected = "expected the file of pytest --benchmark-json=FILE, or another track.db"
    try:
        report = json.loads(path.read_text())
        benchmarks, info, commit = report["benchmarks"], report["machine_info"], report.get("commit_info", {})
        ours = info.get("deltamoe", {})
        facts = ours.get("machine") or _facts(info)
        run = Run(
            revision=commit.get("id") or "unknown",
            dirty=bool(commit.get("dirty")),
            machine=fingerprint(facts),
            machine_facts=facts,
            versions=ours.get("versions") or {"python": info.get("python_version")},
            state="done",
            notes={"imported": path.name},
            started=report["datetime"],
        )
        measurements = [_measurement(benchmark) for benchmark in benchmarks]
    except (UnicodeDecodeError, json.JSONDecodeError, AttributeError, KeyError, TypeError) as error:
        raise DeltamoeError(f"{path} cannot be read ({type(error).__name__}: {error}); {expected}") from error
    if missing := [entry.name for entry in measurements if not entry.samples]:
        raise DeltamoeError(
            f"{path}: {missing[0]} has no samples, only their statistics; write it with --benchmark-json=FILE, or with "
            "--benchmark-save-data beside --benchmark-save"
        )
    if not measurements:
        raise DeltamoeError(f"{path} has no benchmark; {expected}")
    return run, measurements


def _measurement(benchmark: dict[str, Any]) -> Measurement:
    extra = dict(benchmark.get("extra_info") or {})
    samples = [float(sample) for sample in benchmark["stats"].get("data", [])]
    settings = extra.get("settings") or {"group": benchmark.get("group")}
    return Measurement(
        name=extra.get("name", benchmark["name"]),
        side=extra.get("side", "kernel"),
        unit="s",
        higher_is_better=False,
        settings=settings,
        samples=samples,
        noisy=bool(samples) and noisy(samples),
        notes={"limit": extra["limit"]} if "limit" in extra else {},
    )


def _facts(info: dict[str, Any]) -> dict[str, Any]:
    """Of a machine that pytest-benchmark describes; its name and clock rate of the moment are left out."""
    return {
        "cpu": info.get("cpu", {}).get("brand_raw", info.get("processor")),
        "logical_cores": info.get("cpu", {}).get("count"),
        "system": info.get("system"),
        "architecture": info.get("machine"),
    }
