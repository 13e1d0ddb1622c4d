"""What holds for all tests: no network, no files outside their own folders, no screen, one thread, no chance.

`slow` tests are left out unless asked for (`make slow`). A failed curve draws itself: see `curves`.
"""

from __future__ import annotations

import os
import runpy
from collections.abc import Callable
from pathlib import Path
from typing import Any

OFFLINE = Path(__file__).parent / "offline"
runpy.run_path(str(OFFLINE / "sitecustomize.py"))
os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, [str(OFFLINE), os.environ.get("PYTHONPATH")]))
os.environ["MPLBACKEND"] = "Agg"
os.environ["HYPOTHESIS_STORAGE_DIRECTORY"] = str(Path(__file__).parents[1] / ".cache" / "hypothesis")
for threads in ("OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "OMP_NUM_THREADS"):
    os.environ[threads] = "1"  # before numpy is imported: two cores, and sums in one order

import numpy as np  # noqa: E402
import numpy.typing as npt  # noqa: E402
import pytest  # noqa: E402
from hypothesis import settings  # noqa: E402

settings.register_profile("lossflow", derandomize=True, deadline=None, database=None)
settings.load_profile("lossflow")


@pytest.fixture(autouse=True, scope="session")
def a_cache_of_their_own(tmp_path_factory: pytest.TempPathFactory) -> None:
    """Tests neither read what the user has cached nor leave anything in the user's cache."""
    os.environ["LOSSFLOW_CACHE"] = str(tmp_path_factory.mktemp("lossflow-cache"))


@pytest.fixture
def curves(tmp_path: Path, request: pytest.FixtureRequest) -> Callable[..., None]:
    """`curves(times, got, expected, tolerance)`: |got - expected| <= tolerance at all times, or a picture of both.

    tolerance: a number, or one for each time: the error that the method promises. Where it is exceeded (or a value is
    NaN on one side only) the test fails, and the message says where got.png lies.
    """

    def compare(times: npt.ArrayLike, got: npt.ArrayLike, expected: npt.ArrayLike, tolerance: npt.ArrayLike) -> None:
        t, a, b = (np.asarray(x, dtype=float) for x in (times, got, expected))
        assert a.shape == b.shape == t.shape, f"{a.shape} values and {b.shape} expected at {t.shape} times"
        allowed = np.broadcast_to(np.asarray(tolerance, dtype=float), t.shape)
        agree = (np.isnan(a) & np.isnan(b)) | (np.abs(a - b) <= allowed)
        if agree.all():
            return
        picture = tmp_path / "got.png"
        draw(picture, t, a, b, allowed, title=request.node.name)
        k = int(np.argmin(agree))
        pytest.fail(
            f"{(~agree).sum()} of {t.size} values disagree, the first at t = {t[k]:g}: got {a[k]:.12g}, "
            f"expected {b[k]:.12g}, tolerance {allowed[k]:.3g}; drawn in {picture}",
            pytrace=False,
        )

    return compare


def draw(path: Path, times: Any, got: Any, expected: Any, tolerance: Any, title: str) -> None:
    from matplotlib.figure import Figure

    figure = Figure(figsize=(7, 6), layout="constrained")
    above, below = figure.subplots(2, 1, sharex=True)
    above.plot(times, expected, color="black", label="expected")
    above.plot(times, got, "o", color="tab:red", markersize=3, label="got")
    above.legend()
    above.set(title=title, ylabel="value")
    below.plot(times, got - expected, "o", color="tab:red", markersize=3)
    below.fill_between(times, -tolerance, tolerance, color="0.85", label="tolerance")
    below.legend()
    below.set(xlabel="time", ylabel="got - expected")
    figure.savefig(path)
