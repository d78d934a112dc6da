"""Recording, with a stand-in for the model and for the clocks."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from deltamoe.errors import DeltamoeError
from deltamoe.track.record import PATCHED, STOCK, Cell, Progress, is_alive, record, resume, this_process
from deltamoe.track.store import Run, Store
from tests.track.made_up import CELLS, StandIn, Time, plan, run


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    with Store.open(tmp_path / "track.db") as opened:
        yield opened


def begin(store: Store, rounds: int = 4) -> Run:
    return store.add_run(wanted(rounds))


def wanted(rounds: int = 4) -> Run:
    return run(state="running", notes={"plan": plan(rounds).as_json(), "process": {"pid": 0, "created": 0.0}})


def stops_at(count: int) -> StandIn:
    def speed(cell: Cell, side: str, number: int) -> float:
        if number == count:
            raise KeyboardInterrupt
        return 100.0 + number

    return StandIn(speed=speed)


def test_sides_take_turns_round_by_round() -> None:
    order = plan(rounds=4).order()
    assert [(CELLS.index(cell), side[0]) for cell, side in order[:8]] == [
        *[(0, "p"), (0, "s"), (1, "p"), (1, "s")],
        *[(0, "s"), (0, "p"), (1, "s"), (1, "p")],
    ]
    assert len(order) == 16


def test_every_sample_is_kept_in_order(store: Store) -> None:
    runner = StandIn()
    done = record(store, begin(store), plan(4), runner, clocks=runner.time.clocks)
    assert done.state == "done"
    assert store.runs() == [done]
    assert runner.calls == plan(4).order()
    entries = store.measurements()
    assert {(entry.name, entry.side) for entry in entries} == {(c.name, s) for c in CELLS for s in (PATCHED, STOCK)}
    for entry in entries:
        numbers = [i for i, (cell, side) in enumerate(runner.calls, 1) if (cell.name, side) == (entry.name, entry.side)]
        assert entry.samples == [100.0 + number for number in numbers]
        assert entry.offsets == sorted(entry.offsets)
        assert (entry.unit, entry.higher_is_better) == ("tok/s", True)
    first = entries[0]
    assert first.offsets[0] == 1.0  # seconds from the run's first moment
    assert first.settings == {
        **plan().facts,
        **{"kind": "prefill", "prompt": 128, "batch": 1},
    }


def test_each_sample_is_stored_before_the_next_is_taken(store: Store) -> None:
    first = begin(store)

    def speed(cell: Cell, side: str, number: int) -> float:
        assert sum(len(entry.samples) for entry in store.measurements(first)) == number - 1
        return 1.0

    record(store, first, plan(), StandIn(speed=speed))


@pytest.mark.parametrize("stop", [1, 2, 7, 16])
def test_an_interrupted_run_goes_on_where_it_stopped(store: Store, stop: int) -> None:
    runner = stops_at(stop)
    with pytest.raises(KeyboardInterrupt):
        record(store, begin(store), plan(4), runner, clocks=runner.time.clocks)
    [left] = store.runs()
    assert left.state == "interrupted"
    assert sum(len(entry.samples) for entry in store.measurements()) == stop - 1

    again = resume(store, wanted())
    assert (again.id, again.state) == (left.id, "running")
    rest = StandIn()
    done = record(store, again, plan(4), rest, clocks=rest.time.clocks)
    assert runner.calls[:-1] + rest.calls == plan(4).order()
    assert store.runs() == [done]
    assert done.state == "done"
    for entry in store.measurements():
        assert len(entry.samples) == 4
        assert entry.offsets == sorted(entry.offsets)  # the second part comes after the first


def test_the_newest_fitting_run_is_resumed(store: Store) -> None:
    old = store.finish(begin(store), "interrupted")
    new = store.finish(begin(store), "interrupted")
    store.finish(begin(store), "done")
    assert old.id != new.id
    assert resume(store, wanted()).id == new.id


@pytest.mark.parametrize(
    "change",
    [
        {"revision": "bbbb"},
        {"dirty": True},
        {"machine": "other"},
        {"versions": {"build": "other"}},
        {"notes": wanted(rounds=5).notes},
    ],
)
def test_another_run_is_not_resumed(store: Store, change: dict[str, object]) -> None:
    store.finish(begin(store), "interrupted")
    with pytest.raises(DeltamoeError, match="leave --resume out to begin a new one"):
        resume(store, replace(wanted(), **change))  # type: ignore[arg-type]


def test_a_run_that_was_killed_is_resumed_and_one_that_lives_is_not(store: Store) -> None:
    dead = begin(store)  # state running, of a process that is not there
    assert not is_alive(dead)
    assert resume(store, wanted()).id == dead.id
    living = store.finish(replace(dead, notes={**dead.notes, "process": this_process()}), "running")
    assert is_alive(living)
    with pytest.raises(DeltamoeError, match="still being recorded"):
        resume(store, wanted())
    assert not is_alive(replace(living, state="done"))


def test_progress_tells_the_time_left(store: Store) -> None:
    seen: list[Progress] = []
    runner = StandIn()
    record(store, begin(store), plan(4), runner, clocks=runner.time.clocks, step=seen.append)
    assert [each.done for each in seen] == list(range(17))
    assert {each.total for each in seen} == {16}
    assert [each.seconds_left for each in seen[:4]] == [None] * 4  # nothing has run yet on both sides
    assert seen[4].seconds_left == 3 * (1 + 3 + 1 + 3)
    assert seen[-1].seconds_left == 0


def test_a_clock_that_is_set_is_told_and_changes_nothing(store: Store) -> None:
    time = Time()

    def speed(cell: Cell, side: str, number: int) -> float:
        if number == 5:
            time.wall -= 3600
        return 100.0

    done = record(store, begin(store), plan(4), StandIn(time, speed), clocks=time.clocks)
    assert "moved -3600 s" in done.notes["clock"]
    assert all(entry.offsets == sorted(entry.offsets) for entry in store.measurements())
    assert max(entry.offsets[-1] for entry in store.measurements()) == 32.0


def test_a_steady_machine_needs_no_word(store: Store) -> None:
    time = Time()
    wobble = [100.0, 101.0, 99.0, 100.5, 99.5]
    speed = lambda cell, side, number: wobble[number % 5]  # noqa: E731
    done = record(store, begin(store), plan(8), StandIn(time, speed), clocks=time.clocks)
    assert set(done.notes) == {"plan", "process"}
    assert not any(entry.notes or entry.noisy for entry in store.measurements())


def test_a_machine_that_throttles_is_told(store: Store) -> None:
    """Every arm becomes slower in the second half; no arm alone has the samples to show it."""

    def speed(cell: Cell, side: str, number: int) -> float:
        level = 400.0 if side == PATCHED else 50.0
        return level * (1 + 0.001 * (number % 7)) * (1.0 if number <= 16 else 0.8)

    done = record(store, begin(store, 8), plan(8), StandIn(speed=speed))
    assert "throttles" in done.notes["drift"]
    assert "-20%" in done.notes["drift"]


def test_drift_of_one_arm_is_noted_at_it(store: Store) -> None:
    def speed(cell: Cell, side: str, number: int) -> float:
        return 100.0 - (number if side == PATCHED else number % 3)

    record(store, begin(store, 8), plan(8), StandIn(speed=speed))
    assert {entry.side for entry in store.measurements() if "drift" in entry.notes} == {PATCHED}


def test_noise_is_marked(store: Store) -> None:
    speed = lambda cell, side, number: 100.0 + (number * 37 % 60 if side == STOCK else 0)  # noqa: E731
    record(store, begin(store, 8), plan(8), StandIn(speed=speed))
    assert {entry.side for entry in store.measurements() if entry.noisy} == {STOCK}


def test_names() -> None:
    assert [cell.name for cell in CELLS] == ["prefill of 128", "decode at 64, batch 2"]
