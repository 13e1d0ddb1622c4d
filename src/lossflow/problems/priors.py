"""Priors of a signal: the law of one coordinate, always a finite mixture of atoms and normal laws."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

from lossflow.description import Description
from lossflow.errors import InvalidInput

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    Array = npt.NDArray[np.float64]


class Component(NamedTuple):
    """A normal law of a mixture; variance 0 makes it an atom at its mean."""

    weight: float
    mean: float
    variance: float


class AbstractPrior(Description):
    """The law of one coordinate beta* of a signal, as a description. Concrete priors are final and name their `components`."""

    @property
    def components(self) -> tuple[Component, ...]:
        """The mixture, with positive weights that sum to one."""
        raise InvalidInput(f"{type(self).__name__} does not say what it is a mixture of: define its `components`")

    @property
    def second_moment(self) -> float:
        """E beta*^2."""
        return math.fsum(c.weight * (c.mean**2 + c.variance) for c in self.components)

    @property
    def absolute_moment(self) -> float:
        """E |beta*|."""
        return math.fsum(c.weight * absolute_mean(c.mean, c.variance) for c in self.components)

    @property
    def nonzero(self) -> float:
        """P(beta* != 0)."""
        return math.fsum(c.weight for c in self.components if c.mean or c.variance)

    @property
    def is_symmetric(self) -> bool:
        """Whether beta* and -beta* have the same law."""
        return self.components == self.mirrored

    @property
    def mirrored(self) -> tuple[Component, ...]:
        """The components of -beta*, in the order of `components`: smaller means first."""
        return _in_order([Component(c.weight, 0.0 - c.mean, c.variance) for c in self.components])

    def draw(self, count: int, random: np.random.Generator) -> Array:
        """`count` independent values of beta*."""
        import numpy as np

        components = self.components
        which = random.choice(len(components), size=count, p=[c.weight for c in components])
        means = np.array([c.mean for c in components])[which]
        deviations = np.sqrt([c.variance for c in components])[which]
        return means + deviations * random.standard_normal(count)


@dataclass(frozen=True, repr=False)
class RademacherSparse(AbstractPrior):
    """beta* = +-density^(-1/2) with probability density/2 each, else 0;  E beta*^2 = 1.

    density: the fraction of coordinates that are not zero, in (0, 1]. Raises `InvalidInput` outside.
    docs/theory/diagonal.md section 2 [NI25v2].
    """

    density: float

    def check(self) -> None:
        _require_density(self)

    @property
    def components(self) -> tuple[Component, ...]:
        atom = self.density**-0.5
        half = self.density / 2
        return _in_order([Component(half, -atom, 0.0), *_zeros(self.density), Component(half, atom, 0.0)])


@dataclass(frozen=True, repr=False)
class BernoulliGaussian(AbstractPrior):
    """beta* ~ N(0, 1/density) with probability density, else 0;  E beta*^2 = 1.

    density: the fraction of coordinates that are not zero, in (0, 1]. Raises `InvalidInput` outside.
    docs/theory/diagonal.md section 2 [NI25v2].
    """

    density: float

    def check(self) -> None:
        _require_density(self)

    @property
    def components(self) -> tuple[Component, ...]:
        return _in_order([*_zeros(self.density), Component(self.density, 0.0, 1 / self.density)])


@dataclass(frozen=True, repr=False)
class GaussianPrior(AbstractPrior):
    """beta* ~ N(0, variance).

    variance: > 0 and finite. Raises `InvalidInput` outside.
    docs/theory/diagonal.md section 2 [NI25v2].
    """

    variance: float = 1.0

    def check(self) -> None:
        if not 0 < self.variance < math.inf:
            raise InvalidInput(f"GaussianPrior.variance must be positive and finite, got {self.variance!r}")

    @property
    def components(self) -> tuple[Component, ...]:
        return (Component(1.0, 0.0, self.variance),)


@dataclass(frozen=True, repr=False)
class PositiveSparse(AbstractPrior):
    """beta* = density^(-1/2) with probability density, else 0;  E beta*^2 = 1.

    density: the fraction of coordinates that are not zero, in (0, 1]. Raises `InvalidInput` outside.
    docs/theory/diagonal.md section 2 [NI25v2].
    """

    density: float

    def check(self) -> None:
        _require_density(self)

    @property
    def components(self) -> tuple[Component, ...]:
        return _in_order([*_zeros(self.density), Component(self.density, self.density**-0.5, 0.0)])


@dataclass(frozen=True, repr=False)
class AtomicPrior(AbstractPrior):
    """beta* = atoms[k] with probability weights[k]: any prior of finitely many values.

    atoms: finite numbers, all different; weights: positive, as many, of sum one (to 1e-9; they are divided by their sum).
    AtomicPrior((0.0,), (1.0,)) is the signal that is zero. Raises `InvalidInput` otherwise.
    docs/theory/diagonal.md section 2 [NI25v2].
    """

    atoms: tuple[float, ...]
    weights: tuple[float, ...]

    def check(self) -> None:
        if not self.atoms or len(self.atoms) != len(self.weights):
            raise InvalidInput(
                f"AtomicPrior needs one weight for each atom, got {len(self.atoms)} atoms and {len(self.weights)} weights"
            )
        if not all(math.isfinite(atom) for atom in self.atoms) or len(set(self.atoms)) < len(self.atoms):
            raise InvalidInput(f"AtomicPrior.atoms must be finite and different from one another, got {self.atoms!r}")
        if not all(0 < weight <= 1 + 1e-9 for weight in self.weights) or abs(math.fsum(self.weights) - 1) > 1e-9:
            raise InvalidInput(f"AtomicPrior.weights must be positive with sum 1, got {self.weights!r}")

    @property
    def components(self) -> tuple[Component, ...]:
        total = math.fsum(self.weights)
        pairs = zip(self.atoms, self.weights, strict=True)
        return _in_order([Component(weight / total, atom, 0.0) for atom, weight in pairs])


def absolute_mean(mean: float, variance: float) -> float:
    """E |mean + sqrt(variance) Z|."""
    if not variance:
        return abs(mean)
    deviation = math.sqrt(variance)
    u = mean / deviation
    return deviation * math.sqrt(2 / math.pi) * math.exp(-u * u / 2) + mean * math.erf(u / math.sqrt(2))


def _require_density(prior: RademacherSparse | BernoulliGaussian | PositiveSparse) -> None:
    if not 0 < prior.density <= 1:
        raise InvalidInput(
            f"{type(prior).__name__}.density must be in (0, 1], got {prior.density!r}; nonzero entries of size "
            "density^(-1/2) keep E beta*^2 = 1, and AtomicPrior((0.0,), (1.0,)) is the signal that is zero"
        )


def _zeros(density: float) -> list[Component]:
    return [Component(1 - density, 0.0, 0.0)] if density < 1 else []


def _in_order(components: list[Component]) -> tuple[Component, ...]:
    return tuple(sorted(components, key=lambda c: (c.mean, c.variance, c.weight)))
