"""Models whose weights are products, coordinate by coordinate: the process of one coordinate in the large-size limit."""

from __future__ import annotations

from dataclasses import dataclass

from lossflow.problems.priors import AbstractPrior, Component


@dataclass(frozen=True, eq=False)
class CoordinateProcess:
    """beta(t) = e^(-2 weight_decay t) (a0^2 e^xi - b0^2 e^-xi)/2,   dxi/dt = -2 g,   xi(0) = 0,
    g = X^T (X beta - y)/delta,   y = X beta* + sqrt(noise_variance) eps,   X_ij ~ (0, 1/d).

    prior: the law of the independent entries of beta*. weights: (u0, v0), the start of every coordinate; squares:
    (a0^2, b0^2) = ((u0 + v0)^2/2, (u0 - v0)^2/2). delta: n/d, inf for the population problem. weight_decay: lambda in the
    penalty lambda (||u||^2 + ||v||^2)/2.
    docs/theory/diagonal.md sections 1 and 3 [NI25v2].
    """

    delta: float
    prior: AbstractPrior
    noise_variance: float
    weights: tuple[float, float]
    weight_decay: float

    @property
    def squares(self) -> tuple[float, float]:
        u, v = self.weights
        return (u + v) ** 2 / 2, (u - v) ** 2 / 2

    @property
    def is_odd(self) -> bool:
        """Whether (beta, beta*) and (-beta, -beta*) have the same law given the fields with their sign: a0 = b0."""
        plus, minus = self.squares
        return plus == minus

    def strata(self) -> tuple[Component, ...]:
        """The components of beta*, with opposite ones joined where the process is odd."""
        if not self.is_odd:
            return self.prior.components
        joined: dict[tuple[float, float], float] = {}
        for weight, mean, variance in self.prior.components:
            place = (abs(mean), variance)
            joined[place] = joined.get(place, 0.0) + weight
        return tuple(Component(weight, mean, variance) for (mean, variance), weight in joined.items())
