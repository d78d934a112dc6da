"""The command line: its own commands, mlx-lm's commands passed through, and errors of one line."""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace

import pytest

import deltamoe
from deltamoe import cli
from deltamoe.synthetic import GEOMETRIES, write_model

Run = Callable[..., tuple[int, str, str]]


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Run:
    """Run ``deltamoe ARGUMENTS``: exit code, stdout, stderr."""

    def call(*arguments: str) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["deltamoe", *arguments])
        with pytest.raises(SystemExit) as stop:
            cli.main()
        code = stop.value.code or 0
        assert isinstance(code, int)
        return code, *capsys.readouterr()

    return call


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_model(tmp_path_factory.mktemp("model") / "tiny", "tiny")


def test_version(run: Run) -> None:
    assert run("--version") == (0, f"{deltamoe.__version__}\n", "")


def test_help_names_commands_and_geometries(run: Run) -> None:
    _, out, _ = run("--help")
    for command in ("demo", "status", "features", *cli.MLX_LM_COMMANDS):
        assert command in out
    _, out, _ = run("demo", "--help")
    for geometry in GEOMETRIES:
        assert geometry in out


def test_features(run: Run) -> None:
    code, out, _ = run("features")
    assert code == 0
    assert deltamoe.cpu_features()["isa"] in out


@pytest.mark.parametrize(("name", "value"), [("DELTAMOE_THREADS", "0"), ("DELTAMOE_ISA", "vax")])
def test_a_setting_that_does_not_fit_is_one_line(name: str, value: str) -> None:
    """In a process of its own: settings are read once."""
    code = "import sys; sys.argv = ['deltamoe', 'features']; from deltamoe.cli import main; main()"
    environment = {**os.environ, name: value}
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert value in done.stderr
    assert "Traceback" not in done.stderr
    assert done.stderr.count("\n") == 1


def test_demo_prints_tables_and_writes_json(run: Run, tmp_path: Path) -> None:
    figures = tmp_path / "figures.json"
    code, out, err = run(
        *["demo", "--prompt-tokens", "4", "--tokens", "2", "--rounds", "1", "--dtype", "float32"],
        *["--model-dir", str(tmp_path / "model"), "--json", str(figures)],
    )
    assert code == 0
    assert "random weights" in out
    assert "[1] write the model" in err
    report = json.loads(figures.read_text())
    assert (report["model"]["geometry"], report["model"]["dtype"], report["prompt_tokens"]) == ("tiny", "float32", 4)
    assert len(report["stock"]["tokens"]) == 2


def test_status_of_a_model(run: Run, tiny: Path) -> None:
    code, out, _ = run("status", str(tiny))
    assert code == 0
    assert out.strip()


def test_generate_runs_mlx_lm(run: Run, tiny: Path) -> None:
    code, out, _ = run("generate", "--model", str(tiny), "--prompt", "Hello", "--max-tokens", "3")
    assert code == 0
    assert "Generation: " in out


@pytest.mark.parametrize("command", cli.MLX_LM_COMMANDS)
def test_arguments_reach_mlx_lm_untouched_and_patched(
    run: Run, monkeypatch: pytest.MonkeyPatch, command: str, tiny: Path
) -> None:
    patched = False
    seen = []

    @contextlib.contextmanager
    def patch() -> Iterator[None]:
        nonlocal patched
        patched = True
        yield
        patched = False

    modules = {f"mlx_lm.{command}": SimpleNamespace(main=lambda: seen.append((patched, list(sys.argv))))}
    monkeypatch.setattr(deltamoe, "patched", patch)
    monkeypatch.setattr(cli.importlib, "import_module", modules.__getitem__)
    arguments = ["--model", str(tiny), "-p", "a b", "--help", "--x=1", "--", "-y", "--version"]
    assert run(command, *arguments) == (0, "", "")
    assert seen == [(True, [f"deltamoe {command}", *arguments])]
    assert not patched
    assert sys.argv == ["deltamoe", command, *arguments]


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        ("demo --geometry huge", 1, "unknown geometry 'huge'; choose one of tiny,"),
        ("demo --layers 0", 1, "0 layers are too few"),
        ("demo --layers -1", 1, "-1 layers are too few"),
        ("demo --dtype int8", 1, "unknown dtype"),
        ("demo --rounds 0", 1, "rounds is 0"),
        ("demo --json missing/figures.json", 1, "missing/figures.json cannot be written"),
        ("status ./missing", 1, "./missing does not exist"),
        ("status a/b/c", 1, "a/b/c does not exist"),
        ("status .", 1, ". holds no config.json"),
        ("generate --model ./missing", 1, "./missing does not exist"),
        ("server --model=/missing", 1, "/missing does not exist"),
        ("chat --model .", 1, ". holds no config.json"),
    ],
)
def test_errors_of_a_person_are_one_line(
    run: Run, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, arguments: str, code: int, message: str
) -> None:
    monkeypatch.chdir(tmp_path)
    got, out, err = run(*arguments.split())
    assert got == code
    assert out == ""
    assert err.startswith(f"deltamoe: {message}")
    assert err.count("\n") == 1


@pytest.mark.parametrize("arguments", ["demo --layers many", "demo --no-such-option", "no-such-command", "status"])
def test_wrong_usage(run: Run, arguments: str) -> None:
    code, out, err = run(*arguments.split())
    assert (code, out) == (2, "")
    assert "Usage: deltamoe" in err
    assert "Traceback" not in err


def test_a_missing_weight_file_is_one_line(run: Run, tmp_path: Path, tiny: Path) -> None:
    (tmp_path / "config.json").write_text((tiny / "config.json").read_text())
    for arguments in (("status", str(tmp_path)), ("generate", "--model", str(tmp_path))):
        code, _, err = run(*arguments)
        assert code == 1
        assert err.splitlines()[-1].startswith("deltamoe: ")
        assert "No safetensors found" in err
        assert "Traceback" not in err


def test_a_model_dir_that_cannot_be_made_is_one_line(run: Run, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    code, out, err = run("demo", "--model-dir", str(tmp_path / "file" / "model"))
    assert (code, out) == (1, "")
    assert err.splitlines()[-1].startswith("deltamoe: demo: [Errno")
    assert "Traceback" not in err


def test_a_fault_of_ours_keeps_its_traceback(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken() -> None:
        raise ZeroDivisionError

    monkeypatch.setattr(deltamoe, "cpu_features", broken)
    with pytest.raises(ZeroDivisionError):
        run("features")
