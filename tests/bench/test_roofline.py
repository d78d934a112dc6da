"""``python -m deltamoe.bench roofline``: arithmetic with made-up constants, and counts against where they come from."""

from __future__ import annotations

import dataclasses
import importlib
import io
import json
import re
from dataclasses import asdict
from pathlib import Path

import mlx.core as mx
import pytest
from mlx.utils import tree_flatten
from rich.console import Console
from typer.testing import CliRunner

from deltamoe import _ext
from deltamoe.bench import __main__ as command
from deltamoe.bench import roofline
from deltamoe.bench.roofline import Gpu, Published, Work, commits, predict, seconds, work
from deltamoe.synthetic import GEOMETRIES, GROUP_SIZE, skeleton

MIB = 2**20


@pytest.fixture
def costs(monkeypatch: pytest.MonkeyPatch) -> None:
    """A dispatch takes 1 ms or 0.5 ms, a command buffer 10 ms."""
    monkeypatch.setattr(roofline, "DISPATCH", {"usual": 1e-3, "least": 5e-4})
    monkeypatch.setattr(roofline, "COMMIT", 1e-2)
    monkeypatch.setattr(roofline, "STREAMED", {"made up": 2.0})


@pytest.mark.usefixtures("costs")
def test_a_class_takes_the_longer_of_moving_and_computing() -> None:
    gpu = Gpu("made up", bandwidth=100, memory=1, tflops=3)
    assert seconds(Work(4e9, 3e12, 0), gpu) == pytest.approx(2.0)
    assert seconds(Work(4e9, 9e12, 0), gpu) == pytest.approx(3.0)
    unknown = dataclasses.replace(gpu, tflops=None)
    assert seconds(Work(4e9, 9e12, 0), unknown) == pytest.approx(2.0)
    usual = dataclasses.replace(gpu, name="another", bandwidth=819)
    assert seconds(Work(692e9, 0, 0), usual) == pytest.approx(1.0)


@pytest.mark.usefixtures("costs")
def test_a_prediction_is_the_sum(monkeypatch: pytest.MonkeyPatch) -> None:
    classes = {"a": Work(2e9, 0, 100), "b": Work(0, 6e12, 20)}  # 1 s, 2 s
    monkeypatch.setattr(roofline, "work", lambda *args, **kwargs: classes)
    monkeypatch.setattr(roofline, "commits", lambda *args, **kwargs: 7)
    found = predict(Gpu("made up", 100, 1, tflops=3), "tiny", "ours")
    assert (found.dispatches, found.commits, found.bytes, found.moving) == (120, 7, 2e9, pytest.approx(3.0))
    assert 1 / found.usual == pytest.approx(3 + 0.120 + 0.07)
    assert 1 / found.least == pytest.approx(3 + 0.060 + 0.07)


@pytest.mark.parametrize(
    ("charges", "budget", "expected"),
    [
        ([0.0] * 50, (50, 50), 1),
        ([0.0] * 51, (50, 50), 2),  # the 51st exceeds 50
        ([0.0] * 102, (50, 50), 3),
        ([51.0 * MIB - 1] * 3, (50, 50), 2),  # whole millions are compared: the second exceeds
        ([51.0 * MIB] * 3, (50, 50), 4),
        ([51.0 * MIB] * 3, (50, 51), 2),
    ],
)
def test_commits(monkeypatch: pytest.MonkeyPatch, charges: list[float], budget: tuple[int, int], expected: int) -> None:
    monkeypatch.setattr(roofline, "_charges", lambda *args: iter(charges))
    assert commits(GEOMETRIES["tiny"], "stock", budget) == expected


@pytest.mark.parametrize("side", roofline.SIDES)
@pytest.mark.parametrize("name", [name for name in GEOMETRIES if name != "tiny"])
def test_charges_are_of_all_dispatches_and_weights(name: str, side: roofline.Side) -> None:
    """Stock's: every element of the model once; ours: all but the experts'."""
    shape = GEOMETRIES[name]
    charges = list(roofline._charges(shape, side, 4))
    assert len(charges) == sum(each.dispatches for each in work(shape, side).values())
    ours_are_free = ("switch_mlp", "shared_expert") if side == "ours" else ()
    elements = sum(x.size for name, x in _quantised(name) if not any(part in name for part in ours_are_free))
    gates = shape.num_hidden_layers * shape.hidden_size * (8 - 4) / 32  # shared_expert_gate has 8 bits: taken for 4
    assert sum(charges) == pytest.approx(elements, abs=gates * 1.01)


@pytest.mark.parametrize("name", ["35b-a3b", "122b-a10b", "397b-a17b"])
def test_size_is_that_of_the_model_on_disk(name: str) -> None:
    assert roofline.size(GEOMETRIES[name]) == pytest.approx(sum(x.nbytes for _, x in _quantised(name)), rel=1e-5)


def _quantised(geometry: str) -> list[tuple[str, mx.array]]:
    """Codes, scales and biases of the whole model; none is evaluated."""
    named = tree_flatten(skeleton(geometry)[0].parameters())
    modules = {name.removesuffix(".scales") for name, _ in named if name.endswith(".scales")}
    return [(name, x) for name, x in named if name.rpartition(".")[0] in modules]


def test_bytes_of_a_token() -> None:
    """Of 35B-A3B by hand, in 4-bit groups of 64 with two bfloat16: 0.5625 bytes a weight."""
    shape = dataclasses.replace(GEOMETRIES["35b-a3b"], num_hidden_layers=4)
    found = work(shape, "stock")
    weight = 4.5 / 8
    expert = 3 * 2048 * 512
    assert found["experts"].bytes == pytest.approx(
        4 * (weight * (9 * expert + 2048) * roofline.LINES["stock"] + 8.5 / 8 * 256 * 2048)
    )
    projections = 2048 * (8192 + 4096 + 64 + 4096)
    assert found["DeltaNet"].bytes == pytest.approx(3 * (weight * projections + 2 * 4 * 32 * 128**2 + 8192 * 2 * 10))
    assert found["attention"].bytes == pytest.approx(weight * (2048 * (8192 + 1024) + 4096 * 2048))
    assert found["head"].bytes == pytest.approx(weight * 248320 * 2048)
    deep = work(shape, "stock", depth=1000)
    assert deep["attention"].bytes - found["attention"].bytes == 1000 * 2 * 2 * 256 * 2
    assert work(shape, "stock", bits=8)["head"].bytes == pytest.approx(8.5 / 8 * 248320 * 2048)
    assert found["experts"].operations == 2 * 4 * (9 * expert + 2048 + 256 * 2048)


@pytest.mark.parametrize("name", ["35b-a3b", "122b-a10b", "397b-a17b"])
def test_our_dispatches_are_the_plans(name: str) -> None:
    shape = GEOMETRIES[name]
    form = (GROUP_SIZE, 4)
    experts = _ext.plan_moe_experts(
        tokens=1,
        hidden=shape.hidden_size,
        intermediate=shape.moe_intermediate_size,
        experts=shape.num_experts,
        k=shape.num_experts_per_tok,
        dtype="bfloat16",
        gate_up=form,
        down=form,
        shared_intermediate=shape.shared_expert_intermediate_size,
        shared=(form, form),
        shared_gate=(GROUP_SIZE, 8),
    )
    router = _ext.plan_moe_router(tokens=1, experts=shape.num_experts, k=shape.num_experts_per_tok, dtype="bfloat16")
    assert experts is not None
    assert router is not None
    assert roofline.MOE["ours"] == 1 + len(router["dispatches"]) + len(experts["dispatches"])


@pytest.mark.skipif(not hasattr(_ext, "plan_gated_delta"), reason="this build has no plan of the DeltaNet kernels")
@pytest.mark.parametrize("name", ["35b-a3b", "122b-a10b", "397b-a17b"])
def test_our_dispatches_of_a_deltanet_layer_are_the_plans(name: str) -> None:
    shape = GEOMETRIES[name]
    block = _ext.plan_gated_delta(
        batch=1,
        tokens=1,
        k_heads=shape.linear_num_key_heads,
        v_heads=shape.linear_num_value_heads,
        dk=shape.linear_key_head_dim,
        dv=shape.linear_value_head_dim,
        dtype="bfloat16",
        A_log="float32",
        taps=roofline.TAPS,
        state=True,
        conv_state=True,
    )
    assert block is not None
    projections = len(("qkv", "z", "b", "a", "out"))
    assert roofline.DELTANET["ours"] == projections + len(block["dispatches"])


def test_dispatches_are_those_of_counts() -> None:
    moe = pytest.importorskip("deltamoe.bench.stock.moe")
    gdn = importlib.import_module("deltamoe.bench.stock.gated_delta")
    assert roofline.MOE["stock"] == sum(moe.BLOCK.values())
    assert roofline.DELTANET["stock"] == sum(gdn.LAYER.values())


@pytest.mark.usefixtures("costs")
def test_check_against_a_published_figure(monkeypatch: pytest.MonkeyPatch) -> None:
    """4 s of bytes; stock 2,000 dispatches, ours 1,000; a command buffer each."""
    dispatches = {"stock": 2000, "ours": 1000}
    monkeypatch.setattr(roofline, "work", lambda shape, side, **rest: {"all": Work(8e9, 0, dispatches[side])})
    monkeypatch.setattr(roofline, "commits", lambda *args: 1)
    found = roofline._check(Published("m", "made up", "e", 0.1), Gpu("made up", 100, 1), 0.1)
    assert found.implied == pytest.approx((10 - 4 - 0.01) / 2000)
    assert found.usual_error == pytest.approx(1 / 6.01 / 0.1 - 1)
    assert found.least_error == pytest.approx(1 / 5.01 / 0.1 - 1)
    assert found.ours == pytest.approx(1 / (4.01 + 1000 * found.implied))
    impossible = roofline._check(Published("m", "made up", "e", 1.0), Gpu("made up", 100, 1), 1.0)
    assert impossible.implied < 0
    assert impossible.ours is None


def test_models_that_do_not_fit_are_left_out_and_told() -> None:
    report = roofline.run()
    assert report.too_small["35b-a3b"] == ("M1", "M2", "M3")
    found = {(each.gpu, each.geometry) for each in report.predictions}
    assert ("M3 Ultra", "397b-a17b") in found
    assert ("M2 Ultra", "397b-a17b") not in found
    assert ("M2", "35b-a3b") not in found  # 19.5 GB of 24, of which 18 may be used
    assert ("M4", "35b-a3b") in found
    assert len(report.predictions) == 2 * len(found)
    for geometry, gpus in report.too_small.items():
        assert {gpu for gpu, fitting in found if fitting == geometry} | {*gpus} == {gpu.name for gpu in roofline.GPUS}


def test_every_published_figure_is_checked() -> None:
    report = roofline.run()
    decode = [(each.published.model, each.published.decode) for each in report.checks]
    assert [rate for _, rate in decode] == [39, 60.6, 133.5, 89, 79.8, 67.7]
    assert [each.published.prefill for each in report.ceilings] == [2757, 2089, 1491]
    assert [each.most is None for each in report.ceilings] == [False, True, True]
    assert report.ceilings[0].share == pytest.approx(2757 / report.ceilings[0].most)  # type: ignore[operator]


def test_it_says_first_and_last_that_it_is_a_prediction() -> None:
    file = io.StringIO()
    roofline.show(roofline.run(), Console(file=file, width=400))
    text = file.getvalue()
    assert text.startswith(roofline.WARNING)
    assert text.rstrip().endswith(roofline.WARNING)
    for gpu in {each.gpu for each in roofline.run().predictions}:
        assert re.search(rf"│ {gpu} +│", text), gpu
    assert "35b-a3b does not fit in the memory of M1, M2, M3." in text


def test_command(tmp_path: Path) -> None:
    file = tmp_path / "roofline.json"
    result = CliRunner().invoke(command.app, ["roofline", "--json", str(file)])
    assert result.exit_code == 0, result.output
    written = json.loads(file.read_text())
    assert written["warning"].startswith("A PREDICTION")
    assert written["constants"]["gpus"] == [asdict(gpu) for gpu in roofline.GPUS]
    assert len(written["predictions"]) == len(roofline.run().predictions)
    missing = CliRunner().invoke(command.app, ["roofline", "--json", str(tmp_path / "no" / "file")])
    assert "is not a directory" in str(missing.exception)
