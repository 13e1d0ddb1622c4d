"""Targets of a tensor decomposition: what F in L = 1/2 ||f - F||^2 is."""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction

from lossflow.description import Description


class AbstractTarget(Description):
    """A tensor F of p^order entries, as a description. Concrete targets are final."""


@dataclass(frozen=True, repr=False)
class Zero(AbstractTarget):
    """F = 0: free evolution, in which the model decays by itself.

    docs/theory/diagrams.md sections 5 and 7.1 [YGG26v2].
    """


@dataclass(frozen=True, repr=False)
class Identity(AbstractTarget):
    """F_{i1..i_nu} = scale if all indices are equal, else 0;  ||F||^2 = scale^2 p.

    scale: a rational number, exact; floats are read as the decimal that prints them. Scale c > 0 is the unit target after
    u -> c^(1/nu) u: sigma2 -> sigma2 c^(-2/nu), t -> t c^((2 nu - 2)/nu), L -> c^2 L.
    docs/theory/diagrams.md sections 1 and 5 [YGG26v2].
    """

    scale: Fraction = Fraction(1)
