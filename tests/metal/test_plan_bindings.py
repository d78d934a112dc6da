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
from tests.ops import test_gated_delta, test_gated_delta_block
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


DELTA: dict[str, Any] = {"batch": 2, "k_heads": 2, "v_heads": 4, "dk": 64, "dv": 32}
BLOCK: dict[str, Any] = {**DELTA, "taps": 4, "norm_eps": 1e-5, "dtype": "bfloat16"}


def delta_arguments(tokens: int, block: bool = True, **changes: Any) -> dict[str, Any]:
    """Of gated_delta_block in BLOCK, or of gated_delta in DELTA, with states."""
    shape = (DELTA["batch"], tokens, DELTA["k_heads"], DELTA["v_heads"], DELTA["dk"], DELTA["dv"])
    if block:
        return test_gated_delta_block.case(shape, BF16, BLOCK["taps"], eps=BLOCK["norm_eps"]).arguments | changes
    return test_gated_delta.case(shape, F16, BF16).arguments | changes


def delta_plan_of(given: dict[str, Any], **device: Any) -> Any:
    """What a Mac would run for gated_delta or gated_delta_block."""
    op = ops.gated_delta_block if "qkv" in given else ops.gated_delta
    return _ext.metal_plan(op(**given, stream=mx.cpu)[0], **device)[0]


def kernels(plan: Any) -> list[str]:
    """The names of a plan's kernels, without template arguments."""
    return [dispatch["function"].split("<")[0] for dispatch in plan["dispatches"]]


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


def names(arguments: tuple[str, ...]) -> str:
    """A test id."""
    return "+".join(arguments) or "none"


PADDING: dict[str, mx.array] = {"mask": mx.ones((2, 5), mx.bool_), "lengths": mx.array([1, 5], dtype=mx.int32)}


@pytest.mark.parametrize("absent", [(), ("conv_state",), ("state",), ("conv_state", "state")], ids=names)
@pytest.mark.parametrize("padding", [(), ("mask",), ("lengths",), ("mask", "lengths")], ids=names)
@pytest.mark.parametrize("chunk", [0, 32])
def test_delta_block_plan_is_of_the_arguments(chunk: int, padding: tuple[str, ...], absent: tuple[str, ...]) -> None:
    given = delta_arguments(5, **{name: PADDING[name] for name in padding}, **dict.fromkeys(absent))
    flags = {name: True for name in ("conv_state", "state", *padding) if name not in absent}
    dtypes = dict.fromkeys(("A_log", "dt_bias", "norm"), "float32")
    want = _ext.plan_gated_delta(tokens=5, **BLOCK, **dtypes, **flags, chunk=chunk)
    assert delta_plan_of(given, chunk=chunk) == want


@pytest.mark.parametrize("state", [False, True], ids=["zeros", "state"])
@pytest.mark.parametrize("snapshots", [0, 3])
def test_delta_plan_is_of_the_arguments(snapshots: int, state: bool) -> None:
    given = delta_arguments(5, block=False, snapshots=snapshots, allow_neg_eigval=True)
    given |= {} if state else {"state": None}
    given["A_log"] = given["A_log"].astype(F32)
    dtypes = {"dtype": "float16", "gates": "bfloat16", "dt_bias": "bfloat16", "A_log": "float32"}
    want = _ext.plan_gated_delta(
        tokens=5, **DELTA, **dtypes, state=state, snapshots=snapshots, allow_neg_eigval=True, norm_eps=0.0
    )
    assert delta_plan_of(given) == want


def test_delta_inputs_and_outputs_are_in_the_kernels_order() -> None:
    """Each buffer is the input of its name."""
    order = ["q", "k", "v", "z", "a", "b", "A_log", "dt_bias", "conv_weight", "norm_weight"]
    order += ["conv_state", "state", "mask", "lengths"]
    for given in delta_arguments(5, **PADDING), delta_arguments(5, block=False, **PADDING):
        op = ops.gated_delta_block if "qkv" in given else ops.gated_delta
        results = op(**given, stream=mx.cpu)
        plan, inputs, outputs = _ext.metal_plan(results[0])
        bound = plan["dispatches"][0]["buffers"]
        for name, operand in zip(order, bound, strict=False):
            array = given.get("qkv", given.get(name)) if name in "qkv" else given.get(name)
            assert operand is None if array is None else inputs[operand[1]].shape == array.shape
            assert operand is None or mx.array_equal(inputs[operand[1]], array)
        taken = [outputs[operand[1]].shape for operand in bound[14:17] if operand is not None]
        assert taken == [result.shape for result in results]


def test_which_tokens_are_taken_in_chunks() -> None:
    """By GPU family and number of tokens; those with snapshots or with a gate per channel never are."""
    one, two = ["gated_delta_sequential"], ["gated_delta_prepare", "gated_delta_chunked"]
    given = {**DELTA, "dtype": "float32"}
    for family, tokens, want in (
        *((family, 4096, one) for family in (7, 8, 9)),
        *((family, tokens, kernels) for family in (0, 10, 11) for tokens, kernels in ((255, one), (256, two))),
    ):
        plan = _ext.plan_gated_delta(**given, tokens=tokens, family=family)
        assert plan is not None
        assert kernels(plan) == want, f"family {family}, {tokens} tokens"
    for without in {"snapshots": 2}, {"channel_gate": True}:
        plan = _ext.plan_gated_delta(**given, tokens=4096, **without)
        assert plan is not None
        assert kernels(plan) == one
        with pytest.raises(ValueError, match="no kernel takes these tokens in chunks of 32"):
            _ext.plan_gated_delta(**given, tokens=4096, chunk=32, **without)


def test_many_tokens_are_cut_in_segments() -> None:
    """So that what lies between the two kernels stays bounded, whatever the number of tokens."""

    def plan_for(tokens: int) -> Any:
        return _ext.plan_gated_delta(**DELTA, dtype="float32", tokens=tokens, chunk=16)

    longest = plan_for(262144)
    assert kernels(longest) == ["gated_delta_prepare", "gated_delta_chunked"] * 32
    assert longest["temporaries"] == plan_for(8192)["temporaries"]
    assert plan_for(8193)["dispatches"][2]["grid"] == (1, DELTA["k_heads"], DELTA["batch"])
    parts = [np.frombuffer(d["buffers"][17], np.uint32)[:3].tolist() for d in plan_for(20000)["dispatches"]]
    assert parts[::2] == parts[1::2] == [[20000, 0, 8192], [20000, 8192, 16384], [20000, 16384, 20000]]


@pytest.mark.parametrize("dtype", [mx.int64, mx.uint8], ids=short)
def test_lengths_of_other_dtypes_have_no_plan(dtype: mx.Dtype) -> None:
    assert delta_plan_of(delta_arguments(5, lengths=mx.array([1, 5], dtype=dtype))) is None


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


def test_no_tokens_hand_the_states_on() -> None:
    assert kernels(delta_plan_of(delta_arguments(0))) == ["gated_delta_sequential"]
    plan = _ext.plan_gated_delta(tokens=0, **{**BLOCK, "batch": 0})
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

    for beyond in {"dk": 288}, {"dv": 48}, {"v_heads": 3}, {"taps": 9}:
        assert _ext.plan_gated_delta(**{"tokens": 1, **BLOCK, **beyond}) is None


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
    given = delta_arguments(5, **PADDING)
    functions |= {
        (d["source"], d["function"]) for chunk in (0, 64) for d in delta_plan_of(given, chunk=chunk)["dispatches"]
    }
    assert len(functions) > 7
    for source, function in functions:
        assert re.fullmatch(r"[\w<>, ]+", function), "would not be a name in quotes"
        assert sim.check(_ext.metal_source(source, [function])) == []


def test_unknown_source_is_refused() -> None:
    with pytest.raises(ValueError, match="no shader source moe/nothing"):
        _ext.metal_source("moe/nothing", [])
