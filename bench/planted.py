"""Does ``bench.pair`` see a slowdown of 5%, and does it cry wolf? ``python -m bench.planted``; fails with status 1.

Builds the kernels as they are, and again with a slowdown planted in ``qlinear``: two tasks of twenty multiply three
fifths of their rows twice, which is 6% more of the products and 5% of the time.
Then 20 runs of base against the slow build and, in turns with them, 20 against a copy of base, each a process of its
own. At least 19 of the first must report a loss and none of the second.
"""

from __future__ import annotations

import argparse
import json
import shutil
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

from bench.build import ROOT, build

SOURCES = ("CMakeLists.txt", "bench", "csrc", "metal")
PLACE = Path("csrc/cpu/qlinear.cpp")
LINE = "      kernel.multiply(w, packing, n0, n1, tiling.height(i), tiles + i * tile_bytes, part, chunk);\n"
AGAIN = "      if (task % 10 == 0) {\n  " + LINE.replace("n1,", "n0 + (n1 - n0) * 3 / 5,") + "      }\n"
CASE = "qlinear head 35B-A3B bf16, prefill of 8"  # 2,560 rows: 20 tasks of one thread
RUNS, WANTED = 20, 19


def builds(work: Path) -> tuple[Path, Path]:
    """Base and slow in ``work``; those that are there are used as they are."""
    base, slow = work / "base", work / "slow"
    if base.is_dir() and slow.is_dir():
        return base, slow
    source = work / "source"
    for name in SOURCES:
        (shutil.copytree if (ROOT / name).is_dir() else shutil.copy)(ROOT / name, _parent(source / name))
    text = (source / PLACE).read_text()
    if text.count(LINE) != 1:
        sys.exit(f"{PLACE} has changed: the line that bench/planted.py doubles is not in it once; name another there")
    for folder, changed in (base, text), (slow, text.replace(LINE, LINE + AGAIN)):
        (source / PLACE).write_text(changed)
        found = build(source, work / "build")
        folder.mkdir(parents=True)
        shutil.copy(found, folder)
    return base, slow


def run(base: Path, head: Path) -> dict[str, float]:
    """One run of ``bench.pair``, in a process of its own."""
    command = [sys.executable, "-m", "bench.pair", str(base), str(head), "--case", CASE, "--json"]
    done = subprocess.run(command, cwd=ROOT, stdout=subprocess.PIPE, text=True, check=False)
    if not done.stdout:
        sys.exit(f"{' '.join(command)} printed nothing")
    verdict: dict[str, float] = json.loads(done.stdout)[0]
    return verdict


def main() -> None:
    """Build, run, judge."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--work", type=Path, help="folder for the builds, kept and used again; else a temporary one")
    parser.add_argument("--runs", type=int, default=RUNS)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        work = arguments.work or Path(folder)
        print(f"building base and slow in {work} (minutes)", flush=True)
        base, slow = builds(work)
        same = Path(folder, "same")
        shutil.copytree(base, same)
        found: dict[str, list[dict[str, float]]] = {"slow": [], "same": []}
        for number in range(arguments.runs):
            for name, head in ("slow", slow), ("same", same):
                verdict = run(base, head)
                found[name].append(verdict)
                print(
                    f"{number + 1:2} {name}: head / base {verdict['ratio']:.4f} "
                    f"[{verdict['low']:.4f}, {verdict['high']:.4f}] {'LOSS' if verdict['loss'] else '-'}",
                    flush=True,
                )
    seen, alarms = (sum(bool(verdict["loss"]) for verdict in found[name]) for name in ("slow", "same"))
    for name, verdicts in found.items():
        ratios = sorted(verdict["ratio"] for verdict in verdicts)
        print(f"{name}: ratio {statistics.median(ratios):.4f}, from {ratios[0]:.4f} to {ratios[-1]:.4f}")
    print(f"planted slowdown seen in {seen} of {arguments.runs}; alarms without one: {alarms} of {arguments.runs}")
    sys.exit(seen < arguments.runs * WANTED / RUNS or alarms > 0)


def _parent(path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    return path


if __name__ == "__main__":
    main()
