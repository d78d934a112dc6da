"""``python -m bench.peers``: its arithmetic, and all of it once where llama-cpp-python is installed."""

from __future__ import annotations

import importlib.util
import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from bench.peers import arms
from bench.peers.__main__ import app
from bench.peers.arms import Arm, measure
from deltamoe.errors import DeltamoeError
from deltamoe.synthetic import GEOMETRIES, write_model

installed = pytest.mark.skipif(
    any(importlib.util.find_spec(name) is None for name in ("llama_cpp", "gguf")),
    reason="NOT RUN: llama-cpp-python is not installed (make bench-peers builds it, in ten minutes or more)",
)


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The time, which calls move on; nothing else does."""
    monkeypatch.setattr(arms, "settle", lambda: None)
    return [0.0]


def takes(clock: list[float], seconds: float, done: list[str], name: str) -> Callable[[], None]:
    def call() -> None:
        done.append(name)
        clock[0] += seconds

    return call


def test_threads_are_awake_before_a_sample(clock: list[float]) -> None:
    done: list[str] = []
    before, call = takes(clock, 0.003, done, "before"), takes(clock, 0.008, done, "call")
    assert Arm("x", [call], 0, 1, before=before).sample(0.0, lambda: clock[0]) == pytest.approx(0.008)
    assert done == ["before", "call"] * 2


def test_a_sample_is_the_mean_of_calls(clock: list[float]) -> None:
    done: list[str] = []
    arm = Arm("x", [takes(clock, seconds, done, str(seconds)) for seconds in (1.0, 3.0)], 0, 1)
    assert arm.sample(4.0, lambda: clock[0]) == pytest.approx(2.0)
    assert done == ["1.0", "3.0"]


def test_what_comes_before_a_sample_is_not_timed(clock: list[float]) -> None:
    done: list[str] = []
    before, call = takes(clock, 100.0, done, "before"), takes(clock, 1.0, done, "call")
    assert Arm("x", [call], 0, 1, before=before).sample(50.0, lambda: clock[0]) == pytest.approx(1.0)
    assert done == ["before", "call"]


def test_ours_beside_theirs(clock: list[float]) -> None:
    done: list[str] = []
    ours, theirs = (
        Arm("ours", [takes(clock, 1.0, done, "a")], 0, 1),
        Arm("theirs", [takes(clock, 3.0, done, "b")], 0, 1),
    )
    timings = measure([ours, theirs], 400.0, lambda: clock[0])
    assert timings[1].beside(timings[0]).ratio == pytest.approx(3.0)
    assert timings[0].samples.seconds == pytest.approx([1.0] * len(timings[0].samples.seconds))


def test_a_sample_waits_for_spinning_threads(monkeypatch: pytest.MonkeyPatch) -> None:
    """One spins for 12 ms of processor time."""
    now = [0.0]
    monkeypatch.setattr(arms.time, "sleep", lambda seconds: now.__setitem__(0, now[0] + seconds))
    monkeypatch.setattr(arms.time, "process_time", lambda: min(now[0], 0.012))
    arms.settle()
    assert now[0] == pytest.approx(0.020)
    monkeypatch.setattr(arms.time, "process_time", lambda: now[0])  # for ever
    arms.settle()
    assert now[0] == pytest.approx(0.020 + arms.LONGEST)


@pytest.mark.parametrize("error", [0.2, float("nan")])
def test_no_speed_of_what_is_wrong(error: float) -> None:
    with pytest.raises(DeltamoeError, match=r"wrong one: error .* no speed is given"):
        measure([Arm("right", [lambda: None], 0.0, 0.1), Arm("wrong one", [lambda: None], error, 0.1)], 1)


def test_without_the_package(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("gguf")
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    result = CliRunner().invoke(app, ["kernels"])
    assert isinstance(result.exception, DeltamoeError)
    assert "make bench-peers" in str(result.exception)


def test_numbers_of_tokens_are_wanted() -> None:
    result = CliRunner().invoke(app, ["kernels", "--tokens", "1,x"])
    assert "numbers with commas between" in str(result.exception)


@installed
def test_kernels(tmp_path: Path) -> None:
    """Both sides' results are compared with the oracle inside."""
    file = tmp_path / "kernels.json"
    arguments = ["kernels", "--geometry", "tiny", "--tokens", "1,3", "--seconds", "0", "--threads", "1"]
    result = CliRunner().invoke(app, [*arguments, "--json", str(file)], catch_exceptions=False)
    assert result.exit_code == 0
    cases = json.loads(file.read_text())["results"]
    assert [(case["name"], case["tokens"]) for case in cases] == [
        ("experts", 1),
        ("experts", 3),
        ("gated delta", 1),
        ("gated delta", 3),
    ]
    for case in cases:
        names = [timing["name"] for timing in case["timings"]]
        assert names[0].startswith("deltamoe")
        assert any(name.startswith("ggml") for name in names)
        for timing in case["timings"]:
            assert min(timing["samples"]["seconds"]) > 0
    assert "time / deltamoe's" in result.output


@installed
def test_a_model(tmp_path: Path) -> None:
    file = tmp_path / "model.json"
    arguments = ["model", "--prompt", "8", "--seconds", "0", "--threads", "1", "--no-stock", "--json", str(file)]
    result = CliRunner().invoke(app, arguments, catch_exceptions=False)
    assert result.exit_code == 0
    report = json.loads(file.read_text())["results"]
    assert [timing["name"] for timing in report["decode"]] == ["deltamoe", "llama.cpp Q4_1", "llama.cpp Q4_0"]


@installed
def test_q4_1_keeps_every_number(tmp_path: Path) -> None:
    """The experts of the first layer, read back by the gguf package, against MLX's own dequantisation."""
    import mlx.core as mx
    from gguf import GGMLQuantizationType, GGUFReader, quants

    from bench.peers.gguf_model import write_gguf

    model = write_model(tmp_path / "model", "tiny")
    write_gguf(model, tmp_path / "model.gguf", GGMLQuantizationType.Q4_1)
    tensors = {tensor.name: tensor for tensor in GGUFReader(tmp_path / "model.gguf").tensors}
    parameters = mx.load(str(model / "model.safetensors"))

    def of_mlx(module: str) -> np.ndarray:
        weight, scales, biases = (
            parameters[f"language_model.{module}.{leaf}"] for leaf in ("weight", "scales", "biases")
        )
        floats = scales.astype(mx.float32), biases.astype(mx.float32)
        return np.array(mx.dequantize(weight, *floats, group_size=64, bits=4))

    def of_gguf(name: str) -> np.ndarray:
        return quants.dequantize(tensors[name].data, tensors[name].tensor_type)

    expected = of_mlx("model.layers.0.mlp.switch_mlp.down_proj")
    np.testing.assert_array_equal(of_gguf("blk.0.ffn_down_exps.weight").reshape(expected.shape), expected)
    np.testing.assert_array_equal(of_gguf("output.weight"), of_mlx("lm_head"))
    shape = GEOMETRIES["tiny"]
    hk, hv, d = shape.linear_num_key_heads, shape.linear_num_value_heads, shape.linear_value_head_dim
    z = of_mlx("model.layers.0.linear_attn.in_proj_z").reshape(hv, d, -1)
    theirs = of_gguf("blk.0.attn_gate.weight").reshape(hv, d, -1)
    for head in range(hv):  # ours of key head head // (hv / hk)
        key, number = divmod(head, hv // hk)
        np.testing.assert_array_equal(theirs[number * hk + key], z[head])
