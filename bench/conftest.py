"""The benchmarks' options, their table, what is stamped on pytest-benchmark's JSON, and recording."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import mlx.core as mx
import psutil
import pytest

from bench.kernels import Budget, Row
from bench.table import kernel_table, limits_table, wide_console
from deltamoe.measure import limits, machine
from deltamoe.track.record import this_process
from deltamoe.track.store import Run, Store

ROWS = pytest.StashKey[list[Row]]()


def pytest_addoption(parser: pytest.Parser) -> None:
    group = parser.getgroup("deltamoe's kernels")
    group.addoption(
        "--full", action="store_true", help="all shapes, dtypes and batches, mlx-lm's slow calls too: hours"
    )
    group.addoption("--seconds", type=float, help="of measuring a row (2; with --full 4)")
    group.addoption("--room", type=float, help="GiB that expert stacks may take (a quarter of what is free)")
    group.addoption("--record", action="store_true", help="write what was measured to the database of deltamoe track")
    group.addoption("--db", type=Path, help="the database, instead of the user's own")


def pytest_configure(config: pytest.Config) -> None:
    config.stash[ROWS] = []
    config.option.benchmark_quiet = True  # one table is enough
    mx.set_default_device(mx.cpu if not mx.metal.is_available() else mx.default_device())


def pytest_benchmark_update_machine_info(machine_info: dict[str, Any]) -> None:
    machine_info["deltamoe"] = {"machine": machine.machine(), "versions": machine.versions()}


@pytest.fixture(scope="session")
def budget(pytestconfig: pytest.Config) -> Budget:
    """What a row may cost."""
    option, full = pytestconfig.getoption, pytestconfig.getoption("full")
    return Budget(
        seconds=option("seconds") or (4.0 if full else Budget.seconds),
        stock_seconds=5.0 if full else Budget.stock_seconds,
        room=int(option("room") * 2**30 if option("room") else psutil.virtual_memory().available / 4),
    )


@pytest.fixture(scope="session")
def keep(request: pytest.FixtureRequest, pytestconfig: pytest.Config) -> Iterator[Callable[[Row], None]]:
    """Puts a row in the table, and in the database if that is asked for."""
    rows = pytestconfig.stash[ROWS]
    if not pytestconfig.getoption("record"):
        yield rows.append
        return
    facts, revision = machine.machine(), machine.revision()
    with Store.open(pytestconfig.getoption("db")) as store:
        run = store.add_run(
            Run(
                revision.name,
                revision.dirty,
                machine.fingerprint(facts),
                facts,
                machine.versions(),
                notes={"of": "bench", "process": this_process()},
            )
        )

        def add(row: Row) -> None:
            rows.append(row)
            for measurement in row.measurements():
                store.add(run, measurement)

        yield add
        # an interruption ends the session before its fixtures
        stopped = request.session.exitstatus != pytest.ExitCode.OK
        store.finish(run, "interrupted" if stopped else "done")


def pytest_terminal_summary(config: pytest.Config) -> None:
    rows = config.stash[ROWS]
    if not rows:
        return
    revision = machine.revision()
    stamp = {
        "revision": revision.name[:12] + (" (dirty)" if revision.dirty else ""),
        **machine.machine(),
        **machine.versions(),
    }
    console = wide_console()
    console.print("\n" + ", ".join(f"{name} {value}" for name, value in stamp.items()))
    console.print(limits_table(limits.measure()))
    console.print(kernel_table(rows))
