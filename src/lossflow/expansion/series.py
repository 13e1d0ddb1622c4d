"""The exact power series of the expected loss, E L(t) ~ sum_s Y_s t^s / s!, with polynomials in the sizes for coefficients."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from fractions import Fraction
from itertools import islice
from typing import TYPE_CHECKING, Any, Literal

from lossflow.checkpoint import Checkpoint, cache_folder, read, seal, unseal, write_atomically
from lossflow.description import coerce
from lossflow.diagrams.derivatives import Derivatives
from lossflow.diagrams.polynomial import DiagramPolynomial, names_of
from lossflow.diagrams.wick import SizePolynomial, mean
from lossflow.errors import CorruptedFile, InvalidInput, StorageError, nearest
from lossflow.expansion.pareto import Exponent, pareto_front
from lossflow.expansion.rings import ring_derivatives
from lossflow.problem import AbstractProblem
from lossflow.problems.cp import CPDecomposition
from lossflow.problems.targets import Identity, Zero
from lossflow.progress import Bar, progress
from lossflow.trajectory import FrozenMapping

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

CACHE_FORMAT = 1
LARGEST_KEPT = 2**28  # bytes of a merged sum on disk


@dataclass(frozen=True)
class LossSeries:
    """Y_s = E[d^s L / dt^s] at t = 0 for s = 0 .. order, each a polynomial with rational coefficients in the sizes.

    variables: the names of the sizes, then of the variances and means. coefficients[s]: {exponents: coefficient}, exponents in
    the order of the variables (negative ones, such as 1/N, occur). assumptions: what must hold of the sizes, e.g. "p odd".
    parameters: those of the variables that are variances or means; variances: those that are variances. constant: the part
    of Y_0 that no weight enters.
    docs/theory/diagrams.md section 1 [YGG26v2].
    """

    variables: tuple[str, ...]
    coefficients: Sequence[Mapping[Exponent, Fraction]]
    assumptions: tuple[str, ...]
    parameters: tuple[str, ...] = ()
    variances: tuple[str, ...] = ()
    constant: Mapping[Exponent, Fraction] = field(default_factory=dict)

    @property
    def order(self) -> int:
        """The highest derivative that is known."""
        return len(self.coefficients) - 1

    def at(self, **sizes: int | Fraction) -> tuple[Fraction, ...]:
        """(Y_0, ..., Y_order) at these sizes, exactly.

        Every variable needs a value: whole numbers >= 1 for sizes, rationals for variances and means (floats are read as
        the decimal that prints them). Raises `InvalidInput` for missing, unknown or impossible values, and for sizes that
        break an assumption.
        """
        values = self._checked(sizes)
        return tuple(SizePolynomial(self.variables, y).at(values) for y in self.coefficients)

    def pareto(self, s: int) -> set[Exponent]:
        """The leading exponents of Y_s: maximal in the growing sizes within each power of the variances.

        The constant that no weight enters, part of Y_0 alone, is left out. docs/theory/diagrams.md section 6 [YGG26v2].
        """
        if not 0 <= s <= self.order:
            raise InvalidInput(f"the series is known for s = 0 .. {self.order}, got s = {s!r}")
        terms = dict(self.coefficients[s])
        if s == 0:
            for exponent, value in self.constant.items():
                terms[exponent] = terms.get(exponent, Fraction(0)) - value
        growing = [name not in self.parameters for name in self.variables]
        return pareto_front((e for e, c in terms.items() if c), growing)

    def __hash__(self) -> int:
        return hash((self.variables, self.assumptions, tuple(frozenset(y.items()) for y in self.coefficients)))

    def _checked(self, sizes: Mapping[str, Any]) -> dict[str, Fraction]:
        for name in sizes:
            if name not in self.variables:
                raise InvalidInput(f"the series has no variable {name!r}; {nearest(name, self.variables)}")
        missing = [name for name in self.variables if name not in sizes]
        if missing:
            raise InvalidInput(
                f"values are missing for {', '.join(missing)}; the series needs {', '.join(self.variables)}"
            )
        values = {name: coerce(value, Fraction, f"size {name!r}") for name, value in sizes.items()}
        for name, value in values.items():
            if name not in self.parameters and (value < 1 or value.denominator != 1):
                raise InvalidInput(f"size {name!r} must be a whole number >= 1, got {value}")
            if name in self.variances and value < 0:
                raise InvalidInput(f"the variance {name!r} must be >= 0, got {value}")
        for assumption in self.assumptions:
            _require_assumption(assumption, values)
        return values


def expand(
    problem: AbstractProblem, order: int, *, route: Literal["auto", "general"] = "auto", observable: str = "loss"
) -> LossSeries:
    """Y_s = (-1)^s E[((G * V) * V) ... * V] (s left-nested mergers by V), s = 0 .. order, exactly.

    problem: any problem with diagrams; V is what its weights descend, `problem.as_potential()`, mostly the loss itself.
    order: the highest derivative, >= 0. observable: the name of G among `problem.diagram_observables()`, "loss" by default.
    route: "general" merges and contracts diagrams, "auto" takes the trace moments instead for the loss of the symmetric CP
    decomposition of order 2, which is faster and just as exact.
    Results are kept on disk, in `$LOSSFLOW_CACHE` or the user's cache folder: every finished order, also when the computation
    is interrupted, and the merged sum of the last one, from which a later call for a higher order goes on. An order that is
    expected to need more than a GiB of memory is announced by a `RuntimeWarning`; one that does not fit raises `InvalidInput`.
    Raises `NotSpoken` for a problem without diagrams, `InvalidInput` for a wrong order or an unknown observable,
    `CorruptedFile` for a damaged cache.
    docs/theory/diagrams.md sections 1-5 [YGG26v2].
    """
    order = coerce(order, int, "order")
    coerce(route, Literal["auto", "general"], "route")
    if order < 0:
        raise InvalidInput(f"order must be >= 0, got {order}")
    if not isinstance(problem, AbstractProblem):
        raise InvalidInput(f"the problem must be an AbstractProblem such as CPDecomposition(order=2), got {problem!r}")
    coerce(observable, str, "observable")
    potential = problem.as_potential()
    observables = problem.diagram_observables()
    if observable not in observables:
        raise InvalidInput(f"{problem!r} has no observable {observable!r}; {nearest(observable, observables)}")
    observed: DiagramPolynomial = observables[observable]
    scale = _ring_scale(problem) if route == "auto" and observable == "loss" else None
    cache = _Cache(potential, observed, "diagrams" if scale is None else "rings")
    known = cache.load()
    if len(known) <= order:
        with progress(order + 1, f"expanding to order {order}") as bar:
            for derivative in _continued(potential, observed, scale, cache, known, bar, order):
                known.append(derivative)
                cache.save(known)
    return _series(potential, observed, known[: order + 1])


def _continued(
    potential: DiagramPolynomial,
    observed: DiagramPolynomial,
    scale: Fraction | None,
    cache: _Cache,
    known: list[SizePolynomial],
    bar: Bar,
    order: int,
) -> Iterator[SizePolynomial]:
    """The derivatives after those that are known, up to `order`; `known` is emptied where starting over is as good."""
    if scale is not None:
        del known[:]
        for derivative in islice(ring_derivatives(scale), order + 1):
            yield derivative
            bar.update(1)
        return
    shown = 0.0

    def watch(fraction: float) -> None:
        nonlocal shown
        bar.update(max(fraction - shown, 0.0))
        shown = max(fraction, shown)

    stored = cache.resume(len(known))
    found = Derivatives(potential, observed, stored=stored, watch=watch)
    del known[found.order :]
    bar.update(found.order)
    while found.order <= order:
        shown = 0.0
        yield next(found)
        watch(1.0)
        cache.keep(found.stored())


def _series(potential: DiagramPolynomial, observed: DiagramPolynomial, known: Sequence[SizePolynomial]) -> LossSeries:
    assumptions = sorted({assumption for y in known for assumption in y.assumptions})
    unlearned = tuple(
        term for term in observed.terms if not any(factor.tensor.learned for factor in term.diagram.factors)
    )
    constant = mean(replace(observed, terms=unlearned))
    aligned = {
        tuple(dict(zip(constant.variables, e, strict=True)).get(name, 0) for name in known[0].variables): c
        for e, c in constant.terms.items()
    }
    tensors = (*potential.tensors, *observed.tensors)
    return LossSeries(
        variables=known[0].variables,
        coefficients=tuple(FrozenMapping(y.terms) for y in known),
        assumptions=tuple(assumptions),
        parameters=names_of(potential, observed).parameters,
        variances=tuple(sorted({tensor.variance for tensor in tensors if isinstance(tensor.variance, str)})),
        constant=FrozenMapping(aligned),
    )


class _Cache:
    """The derivatives on disk, sealed: `<cache>/series/<route>-<key of potential and observable>-<format>.json`."""

    def __init__(self, potential: DiagramPolynomial, observed: DiagramPolynomial, route: str) -> None:
        both = hashlib.sha256(f"{potential.content_key} {observed.content_key}".encode()).hexdigest()
        name = f"{route}-{both}-{CACHE_FORMAT}"
        self.path = cache_folder() / "series" / f"{name}.json"
        self.merged = Checkpoint("series", name)
        self.warned = False

    def load(self) -> list[SizePolynomial]:
        if not self.path.exists():
            return []
        text = unseal(read(self.path), self.path)
        try:
            data = json.loads(text)
            return [_decode(entry) for entry in data]
        except (ValueError, KeyError, TypeError) as error:
            raise CorruptedFile(f"{self.path} holds no series ({error}); delete it") from None

    def resume(self, known: int) -> Mapping[str, npt.NDArray[np.generic]] | None:
        """The merged sum of a known order, to go on from there."""
        stored = self.merged.load() if known else None
        if stored is not None and not {"order", "rows"} <= set(stored):
            raise CorruptedFile(f"{self.merged.path} holds no merged sum; delete it")
        return stored if stored is not None and int(stored["order"]) < known else None

    def keep(self, stored: Mapping[str, npt.NDArray[np.generic]] | None) -> None:
        """Replace the merged sum on disk, unless it is larger than is reasonable to keep."""
        if stored is not None and sum(array.nbytes for array in stored.values()) < LARGEST_KEPT and not self.warned:
            self.merged.save(stored)

    def save(self, known: Sequence[SizePolynomial]) -> None:
        data = json.dumps([_encode(y) for y in known], separators=(",", ":")).encode()
        try:
            write_atomically(self.path, seal(data))
        except StorageError as error:
            if not self.warned:
                import warnings

                warnings.warn(f"the series is not kept: {error}", RuntimeWarning, stacklevel=3)
            self.warned = True


def _encode(y: SizePolynomial) -> dict[str, Any]:
    terms = [[list(exponent), str(c)] for exponent, c in y.terms.items()]
    return {"variables": list(y.variables), "terms": terms, "assumptions": list(y.assumptions)}


def _decode(entry: Mapping[str, Any]) -> SizePolynomial:
    terms = {tuple(exponent): Fraction(c) for exponent, c in entry["terms"]}
    return SizePolynomial(tuple(entry["variables"]), terms, tuple(entry["assumptions"]))


def _ring_scale(problem: AbstractProblem) -> Fraction | None:
    match problem:
        case CPDecomposition(order=2, symmetric=True, target=Zero()):
            return Fraction(0)
        case CPDecomposition(order=2, symmetric=True, target=Identity(scale=scale)):
            return scale
    return None


def _require_assumption(assumption: str, values: Mapping[str, Fraction]) -> None:
    match assumption.split():
        case [name, "odd"]:
            holds = values[name] % 2 == 1
        case [name, "coprime", "to", divisor]:
            holds = math.gcd(int(values[name]), int(divisor)) == 1
        case [name, ">=", least]:
            holds = values[name] >= int(least)
        case _:
            raise InvalidInput(f"the assumption {assumption!r} cannot be checked at these sizes")
    if not holds:
        raise InvalidInput(f"the series assumes {assumption}, got {name} = {values[name]}")


__all__ = ["LossSeries", "expand"]
