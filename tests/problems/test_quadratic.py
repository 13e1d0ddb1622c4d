"""The description of a quadratic network: what it accepts, what it speaks."""

from __future__ import annotations

import math
from typing import Any

import pytest

import lossflow as lf
from lossflow.problems.quadratic import QuadraticNetwork, Spectrum, finite_size_alpha

NETWORK: dict[str, Any] = {"alpha": 0.3, "kappa": 0.4, "kappa_star": 0.3}


def test_numbers_give_one_key() -> None:
    assert QuadraticNetwork(1, 2, 3) == QuadraticNetwork(1.0, 2.0, 3.0, 0, 0, 1)
    assert repr(QuadraticNetwork(0.3, 0.4, 0.3, weight_decay="0+")).endswith("weight_decay='0+')")
    assert QuadraticNetwork(**NETWORK) != QuadraticNetwork(**NETWORK, weight_decay="0+")
    infinite = QuadraticNetwork(**{**NETWORK, "alpha": math.inf})
    assert lf.AbstractProblem.from_toml(infinite.to_toml()) == infinite


@pytest.mark.parametrize(
    "wrong",
    [
        {"alpha": 0.0},
        {"alpha": -1},
        {"alpha": math.nan},
        {"alpha": "many"},
        {"kappa": 0},
        {"kappa": math.inf},
        {"kappa_star": -0.1},
        {"kappa_star": math.inf},
        {"noise_variance": -1e-9},
        {"noise_variance": math.inf},
        {"weight_decay": -1},
        {"weight_decay": "0"},
        {"weight_decay": math.inf},
        {"init_variance": 0},
        {"init_variance": True},
    ],
    ids=str,
)
def test_values_out_of_range_are_named(wrong: dict[str, Any]) -> None:
    (name,) = wrong
    with pytest.raises(lf.InvalidInput, match=f"QuadraticNetwork.{name}"):
        QuadraticNetwork(**{**NETWORK, **wrong})


def test_the_spectral_problem() -> None:
    problem = QuadraticNetwork(**NETWORK, noise_variance=0.5, weight_decay="0+")
    assert "spectrum" in problem.languages
    assert problem.as_spectrum() == Spectrum(0.3, 0.4, 0.3, 0.5, "0+")


def test_without_weight_decay_the_end_is_not_spectral() -> None:
    problem = QuadraticNetwork(**NETWORK)
    assert "spectrum" not in problem.languages
    with pytest.raises(lf.NotSpoken, match=r'weight_decay="0\+"'):
        problem.as_spectrum()


def test_the_rule_for_finite_sizes() -> None:
    assert finite_size_alpha(3030, 100) == 0.3
    assert finite_size_alpha(10**6, 10**3) == pytest.approx(1.0, rel=2e-3)
    for n, d in [(0, 10), (10, 0), (1.5, 10), (10, math.nan)]:
        with pytest.raises(lf.InvalidInput, match="whole numbers"):
            finite_size_alpha(n, d)  # type: ignore[arg-type]
