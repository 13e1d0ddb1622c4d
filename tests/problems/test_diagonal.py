"""Diagonal linear networks as descriptions: what each start makes of the model, priors as mixtures, and wrong input."""

from __future__ import annotations

import math
import pickle
from fractions import Fraction

import numpy as np
import pytest

import lossflow as lf
from lossflow.problems.diagonal import GeneralInit
from lossflow.problems.priors import AtomicPrior, Component, GaussianPrior, PositiveSparse

SPARSE = lf.RademacherSparse(0.1)
INITS = [
    lf.SymmetricInit(0.5),
    lf.SymmetricInit("0+"),
    lf.SymmetricInit(math.inf),
    lf.NonNegativeInit(0.3),
    GeneralInit(2.0, 1.0),
    GeneralInit(1.0, -1.0),
]
PRIORS: list[lf.AbstractPrior] = [
    SPARSE,
    lf.BernoulliGaussian(0.2),
    lf.RademacherSparse(1),
    GaussianPrior(2.0),
    PositiveSparse(0.3),
    AtomicPrior((0.0, 1.0, -2.0), (0.6, 0.2, 0.2)),
]


@pytest.mark.parametrize("init", INITS)
def test_a_problem_is_a_key_and_survives_files(init: lf.AbstractInit) -> None:
    problem = lf.DiagonalLinear(delta=0.5, prior=SPARSE, noise_variance=0.01, init=init, weight_decay="0+")
    assert lf.DiagonalLinear.from_toml(problem.to_toml()) == problem
    assert pickle.loads(pickle.dumps(problem)) == problem
    assert problem == lf.DiagonalLinear(Fraction(1, 2), SPARSE, np.float64(0.01), init, "0+")  # type: ignore[arg-type]
    assert repr(init) in repr(problem)


@pytest.mark.parametrize(
    ("init", "weights", "kappa", "beta", "words"),
    [
        (lf.SymmetricInit(0.5), (0.5 * math.sqrt(2), 0.0), 0.25, 0.0, "both signs"),
        (lf.NonNegativeInit(0.5), (0.5, 0.5), 0.0, 0.25, "non-negative"),
        (GeneralInit(2.0, 1.0), (2.0, 1.0), 1.5, 2.0, "both signs"),
        (GeneralInit(-3.0, 3.0), (-3.0, 3.0), 0.0, -9.0, "non-positive"),
        (GeneralInit(1.0, 1.0 + 2**-40), (1.0, 1.0 + 2**-40), 2**-40 * (1 + 2**-41), 1 + 2**-40, "both signs"),
    ],
)
def test_each_start_says_which_model_it_makes(
    init: lf.AbstractInit, weights: tuple[float, float], kappa: float, beta: float, words: str
) -> None:
    """The quantities of docs/theory/diagonal.md section 1."""
    assert init.weights == weights
    assert init.kappa == pytest.approx(kappa, rel=1e-15, abs=0)
    assert init.beta == beta
    assert words in init.model
    u, v = weights
    assert init.squares == pytest.approx(((u + v) ** 2 / 2, (u - v) ** 2 / 2), rel=1e-15, abs=0)


def test_limits_of_starts_have_no_weights() -> None:
    for scale in ("0+", math.inf):
        init = lf.SymmetricInit(scale)  # type: ignore[arg-type]
        assert "after all other limits" in init.model
        with pytest.raises(lf.InvalidInput, match="limit of starts"):
            _ = init.weights


@pytest.mark.parametrize("prior", PRIORS)
def test_a_prior_is_a_mixture_with_the_moments_of_its_draws(prior: lf.AbstractPrior) -> None:
    assert math.fsum(c.weight for c in prior.components) == pytest.approx(1, rel=1e-15)
    draws = prior.draw(200_000, np.random.default_rng(0))
    for power, moment in ((2, prior.second_moment), (1, prior.absolute_moment), (0, prior.nonzero)):
        sampled = np.abs(draws) ** power if power else (draws != 0).astype(float)
        assert sampled.mean() == pytest.approx(moment, abs=5 * sampled.std() / draws.size**0.5 + 1e-12)
    mirrored = [Component(c.weight, -c.mean + 0.0, c.variance) for c in prior.components]
    assert sorted(prior.mirrored) == sorted(mirrored)
    assert prior.is_symmetric == (type(prior) not in (PositiveSparse, AtomicPrior))


@pytest.mark.parametrize("density", [1e-3, 0.1, 1.0])
@pytest.mark.parametrize("kind", [lf.RademacherSparse, lf.BernoulliGaussian, PositiveSparse])
def test_sparse_priors_have_second_moment_one(kind: type, density: float) -> None:
    assert kind(density).second_moment == pytest.approx(1, rel=1e-14)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: lf.SymmetricInit(0.0), r'rest at a saddle for ever; .*SymmetricInit\("0\+"\)'),
        (lambda: lf.SymmetricInit(-1.0), "must be > 0"),
        (lambda: lf.SymmetricInit("0-"), "SymmetricInit.scale"),  # type: ignore[arg-type]
        (lambda: lf.SymmetricInit(1e-200), "outside 1e-150"),
        (lambda: lf.NonNegativeInit(0.0), "saddle"),
        (lambda: lf.NonNegativeInit("0+"), "NonNegativeInit.scale must be a number"),  # type: ignore[arg-type]
        (lambda: GeneralInit(0.0, 0.0), "not both zero"),
        (lambda: GeneralInit(math.inf, 0.0), "finite"),
        (lambda: lf.RademacherSparse(0.0), r"density must be in \(0, 1\].*AtomicPrior\(\(0.0,\)"),
        (lambda: lf.BernoulliGaussian(1.1), "density must be in"),
        (lambda: GaussianPrior(0.0), "variance must be positive"),
        (lambda: AtomicPrior((), ()), "one weight for each atom"),
        (lambda: AtomicPrior((1.0, 2.0), (1.0,)), "2 atoms and 1 weights"),
        (lambda: AtomicPrior((1.0, 1.0), (0.5, 0.5)), "different from one another"),
        (lambda: AtomicPrior((1.0, 2.0), (0.5, 0.6)), "sum 1"),
        (lambda: AtomicPrior((1.0, 2.0), (1.5, -0.5)), "positive"),
        (lambda: lf.DiagonalLinear(0.0, SPARSE), "delta must be > 0"),
        (lambda: lf.DiagonalLinear(0.5, SPARSE, -0.1), "noise_variance"),
        (lambda: lf.DiagonalLinear(0.5, SPARSE, 0.1, lf.SymmetricInit(), -1.0), "weight_decay"),
        (lambda: lf.DiagonalLinear(0.5, 0.1), "DiagonalLinear.prior must be an AbstractPrior"),  # type: ignore[arg-type]
        (lambda: lf.DiagonalLinear(0.5, lf.RademacherSparse), "with parentheses"),  # type: ignore[arg-type]
        (lambda: lf.DiagonalLinear(0.5, SPARSE, sigma=0.1), "no field 'sigma'"),  # type: ignore[call-arg]
        (lambda: lf.AbstractInit(), "AbstractInit is abstract"),
        (lambda: lf.AbstractPrior(), "AbstractPrior is abstract"),
    ],
)
def test_wrong_input_is_answered(make: object, message: str) -> None:
    with pytest.raises(lf.InvalidInput, match=message):
        make()  # type: ignore[operator]
