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
from typing import Any, NamedTuple

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


def test_the_polygon_follows_the_point() -> None:
    here, there = regimes.polygon(MATRIX, 1.0, -1.0), regimes.polygon(MATRIX, 1.0, -2.0)
    assert shown(here) == shown(there) == "polygon"
    assert here != there
    assert here == regimes.polygon(MATRIX, 1.0, -1.0)
    assert "E lead." in there
    assert regimes.in_words(MATRIX, 1.0, -2.0).endswith("h = 1, v = -2 lies in the regime E.")


@pytest.mark.parametrize(("h", "v"), [(1.0, -1.0), (0.1, 1.0), (2.0, -3.0)])
def test_the_point_is_drawn_where_it_is_and_its_handle_lies_around_it(h: float, v: float) -> None:
    axes = regimes.scaling_map(MATRIX, h, v)
    drawn = [line.get_xydata().tolist() for line in axes.lines[-2:]]  # type: ignore[union-attr]
    assert drawn == [[[h, v]], [[h, v]]]
    box = regimes.handle(MATRIX, h, v)
    for (low, high), (x, y), limits in ((box["x"], (h, h), axes.get_xlim()), (box["y"], (v, v), axes.get_ylim())):
        assert limits[0] <= low <= x == y <= high <= limits[1]
        assert low < high


class Box(NamedTuple):
    """What a selection on the map says of itself."""

    x_min: float
    x_max: float
    y_min: float
    y_max: float


def test_a_box_on_the_map_is_the_point_at_its_center() -> None:
    here = 1.0, -1.0
    assert regimes.chosen(MATRIX, Box(0.5, 0.7, -2.1, -1.9), *here) == (0.6, -2.0)
    assert regimes.chosen(MATRIX, Box(0.62, 0.62, -1.98, -1.98), *here) == (0.6, -2.0)  # a click
    assert regimes.chosen(MATRIX, Box(0.0, 0.02, 0.9, 1.0), *here) == (0.1, 0.95)  # not below the slider
    assert regimes.chosen(MATRIX, object(), *here) == here  # nothing is chosen


@pytest.mark.parametrize("h", [0.1, 0.15, 1.0, 2.0])
@pytest.mark.parametrize("v", [-3.0, -2.95, 0.0, 1.0])
def test_the_handle_of_a_point_stands_for_that_point(h: float, v: float) -> None:
    """Otherwise a map that was just drawn would move its point."""
    box = regimes.handle(MATRIX, h, v)
    assert regimes.chosen(MATRIX, Box(*box["x"], *box["y"]), h, v) == (h, v)
    assert regimes.nearest(MATRIX, h, v) == (h, v)


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


@pytest.mark.parametrize("loss", mean_field.LOSSES)
def test_mean_field_agrees_with_its_experiment(loss: str) -> None:
    dynamics = mean_field.dynamics_of("SGD", 0.0, 0.4, 0.2)
    found = mean_field.curves(mean_field.regression(loss, 2.0, 0.25, 0.05), dynamics, d=60, runs=4)
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

        def picture(name: str) -> str:
            """The curves of a picture, once it is there."""
            page.wait_for_selector(f'.picture[data-name="{name}"] svg')
            return page.inner_html(f'.picture[data-name="{name}"]')

        def changed(name: str, before: str) -> str:
            """The same picture when it is another."""
            script = (
                "([where, before]) => { const e = document.querySelector(where); return e && e.innerHTML !== before }"
            )
            page.wait_for_function(script, arg=[f'.picture[data-name="{name}"]', before])
            after = page.inner_html(f'.picture[data-name="{name}"]')
            assert re.findall(r' d="([^"]+)"', before) != re.findall(r' d="([^"]+)"', after), name
            return after

        for tab, name in (("Regimes", "loss"), ("Mean field", "test_loss"), ("Quadratic networks", "spectrum")):
            page.get_by_role("tab", name=tab).click()
            before = picture(name)
            page.get_by_role("slider").first.focus()
            page.keyboard.press("ArrowRight")
            changed(name, before)

        page.get_by_role("tab", name="Mean field").click()
        before = picture("loss")
        page.get_by_role("radio", name="logistic").click()
        changed("loss", before)
        page.get_by_text("Logistic regression on the signs of a teacher").wait_for()

        page.get_by_role("tab", name="Regimes").click()
        before = picture("polygon")
        canvas = page.locator('.picture[data-name="map"] canvas')
        place = canvas.bounding_box()
        canvas.click(position={"x": 0.3 * place["width"], "y": 0.7 * place["height"]})  # far below: regime E
        before = changed("polygon", before)
        page.get_by_text("Regime E at depth").wait_for()
        h, v = (float(page.get_by_role("slider").nth(k).get_attribute("aria-valuenow")) for k in (0, 1))
        assert 0.3 < h < 0.7
        assert -2.5 < v < -1.5
        page.wait_for_timeout(2000)  # until the map with the point there is drawn
        x0, y0 = place["x"] + 0.3 * place["width"], place["y"] + 0.7 * place["height"]
        page.mouse.move(x0, y0)
        page.mouse.down()
        page.mouse.move(x0 + 0.4 * place["width"], y0 - 0.5 * place["height"], steps=5)
        page.mouse.up()  # to the upper right: regime B
        changed("polygon", before)
        page.get_by_text("Regime B at depth").wait_for()
        page.set_viewport_size({"width": 390, "height": 844})  # a phone: nothing sticks out
        page.wait_for_timeout(1000)
        assert page.evaluate("document.documentElement.scrollWidth") <= 390
        context.close()
    assert complaints == []
    assert [url for url in elsewhere if not url.startswith((address, "data:", "blob:", "about:"))] == []
