"""Targets of a tensor decomposition: what F in L = 1/2 ||f - F||^2 is."""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction

from lossflow.description import Description
from lossflow.errors import InvalidInput


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


@dataclass(frozen=True, repr=False)
class Spiked(AbstractTarget):
    """F = identity + sum_j strengths[j] delta_{i1 = .. = i_nu = j + 1};  ||F||^2 = p + sum_j (2 a_j + a_j^2), a = strengths.

    strengths: rational numbers, exact, one for each of the first values of the index; negative ones are dips, -1 takes the
    entry away. The size p must be at least the number of strengths (up to the last that is not zero).
    docs/theory/diagrams.md section 5 [YGG26v2].
    """

    strengths: tuple[Fraction, ...]


@dataclass(frozen=True, repr=False)
class Constant(AbstractTarget):
    """F_{i1..i_nu} = value;  ||F||^2 = value^2 p^nu.

    value: a rational number, exact; floats are read as the decimal that prints them.
    docs/theory/diagrams.md section 5 [YGG26v2].
    """

    value: Fraction


@dataclass(frozen=True, repr=False)
class ModularAddition(AbstractTarget):
    """F_{i1..i_nu} = 1 if i_nu = i_1 + .. + i_{nu-1} modulo p, else 0 (indices from 0);  ||F||^2 = p^(nu-1).

    At order 3 the table of (x + y) mod p, one-hot in its three slots; at order 2 the identity. The number of solutions of several
    such conditions depends on the divisors of p. At order 3 with independent slots Y_s is a polynomial in p for all p as long as
    s <= 2, from s = 3 on for odd p alone (with one matrix in all slots from s = 1 on, where 2 i = 0 mod p occurs); the series
    states this in its `assumptions` and refuses other p.
    docs/theory/diagrams.md sections 5 and 11 [YGG26v2].
    """


@dataclass(frozen=True, repr=False)
class RandomTeacher(AbstractTarget):
    """F = sum_{l=1..rank} prod_m a^(m)_{l,i_m},  a ~ N(0, variance) drawn once and frozen;  E ||F||^2 = rank variance^nu p^nu for
    independent slots.

    rank, variance: the names of two further sizes of the problem, such as "R" and "teacher2", with values given to the method.
    A symmetric decomposition has one teacher matrix "teacher" in every slot, another has "teacher1", ..., "teacher<nu>".
    They may be names that the problem has already: rank "H" is a teacher as wide as the model, variance "sigma2" one that
    is drawn as the model is. Raises `InvalidInput` for names that are no words, or one name in two roles.
    docs/theory/diagrams.md section 5 [YGG26v2].
    """

    rank: str
    variance: str

    def check(self) -> None:
        for role, name in (("rank", self.rank), ("variance", self.variance)):
            if not name.isidentifier():
                raise InvalidInput(
                    f"RandomTeacher.{role} is the name of a size, a word such as {'R' if role == 'rank' else 'teacher2'!r}; "
                    f"got {name!r}"
                )
        if self.rank == self.variance:
            raise InvalidInput(f"RandomTeacher needs two names, got {self.rank!r} for both rank and variance")
        if self.rank == "sigma2" or self.variance in ("p", "H"):
            wrong = self.rank if self.rank == "sigma2" else self.variance
            raise InvalidInput(
                f"RandomTeacher: {wrong!r} is {'a variance' if wrong == 'sigma2' else 'a size'} of the decomposition; "
                'choose another name, e.g. RandomTeacher(rank="R", variance="teacher2")'
            )
