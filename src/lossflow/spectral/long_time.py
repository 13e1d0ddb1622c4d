"""The end states of quadratic networks: a description enters, an end state leaves."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from lossflow.errors import InvalidInput
from lossflow.laws.tails import quantile, tails
from lossflow.problems.quadratic import QuadraticNetwork, Spectrum
from lossflow.progress import progress
from lossflow.spectral import branches
from lossflow.trajectory import EndState, Status

if TYPE_CHECKING:
    import numpy.typing as npt

    Array = npt.NDArray[np.float64]

OBSERVABLES = ("q", "xi", "mse", "loss", "in_sample_error", "rank")
RESIDUAL = 1e-12  # of both equations: what a state may leave; rounding leaves about 1e-15
ROUNDING = 1e-6  # what it may leave where it is amplified, as at alpha < 1e-4 by 1/alpha; the status says so
FEW = 50  # states for which plain Python, 4 ms each, is faster than making or fetching machine code
NOT_UNIQUE = (
    "the first of {} end states, that of smallest xi, which is called the main one; all are among the branches, and which the "
    "flow reaches is not known"
)
UNIQUE = "the only end state"
UNSETTLED = "the search in log xi did not settle; move a parameter by a little"


class States(NamedTuple):
    """End states of many settings: `values[name]` and `number`, the number of states of each, one entry for each setting.

    Values are those of the main state, that of smallest xi. settled: whether the search ended as it should.
    """

    values: dict[str, Array]
    number: npt.NDArray[np.int64]
    settled: npt.NDArray[np.bool_]


def end_state(problem: QuadraticNetwork) -> EndState:
    """The end state of smallest xi; `branches` holds all of them, xi increasing, where there are several.

    A = Z* + sqrt(xi) GOE,  Z = sum_{x > b} (x - q) v v^T,  with  xi = (mse + Delta/2)/(2 alpha)  and  lambda/q + I/alpha = 1.

    problem: with weight_decay > 0 or "0+". Values: `q`, `xi`, `mse`, `loss`, `in_sample_error`, `rank`; at alpha = inf xi is 0.
    Raises `InvalidInput` at weight_decay = 0.
    docs/theory/quadratic.md sections 4 and 5 [MBB26v2].
    """
    spectrum = _require(problem)
    found = np.zeros((branches.MOST, branches.COLUMNS))
    if spectrum.alpha == math.inf:
        found[0] = _population(spectrum)
        count = 1
    else:
        count = branches.all_states(*_numbers(spectrum), found)
    rows = found[: count if count >= 0 else -1 - count]
    values = observables(rows, spectrum.alpha, spectrum.noise_variance, _decay(spectrum))
    if not len(rows) or not all(np.isfinite(values[name]).all() for name in OBSERVABLES):
        return _nothing(problem, "no end state was found in double precision: the parameters are too far from one")
    worst = float(rows[:, 6:].max())
    states = [{name: float(values[name][j]) for name in OBSERVABLES} for j in range(len(rows))]
    if len(rows) == 1:
        return EndState(states[0], (), problem, _status(count > 0, worst, UNIQUE))
    several = tuple(
        EndState(state, (), problem, _status(count > 0, worst, f"end state {j + 1} of {len(rows)} by xi"))
        for j, state in enumerate(states)
    )
    return EndState(states[0], several, problem, _status(count > 0, worst, NOT_UNIQUE.format(len(rows))))


def end_states(problems: Iterable[QuadraticNetwork]) -> States:
    """The main end states of many problems, compiled: about 0.2 ms for each. Arguments as those of `end_state`."""
    spectra = [_require(problem) for problem in problems]
    settings = np.array([_numbers(spectrum) for spectrum in spectra]).reshape(-1, 5)
    rows = np.zeros((len(spectra), branches.COLUMNS))
    counts = np.zeros(len(spectra), dtype=np.int64)
    finite = np.isfinite(settings[:, 0])
    rows[finite], counts[finite] = main_states(settings[finite])
    for j in np.flatnonzero(~finite):
        rows[j], counts[j] = _population(spectra[j]), 1
    values = observables(rows, settings[:, 0], settings[:, 3], settings[:, 4])
    settled = (counts > 0) & (rows[:, 6:] <= ROUNDING).all(axis=1)
    for column in values.values():
        settled &= np.isfinite(column)
    for column in values.values():
        column[(counts == -1) | ~np.isfinite(column)] = np.nan
    return States(values, np.where(counts < 0, -1 - counts, counts), settled)


def main_states(settings: Array) -> tuple[Array, npt.NDArray[np.int64]]:
    """Rows as `branches.all_states` writes them, of the main state of each setting, and the numbers of states.

    settings: (n, 5), the arguments of `all_states`; weight decay 0 stands for "0+", alpha is finite.
    """
    rows = np.zeros((len(settings), branches.COLUMNS))
    counts = np.zeros(len(settings), dtype=np.int64)
    fill: Any = branches.fill
    if len(settings) >= FEW:
        from lossflow.spectral.compiled import compiled

        fill = compiled().fill
    chunk = 1000
    with progress(len(settings), "end states") as bar:
        for first in range(0, len(settings), chunk):
            part = slice(first, first + chunk)
            fill(settings[part], rows[part], counts[part])
            bar.update(len(settings[part]))
    return rows, counts


def observables(rows: Array, alpha: Any, noise: Any, decay: Any) -> dict[str, Array]:
    """The values of an end state from  xi, q, mse, rank, I  (columns of `rows`) and the setting; decay 0 is "0+".

    chi = lambda/q = 1 - I/alpha,  loss = chi^2 (mse + Delta/2)/2,  in_sample_error = chi^2 mse/2 + (1 - chi)^2 Delta/4,
    which is loss + (Delta/4)(1 - 2 chi) without its cancellations.
    """
    xi, q, mse, rank, divergence = rows.T[:5]
    with np.errstate(all="ignore"):
        rest = divergence / alpha  # 1 - chi
        limit = np.where(q > 0, 0.0, 1.0 - rest)
        chi = np.where(np.asarray(decay) > 0, decay / q, limit)
        loss = chi**2 * (mse + noise / 2) / 2
        in_sample_error = chi**2 * mse / 2 + (1 - chi) ** 2 * noise / 4
    return {"q": q, "xi": xi, "mse": mse, "loss": loss, "in_sample_error": in_sample_error, "rank": rank}


def _require(problem: QuadraticNetwork) -> Spectrum:
    if not problem.weight_decay:
        raise InvalidInput(
            'the end state at weight_decay=0.0 depends on the start and is not known; write weight_decay="0+" for the limit '
            "of vanishing weight decay"
        )
    return problem.as_spectrum()


def _decay(spectrum: Spectrum) -> float:
    return 0.0 if spectrum.weight_decay == "0+" else float(spectrum.weight_decay)


def _numbers(spectrum: Spectrum) -> tuple[float, float, float, float, float]:
    return spectrum.alpha, spectrum.kappa, spectrum.kappa_star, spectrum.noise_variance, _decay(spectrum)


def _population(spectrum: Spectrum) -> Array:
    """alpha = inf: Z = positive part of Z* - lambda, of which the largest kappa d eigenvalues are kept."""
    k, decay = spectrum.kappa_star, _decay(spectrum)
    width = min(k, 1.0)
    b, bound = decay, False
    if spectrum.kappa < width:
        omega = quantile(spectrum.kappa, 0.0, k, 1.0)
        b, bound = max(decay, omega), omega > decay
    row = np.zeros(branches.COLUMNS)
    if b == 0.0:
        row[3] = width
    else:
        t = tails(b, 0.0, k)
        row[1], row[2], row[3] = decay, t.missing + decay**2 * t.mass, spectrum.kappa if bound else t.mass
    return row


def _status(settled: bool, worst: float, words: str) -> Status:
    """What became of the search, and what the equations are short of where rounding leaves more than usual."""
    if not settled or worst > ROUNDING:
        return Status("stopped", None, f"{words}; {UNSETTLED} (the equations are off by {worst:.0e})")
    if worst > RESIDUAL:
        return Status("complete", None, f"{words}; rounding leaves {worst:.0e} in the equations")
    return Status("complete", None, words)


def _nothing(problem: QuadraticNetwork, reason: str) -> EndState:
    return EndState(dict.fromkeys(OBSERVABLES, math.nan), (), problem, Status("stopped", None, reason))
