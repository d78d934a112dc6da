"""From an op to what Metal is given: the plan its primitive has, and the text of the shaders in the extension."""

from __future__ import annotations

import re
from typing import Any

import mlx.core as mx
import numpy as np
import pytest

import deltamoe_sim as sim
from deltamoe import _ext, ops
from tests.arrays import BF16, F16, F32, FLOATS, normal, quantized, short
from tests.compiled import ROOT
from tests.metal.plans import SimulatedMetal, library
from tests.ops.case import Case
from tests.ops.test_moe_experts import experts, routed, shared_expert

SHAPE: dict[str, Any] = {"hidden": 64, "intermediate": 128, "experts": 6, "k": 2}
FORMATS: dict[str, Any] = {"gate_up": (64, 4), "down": (32, 8)}


def arguments(tokens: int | tuple[int, ...] = 3, dtype: mx.Dtype = F32, shared: bool = False) -> dict[str, Any]:
    """Of moe_experts, in SHAPE."""
    rng = np.random.default_rng(1)
    batch = tokens if isinstance(tokens, tuple) else (tokens,)
    given: dict[str, Any] = {"x": normal(rng, *batch, SHAPE["hidden"], dtype=dtype)}
    given |= routed(rng, batch, SHAPE["experts"], SHAPE["k"])
    given |= experts(rng, SHAPE["experts"], SHAPE["hidden"], SHAPE["intermediate"], group=64, dtype=dtype)
    given["down"] = quantized(
        rng, SHAPE["experts"], SHAPE["hidden"], SHAPE["intermediate"], bits=8, group=32, dtype=dtype
    )
    if shared:
        gate, up, _ = shared_expert(rng, SHAPE["hidden"], 32, bits=8, group=32, dtype=dtype)
        given["shared"] = (gate, up, quantized(rng, SHAPE["hidden"], 32, group=32, dtype=dtype))
        given["shared_gate"] = quantized(rng, 1, SHAPE["hidden"], bits=8, group=64, dtype=dtype)
    return given


def plan_of(given: dict[str, Any]) -> Any:
    """What a Mac would run for moe_experts."""
    return _ext.metal_plan(ops.moe_experts(**given, stream=mx.cpu))[0]


@pytest.mark.parametrize("dtype", FLOATS, ids=short)
@pytest.mark.parametrize("tokens", [1, 8, 9])
@pytest.mark.parametrize("shared", [False, True], ids=["routed", "shared"])
def test_experts_plan_is_of_the_arguments(tokens: int, dtype: mx.Dtype, shared: bool) -> None:
    formats: dict[str, Any] = dict(FORMATS)
    if shared:
        formats |= {"shared_intermediate": 32, "shared": ((32, 8), (32, 4)), "shared_gate": (64, 8)}
    name = str(dtype).removeprefix("mlx.core.")
    want = _ext.plan_moe_experts(tokens=tokens, dtype=name, **SHAPE, **formats)
    assert plan_of(arguments(tokens, dtype, shared)) == want


def test_router_plan_is_of_the_arguments() -> None:
    logits = normal(np.random.default_rng(0), 2, 5, 40, dtype=F16)
    _, scores = ops.moe_router(logits, 3, False, stream=mx.cpu)
    plan, inputs, outputs = _ext.metal_plan(scores)
    assert plan == _ext.plan_moe_router(tokens=10, experts=40, k=3, dtype="float16", normalize=False)
    assert [a.shape for a in inputs] == [logits.shape]
    assert [(a.shape, a.dtype) for a in outputs] == [((2, 5, 3), mx.uint32), ((2, 5, 3), F32)]


def test_few_tokens_are_decoded_and_many_are_grouped() -> None:
    for tokens, source in (1, "moe/decode"), (8, "moe/decode"), (9, "moe/gemm"):
        plan = _ext.plan_moe_experts(tokens=tokens, dtype="float32", **SHAPE, **FORMATS)
        assert plan is not None
        assert source in [d["source"] for d in plan["dispatches"]]


def test_no_tokens_are_no_dispatches() -> None:
    assert plan_of(arguments(0))["dispatches"] == []
    plan = _ext.plan_moe_router(tokens=0, experts=40, k=3, dtype="float16")
    assert plan is not None
    assert plan["dispatches"] == []


@pytest.mark.parametrize(
    "change",
    [
        {"indices": mx.int32},
        {"scores": BF16},
        {"x": BF16},
    ],
    ids=lambda change: next(iter(change)),
)
def test_other_dtypes_have_no_plan(change: dict[str, mx.Dtype]) -> None:
    given = arguments()
    assert plan_of(given | {name: given[name].astype(dtype) for name, dtype in change.items()}) is None


def test_shapes_beyond_the_kernels_have_no_plan() -> None:
    for beyond in {"experts": 1025}, {"k": 17, "experts": 40}:
        assert _ext.plan_moe_experts(**{"tokens": 1, "dtype": "float32", **SHAPE, **FORMATS, **beyond}) is None
    for beyond in {"experts": 1025}, {"k": 33}:
        assert _ext.plan_moe_router(**{"tokens": 1, "experts": 40, "k": 3, "dtype": "float32", **beyond}) is None


def test_metal_plan_wants_an_unevaluated_result_of_an_op() -> None:
    y = ops.rms_norm(mx.ones((1, 8)), None, 1e-6, stream=mx.cpu)
    assert _ext.metal_plan(y)[0] is None  # an op without shaders
    mx.eval(y)
    for array in y, mx.ones(1), mx.ones(1) + 1:
        with pytest.raises(ValueError, match="no unevaluated result of an op"):
            _ext.metal_plan(array)


@pytest.mark.parametrize("tokens", [3, 9, (2, 1, 2)], ids=short)
def test_experts_run_as_planned(tokens: int | tuple[int, ...]) -> None:
    Case("moe_experts", **arguments(tokens, shared=True)).check(SimulatedMetal())


@pytest.mark.parametrize("source", _ext.metal_sources())
def test_text_is_the_header(source: str) -> None:
    text = _ext.metal_source(source, [])
    header = (ROOT / "metal" / f"{source}.h").read_text()
    assert text.isascii()
    assert '#include "' not in text
    assert "#pragma once" not in text
    code = [line for line in header.splitlines() if line and not line.startswith("#")]
    left = iter(text.splitlines())
    assert all(line in left for line in code), "lines are missing or out of order"


def test_text_instantiates_what_is_asked_for() -> None:
    function = "moe_router<half, 2, false>"
    (kernel,) = library("moe/router", function).kernels.values()
    header = (ROOT / "metal/moe/router.h").read_text().splitlines()
    assert kernel.name == "moe_router_half_2_false"  # an identifier, as all that Metal is known to take
    assert kernel.file == "metal/moe/router.h"  # as in a compiler's message on a Mac
    assert "void moe_router(" in header[kernel.line - 1]


def test_text_of_every_planned_function_is_clean() -> None:
    functions = {
        (d["source"], d["function"])
        for tokens in (1, 9, 64)
        for d in plan_of(arguments(tokens, BF16, True))["dispatches"]
    }
    assert len(functions) > 4
    for source, function in functions:
        assert re.fullmatch(r"[\w<>, ]+", function), "would not be a name in quotes"
        assert sim.check(_ext.metal_source(source, [function])) == []


def test_unknown_source_is_refused() -> None:
    with pytest.raises(ValueError, match="no shader source moe/nothing"):
        _ext.metal_source("moe/nothing", [])
