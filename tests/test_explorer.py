"""The explorer: what its pages show is what the library computes, and in a real browser a slider moves the curve.

The browser test needs the extra [explore], playwright, and a chromium; it skips where one is missing and says which.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

import lossflow as lf
from lossflow.explore import mean_field, quadratic, regimes, server
from lossflow.explore.pictures import side_by_side

MATRIX = regimes.CASES["order 2, one matrix"]
BROWSERS = ("chromium", "chromium-browser", "google-chrome")
FLAGS = (
    "--headless --no-sandbox --disable-gpu --disable-quic --no-first-run --disable-background-networking "
    "--disable-component-update --disable-sync"
)
PATIENCE = 240_000  # milliseconds: two cores that others use as well


def shown(picture: str) -> str:
    found = re.match(r'<div class="picture" data-name="(\w+)" role="img" aria-label="[^"]+"', picture)
    assert found
    assert picture.count("<svg") == picture.count("</svg>") == 1
    assert "width=" not in picture[picture.index("<svg") :].partition(">")[0]
    return found[1]


@pytest.mark.parametrize(
    ("h", "v", "name"),
    [(1.0, -1.0, "A-B-E"), (0.5, 0.0, "A"), (1.5, 0.0, "B"), (0.5, -2.0, "E"), (1.0, 0.0, "A-B"), (0.5, -1.0, "E-A")],
)
def test_the_point_lies_in_its_regime(h: float, v: float, name: str) -> None:
    """Order 2: A for H < p and sigma2 > 1/p, B for H > p and sigma2 > 1/H (here p = L), E below both."""
    assert regimes.place(MATRIX, h, v).regime.name == name
    assert f"**{name}**" in regimes.about(MATRIX, h, v)


def test_sizes_are_powers_of_p() -> None:
    assert regimes.sizes_at(16, 0.5, -1) == {"p": 16, "H": 4, "sigma2": 1 / 16}
    assert regimes.sizes_at(4, 0.1, 1)["H"] == 1


def test_map_and_polygon_follow_the_point() -> None:
    here = regimes.scaling_map(MATRIX, 1.0, -1.0), regimes.polygon(MATRIX, 1.0, -1.0)
    there = regimes.scaling_map(MATRIX, 1.0, -2.0), regimes.polygon(MATRIX, 1.0, -2.0)
    assert [shown(picture) for picture in here] == ["map", "polygon"]
    assert here[0] != there[0]
    assert here[1] != there[1]
    assert here[1] == regimes.polygon(MATRIX, 1.0, -1.0)
    assert "E lead." in there[1]


def test_the_point_is_drawn_where_it_is() -> None:
    """Against the ticks of the axes, which the drawing names by their places: the left end is h = 0, the top v = 1."""

    def center(h: float, v: float) -> tuple[float, float]:
        found = re.search(r'<circle cx="([-\d.]+)" cy="([-\d.]+)"', regimes.scaling_map(MATRIX, h, v))
        assert found
        return float(found[1]), float(found[2])

    drawing = regimes.scaling_map(MATRIX, 0.0, 1.0)
    corner = re.search(r'patch_2">\s*<path d="M ([\d.]+) ([\d.]+)\s*L ([\d.]+) [\d.]+\s*L [\d.]+ ([\d.]+)', drawing)
    assert corner  # the frame of the axes: left, bottom, right, top
    left, bottom, right, top = map(float, corner.groups())
    assert center(0.0, 1.0) == pytest.approx((left, top), abs=0.02)
    assert center(2.0, -3.0) == pytest.approx((right, bottom), abs=0.02)
    assert center(1.0, -1.0) == pytest.approx(((left + right) / 2, (top + bottom) / 2), abs=0.02)


def test_the_loss_there_is_that_of_limit_and_simulation() -> None:
    there = regimes.loss_there(MATRIX, 8, 1.0, -1.0, runs=4)
    assert shown(there.picture) == "loss"
    assert "Limit agrees with Simulation (4 runs)" in there.words[-1]
    assert regimes.loss_there(MATRIX, 8, 1.5, -1.0, runs=4).picture != there.picture


def test_a_simulation_that_would_keep_one_waiting_is_left_out() -> None:
    there = regimes.loss_there(MATRIX, 64, 2.0, -2.0)
    assert any(re.search(r"No simulation: it would have 262144 weights", words) for words in there.words)
    assert shown(there.picture) == "loss"


def test_where_no_limit_is_known_the_series_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    def silent(*_: object) -> None:
        raise lf.NotSpoken("no solution is known for it. Methods that apply: Series.")

    monkeypatch.setattr(regimes, "_limit", silent)
    there = regimes.loss_there(MATRIX, 8, 1.0, -1.0, runs=2)
    assert any("No limit is known here (no solution is known for it)" in words for words in there.words)
    assert "Series" in there.words[-1]


@pytest.mark.parametrize(("kind", "step"), [("gradient flow", None), ("stochastic gradient flow", 0.1), ("SGD", 0.4)])
def test_the_dynamics_asked_for(kind: mean_field.Kind, step: float | None) -> None:
    dynamics = mean_field.dynamics_of(kind, 0.3, 0.4, 0.1)
    assert dynamics.step == step
    times = mean_field.times_of(dynamics)
    assert times[0] == 0
    assert times[-1] == pytest.approx(mean_field.UNTIL, rel=0.05)


def test_mean_field_agrees_with_its_experiment() -> None:
    dynamics = mean_field.dynamics_of("SGD", 0.0, 0.4, 0.2)
    found = mean_field.curves(mean_field.regression(2.0, 0.25, 0.05), dynamics, d=60, runs=4)
    assert [shown(picture) for picture in found.pictures] == ["loss", "test_loss"]
    assert all("MeanField agrees with Simulation (4 runs)" in words for words in found.words)


def test_the_end_of_a_quadratic_network() -> None:
    problem = lf.QuadraticNetwork(0.3, 0.5, 0.3, 0.0, 0.05)
    found = quadratic.end_state(problem)
    assert [shown(picture) for picture in found.pictures] == ["curve", "spectrum"]
    assert f"Squared error {lf.stationary(problem).values['mse']:.4g}" in found.words[1]
    assert "a fraction 0.565 is zero" in found.words[-1]  # 1 - rank, 0.4351: docs/tutorials/quadratic.md


def test_pictures_stand_side_by_side_where_there_is_room() -> None:
    assert "flex-wrap: wrap" in side_by_side("<p>a</p>", "<p>b</p>")


def test_without_the_extra_the_command_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(server.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(lf.LossflowError, match=r"pip install 'lossflow\[explore\]'"):
        server.serve()


def test_a_port_out_of_range_is_refused() -> None:
    with pytest.raises(lf.InvalidInput, match="from 1024 to 65535, got 80"):
        server.serve(port=80)


# --- in a browser


def with_network() -> dict[str, str]:
    """The surroundings of a process that may serve to this machine: tests themselves are kept from every network."""
    return {name: value for name, value in os.environ.items() if name not in ("PYTHONPATH", "LOSSFLOW_CACHE")}


@contextmanager
def explorer(cache: Path) -> Iterator[str]:
    """The address of an explorer that is being served."""
    find = "import socket; s = socket.socket(); s.bind(('127.0.0.1', 0)); print(s.getsockname()[1])"
    ask = subprocess.run([sys.executable, "-c", find], env=with_network(), capture_output=True, text=True, check=True)
    port = int(ask.stdout)
    surroundings = {**with_network(), "LOSSFLOW_CACHE": str(cache)}
    command = [sys.executable, "-m", "lossflow", "explore", "--no-browser", "--port", str(port)]
    log = (cache / "log").open("w")
    process = subprocess.Popen(command, env=surroundings, stdout=log, stderr=subprocess.STDOUT, start_new_session=True)
    try:
        yield f"http://127.0.0.1:{port}"
    finally:
        os.killpg(process.pid, 2)
        try:
            process.wait(30)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, 9)
            process.wait()
        log.close()


def open_page(page: Any, address: str) -> None:
    """Go to the address as soon as it is served."""
    for attempt in range(240):
        try:
            page.goto(address)
            return
        except Exception as error:
            if "ERR_CONNECTION_REFUSED" not in str(error) or attempt == 239:
                raise
            page.wait_for_timeout(500)


@pytest.mark.slow
def test_a_slider_moves_the_curve_in_a_browser(tmp_path: Path) -> None:
    pytest.importorskip("marimo", reason="the extra [explore] is not installed: pip install 'lossflow[explore]'")
    playwright = pytest.importorskip(
        "playwright.sync_api", reason="playwright is not installed: pip install playwright"
    )
    browser = next(filter(None, map(shutil.which, BROWSERS)), None)
    if browser is None:
        pytest.skip(f"there is no browser: none of {', '.join(BROWSERS)} is on the PATH")
    complaints: list[str] = []
    elsewhere: list[str] = []
    with explorer(tmp_path) as address, playwright.sync_playwright() as driver:
        context = driver.chromium.launch_persistent_context(
            str(tmp_path / "profile"),
            executable_path=browser,
            args=FLAGS.split(),
            viewport={"width": 1200, "height": 900},
        )
        page = context.new_page()
        page.set_default_timeout(PATIENCE)
        page.on("console", lambda message: complaints.append(message.text) if message.type == "error" else None)
        page.on("pageerror", lambda error: complaints.append(str(error)))
        page.on("request", lambda request: elsewhere.append(request.url))
        open_page(page, address)
        complaints.clear()  # refusals before the server was there

        def move_first_slider(picture: str) -> tuple[str, str]:
            """The curve before and after the first slider is moved by one step."""
            where = f'.picture[data-name="{picture}"]'
            page.wait_for_selector(f"{where} svg")
            before = page.inner_html(where)
            page.get_by_role("slider").first.focus()
            page.keyboard.press("ArrowRight")
            script = (
                "([where, before]) => { const e = document.querySelector(where); return e && e.innerHTML !== before }"
            )
            page.wait_for_function(script, arg=[where, before])
            return before, page.inner_html(where)

        for tab, picture in (("Regimes", "loss"), ("Mean field", "test_loss"), ("Quadratic networks", "spectrum")):
            page.get_by_role("tab", name=tab).click()
            before, after = move_first_slider(picture)
            assert re.findall(r' d="([^"]+)"', before) != re.findall(r' d="([^"]+)"', after), tab
        page.set_viewport_size({"width": 390, "height": 844})  # a phone: nothing sticks out
        page.wait_for_timeout(1000)
        assert page.evaluate("document.documentElement.scrollWidth") <= 390
        context.close()
    assert complaints == []
    assert [url for url in elsewhere if not url.startswith((address, "data:", "blob:", "about:"))] == []
