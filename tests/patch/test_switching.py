"""Turning the patch on and off, for all models or one, and what the status says."""

from __future__ import annotations

import functools
import gc
import os
import subprocess
import sys
import threading
import timeit
import weakref
from collections.abc import Callable
from importlib import metadata
from typing import Any

import mlx.core as mx
import mlx.nn as nn
import pytest
from mlx_lm.models import qwen3_5, qwen3_next
from mlx_lm.models.switch_layers import SwiGLU
from rich.console import Console

import deltamoe
from deltamoe.patch import registry
from tests.patch.models import build, layers_of, share, tokens

CLASSES = (
    qwen3_5.DecoderLayer,
    qwen3_5.GatedDeltaNet,
    qwen3_5.TextModel,
    qwen3_next.Model,
    qwen3_next.Qwen3NextAttention,
    qwen3_next.Qwen3NextDecoderLayer,
    qwen3_next.Qwen3NextGatedDeltaNet,
    qwen3_next.Qwen3NextMLP,
    qwen3_next.Qwen3NextSparseMoeBlock,
)
OTHERS = (
    nn.QuantizedEmbedding,
    nn.QuantizedLinear,
    nn.RMSNorm,
    qwen3_5.Qwen3_5TextModel,
    qwen3_next.Qwen3NextModel,
    qwen3_next.Qwen3NextRMSNormGated,
)
MOE = "Qwen3NextSparseMoeBlock"


def functions(classes: tuple[type, ...] = CLASSES) -> list[Callable[..., Any]]:
    return [cls.__dict__["__call__"] for cls in classes]


STOCK = functions()


def is_stock() -> bool:
    return all(now is then for now, then in zip(functions(), STOCK, strict=True))


def test_the_very_functions_come_back() -> None:
    others = functions(OTHERS)
    assert is_stock()
    deltamoe.patch()
    assert not any(now is then for now, then in zip(functions(), STOCK, strict=True))
    assert functions(OTHERS) == others
    deltamoe.unpatch()
    assert is_stock()


def test_patching_twice_is_patching_once() -> None:
    deltamoe.patch()
    once = functions()
    deltamoe.patch()
    assert functions() == once
    deltamoe.unpatch()
    assert is_stock()
    deltamoe.unpatch()
    assert is_stock()


def test_contexts_nest() -> None:
    with deltamoe.patched():
        with deltamoe.patched():
            assert not is_stock()
        assert not is_stock()
        deltamoe.unpatch()
        assert is_stock()
        with deltamoe.patched():
            assert not is_stock()
        assert is_stock()
    assert is_stock()
    deltamoe.patch()
    with deltamoe.patched():
        deltamoe.unpatch()
    assert not is_stock()


def test_a_context_ends_with_an_exception() -> None:
    with pytest.raises(KeyError), deltamoe.patched():
        raise KeyError
    assert is_stock()


def test_one_model_of_two() -> None:
    one, two, prompt = build("qwen3_5_moe"), build("qwen3_5_moe", seed=1), tokens(1, 3)
    expected = two(prompt)
    deltamoe.patch(one)
    one(prompt)
    assert share(MOE) == (4, 0, [])
    assert mx.array_equal(two(prompt), expected)
    assert share(MOE) == (4, 4, ["not in the model given to patch()"])
    assert share(MOE, one) == (4, 0, [])
    assert share(MOE, two) == (0, 4, ["not in the model given to patch()"])

    with deltamoe.patched(two):
        assert share(MOE, one) == share(MOE, two) == (4, 0, [])
    assert share(MOE, one)[0] == 4
    assert share(MOE, two)[0] == 0
    with deltamoe.patched():
        assert share(MOE, two)[0] == 4
    assert share(MOE, two)[0] == 0

    deltamoe.patch()
    with deltamoe.patched(one):
        assert share(MOE, two)[0] == 4


@pytest.mark.parametrize("act", [deltamoe.patch, deltamoe.status])
def test_what_is_no_model(act: Callable[[Any], Any]) -> None:
    with pytest.raises(TypeError, match=r"a tuple, not an mlx\.nn\.Module.*mlx_lm\.load"):
        act((build("qwen3_5"), "tokenizer"))
    assert is_stock()


def test_status() -> None:
    model = build("qwen3_next")
    before = deltamoe.status(model)
    assert (before.patched, before.device, before.counted) == (False, "cpu", "modules")
    assert before.note is None
    assert share(MOE, model) == (0, 3, ["not patched"])
    deltamoe.patch()
    assert deltamoe.status().rows == ()
    assert "no calls" in str(deltamoe.status())
    layers_of(model, "self_attn")[0].q_proj = nn.Linear(128, 256, bias=False)
    inspected = deltamoe.status(model)
    assert inspected.patched
    assert inspected.note is None
    assert {row.part: (row.deltamoe, row.mlx_lm) for row in inspected.rows} == {
        "Model": (1, 0),
        "Qwen3NextAttention": (1, 0),
        "Qwen3NextAttention.q_proj": (0, 1),
        "Qwen3NextDecoderLayer": (4, 0),
        "Qwen3NextGatedDeltaNet": (3, 0),
        "Qwen3NextMLP": (4, 0),
        MOE: (3, 0),
    }
    model(tokens(1, 3))
    called = deltamoe.status()
    assert called.counted == "calls"
    assert share("Qwen3NextMLP") == (1, 0, [])  # the dense layer's: the shared experts are part of the MoE op
    assert share("Qwen3NextAttention.q_proj") == (0, 1, ["Linear is not QuantizedLinear"])
    text = str(called)
    assert "patched, device cpu" in text
    assert "Linear is not QuantizedLinear" in text
    console = Console(record=True, width=120, file=open(os.devnull, "w"))  # noqa: SIM115
    console.print(called)
    assert "Qwen3NextAttention.q_proj" in console.export_text()
    deltamoe.unpatch()
    assert share("Qwen3NextMLP") == (1, 0, [])  # what ran can still be read
    deltamoe.patch()
    assert deltamoe.status().rows == ()


@pytest.mark.parametrize("version", ["0.31.3", "0.33.0", None])
def test_an_unknown_mlx_lm_is_left_alone(version: str | None, monkeypatch: pytest.MonkeyPatch) -> None:
    def installed(name: str) -> str:
        if version is None:
            raise metadata.PackageNotFoundError(name)
        return version

    monkeypatch.setattr(metadata, "version", installed)
    with deltamoe.patched():
        assert is_stock()
        status = deltamoe.status(build("qwen3_5"))
    assert not status.patched
    assert status.note is not None
    assert (version or "not installed") in status.note
    assert status.note in str(status).replace("\n", " ")


def test_other_devices_are_left_to_mlx_lm(monkeypatch: pytest.MonkeyPatch) -> None:
    model = build("qwen3_5")
    deltamoe.patch()
    monkeypatch.setattr(mx, "default_device", lambda: mx.Device(mx.gpu))
    model(tokens(1, 3))
    status = deltamoe.status(model)
    assert status.device == "gpu"
    assert "mlx-lm runs its own code: deltamoe has kernels for the CPU only so far" in str(status)
    assert share("GatedDeltaNet", model) == (0, 3, ["deltamoe has kernels for the CPU only so far"])
    assert share("GatedDeltaNet")[0] == 0
    monkeypatch.undo()
    model(tokens(1, 3))
    assert share("GatedDeltaNet") == (3, 0, [])


def test_somebody_elses_replacement_stays(monkeypatch: pytest.MonkeyPatch) -> None:
    model = build("qwen3_5")
    own = qwen3_next.Qwen3NextMLP.__call__
    calls = []

    def theirs(self: nn.Module, x: mx.array) -> mx.array:
        calls.append("before")
        return own(self, x)

    monkeypatch.setattr(qwen3_next.Qwen3NextMLP, "__call__", theirs)
    with deltamoe.patched():
        model(tokens(1, 2))
        assert len(calls) == 4
        assert share("Qwen3NextMLP", model) == (0, 4, ["its __call__ had been replaced by other code"])
    assert qwen3_next.Qwen3NextMLP.__call__ is theirs


def test_somebody_elses_wrapper_stays() -> None:
    model = build("qwen3_5")
    calls = []
    deltamoe.patch()
    ours = qwen3_next.Qwen3NextMLP.__call__

    @functools.wraps(ours)
    def wrapper(self: nn.Module, x: mx.array) -> mx.array:
        calls.append(x)
        return ours(self, x)

    # Not by monkeypatch, which would bring back ours.
    qwen3_next.Qwen3NextMLP.__call__ = wrapper
    try:
        model(tokens(1, 2))
        assert share("Qwen3NextMLP") == (4, 0, [])
        deltamoe.unpatch()
        assert qwen3_next.Qwen3NextMLP.__call__ is wrapper
        model(tokens(1, 2))
        assert len(calls) == 8
        assert share("Qwen3NextMLP") == (4, 0, [])
    finally:
        qwen3_next.Qwen3NextMLP.__call__ = STOCK[CLASSES.index(qwen3_next.Qwen3NextMLP)]


def test_a_model_is_not_kept_alive() -> None:
    gc.disable()
    try:
        model = build("qwen3_5_moe")
        deltamoe.patch(model)
        model(tokens(1, 3))
        refs = [weakref.ref(module) for module in model.modules() if not isinstance(module, SwiGLU)]  # they share one
        del model
        assert [ref() for ref in refs if ref() is not None] == []
        assert not registry._decisions
    finally:
        gc.enable()


def test_other_threads_are_patched_too() -> None:
    model = build("qwen3_5")

    def run() -> None:
        mx.eval(model(tokens(1, 3)))

    with deltamoe.patched():
        thread = threading.Thread(target=run)
        thread.start()
        thread.join()
        assert share("GatedDeltaNet") == (3, 0, [])


def test_auto() -> None:
    code = (
        "import deltamoe, mlx_lm.models.qwen3_5 as q; stock = q.GatedDeltaNet.__call__\n"
        "import deltamoe.auto\n"
        "assert q.GatedDeltaNet.__call__ is not stock and deltamoe.status().patched\n"
        "deltamoe.unpatch(); assert q.GatedDeltaNet.__call__ is stock\n"
        "import deltamoe.patch.moe; assert callable(deltamoe.patch)\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True, env=os.environ)


def test_asking_is_cheap() -> None:
    """A decode step asks three times a layer: far below the 100 us and more that building its graph takes."""
    model = build("qwen3_5_moe")
    deltamoe.patch()
    model(tokens(1, 3))
    for module in (model.layers[0], *(layers_of(model, part)[0] for part in ("mlp", "self_attn", "linear_attn"))):
        ask = functools.partial(registry._decide, module, type(module))
        assert min(timeit.repeat(ask, number=100, repeat=20)) / 100 < 20e-6
