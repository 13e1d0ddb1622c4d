"""Every problem and every method, listed once: whoever is listed here is held to all contracts."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from fractions import Fraction

import numpy as np
import numpy.typing as npt

import lossflow as lf

Tensors = Mapping[str, npt.NDArray[np.float64]]


@dataclass(frozen=True)
class Case:
    """A problem at small sizes, with its loss written a second time in plain numpy.

    speed: how many times -dL/du the weights move by (1 for problems given by diagrams, d for models of data).
    learned: the names of what moves in a sample; None where the diagrams say it. given: the names of what is the same in every
    sample.
    """

    problem: lf.AbstractProblem
    sizes: Mapping[str, float]
    loss: Callable[[Tensors], float]
    speed: float = 1.0
    learned: tuple[str, ...] | None = None
    given: tuple[str, ...] = ()


def _cp_loss(names: list[str], scale: float) -> Callable[[Tensors], float]:
    def loss(tensors: Tensors) -> float:
        letters = "abcdefg"[: len(names)]
        model = np.einsum(",".join(f"k{i}" for i in letters) + "->" + letters, *(tensors[name] for name in names))
        target = np.zeros(model.shape)
        target[(np.arange(model.shape[0]),) * len(names)] = scale
        return 0.5 * float(np.sum((model - target) ** 2))

    return loss


def _target_loss(
    order: int, symmetric: bool, target: Callable[[int, Tensors], npt.NDArray[np.float64]]
) -> Callable[[Tensors], float]:
    """1/2 |f - F|^2 for any target tensor F(p, tensors)."""
    names = ["u"] * order if symmetric else [f"u{m + 1}" for m in range(order)]

    def loss(tensors: Tensors) -> float:
        letters = "abcdefg"[:order]
        model = np.einsum(",".join(f"k{i}" for i in letters) + "->" + letters, *(tensors[name] for name in names))
        return 0.5 * float(np.sum((model - target(model.shape[0], tensors)) ** 2))

    return loss


def _spiked(p: int, tensors: Tensors) -> npt.NDArray[np.float64]:
    return np.diag(np.eye(p)[0] * 1.5 + 1)


def _sums_modulo(p: int, tensors: Tensors) -> npt.NDArray[np.float64]:
    x, y, z = np.ogrid[:p, :p, :p]
    return ((x + y - z) % p == 0).astype(np.float64)


def _taught(p: int, tensors: Tensors) -> npt.NDArray[np.float64]:
    return np.einsum("ta,tb->ab", tensors["teacher1"], tensors["teacher2"])


def _network() -> lf.PolynomialProblem:
    """A quadratic network with trained readout on N Gaussian samples, zero labels: 1/(2N) sum_n f(x_n)^2."""
    w = lf.Tensor("w", ("H", "p"))
    a = lf.Tensor("a", ("H",), variance="a2")
    x = lf.Tensor("x", ("p", "N"), variance=1, learned=False)
    one = [a("k"), w("k", "i"), x("i", "n"), w("k", "j"), x("j", "n")]
    two = [a("l"), w("l", "q"), x("q", "n"), w("l", "r"), x("r", "n")]
    return lf.PolynomialProblem(Fraction(1, 2) * lf.size("N", -1) * lf.diagram(*one, *two))


def _network_loss(tensors: Tensors) -> float:
    outputs = tensors["a"] @ (tensors["w"] @ tensors["x"]) ** 2
    return 0.5 * float(np.mean(outputs**2))


def _pinned() -> lf.PolynomialProblem:
    """A vector with a mean pulled towards the first basis vector: 1/2 |v|^2 - v_1."""
    v = lf.Tensor("v", ("p",), variance=Fraction(1, 4), mean="mu")
    return lf.PolynomialProblem(Fraction(1, 2) * lf.diagram(v("i"), v("i")) - lf.diagram(v(lf.pin(1))))


def _pinned_loss(tensors: Tensors) -> float:
    v = tensors["v"]
    return float(0.5 * v @ v - v[0])


def _ridge_loss(tensors: Tensors) -> float:
    r = tensors["theta"][0] @ tensors["X"].T
    return float(np.mean((r - tensors["y"]) ** 2) / 2)


def _logistic_loss(tensors: Tensors) -> float:
    r = tensors["theta"][0] @ tensors["X"].T
    return float(np.mean(np.log1p(np.exp(-tensors["y"] * r))))


def _diagonal_loss(tensors: Tensors) -> float:
    return float(np.mean((tensors["X"] @ (tensors["u"] * tensors["v"]) - tensors["y"]) ** 2) / 2)


def _softmax_loss(tensors: Tensors) -> float:
    r = tensors["theta"] @ tensors["X"].T
    chosen = r[tensors["y"].astype(int), np.arange(r.shape[1])]
    return float(np.mean(np.log(np.exp(r).sum(axis=0)) - chosen))


def _committee_loss(tensors: Tensors) -> float:
    from scipy.special import erf

    outputs = erf(tensors["theta"] @ tensors["X"].T / np.sqrt(2)).sum(axis=0)
    return float(np.mean((outputs - tensors["y"]) ** 2) / 2)


def _quadratic_loss(tensors: Tensors) -> float:
    """1/(4n) sum_k (Tr X_k W W^T - y_k)^2, X_k by its entries on and above the diagonal, these times sqrt(2)."""
    Z = tensors["W"] @ tensors["W"].T
    pairs = list(zip(*np.triu_indices(len(Z)), strict=True))
    outputs = sum(Z[i, j] * x * (1 if i == j else np.sqrt(2)) for (i, j), x in zip(pairs, tensors["X"].T, strict=True))
    return float(np.mean((outputs - tensors["y"]) ** 2) / 4)


def _no_loss(tensors: Tensors) -> float:
    raise AssertionError("this problem is not sampled")


CASES: dict[str, Case] = {
    "matrix": Case(lf.CPDecomposition(order=2), {"p": 6, "H": 4, "sigma2": 0.1}, _cp_loss(["u", "u"], 1.0)),
    "matrix-scaled": Case(
        lf.CPDecomposition(order=2, target=lf.Identity(Fraction(5, 2))),
        {"p": 4, "H": 6, "sigma2": 0.1},
        _cp_loss(["u", "u"], 2.5),
    ),
    "matrix-free": Case(
        lf.CPDecomposition(order=2, target=lf.Zero()), {"p": 5, "H": 5, "sigma2": 0.1}, _cp_loss(["u", "u"], 0.0)
    ),
    "matrix-asymmetric": Case(
        lf.CPDecomposition(order=2, symmetric=False), {"p": 4, "H": 3, "sigma2": 0.1}, _cp_loss(["u1", "u2"], 1.0)
    ),
    "cubic": Case(
        lf.CPDecomposition(order=3, symmetric=False),
        {"p": 3, "H": 4, "sigma2": 0.1},
        _cp_loss(["u1", "u2", "u3"], 1.0),
    ),
    "quartic": Case(lf.CPDecomposition(order=4), {"p": 3, "H": 2, "sigma2": 0.05}, _cp_loss(["u"] * 4, 1.0)),
    "spiked": Case(
        lf.CPDecomposition(2, target=lf.Spiked((Fraction(3, 2),))),
        {"p": 4, "H": 3, "sigma2": 0.1},
        _target_loss(2, True, _spiked),
    ),
    "constant": Case(
        lf.CPDecomposition(3, target=lf.Constant(Fraction(1, 2))),
        {"p": 3, "H": 2, "sigma2": 0.1},
        _target_loss(3, True, lambda p, tensors: np.full((p,) * 3, 0.5)),
    ),
    "modular": Case(
        lf.CPDecomposition(3, False, lf.ModularAddition()),
        {"p": 3, "H": 4, "sigma2": 0.1},
        _target_loss(3, False, _sums_modulo),
    ),
    "teacher": Case(
        lf.CPDecomposition(2, False, lf.RandomTeacher("R", "r2")),
        {"p": 3, "H": 4, "sigma2": 0.1, "R": 2, "r2": 0.5},
        _target_loss(2, False, _taught),
    ),
    "network": Case(_network(), {"p": 3, "H": 2, "N": 5, "sigma2": 0.1, "a2": 0.1}, _network_loss),
    "pinned": Case(_pinned(), {"p": 4, "mu": 0.5}, _pinned_loss),
    "ridge": Case(
        lf.GeneralizedLinear(lf.Square(), lf.LinearLabels(0.25), delta=2.0, init_variance=1.3, init_overlap=0.1),
        {"d": 6},
        _ridge_loss,
        speed=6.0,
        learned=("theta",),
    ),
    "logistic": Case(
        lf.GeneralizedLinear(lf.Logistic(), lf.SignLabels(), delta=2.0),
        {"d": 6},
        _logistic_loss,
        speed=6.0,
        learned=("theta",),
    ),
    "softmax": Case(lf.Softmax(3, delta=2.0), {"d": 8}, _softmax_loss, speed=8.0, learned=("theta",)),
    "committee": Case(
        lf.TwoLayer(2, 2, lf.Erf(), delta=2.0, noise_variance=0.1),
        {"d": 6},
        _committee_loss,
        speed=6.0,
        learned=("theta",),
    ),
    "diagonal": Case(
        lf.DiagonalLinear(0.5, lf.BernoulliGaussian(1.0), 0.1),
        {"d": 4},
        _diagonal_loss,
        speed=4.0,
        learned=("u", "v"),
        given=("u", "v"),
    ),
    "quadratic": Case(lf.QuadraticNetwork(0.5, 0.5, 0.5), {"d": 4}, _quadratic_loss, speed=4.0, learned=("W",)),
}

# name -> the method at the sizes of a case
METHODS: dict[str, Callable[[Mapping[str, float]], lf.AbstractMethod]] = {
    "series": lambda sizes: lf.Series(sizes, order=3),
    "limit": lambda sizes: lf.Limit(sizes),
    "simulation": lambda sizes: lf.Simulation(sizes, runs=3, seed=5),
    "mean-field": lambda sizes: lf.MeanField(paths=64, resolution=16, randomizations=4),
    "online": lambda sizes: lf.Online(),
}

# each method -> one problem it must be able to answer, so that no method passes by refusing everything
ANSWERED: dict[str, str] = {
    "series": "network",
    "limit": "matrix",
    "simulation": "network",
    "mean-field": "ridge",
    "online": "ridge",
}
