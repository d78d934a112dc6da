"""What is measured: every op, cold, right, at its price."""

from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import mlx.core as mx
import numpy as np
import pytest

from bench import kernels
from bench.cases import ARMS, MODELS, OURS, Call, Case, default_cases, full_cases, small
from bench.kernels import Budget, measure, verify
from deltamoe import ops
from tests.arrays import list_arrays

OPS = list(ARMS)
GEOMETRY = replace(
    MODELS["35B-A3B"],
    hidden_size=256,
    num_experts=64,
    moe_intermediate_size=128,
    shared_expert_intermediate_size=128,
    vocab_size=1024,
    linear_num_key_heads=1,
    linear_num_value_heads=2,
)


@pytest.fixture(autouse=True)
def _on_cpu() -> None:
    mx.set_default_device(mx.cpu)


def case(op: str, tokens: int, dtype: str = "bf16", model: str = "35B-A3B") -> Case:
    return Case(
        op,
        model,
        1,
        tokens,
        dtype,
        depth=max(tokens, 24) if op == "attention" else 0,
        part="qkv" if op == "qlinear" else "",
    )


@pytest.mark.parametrize("cases", [default_cases, full_cases])
def test_every_op_is_there_once(cases: Any) -> None:
    found = list(cases())
    assert len({one.name for one in found}) == len(found)
    for model in MODELS:
        for op in OPS:
            phases = {one.tokens > 1 for one in found if (one.op, one.model) == (op, model)}
            assert phases == (set() if (op, model) == ("moe_router", "27B") else {False, True}), (op, model)


@pytest.mark.parametrize("dtype", ["bf16", "f32"])
@pytest.mark.parametrize("tokens", [1, 20])
@pytest.mark.parametrize(("op", "arm"), [(op, arm) for op in OPS for arm in ARMS[op]])
def test_every_arm_computes_what_the_oracle_says(op: str, arm: str, tokens: int, dtype: str) -> None:
    assert verify(case(op, tokens, dtype), arm) > 0


@pytest.mark.parametrize("arm", ARMS["moe_experts"])
def test_a_dense_block_too(arm: str) -> None:
    assert verify(case("moe_experts", 5, model="27B"), arm) > 0


@pytest.mark.parametrize("op", ["attention", "gated_delta", "gated_delta_block", "moe_experts", "qlinear"])
def test_cold_operands_are_larger_than_what_makes_memory_cold(op: str) -> None:
    cold = 1 << 21
    setup = case(op, 1).set_up(np.random.default_rng(0), cold, 1 << 30, GEOMETRY)
    distinct = {id(array): array.nbytes for arguments in setup.sets for array in list_arrays(arguments)}
    activations = sum(array.nbytes for array in list_arrays(setup.sets[0]))
    if op != "moe_experts":
        assert sum(distinct.values()) - activations >= cold
        return
    turns = np.concatenate([np.array(arguments["indices"]).ravel() for arguments in setup.sets])
    assert len(np.unique(turns)) == len(turns) == GEOMETRY.num_experts  # every expert once before any comes again
    assert (len(turns) - 1) * 3 * 256 * 128 * 4.5 / 8 >= cold / 2


def test_experts_that_do_not_fit_are_left_out_and_the_row_says_so() -> None:
    one = 3 * 256 * 128 * 9 / 16
    setup = case("moe_experts", 1).set_up(np.random.default_rng(0), 1 << 20, int(20.5 * one), GEOMETRY)
    assert setup.note == "20 of 64 experts"
    assert setup.sets[0]["gate"].scales.shape[0] == 20


def test_the_price_of_a_matrix() -> None:
    setup = case("qlinear", 1).set_up(np.random.default_rng(0), 0, 0, GEOMETRY)
    rows, columns = 2 * 128 + 2 * 128, 256
    assert setup.work.flops == 2 * rows * columns
    assert setup.work.bytes == rows * columns * (4 + 32 / 64) / 8 + 2 * columns + 2 * rows
    assert setup.work.peak == "bfloat16"


def test_the_price_of_experts() -> None:
    setup = case("moe_experts", 1).set_up(np.random.default_rng(0), 0, 1 << 30, GEOMETRY)
    weights = 9 * 3 * 256 * 128  # eight chosen and the shared one
    assert setup.work.flops == 2 * weights
    assert setup.work.bytes == weights * 4.5 / 8 + 256 * (8 + 32 / 64) / 8 + 2 * 2 * 256


def test_what_is_wrong_has_no_speed(monkeypatch: pytest.MonkeyPatch) -> None:
    right = ops.qlinear
    monkeypatch.setattr(ops, "qlinear", lambda x, w: 1.01 * right(x, w))
    monkeypatch.setattr(kernels, "time_arms", lambda *_: pytest.fail("was timed"))
    with pytest.raises(AssertionError, match="qlinear y"):
        measure(case("qlinear", 1), Budget())


def test_a_stock_arm_that_computes_something_else_has_no_speed(monkeypatch: pytest.MonkeyPatch) -> None:
    right = mx.fast.rms_norm
    monkeypatch.setattr("bench.cases._STOCK", {"rms_norm": lambda **kw: lambda: 1.5 * right(**kw)})
    with pytest.raises(AssertionError, match="stock"):
        verify(case("rms_norm", 1), "stock")


def test_what_mlx_compiles_at_first_is_no_part_of_an_estimate(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without its cache of compiled kernels a stock call of milliseconds takes a second, once at each shape."""
    now, compiled = 0.0, set[int]()

    def stock(x: mx.array, **rest: Any) -> Call:
        def call() -> mx.array:
            nonlocal now
            now += 0.001 if x.size in compiled else 9.0
            compiled.add(x.size)
            return mx.fast.rms_norm(x, **rest)

        return call

    def clock() -> float:
        nonlocal now
        now += 1e-4
        return now

    monkeypatch.setattr("bench.cases._STOCK", {"rms_norm": stock})
    monkeypatch.setattr(kernels, "time", SimpleNamespace(perf_counter=clock))
    timed: dict[str, Any] = {}
    monkeypatch.setattr(kernels, "time_arms", lambda arms, seconds: timed.update(arms) or {})
    row = measure(case("rms_norm", 1), Budget(stock_seconds=1.0))
    assert row.left_out == {}
    assert set(timed) == {OURS, "stock"}


def test_small_takes_the_same_path() -> None:
    """Heads keep their size and their ratios, and the number of tokens stays."""
    for one in default_cases():
        sets, model = small(one).sets[0], MODELS[one.model]
        if one.op == "attention":
            assert sets["q"].shape[1:] == (model.num_attention_heads // model.num_key_value_heads, one.tokens, 256)
        if one.op == "gated_delta":
            assert sets["v"].shape[1:] == (one.tokens, model.linear_num_value_heads // 16, 128)


def test_measured_row(monkeypatch: pytest.MonkeyPatch) -> None:
    """All of it, at a small shape and in no time."""
    monkeypatch.setitem(MODELS, "35B-A3B", GEOMETRY)
    monkeypatch.setattr(kernels, "cold_bytes", lambda: 1 << 20)
    row = measure(case("moe_experts", 1), Budget(seconds=0.0, stock_seconds=10.0))
    assert set(row.samples) == {OURS, "stock", "limit"}
    assert row.limit is not None
    assert row.left_out == {}
    assert row.time.n == 4
    sides = {measurement.side: measurement for measurement in row.measurements()}
    assert set(sides) == {OURS, "stock"}
    assert sides[OURS].settings["op"] == "moe_experts"
    assert "" not in sides[OURS].settings.values()
    assert sides[OURS].notes["limit"]["value"] == pytest.approx(row.limit_seconds)
    left = measure(case("moe_experts", 1), Budget(seconds=0.0, stock_seconds=0.0))
    assert set(left.left_out) == {"stock"}
    assert left.against("stock") is None
