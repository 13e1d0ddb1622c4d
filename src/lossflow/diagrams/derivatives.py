"""The mean derivatives of an observable under gradient flow, order by order: in Python while they are few, compiled when many."""

from __future__ import annotations

import itertools
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from fractions import Fraction
from typing import TYPE_CHECKING, Literal

import numpy as np

from lossflow.diagrams.algebra import Algebra, Sum, exponents
from lossflow.diagrams.polynomial import DiagramPolynomial, algebra_of, encode, names_of
from lossflow.diagrams.wick import Expectation, SizePolynomial, equal_laws
from lossflow.errors import InvalidInput
from lossflow.memory import require_memory

if TYPE_CHECKING:
    import numpy.typing as npt

    from lossflow.diagrams.packed import Engine, Packed

PATIENCE = 20_000  # normal forms in Python, some seconds of them: loading the compiled loops takes as long
NOTEWORTHY = 2.0**30  # bytes that are announced before they are used

Road = Literal["auto", "plain", "compiled"]
Stored = Mapping[str, "npt.NDArray[np.generic]"]


class Merging:
    """Merged sums of diagrams and their means over one algebra, on the cheaper of two roads with equal results.

    The plain road is `Algebra.merge` and `Expectation`, the compiled one `packed.Engine`; which one is taken depends on how
    many normal forms the next step is expected to need, and, for diagrams with relations, there is the plain one alone.
    """

    def __init__(
        self,
        polynomials: Sequence[DiagramPolynomial],
        steps: Sequence[DiagramPolynomial],
        *,
        road: Road = "auto",
        watch: Callable[[float], None] | None = None,
    ) -> None:
        """polynomials: all that occur; steps: those merged with. Tensors that every step treats alike are not told apart."""
        plain = algebra_of(*polynomials)
        untouched = [encode(step, plain) for step in steps]
        self.algebra = algebra_of(*polynomials, interchangeable=_interchangeable(untouched, plain))
        self.plain = plain
        self.names = names_of(*polynomials)
        self.road = road
        self.watch = watch
        self._expectation: Expectation | None = Expectation(self.algebra, self.names)
        self.unpaired = self._expectation.unpaired
        self._engine: Engine | None = None

    @property
    def engine(self) -> Engine:
        """The compiled road."""
        if self._engine is None:
            from lossflow.diagrams.packed import Engine

            self._engine = Engine(self.algebra, self.unpaired)
        return self._engine

    @property
    def expectation(self) -> Expectation:
        """The plain road, with its memory."""
        if self._expectation is None:
            self._expectation = Expectation(self.algebra, self.names)
        return self._expectation

    def packed(self, sum_: Sum, forms: float) -> Sum | Packed:
        """The sum, packed if that is wanted and possible: `forms` normal forms are expected for what comes."""
        if self.road == "plain" or (self.road == "auto" and forms < PATIENCE):
            return sum_
        if not self.engine.takes(sum_):
            return sum_
        self._expectation = None  # its memory is not needed any more
        return self.engine.pack(sum_)

    def merge(self, left: Sum | Packed, right: Sum) -> Sum | Packed:
        """left * right, right being a sum of the plain algebra that is symmetric under exchange of tensors alike."""
        if isinstance(left, dict):
            return self.algebra.merge(left, right)
        if not self.engine.merges(left, right):
            return self.algebra.merge(self.engine.unpack(left), right)
        return self.engine.merge(left, right, self.watch)

    def add(self, left: Sum | Packed, right: Sum | Packed) -> Sum | Packed:
        """The sum of two sums."""
        if isinstance(left, dict) and isinstance(right, dict):
            found = dict(left)
            for key, weight in right.items():
                found[key] = found.get(key, Fraction(0)) + weight
            return {key: weight for key, weight in found.items() if weight}
        packed = [self.engine.pack(part) if isinstance(part, dict) else part for part in (left, right)]
        return self.engine.add(*packed)

    def mean(self, sum_: Sum | Packed, sign: int = 1) -> SizePolynomial:
        """E of the sum, times `sign`."""
        if isinstance(sum_, dict):
            return self.expectation.of(sum_, sign)
        if not self.engine.averages(sum_):
            return self.expectation.of(self.engine.unpack(sum_), sign)
        return Expectation(self.algebra, self.names).collected(self.engine.mean(sum_, self.watch), sign)


class Derivatives(Iterator[SizePolynomial]):
    """Y_s = E[d^s G/dt^s] at t = 0 under du/dt = -dV/du, s = 0, 1, 2, ..., without end: see `wick.derivatives`.

    potential: V; observable: G, by default V. stored: what `stored()` returned for the same two polynomials, to go on after
    that order. road: "auto", or "plain" or "compiled" for one of the two roads, which agree to the last digit.
    watch: called now and then with the fraction of the order in work that is done.
    An interrupted step can be taken again. Announces (`RuntimeWarning`) a step that is expected to take more than a GiB of
    memory, and raises `InvalidInput` instead of one that does not fit.
    docs/theory/diagrams.md sections 1, 3 and 4 [YGG26v2].
    """

    def __init__(
        self,
        potential: DiagramPolynomial,
        observable: DiagramPolynomial | None = None,
        *,
        stored: Stored | None = None,
        road: Road = "auto",
        watch: Callable[[float], None] | None = None,
    ) -> None:
        observable = potential if observable is None else observable
        self.merging = Merging((observable, potential), (potential,), road=road, watch=watch)
        self.step = encode(potential, self.merging.plain)
        # The observable need not be symmetric: a renaming r of tensors that leaves V and all laws as they are commutes with
        # merging by V and with the mean, E[A^s r G] = E[A^s G], so that terms of G equal up to r may be collected.
        self.power: Sum | Packed = encode(observable, self.merging.algebra)
        self.order = 0  # of the next derivative
        self._merged = 0  # of `power`
        self._forms = [0.0, 0.0]
        self._bytes = [0.0, 0.0]
        if stored is not None:
            self._resume(stored)
        elif road == "compiled":
            self.power = self.merging.packed(self.power, np.inf)

    def __next__(self) -> SizePolynomial:
        if self._merged < self.order:
            if isinstance(self.power, dict):
                self.power = self.merging.packed(self.power, _extrapolated(self._forms))
            self._announce()
            self.power = self.merging.merge(self.power, self.step)
            self._merged = self.order
        forms = self.merging.algebra.forms
        y = self.merging.mean(self.power, -1 if self.order % 2 else 1)
        if isinstance(self.power, dict):
            done = float(self.merging.algebra.forms - forms)
            # what the mean of the sum before needed is remembered; a form that the merger needs costs as much
            self._forms = [self._forms[1], done + sum(len(code[1]) * len(self.step) for _, code in self.power)]
        else:
            self._bytes = [self._bytes[1], float(self.merging.engine.effort.bytes)]
        self.order += 1
        return y

    def stored(self) -> Stored | None:
        """The merged sum of the last order as arrays; None where starting over costs no more than seconds."""
        power = self.power
        if isinstance(power, dict):
            return None
        sizes = len(self.merging.algebra.sizes)
        scales = [list(itertools.islice(exponents(scale), sizes)) for scale in power.scales]
        return {
            "order": np.array(self._merged),
            "rows": power.rows,
            "scales": np.array(scales, np.int64).reshape(len(scales), sizes),
            "item_row": power.item_row,
            "item_scale": power.item_scale,
            "parts": power.parts,
            "denominator": np.array(str(power.denominator)),
            "bytes": np.array(self._bytes),
            "axes": np.array(self.merging.engine.axes or (), np.int64),
        }

    def _resume(self, stored: Stored) -> None:
        from lossflow.diagrams.algebra import DIGIT
        from lossflow.diagrams.packed import Packed

        scales = [sum(power << DIGIT * k for k, power in enumerate(row)) for row in stored["scales"].tolist()]
        self.power = Packed(
            np.ascontiguousarray(stored["rows"], np.uint8),
            scales,
            np.ascontiguousarray(stored["item_row"], np.int64),
            np.ascontiguousarray(stored["item_scale"], np.int64),
            np.ascontiguousarray(stored["parts"], np.uint32),
            int(str(stored["denominator"])),
        )
        self._merged = int(stored["order"])
        self._bytes = [float(x) for x in stored["bytes"]]
        self.merging.engine.axes = tuple(int(axis) for axis in stored["axes"])
        self.order = self._merged + 1

    def _announce(self) -> None:
        if isinstance(self.power, dict):
            return
        expected = _extrapolated(self._bytes)
        require_memory(expected, f"order {self.order}, by the growth from order to order,", "ask for a lower order")
        if expected > NOTEWORTHY:
            warnings.warn(
                f"order {self.order} is expected to take about {expected / 2**30:.1f} GiB of memory",
                RuntimeWarning,
                stacklevel=3,
            )


def _extrapolated(last: Sequence[float]) -> float:
    """What comes after two numbers that grow geometrically; odd and even orders differ, so the growth counts as 2 at least."""
    return last[1] * max(last[1] / max(last[0], 1.0), 2.0) if last[0] else 2 * last[1]


def graded_means(
    terms: Mapping[str, DiagramPolynomial], counts: Mapping[str, int], *, road: Road = "auto"
) -> Iterator[tuple[dict[str, int], SizePolynomial]]:
    """E of the merged sums of a loss L = sum_j z_j G_j by how many copies of each term they hold:

        E[L * L * ... * L] = sum over grades n of  prod_j z_j^{n_j}  B_n,    n_1 + n_2 + ... = number of factors,

    with the left-nested merger *. A block B_n is the mean of  M_n = sum_j M_{n - e_j} * G_j,  M_{e_j} = G_j.

    terms: the G_j, by name; counts: the largest n_j of each. All blocks below are passed on the way and yielded as
    ({name: n_j}, B_n), fewest factors first; so Y_s = (-1)^s sum_{|n| = s+1} prod_j z_j^{n_j} B_n. A block that no merger
    reaches is 0. road: as in `Derivatives`. Raises `InvalidInput` for names that differ, negative counts, or no term at all.
    docs/theory/diagrams.md section 3, docs/theory/odd_order_and_descent.md section A [YGG26v2].
    """
    if not terms or set(terms) != set(counts):
        raise InvalidInput(
            f"terms and counts need the same names, at least one: got {sorted(terms)} and {sorted(counts)}"
        )
    for name, count in counts.items():
        if isinstance(count, bool) or not isinstance(count, int) or count < 0:
            raise InvalidInput(f"the count of {name!r} must be a whole number >= 0, got {count!r}")
    return _graded(dict(terms), dict(counts), road)


def _graded(
    terms: dict[str, DiagramPolynomial], counts: dict[str, int], road: Road
) -> Iterator[tuple[dict[str, int], SizePolynomial]]:
    merging = Merging(tuple(terms.values()), tuple(terms.values()), road=road)
    steps = {name: encode(term, merging.plain) for name, term in terms.items()}
    names = list(terms)
    level: dict[tuple[int, ...], Sum | Packed] = {}
    for position, name in enumerate(names):
        if counts[name]:
            grade = tuple(int(k == position) for k in range(len(names)))
            level[grade] = merging.packed(encode(terms[name], merging.algebra), 0.0 if road == "auto" else np.inf)
    while level:
        forms = merging.algebra.forms
        for grade in sorted(level, reverse=True):
            yield dict(zip(names, grade, strict=True)), merging.mean(level[grade])
        cost = 12.0 * (merging.algebra.forms - forms)  # the next level, from what is known of growth
        above: dict[tuple[int, ...], Sum | Packed] = {}
        for grade, sum_ in level.items():
            sum_ = merging.packed(sum_, cost) if isinstance(sum_, dict) else sum_
            for position, name in enumerate(names):
                if grade[position] < counts[name]:
                    higher = tuple(n + (k == position) for k, n in enumerate(grade))
                    part = merging.merge(sum_, steps[name])
                    above[higher] = merging.add(above[higher], part) if higher in above else part
        level = above


def _interchangeable(sums: Sequence[Sum], algebra: Algebra) -> list[tuple[int, ...]]:
    """Groups of equally distributed tensors whose permutations leave each of the sums as it is."""
    leader = list(range(len(algebra.tensors)))
    for group in equal_laws(algebra.tensors):
        for a in group:
            for b in group:
                alike = algebra.tensors[a].learned == algebra.tensors[b].learned
                if leader[b] == b and a < b and alike and all(_swapped(sum_, algebra, a, b) == sum_ for sum_ in sums):
                    leader[b] = leader[a]
    groups = [tuple(b for b, root in enumerate(leader) if root == a) for a in range(len(leader))]
    return [group for group in groups if len(group) > 1]


def _swapped(sum_: Sum, algebra: Algebra, a: int, b: int) -> Sum:
    swap = {a: b, b: a}
    found: Sum = {}
    for (scale, (kinds, edges, rows)), weight in sum_.items():
        edges = [(swap.get(edge[0], edge[0]), *edge[1:]) for edge in edges]
        monomial, code = algebra.normal(kinds, edges, rows, range(len(kinds)))
        found[scale + monomial, code] = weight
    return found


__all__ = ["Derivatives", "Merging", "graded_means"]
