"""``deltamoe track report`` and ``summary``: what they say of made-up runs, and the page in a real browser."""

from __future__ import annotations

import base64
import hashlib
import importlib.util
import io
import itertools
import os
import re
import shutil
from collections.abc import Callable, Iterator, Sequence
from html.parser import HTMLParser
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from rich.console import Console

from deltamoe import cli
from deltamoe.track import store as storing
from deltamoe.track.report import chart, quantity, terminal
from deltamoe.track.report.page import render
from deltamoe.track.report.series import Case, Machine, Point, find_changes, machines
from deltamoe.track.store import Measurement, Run, Store

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

EPYC = {"cpu": "AMD EPYC", "cores": 2, "memory": 23, "gpu": None, "system": "Linux", "architecture": "x86_64"}
HOSTILE = (
    "</script><script>window.pwned=1</script><img src=x onerror=window.pwned=1>'\"&{{7*7}}\x1b[31m\ud800" + 300 * "x"
)
CHROMIUM = ("chromium", "chromium-browser", "google-chrome")
NUMBER_OF_RUNS = 16
JUMP = 9  # the index of the run from which decoding is faster


def run_of(number: int, **facts: Any) -> Run:
    options = {"revision": f"{number:02x}" * 20, "dirty": False, "machine": "m0", "machine_facts": EPYC}
    return Run(**{**options, "state": "done", "started": f"2026-01-{number:02d}T10:00:00+00:00", "id": number, **facts})


def points(medians: Sequence[float]) -> list[Point]:
    return [Point(run_of(i + 1), (float(median),), False, {}) for i, median in enumerate(medians)]


def scattered(rng: np.random.Generator, level: float, scatter: float = 0.008) -> list[float]:
    return [float(x) for x in level * np.exp(rng.normal(0, scatter, 8) + rng.normal(0, scatter))]


def fill(store: Store) -> None:
    """Two sizes of a model and two kernels, over 16 runs: decoding became 20% faster, deep in a text slower, a prefill
    faster on both sides."""
    rng = np.random.default_rng(0)
    for i in range(NUMBER_OF_RUNS):
        run = store.add_run(run_of(i + 1, versions={"mlx": "0.32.4"}, state="running"))
        faster = 1.2 if i >= JUMP else 1.0
        levels = {
            ("decode at 0", "patched"): 40 * faster,
            ("decode at 0", "stock"): 0.2,
            ("decode at 1024", "patched"): 38 if i < JUMP - 3 else 34,
            ("prefill of 128", "patched"): 400 * faster,
            ("prefill of 128", "stock"): 0.5 * faster,
        }
        for (name, side), level in levels.items():
            settings = {"model": "qwen", "model_hash": "abc", "dtype": "bfloat16", "prompt": int(name.split()[-1])}
            last = i == NUMBER_OF_RUNS - 1 and name == "decode at 1024"
            notes = {"drift": "-7% from the first half to the last"} if last else {}
            store.add(run, Measurement(name, side, "tok/s", True, settings, scattered(rng, level), [], last, notes))
        for name, side, seconds in (("moe", "deltamoe", 2e-4), ("moe", "stock", 8e-3), ("qlinear", "deltamoe", 9e-5)):
            notes = {"limit": {"value": 1e-4, "what": "read bandwidth 41 GB/s"}}
            samples = scattered(rng, seconds)
            store.add(run, Measurement(name, side, "s", False, {"threads": 2}, samples, [], False, notes))
        store.finish(run, "interrupted" if i == 3 else "done")


@pytest.fixture(scope="module")
def database(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("report") / "track.db"
    with Store.open(path) as store:
        fill(store)
    return path


@pytest.fixture(scope="module")
def found(database: Path) -> list[Machine]:
    with Store.open(database) as store:
        return machines(store.runs(), store.measurements())


@pytest.fixture(scope="module")
def hostile() -> list[Machine]:
    """Everything that a database may hold as text is somebody else's markup; figures are strange too."""
    runs = [
        run_of(
            i + 1,
            revision=HOSTILE,
            machine=f"{HOSTILE}{i % 2}",
            machine_facts=dict.fromkeys(EPYC, HOSTILE),
            versions={HOSTILE: HOSTILE},
            started=HOSTILE,
            state=HOSTILE,
            notes={"drift": HOSTILE, "clock": HOSTILE},
        )
        for i in range(NUMBER_OF_RUNS)
    ]
    measurements = []
    for run in runs:
        level = 1e-9 if run.id < NUMBER_OF_RUNS / 2 else 1e12
        for model, notes in ((HOSTILE, {"drift": HOSTILE}), ("", {"limit": {"value": 3.0, "what": HOSTILE}})):
            settings = {
                "model": model,
                "model_hash": HOSTILE,
                HOSTILE: HOSTILE,
                "n": run.id % 2,
                "list": [HOSTILE, None],
            }
            samples = [level, 2 * level, float("nan"), -1.0]
            for side in (HOSTILE, "stock"):
                measurements.append(
                    Measurement(HOSTILE, side, HOSTILE, True, settings, samples, [], True, notes, run.id)
                )
        measurements.append(Measurement("empty", "patched", "s", False, {}, [], run_id=run.id))
    return machines(runs, measurements)


def case_of(found: list[Machine], label: str) -> Case:
    return next(case for machine in found for group in machine.groups for case in group.cases if case.label == label)


class TestSeries:
    def test_groups_cases_and_sides(self, found: list[Machine]) -> None:
        (machine,) = found
        assert (machine.name, machine.about) == ("AMD EPYC", "2 cores, 23 GiB of memory, Linux, x86_64")
        model, kernels = machine.groups
        assert [case.label for case in model.cases] == ["decode at 0", "decode at 1024", "prefill of 128"]
        assert model.common == {"dtype": "bfloat16"}
        assert (model.model, kernels.model) == ("qwen", "")
        assert [series.side for series in model.cases[0].series] == ["patched", "stock"]
        assert len(model.cases[0].main.points) == NUMBER_OF_RUNS

    def test_patched_comes_first_and_stock_last(self) -> None:
        sides = ["zeta", "stock", "alpha", "patched"]
        (machine,) = machines([run_of(1)], [Measurement("op", side, "s", False, {}, [1.0], run_id=1) for side in sides])
        assert [each.side for each in machine.groups[0].cases[0].series] == ["patched", "alpha", "zeta", "stock"]

    def test_models_come_by_their_numbers(self) -> None:
        taken = [Measurement("op", "a", "s", False, {"model": name}, [1.0], run_id=1) for name in ("122B", "27B", "")]
        (machine,) = machines([run_of(1)], taken)
        assert [group.model for group in machine.groups] == ["27B", "122B", ""]

    def test_names_that_repeat_get_the_settings_that_differ(self) -> None:
        sizes = [
            {"dtype": "float32", "rows": rows, "fused": fused} for rows, fused in ((8, True), (16, True), (8, False))
        ]
        (machine,) = machines([run_of(1)], [Measurement("op", "a", "s", False, s, [1.0], run_id=1) for s in sizes])
        labels = [case.label for case in machine.groups[0].cases]
        assert labels == ["op, rows 8, fused false", "op, rows 8, fused true", "op, rows 16, fused true"]

    def test_ratio_to_stock_is_of_speeds(self, found: list[Machine]) -> None:
        decode, kernel = case_of(found, "decode at 0"), case_of(found, "moe")
        assert decode.speed(decode.main) == pytest.approx(240, rel=0.1)
        assert kernel.speed(kernel.main) == pytest.approx(40, rel=0.1)
        assert decode.speed(decode.series[1]) is None
        assert (alone := case_of(found, "decode at 1024")).speed(alone.main) is None

    def test_share_of_the_limit(self, found: list[Machine]) -> None:
        for label, share in (("moe", 0.5), ("qlinear", 1.11)):
            case = case_of(found, label)
            limit = case.limit(case.main.latest)
            assert limit is not None
            assert case.share(case.main.latest.median, limit) == pytest.approx(share, rel=0.05)

    def test_last_runs_of_each_machine(self) -> None:
        runs = [run_of(i, machine=f"m{i % 2}") for i in range(1, 11)]
        kept = machines(runs, [Measurement("x", "a", "s", False, {}, [1.0], run_id=i) for i in range(1, 11)], last=2)
        assert [[run.id for run in machine.runs] for machine in kept] == [[7, 9], [8, 10]]
        assert [len(machine.groups[0].cases[0].main.points) for machine in kept] == [2, 2]
        assert [machine.run_count for machine in kept] == [5, 5]
        assert kept[0].name != kept[1].name  # though their facts are equal

    @pytest.mark.parametrize("higher_is_better", [True, False])
    def test_a_planted_change_is_found_where_it_is(self, higher_is_better: bool) -> None:
        rng = np.random.default_rng(1)
        right = 0
        for _ in range(40):
            medians = 100 * np.exp(rng.normal(0, 0.01, 24))
            medians[15:] *= 0.95
            changes = find_changes(points(medians), higher_is_better=higher_is_better)
            right += [abs(change.index - 15) <= 1 for change in changes] == [True]
            for change in changes[:1]:
                assert change.relative == pytest.approx(-0.05, abs=0.02)
                assert change.faster is not higher_is_better
                assert change.run.id == change.index + 1
        assert right >= 38

    @pytest.mark.parametrize("length", [8, 16, 60])
    def test_noise_seldom_is_a_change(self, length: int) -> None:
        rng = np.random.default_rng(2)
        alarms = sum(
            bool(find_changes(points(100 * np.exp(rng.normal(0, 0.01, length))), higher_is_better=True))
            for _ in range(200)
        )
        assert alarms <= 6

    def test_few_runs_odd_runs_and_quiet_machines_have_no_change(self) -> None:
        for medians in ([1, 1, 1, 9, 9, 9, 9], [5.0] * 20, [5, 5, 5, 5, 5, 9, 5, 5, 5, 5], [5.0] * 10 + [5.01] * 10):
            assert find_changes(points(medians), higher_is_better=True) == ()

    def test_stock_that_changed_too_is_told(self, found: list[Machine]) -> None:
        decode, prefill = case_of(found, "decode at 0"), case_of(found, "prefill of 128")
        assert [len(case.main.changes) for case in (decode, prefill)] == [1, 1]
        assert not decode.stock_changed_too(decode.main.changes[0])
        assert prefill.stock_changed_too(prefill.main.changes[0])


class TestQuantity:
    @pytest.mark.parametrize(
        ("value", "unit", "text"),
        [
            (0.1697, "tok/s", "0.170 tok/s"),
            (40.81, "tok/s", "40.8 tok/s"),
            (99.96, "tok/s", "100 tok/s"),
            (12345.6, "tok/s", "12,346 tok/s"),
            (0.00032, "s", "320 µs"),
            (4.2e-8, "s", "42.0 ns"),
            (75.0, "s", "75.0 s"),
        ],
    )
    def test_values(self, value: float, unit: str, text: str) -> None:
        assert quantity.scale(value, unit).text(value) == text

    def test_shares_and_changes(self) -> None:
        assert [quantity.percent(x) for x in (0.004, 0.0995, 0.62, 1.15)] == ["0.4%", "10%", "62%", "115%"]
        assert [quantity.change(x) for x in (0.051, -0.051, 0.0)] == ["+5.1%", "−5.1%", "+0%"]  # noqa: RUF001


class TestChart:
    def test_lies_within_its_frame_and_the_band_around_the_line(self, found: list[Machine]) -> None:
        group = found[0].groups[0]
        drawn = chart.draw(group.cases[0], group.runs)
        assert [plot.side for plot in drawn.plots] == ["patched", "stock"]
        for plot in drawn.plots:
            band, line = (np.array(re.findall(r"([\d.]+) ([\d.]+)", path), float) for path in (plot.band, plot.line))
            upper, lower = band[: len(line)], band[len(line) :][::-1]
            assert np.all(upper[:, 1] <= line[:, 1])
            assert np.all(line[:, 1] <= lower[:, 1])
            assert np.all(np.diff(line[:, 0]) > 0)
            assert np.all((band[:, 1] >= plot.top) & (band[:, 1] <= plot.bottom))
            assert np.all((band[:, 0] >= drawn.left) & (band[:, 0] <= drawn.right))
            assert all(plot.top <= tick.y <= plot.bottom for tick in plot.ticks)
            assert len(plot.ticks) >= 2
        assert drawn.plots[0].bottom < drawn.plots[1].top < drawn.height

    def test_a_faster_run_is_higher_up_by_the_axis(self, found: list[Machine]) -> None:
        group = found[0].groups[0]
        plot = chart.draw(group.cases[0], group.runs).plots[0]
        assert plot.dots[JUMP].y < plot.dots[JUMP - 1].y
        marks = [(float(tick.text), tick.y) for tick in plot.ticks]
        (low, y_low), (high, y_high) = marks[0], marks[-1]
        for point, dot in zip(group.cases[0].main.points, plot.dots, strict=True):
            assert low + (y_low - dot.y) * (high - low) / (y_low - y_high) == pytest.approx(point.median, rel=0.002)

    def test_a_change_is_annotated_between_its_runs(self, found: list[Machine]) -> None:
        group = found[0].groups[0]
        plot = chart.draw(group.cases[0], group.runs).plots[0]
        (note,) = plot.annotations
        assert plot.dots[JUMP - 1].x < note.x < plot.dots[JUMP].x
        assert note.faster
        assert re.fullmatch(r"▲ \+\d\d(\.\d)?% 0a0a0a0", note.label.text)

    def test_annotations_do_not_overlap(self) -> None:
        levels = np.repeat([10.0, 12, 10, 12, 10], 8)
        measurements = [Measurement("x", "a", "u", True, {}, [v], run_id=i + 1) for i, v in enumerate(levels)]
        (machine,) = machines([run_of(i + 1) for i in range(len(levels))], measurements)
        plot = chart.draw(machine.groups[0].cases[0], machine.runs).plots[0]
        assert len(plot.annotations) == 4
        boxes = [
            (note.label.x, note.label.x + chart.LETTER * len(note.label.text), note.label.y)
            for note in plot.annotations
        ]
        assert all(left >= 0 and right <= chart.WIDTH for left, right, _ in boxes)
        for (left, right, y), (other_left, other_right, other_y) in itertools.combinations(boxes, 2):
            assert y != other_y or right <= other_left or other_right <= left
        assert max(y for *_, y in boxes) < plot.top

    def test_hardly_differing_values_look_so(self) -> None:
        low, high = chart.value_range([100.0, 100.1])
        assert high - low > 5
        assert set(terminal.sparkline(points([100, 100.1, 99.9]))) <= set("▄▅")
        assert terminal.sparkline(points([1, 2, 3])) == "▁▅█"


class Tags(HTMLParser):
    """The elements of a page and their attributes."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.found: list[tuple[str, dict[str, str | None]]] = []
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found.append((tag, dict(attrs)))


class TestPage:
    @pytest.mark.parametrize("which", ["found", "hostile"])
    def test_is_self_contained_and_runs_its_own_script_only(self, which: str, request: pytest.FixtureRequest) -> None:
        page = render(request.getfixturevalue(which))
        tags = Tags(page).found
        assert [tag for tag, _ in tags].count("script") == 1
        assert {"img", "iframe", "object", "base", "form"}.isdisjoint(tag for tag, _ in tags)
        for tag, attributes in tags:
            assert not [name for name in attributes if name.startswith("on")]
            for name in {"src", "href", "action"} & set(attributes):
                value = attributes[name] or ""
                assert value.startswith("#case-") or (tag, value) == ("link", "data:,")
        assert "http:" not in page
        assert "https:" not in page
        script = page[page.index("<script>") + len("<script>") : page.index("</script>")]
        policy = next(attributes["content"] or "" for _, attributes in tags if attributes.get("http-equiv"))
        digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
        assert f"script-src 'sha256-{digest}'" in policy
        assert "default-src 'none'" in policy

    def test_every_link_leads_somewhere(self, found: list[Machine]) -> None:
        tags = Tags(render(found)).found
        anchors = {attributes["id"] for _, attributes in tags if "id" in attributes}
        links = {(attributes["href"] or "").removeprefix("#") for tag, attributes in tags if tag == "a"}
        assert links
        assert links <= anchors

    def test_says_what_changed_and_what_is_doubtful(self, found: list[Machine]) -> None:
        page = render(found)
        news = re.sub(r"\s+", " ", page[page.index("What changed") : page.index("<h2>AMD EPYC</h2>")])
        assert (news.count("▲ faster"), news.count("▼ slower")) == (2, 1)
        assert news.count("stock too: the machine, perhaps") == 1
        for text in (
            "drift: -7% from the first half to the last",
            ">noisy<",
            ">interrupted<",
            "read bandwidth 41 GB/s",
        ):
            assert text in page

    @pytest.mark.parametrize(
        ("runs", "text"), [([], "holds no run"), ([run_of(1)], "The runs in the database hold no measurement")]
    )
    def test_nothing_measured(self, runs: list[Run], text: str) -> None:
        page = render(machines(runs, []))
        assert text in page
        assert "deltamoe track record --model PATH" in page
        assert "<table" not in page

    def test_one_run_with_one_sample(self) -> None:
        page = render(machines([run_of(1)], [Measurement("decode", "patched", "tok/s", True, {}, [3.0], run_id=1)]))
        assert "No change of level was found. It takes" in page


def shown(found: list[Machine], encoding: str = "utf-8", width: int = 110) -> str:
    raw = io.BytesIO()
    file = io.TextIOWrapper(raw, encoding=encoding)
    terminal.show(found, Console(file=file, width=width))
    file.flush()
    return raw.getvalue().decode(encoding)


class TestSummary:
    def test_shows_trends_and_figures(self, found: list[Machine]) -> None:
        text = shown(found)
        (row,) = [line for line in text.splitlines() if line.strip().startswith("decode at 0")]
        assert re.search(r"patched +[▁▂▃]{9}[▅▆▇█]{7} +4\d\.\d tok/s +±\d\.\d% +\d+\S +▲ \+\d+(\.\d)?%", row), row
        assert re.search(r"decode at 1024 +patched .* noisy ±", text)
        assert re.search(r"qlinear +deltamoe .* 1\d\d%", text)

    @pytest.mark.parametrize("width", [60, 80, 100, 140])
    def test_fits_the_terminal(self, found: list[Machine], width: int) -> None:
        lines = shown(found, width=width).splitlines()
        assert max(map(len, lines)) <= width
        assert "…" not in "".join(lines)
        assert any("decode at 0 " in line and " patched " in line and "tok/s " in line for line in lines)

    def test_plain_terminal(self, found: list[Machine]) -> None:
        assert re.search(r"decode at 0 .*[_.^-]{16}.* \+-\d\.\d% .*x .*\^ \+", shown(found, "ascii"))

    @pytest.mark.parametrize("encoding", ["utf-8", "ascii", "latin-1"])
    def test_no_control_code_reaches_the_terminal(self, hostile: list[Machine], encoding: str) -> None:
        assert "\x1b" not in shown(hostile, encoding)

    def test_nothing_measured(self) -> None:
        assert "deltamoe track record --model" in shown([])


class TestCommands:
    @pytest.fixture
    def deltamoe(self, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Callable[..., str]:
        def command(*arguments: str | Path, code: int = 0) -> str:
            monkeypatch.setattr("sys.argv", ["deltamoe", "track", *map(str, arguments)])
            with pytest.raises(SystemExit) as exit:
                cli.main()
            output = capsys.readouterr()
            assert (exit.value.code or 0) == code, output
            return output.err if code else output.out

        return command

    def test_report(self, deltamoe: Callable[..., str], database: Path, tmp_path: Path) -> None:
        file = tmp_path / "page.html"
        assert str(file) in deltamoe("report", "--db", database, "-o", file, "--last", 5)
        page = file.read_text()
        assert f"the latest 5 runs of {NUMBER_OF_RUNS}" in page
        assert "decode at 1024" in page

    def test_summary(self, deltamoe: Callable[..., str], database: Path) -> None:
        assert "prefill of" in deltamoe("summary", "--db", database)

    def test_no_database_yet(
        self, deltamoe: Callable[..., str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(storing, "default_path", lambda: tmp_path / "none" / "track.db")
        deltamoe("report", "-o", tmp_path / "page.html")
        assert "Nothing measured yet" in (tmp_path / "page.html").read_text()
        assert "Nothing is recorded yet" in deltamoe("summary")
        assert not (tmp_path / "none").exists()

    def test_a_database_that_is_not_there(self, deltamoe: Callable[..., str], tmp_path: Path) -> None:
        for name in "report", "summary":
            assert "typo.db does not exist" in deltamoe(name, "--db", tmp_path / "typo.db", code=1)
        assert not list(tmp_path.iterdir())

    @pytest.mark.parametrize("name", ["", "missing/page.html"])
    def test_a_page_that_cannot_be_written(self, deltamoe: Callable[..., str], tmp_path: Path, name: str) -> None:
        assert "cannot be written" in deltamoe("report", "-o", tmp_path / name, code=1)

    def test_half_a_surrogate_pair_and_a_run_that_was_killed(
        self, deltamoe: Callable[..., str], tmp_path: Path
    ) -> None:
        file = tmp_path / "page.html"
        with Store.open(tmp_path / "track.db") as store:
            run = store.add_run(run_of(1, state="running", notes={"process": {"pid": 2**22 + 1, "created": 0.0}}))
            store.add(run, Measurement("x", "a", "s", False, {"model": "\ud83d"}, [1.0]))
        deltamoe("report", "--db", tmp_path / "track.db", "-o", file)
        assert ">interrupted<" in file.read_text(encoding="utf-8")
        assert "x" in deltamoe("summary", "--db", tmp_path / "track.db")


def why_no_browser() -> str | None:
    """Why the page cannot be tried in a browser here, or None."""
    if not any(map(shutil.which, CHROMIUM)):
        return "chromium is missing (Debian: apt-get install chromium): THE REPORT IS TRIED IN NO BROWSER"
    if importlib.util.find_spec("playwright") is None:
        return "playwright is missing (pip install playwright): THE REPORT IS TRIED IN NO BROWSER"
    return None


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    if reason := why_no_browser():
        pytest.skip(reason)
    from playwright.sync_api import sync_playwright

    path = next(filter(None, map(shutil.which, CHROMIUM)))
    arguments = ["--no-sandbox"] if os.geteuid() == 0 else []  # which Chromium's sandbox does not allow
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=path, args=arguments, timeout=120_000)
        yield browser
        browser.close()


Open = Callable[..., "Page"]


@pytest.fixture
def open_page(browser: Browser, tmp_path: Path) -> Iterator[Open]:
    """Opens a report; at the end there was no error, no word on the console and no request but for the file."""
    heard: list[str] = []
    asked: list[str] = []
    contexts = []

    def opened(found: list[Machine], **options: Any) -> Page:
        file = tmp_path / "report.html"
        file.write_text(render(found), encoding="utf-8", errors="replace")
        contexts.append(browser.new_context(**{"viewport": {"width": 1280, "height": 900}, **options}))
        page = contexts[-1].new_page()
        page.on("console", lambda message: heard.append(message.text))
        page.on("pageerror", lambda error: heard.append(str(error)))
        page.on("request", lambda request: asked.append(request.url))
        page.goto(file.as_uri())
        return page

    yield opened
    for context in contexts:
        context.close()
    assert heard == []
    assert {url for url in asked if not url.startswith("data:")} == {(tmp_path / "report.html").as_uri()}


def column(page: Page, name: str) -> list[str]:
    """What the visible rows of the table say in a column."""
    names = [text.strip() for text in page.locator("#figures th").all_inner_texts()]
    return page.locator(f"#figures tbody tr:visible td:nth-child({names.index(name) + 1})").all_inner_texts()


def overflow(page: Page) -> float:
    """By how many pixels the page is wider than the window."""
    return page.evaluate("document.documentElement.scrollWidth - window.innerWidth")


class TestBrowser:
    def test_charts_are_drawn(self, open_page: Open, found: list[Machine]) -> None:
        page = open_page(found)
        assert page.locator("svg.chart").count() == 3
        assert page.locator(".kernel .bar").count() == 3
        for path in page.locator("svg.chart path, svg.chart .change line").all():
            box = path.bounding_box()
            assert box is not None
            assert max(box["width"], box["height"]) > 20
        widths = [bar.bounding_box()["width"] for bar in page.locator(".kernel .fill").all()]  # type: ignore[index]
        tracks = [bar.bounding_box()["width"] for bar in page.locator(".kernel .track").all()]  # type: ignore[index]
        shares = [width / track for width, track in zip(widths, tracks, strict=True)]
        assert shares == pytest.approx([0.5, 0.0125, 1.11], rel=0.1)

    def test_table_sorts_by_mouse(self, open_page: Open, found: list[Machine]) -> None:
        page = open_page(found)
        heading = page.get_by_role("columnheader", name="Against stock")
        assert heading.get_attribute("aria-sort") is None
        for direction, reverse in (("ascending", False), ("descending", True), ("ascending", False)):
            heading.get_by_role("button").click()
            assert heading.get_attribute("aria-sort") == direction
            texts = column(page, "Against stock")
            ratios = [float(text.rstrip("×").replace(",", "")) for text in texts if text != "–"]  # noqa: RUF001
            assert ratios == sorted(ratios, reverse=reverse)
            assert len(set(ratios)) == 3
            assert set(texts[3:]) == {"–"}, "rows without a figure come last"  # noqa: RUF001
        page.get_by_role("columnheader", name="Latest").get_by_role("button").click()
        assert heading.get_attribute("aria-sort") is None
        assert [text.split()[1] for text in column(page, "Latest")[:3]] == ["µs", "µs", "ms"]

    def test_table_sorts_by_keyboard(self, open_page: Open, found: list[Machine]) -> None:
        page = open_page(found)
        page.get_by_role("searchbox").focus()
        for _ in range(2):  # past the column of models
            page.keyboard.press("Tab")
        for key, reverse in (("Enter", False), ("Space", True)):
            page.keyboard.press(key)
            names = column(page, "What")
            assert names == sorted(names, reverse=reverse)
        focused = page.evaluate("getComputedStyle(document.activeElement).outlineStyle")
        assert focused == "solid"

    def test_search(self, open_page: Open, found: list[Machine]) -> None:
        page = open_page(found)
        page.get_by_role("searchbox").fill("STOCK decode")
        assert column(page, "What") == ["decode at 0"]
        assert page.locator("#filter output").inner_text() == "1 of 8"
        page.get_by_role("searchbox").fill("")
        assert len(column(page, "What")) == 8

    def test_theme(self, open_page: Open, found: list[Machine]) -> None:
        def background(page: Page) -> int:
            colour = page.evaluate("getComputedStyle(document.body).backgroundColor")
            return sum(map(int, re.findall(r"\d+", colour)[:3]))

        page = open_page(found, color_scheme="light")
        dark = open_page(found, color_scheme="dark")
        assert background(page) > 600
        assert background(dark) < 150
        page.get_by_label("Theme").select_option("dark")
        assert background(page) == background(dark)
        page.reload()
        assert background(page) == background(dark), "the choice must be remembered"
        page.get_by_label("Theme").select_option("")
        assert background(page) > 600

    @pytest.mark.parametrize("scheme", ["light", "dark"])
    def test_contrast(self, open_page: Open, found: list[Machine], scheme: str) -> None:
        page = open_page(found, color_scheme=scheme)
        pairs = page.evaluate(
            """() => [...document.querySelectorAll('p, li, h2, b, td, button, .badge, .readout, svg text')].map((e) => {
              const style = getComputedStyle(e);
              let behind = e;
              while (getComputedStyle(behind).backgroundColor === 'rgba(0, 0, 0, 0)') behind = behind.parentElement;
              const ink = e.closest('svg') ? style.fill : style.color;
              return [ink, getComputedStyle(behind).backgroundColor, e.textContent];
            })"""
        )

        def luminance(colour: str) -> float:
            parts = [int(x) / 255 for x in re.findall(r"\d+", colour)[:3]]
            linear = [x / 12.92 if x <= 0.04045 else ((x + 0.055) / 1.055) ** 2.4 for x in parts]
            return float(np.dot(linear, [0.2126, 0.7152, 0.0722]))

        assert len(pairs) > 50
        for ink, paper, text in pairs:
            dark, light = sorted((luminance(ink), luminance(paper)))
            assert (light + 0.05) / (dark + 0.05) >= 4.5, (ink, paper, text)

    @pytest.mark.parametrize("which", ["found", "hostile", "nothing"])
    @pytest.mark.parametrize("width", [390, 700, 1280])
    def test_no_sideways_scroll(self, open_page: Open, which: str, width: int, request: pytest.FixtureRequest) -> None:
        page = open_page(
            [] if which == "nothing" else request.getfixturevalue(which), viewport={"width": width, "height": 844}
        )
        assert overflow(page) <= 0
        for element in page.locator("details").all():
            element.evaluate("(element) => { element.open = true; }")
        assert overflow(page) <= 0

    def test_phone(self, open_page: Open, found: list[Machine]) -> None:
        page = open_page(found, viewport={"width": 390, "height": 844}, has_touch=True, is_mobile=True)
        assert overflow(page) <= 0
        table = page.locator(".sideways")
        assert table.evaluate("(element) => element.scrollWidth - element.clientWidth") <= 0
        readout = page.locator(".readout").first
        before = readout.inner_text()
        page.locator(".panel").first.locator(".strip").nth(2).tap()
        assert readout.inner_text() != before
        assert readout.inner_text().startswith("0303030303, 2026-01-03: patched ")
        page.get_by_role("columnheader", name="What").get_by_role("button").tap()
        names = column(page, "What")
        assert names == sorted(names)
        sizes = page.evaluate(
            """() => [...document.querySelectorAll('.panel:first-child svg text')].map((e) => {
              const box = e.getBoundingClientRect();
              return [box.left, box.right, box.height];
            })"""
        )
        assert all(left >= 0 and right <= 390 and height >= 10 for left, right, height in sizes)

    def test_markup_of_others_stays_text(self, open_page: Open, hostile: list[Machine]) -> None:
        page = open_page(hostile)
        page.mouse.move(600, 600)
        assert page.evaluate("window.pwned") is None
        assert page.locator("img").count() == 0
        assert "<script>window.pwned=1</script>" in page.locator("h2").nth(1).inner_text()
        assert "{{7*7}}" in page.locator("h2").nth(1).inner_text()

    def test_nothing_measured(self, open_page: Open) -> None:
        page = open_page([])
        assert page.get_by_role("heading", name="Nothing measured yet").is_visible()

    def test_without_script(self, open_page: Open, found: list[Machine]) -> None:
        page = open_page(found, java_script_enabled=False)
        assert page.locator("#figures tbody tr").count() == 8
        assert not page.get_by_role("searchbox").is_visible()
        assert not page.get_by_label("Theme").is_visible()
