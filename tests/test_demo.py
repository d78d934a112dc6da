"""``deltamoe demo`` on the tiny geometry: what it measures, and that its figures can tell sides apart."""

from __future__ import annotations

import contextlib
import io
import json
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import mlx.core as mx
import mlx_lm
import pytest
from mlx.utils import tree_flatten
from mlx_lm.models import qwen3_5
from rich.console import Console

import deltamoe
from deltamoe import demo
from deltamoe.errors import DeltamoeError
from deltamoe.synthetic import write_model

QUICK: dict[str, Any] = {"prompt_tokens": 8, "tokens": 4, "rounds": 1}


@pytest.fixture(autouse=True)
def _short_turns(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(demo, "TURN_SECONDS", 0.0)


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(demo.platformdirs, "user_cache_path", lambda *args, **kwargs: tmp_path)
    return tmp_path


@pytest.fixture
def negated(monkeypatch: pytest.MonkeyPatch) -> None:
    """A patch that gets every logit wrong."""
    own = qwen3_5.TextModel.__call__

    @contextlib.contextmanager
    def patched() -> Iterator[None]:
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(qwen3_5.TextModel, "__call__", lambda self, *args, **kwargs: -own(self, *args, **kwargs))
            yield

    monkeypatch.setattr(deltamoe, "patched", patched)


def test_report_and_turns(cache: Path) -> None:
    steps: list[tuple[str, int]] = []
    report = demo.run(**QUICK | {"rounds": 2}, step=lambda text, total: steps.append((text, total)))
    assert [text.partition(",")[0] for text, _ in steps[5:]] == ["patched", "stock", "patched", "stock", "patched"]
    assert [total for _, total in steps[-2:]] == [10, 10] == [len(steps)] * 2
    assert list(map(len, (report.stock.prefill, report.patched.prefill))) == [2, 3]
    assert len(report.stock.tokens) == len(report.patched.tokens) == report.compared_tokens == 4
    assert report.prefill_ratio > 0
    assert report.decode_ratio > 0
    assert report.model["bytes"] > 5e6
    assert report.stock.peak_memory > report.model["bytes"]
    assert report.peak_rss > report.model["bytes"]
    assert 0 < report.stock.median_logit_error < report.stock.logit_error < 5
    assert json.loads(json.dumps(asdict(report)))["stock"]["tokens"] == report.stock.tokens
    assert not list(cache.iterdir()), "the model must be removed"


def test_stock_in_float32_is_its_own_reference(cache: Path) -> None:
    report = demo.run(**QUICK, dtype="float32")
    assert report.stock.logit_error == 0
    assert report.patched.logit_error < 1e-4
    assert report.agreeing_tokens == 4


@pytest.mark.usefixtures("negated")
def test_a_wrong_side_is_seen(cache: Path) -> None:
    report = demo.run(**QUICK)
    assert report.patched.logit_error > 4 > report.stock.logit_error
    assert report.patched.median_logit_error > 0.5 > report.stock.median_logit_error
    assert report.agreeing_tokens < report.compared_tokens
    assert report.patched.text != report.stock.text
    text = shown(report)
    assert f"The first {report.agreeing_tokens} of 4 greedy tokens agree" in text


def test_tables_say_what_a_person_needs(cache: Path) -> None:
    report = demo.run(**QUICK)
    text = shown(report)
    for part in (
        "random weights",
        "prefill of 8",
        "decode",
        "largest logit error",
        "peak memory",
        report.machine["isa"],
    ):
        assert part in text
    assert f"{report.decode_ratio:.3g}x" in text


def test_model_dir_is_kept_and_found_again(tmp_path: Path) -> None:
    demo.run(**QUICK, model_dir=tmp_path / "model")
    written = (tmp_path / "model" / "model.safetensors").stat().st_mtime_ns
    demo.run(**QUICK, model_dir=tmp_path / "model")
    assert (tmp_path / "model" / "model.safetensors").stat().st_mtime_ns == written


def test_rates_are_taken_between_yields(monkeypatch: pytest.MonkeyPatch) -> None:
    now = 0.0

    def stream_generate(*args: Any, **kwargs: Any) -> Iterator[SimpleNamespace]:
        nonlocal now
        for token, seconds in enumerate([2.0, 0.5, 0.5, 0.5]):
            now += seconds
            yield SimpleNamespace(token=token, text=f" {token}")

    monkeypatch.setattr(demo, "stream_generate", stream_generate)
    monkeypatch.setattr(demo.time, "perf_counter", lambda: now)
    side = demo.Side()
    demo._generate(None, None, [0] * 100, 4, side)
    assert side.prefill == [50.0]
    assert side.decode == [2.0]
    assert (side.tokens, side.text) == ([0, 1, 2, 3], " 0 1 2 3")


def test_a_slow_side_stops_early(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(demo, "DECODE_SECONDS", 0.0)
    report = demo.run(**QUICK | {"tokens": 50})
    assert len(report.stock.tokens) == demo.MIN_DECODE + 1 == report.compared_tokens


def test_rounds_follow_from_the_first_stock_turn(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(demo, "MAX_ROUNDS", 2)
    monkeypatch.setattr(demo, "EXTRA_SECONDS", 1e9)
    assert len(demo.run(**QUICK | {"rounds": None}).stock.prefill) == 2
    monkeypatch.setattr(demo, "EXTRA_SECONDS", 0.0)
    assert len(demo.run(**QUICK | {"rounds": None}).stock.prefill) == 1


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
def test_float32_reference_leaves_the_model_as_it_was(tmp_path: Path, dtype: str) -> None:
    model = mlx_lm.load(str(write_model(tmp_path, "tiny", dtype=dtype)))[0]
    before = dict(tree_flatten(model.parameters()))
    with demo._as_float32(model):
        assert {x.dtype for _, x in tree_flatten(model.parameters())} == {mx.float32, mx.uint32}
    after = dict(tree_flatten(model.parameters()))
    assert before.keys() == after.keys()
    assert all(before[name].dtype == after[name].dtype for name in before)
    assert all(mx.array_equal(before[name], after[name]) for name in before)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"geometry": "huge"}, "unknown geometry"),
        ({"layers": 3}, "too few"),
        ({"prompt_tokens": 0}, "prompt-tokens is 0; it must be 1 or more"),
        ({"tokens": 1}, "tokens is 1; it must be 2 or more"),
        ({"rounds": 0}, "rounds is 0; it must be 1 or more"),
        ({"prompt_tokens": 10**7}, "the demo's text has"),
    ],
)
def test_wrong_arguments(cache: Path, arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(DeltamoeError, match=message):
        demo.run(**arguments)
    assert not list(cache.iterdir())


def test_too_little_memory_is_found_before_writing(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(demo.psutil, "virtual_memory", lambda: SimpleNamespace(available=24e9))
    monkeypatch.setattr(demo, "write_model", lambda *args: pytest.fail("33 GB would have been written"))
    assert demo._check_memory("397b-a17b", 4, "bfloat16") > 15e9  # the true shape fits in 24 GB
    with pytest.raises(DeltamoeError, match=r"397b-a17b with 8 layers needs .* choose fewer layers"):
        demo.run(geometry="397b-a17b", layers=8)
    assert not list(cache.iterdir())


def test_steps_are_lines_where_there_is_no_terminal() -> None:
    out = io.StringIO()
    with demo.progress(Console(file=out)) as step:
        step("write [it]", 2)
        step("load", 2)
    assert out.getvalue() == "[1] write [it]\n[2] load\n"


def shown(report: demo.Report) -> str:
    out = io.StringIO()
    demo.show(report, Console(file=out, width=200))
    return out.getvalue()
