"""Networks on Gaussian samples as sums of diagrams: the training loss, and the loss on a fresh sample.

A model is written once, as its residual r = f(x) - f*(x) - noise on one sample, a sum of products of tensor entries; squares of
it are the training loss (data `x`, one column for each sample) and, averaged over a sample that no weight has seen, the test
loss. Two kinds of users: the functions `linear_regression`, `matrix_factorization`, `deep_linear`, `quadratic_network` and
`diagonal_network` give problems whose sizes and variances are all symbols, du/dt = -dL/du; the descriptions
`GeneralizedLinear`, `DiagonalLinear` and `QuadraticNetwork` have their numbers in the diagrams, and their own flow.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from functools import lru_cache
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from lossflow.description import Number, SizeMap, coerce
from lossflow.diagrams.diagram import Diagram
from lossflow.diagrams.pairing import contracted, pairings
from lossflow.diagrams.polynomial import DiagramPolynomial, Term, diagram, size
from lossflow.diagrams.tensor import Factor, Tensor, pin
from lossflow.errors import InvalidInput
from lossflow.problem import AbstractProblem
from lossflow.problems.polynomial import draw_tensors, require_learned

HALF = Fraction(1, 2)
Coefficient = Number | DiagramPolynomial
Residual = Sequence[tuple[Coefficient, Sequence[Factor]]]  # a sum of products of tensor entries

DATA = Tensor("x", ("d", "N"), variance=1, learned=False)
FRESH = Tensor("x_fresh", ("d",), variance=1, learned=False)


@dataclass(frozen=True, repr=False)
class DataProblem(AbstractProblem):
    """loss = 1/(2N) sum_n |f(x_n) - f*(x_n) - noise_n|^2,   du/dt = -d loss/du,   x_n ~ N(0, 1_d).

    loss: the training loss; test_loss: the same on a fresh sample, averaged over that sample and its noise, so that it is a
    function of the weights and the teacher alone. Both are diagram polynomials in symbolic sizes; the functions of this
    module make them. Sizes, given to the method: those of `loss`.
    docs/theory/diagrams.md section 5 [YGG26v2].
    """

    loss: DiagramPolynomial
    test_loss: DiagramPolynomial

    def check(self) -> None:
        require_learned(self.loss)

    @property
    def languages(self) -> tuple[str, ...]:
        return ("diagrams", "sample")

    def as_diagrams(self) -> DiagramPolynomial:
        """The training loss."""
        return self.loss

    def diagram_observables(self) -> Mapping[str, DiagramPolynomial]:
        """The training loss and the test loss."""
        return {"loss": self.loss, "test_loss": self.test_loss}

    def as_sample(self, sizes: Mapping[str, float], run: int, seed: int) -> dict[str, npt.NDArray[np.float64]]:
        """The entries of every tensor of the training loss at the start of run `run`, by tensor name."""
        return draw_tensors(self.loss, sizes, run, seed)


def linear_regression() -> DataProblem:
    """loss = 1/(2N) sum_n (w.x_n - w*.x_n - noise_n)^2.

    Sizes: d, N; variances: sigma2 (of w), teacher2 (of w*), noise2. docs/theory/diagrams.md section 5 [YGG26v2].
    """
    w = Tensor("w", ("d",))
    teacher = Tensor("teacher", ("d",), variance="teacher2", learned=False)
    return _problem(lambda x: [(1, [w("i"), x("i")]), (-1, [teacher("i"), x("i")])])


def matrix_factorization() -> DataProblem:
    """loss = 1/(2N) sum_n |U V^T x_n - A B^T x_n - noise_n|^2,  U: p x H, V: d x H, A: p x R, B: d x R.

    The matrix A B^T is factorized from N noisy looks at it; each of the p outputs has its own noise. Sizes: d (inputs), p
    (outputs), H, R (ranks), N; variances: sigma2 (of U and V), teacher2 (of A and B), noise2.
    docs/theory/diagrams.md section 5 [YGG26v2].
    """
    u, v = Tensor("u", ("p", "H")), Tensor("v", ("d", "H"))
    a = Tensor("teacher_a", ("p", "R"), variance="teacher2", learned=False)
    b = Tensor("teacher_b", ("d", "R"), variance="teacher2", learned=False)
    return _problem(lambda x: [(1, [u("o", "k"), v("i", "k"), x("i")]), (-1, [a("o", "t"), b("i", "t"), x("i")])], "p")


def deep_linear(depth: int = 2) -> DataProblem:
    """loss = 1/(2N) sum_n |W_depth .. W_1 x_n - W* x_n - noise_n|^2,  noise on each output.

    depth: >= 1 layers w1 (h1 x d), w2 (h2 x h1), ..., the last p x h<depth-1>; W*: p x d. Sizes: d, h1, h2, ..., p, N; variances:
    sigma2 (of all layers), teacher2, noise2. Raises `InvalidInput` for a depth below 1.
    docs/theory/diagrams.md section 5 [YGG26v2].
    """
    depth = coerce(depth, int, "the depth of a linear network")
    if depth < 1:
        raise InvalidInput(f"a linear network has at least one layer, got depth {depth}")
    widths = ["d", *(f"h{layer}" for layer in range(1, depth)), "p"]
    nodes = ["i", *(f"k{layer}" for layer in range(1, depth)), "o"]
    layers = [Tensor(f"w{m + 1}", (widths[m + 1], widths[m])) for m in range(depth)]
    path = [w(nodes[m + 1], nodes[m]) for m, w in enumerate(layers)]
    teacher = Tensor("teacher", ("p", "d"), variance="teacher2", learned=False)
    return _problem(lambda x: [(1, [*path, x("i")]), (-1, [teacher("o", "i"), x("i")])], "p")


def quadratic_network(readout: bool = False) -> DataProblem:
    """loss = 1/(2N) sum_n (f(x_n) - f*(x_n) - noise_n)^2,  f(x) = sum_k a_k (w_k.x)^2,  f*(x) = sum_l (w*_l.x)^2.

    readout: whether a_k is learned too, a ~ N(0, a2), or a_k = 1. Sizes: d, H (hidden), R (of the teacher), N; variances: sigma2
    (of w), teacher2 (of w*), noise2, and a2 with a readout. docs/theory/diagrams.md section 5 [YGG26v2].
    """
    w = Tensor("w", ("H", "d"))
    a = [Tensor("a", ("H",), variance="a2")("k")] if coerce(readout, bool, "readout") else []
    teacher = Tensor("teacher", ("R", "d"), variance="teacher2", learned=False)
    return _problem(
        lambda x: [
            (1, [*a, w("k", "i"), x("i"), w("k", "j"), x("j")]),
            (-1, [teacher("t", "i"), x("i"), teacher("t", "j"), x("j")]),
        ]
    )


def diagonal_network() -> DataProblem:
    """loss = 1/(2N) sum_n (f(x_n) - f*(x_n) - noise_n)^2,  f(x) = sum_i (u_i^2 - v_i^2) x_i,  f*(x) = sum_i beta_i x_i.

    Sizes: d, N; variances: sigma2 (of u and v), teacher2 (of beta), noise2. docs/theory/diagrams.md section 5 [YGG26v2].
    """
    u, v = Tensor("u", ("d",)), Tensor("v", ("d",))
    beta = Tensor("beta", ("d",), variance="teacher2", learned=False)
    return _problem(
        lambda x: [(1, [u("i"), u("i"), x("i")]), (-1, [v("i"), v("i"), x("i")]), (-1, [beta("i"), x("i")])]
    )


def _problem(model: Callable[[Callable[[str], Factor]], Residual], outputs: str | None = None) -> DataProblem:
    """The problem whose noiseless residual on an input x is model(x), a sum of products of x(i) and other entries.

    outputs: the axis of the node "o", if there is more than one output.
    """
    shared = ("n", "o") if outputs else ("n",)
    axes = (outputs, "N") if outputs else ("N",)
    noise = Tensor("noise", axes, variance="noise2", learned=False)(*reversed(shared))
    # the number `noise2` itself: one fixed entry of a constant vector
    noise2 = Tensor("noise_variance", ("N",), variance=0, mean="noise2", learned=False)(pin(1))
    train = square([*model(lambda i: DATA(i, "n")), (-1, [noise])], shared)
    test = averaged(square(model(FRESH), shared), FRESH) + (size(outputs) if outputs else 1) * diagram(noise2)
    return DataProblem(HALF * size("N", -1) * train, HALF * test)


def square(residual: Residual, shared: Sequence[str]) -> DiagramPolynomial:
    """sum over the shared nodes of residual^2, all other nodes summed within each of the two copies."""
    total = 0 * diagram()
    for c, left in residual:
        for e, right in residual:
            copy = (Factor(f.tensor, tuple(k if k in shared else f"{k} again" for k in f.nodes)) for f in right)
            total += c * (e * diagram(*left, *copy))
    return total


def averaged(polynomial: DiagramPolynomial, fresh: Tensor) -> DiagramPolynomial:
    """The mean over one frozen tensor of mean zero alone, as a polynomial in the others: all Wick pairings of its factors.

    docs/theory/diagrams.md section 4 [YGG26v2].
    """
    total = 0 * diagram()
    for term in polynomial.terms:
        mine = [k for k, factor in enumerate(term.diagram.factors) if factor.tensor == fresh]
        for pairs in pairings(Diagram(tuple(term.diagram.factors[k] for k in mine))):
            joined = contracted(term.diagram, tuple((mine[a], mine[b]) for a, b in pairs))
            if joined is None:
                continue
            left = Diagram(tuple(f for k, f in enumerate(joined.factors) if k not in mine), joined.constraints)
            weight = Term(term.coefficient * Fraction(fresh.variance) ** len(pairs), term.powers, left)
            lost = DiagramPolynomial((weight,))
            for node, axis in joined.axes.items():
                lost = lost if node in left.axes else size(axis) * lost
            total += lost
    return total


# --- the same models as descriptions with numbers: mean-field normalization, du/dt = -d * d(loss + penalty)/du


class ModelDiagrams(NamedTuple):
    """What the weights descend, and the observables by name, "loss" among them.

    random: sizes that are numbers of the d coordinates in classes, with the probability of each class.
    """

    potential: DiagramPolynomial
    observables: Mapping[str, DiagramPolynomial]
    random: Mapping[str, Fraction] = {}


def derived_sizes(sizes: Mapping[str, float], formulas: Mapping[str, tuple[float, int]]) -> SizeMap:
    """{"d": d} with the sizes ratio * d^power of `formulas`, {"n": (delta, 1)}; a ratio of inf is a size that does not occur.

    Raises `InvalidInput` unless d is a whole number >= 1 and all of them are whole, with the nearest d that is possible.
    """
    given = SizeMap(sizes)
    if set(given) != {"d"}:
        others = ", ".join(formulas)
        raise InvalidInput(f'sizes must be {{"d": ...}} alone, from which {others} follow; got {given!r}')
    d = given["d"]
    if d < 1 or not d.is_integer():
        raise InvalidInput(f"size 'd' must be a whole number >= 1, got {d:g}")
    finite = {name: formula for name, formula in formulas.items() if math.isfinite(formula[0])}
    wrong = [name for name, formula in finite.items() if _whole(formula, int(d)) is None]
    if wrong:
        name = wrong[0]
        ratio, power = finite[name]
        raise InvalidInput(
            f"{name} = {ratio:g} * d{f'^{power}' if power > 1 else ''} = {ratio * d**power:g} is not a whole number >= 1 "
            f"at d = {d:g}; {_possible(finite, int(d))}"
        )
    return SizeMap({"d": d, **{name: float(_whole(formula, int(d)) or 0) for name, formula in finite.items()}})


def _whole(formula: tuple[float, int], d: int) -> int | None:
    """ratio * d^power as a whole number >= 1, up to the rounding of the ratio: 0.1 * 30 is 3."""
    value = formula[0] * d ** formula[1]
    nearest = round(value)
    return nearest if nearest >= 1 and abs(value - nearest) <= 1e-9 * value else None


def _possible(formulas: Mapping[str, tuple[float, int]], d: int) -> str:
    """Where all sizes are whole, as the tail of a message; looked for up to ten times d and no further."""
    below = next((e for e in range(d, 0, -1) if all(_whole(f, e) for f in formulas.values())), None)
    above = next((e for e in range(d, 10 * d + 1000) if all(_whole(f, e) for f in formulas.values())), None)
    found = [f"d = {e}" for e in (below, above) if e is not None]
    return f"nearest: {' and '.join(found)}" if found else f"and no d up to {10 * d + 1000} makes all of them whole"


def exact(value: float) -> Fraction:
    """The decimal that prints the number, as a rational."""
    return Fraction(repr(float(value)))


@lru_cache(maxsize=16)
def linear_regression_diagrams(
    delta: float, noise_variance: float, weight_decay: float, init_variance: float, init_overlap: float
) -> ModelDiagrams:
    """loss = 1/(2n) sum_i (x_i.(theta - theta*) - noise_i)^2,  x_ij ~ N(0, 1/d), theta*_j ~ N(0, 1), all independent.

    Also mse = |theta - theta*|^2/d, norm = |theta|^2/d, and test_loss, the loss on a fresh sample.

    theta_0 and theta* are Gaussian, E theta_0^2 = init_variance, their cosine init_overlap: theta = v + c theta* with v learned,
    c = init_overlap sqrt(init_variance). Potential: d * loss + (weight_decay/2) |theta|^2. delta = inf: the population loss.
    Sizes: d, n. docs/theory/mean_field.md sections 1 and 5 [NI26v2].
    """
    c = exact(init_overlap * math.sqrt(init_variance))
    v = Tensor("v", ("d",), variance=exact(init_variance) * (1 - exact(init_overlap) ** 2))
    teacher = Tensor("teacher", ("d",), variance=1, learned=False)
    mse = size("d", -1) * square([(1, [v("i")]), (c - 1, [teacher("i")])], "i")
    test = HALF * mse + HALF * exact(noise_variance) * diagram()
    if math.isfinite(delta):
        residual = [(1, [v("i"), _x("i", "n")]), (c - 1, [teacher("i"), _x("i", "n")]), (-1, [_noise(noise_variance)])]
        loss = HALF * size("n", -1) * size("d", -1) * square(residual, "n")
    else:
        loss = test
    norm = square([(1, [v("i")]), (c, [teacher("i")])], "i")
    potential = size("d") * loss + HALF * exact(weight_decay) * norm
    return ModelDiagrams(potential, {"loss": loss, "test_loss": test, "mse": mse, "norm": size("d", -1) * norm})


@lru_cache(maxsize=16)
def diagonal_diagrams(
    delta: float,
    noise_variance: float,
    weight_decay: float,
    squares: tuple[float, float],
    components: tuple[tuple[float, float, float], ...],
) -> ModelDiagrams:
    """loss = |y - X beta|^2/(2n), beta = (a^2 - b^2)/2, y = X beta* + noise, X_ij ~ N(0, 1/d); mse = |beta - beta*|^2/d.

    squares: (a_0^2, b_0^2), the same in all coordinates. components: (weight, mean, variance) of the mixture that is the law of
    beta*_i. Potential: d * loss + (weight_decay/2) (|a|^2 + |b|^2). The learned tensors are a and b in a unit in which one of
    them begins at 1: their flow has the potential divided by the square of that unit.

    Sizes: d, n, and for a mixture of several components the numbers `d0`, `d1`, ... of coordinates that belong to each, which
    are multinomial: given them, all entries are Gaussian or constant, so that Wick's rule applies to any mixture.
    docs/theory/diagonal.md sections 1 and 2 [NI25v2].
    """
    groups = _classes(components, symmetric=squares[0] == squares[1])
    axes = ["d"] if len(groups) == 1 else [f"d{k}" for k in range(len(groups))]
    unit = exact(max(squares))
    starts = {name: exact(math.sqrt(square_ / max(squares))) for name, square_ in zip("ab", squares, strict=True)}
    residual: list[tuple[Coefficient, list[Factor]]] = [(-1, [_noise(noise_variance)])]
    mse, norm = 0 * diagram(), 0 * diagram()
    for axis, (_, mean, variance) in zip(axes, groups, strict=True):
        error: list[tuple[Coefficient, list[Factor]]] = []
        tag = axis.removeprefix("d")
        for name, sign in (("a", 1), ("b", -1)):
            if starts[name]:
                weight = Tensor(name + tag, (axis,), variance=0, mean=starts[name])("i")
                error.append((sign * unit / 2, [weight, weight]))
                norm += diagram(weight, weight)
        if mean or variance:
            signal = Tensor("signal" + tag, (axis,), variance=exact(variance), mean=exact(mean), learned=False)
            error.append((-1, [signal("i")]))
        mse += size("d", -1) * square(error, "i")
        residual += [(c, [*factors, _x("i", "n", axis)]) for c, factors in error]
    if math.isfinite(delta):
        loss = HALF * size("n", -1) * size("d", -1) * square(residual, "n")
    else:
        loss = HALF * mse + HALF * exact(noise_variance) * diagram()
    potential = (1 / unit) * (size("d") * loss) + HALF * exact(weight_decay) * norm
    random = {} if len(groups) == 1 else {axis: exact(group[0]) for axis, group in zip(axes, groups, strict=True)}
    return ModelDiagrams(potential, {"loss": loss, "mse": mse}, random)


def _classes(components: Sequence[tuple[float, float, float]], symmetric: bool) -> list[tuple[float, float, float]]:
    """The components without repetition; means of either sign are one class where the start tells no sign from the other.

    (Turning the signs of a column of X and of its beta* and exchanging a and b in that coordinate changes no observable.)
    """
    found: dict[tuple[float, float], float] = {}
    for weight, mean, variance in components:
        law = (abs(mean) if symmetric else mean, variance)
        found[law] = found.get(law, 0.0) + weight
    return [(weight, *law) for law, weight in found.items()]


@lru_cache(maxsize=16)
def quadratic_diagrams(alpha: float, noise_variance: float, weight_decay: float, init_variance: float) -> ModelDiagrams:
    """loss = 1/(4n) sum_k (Tr X_k (Z - Z*) - noise_k)^2, Z = W W^T, Z* = W* W*^T/m*, X_k GOE; mse = |Z - Z*|^2/d.

    Z is symmetric, so Tr X Z = sqrt(2/d) sum_ij G_ij Z_ij with independent G_ij ~ N(0, 1). The learned tensor is w = sqrt(m) W,
    w_0 ~ N(0, init_variance), whose flow has m times the potential d * loss + weight_decay |W|^2. alpha = inf: the population
    loss (2 mse + noise_variance)/4. Sizes: d, m, m_star, n. docs/theory/quadratic.md section 1 [MBB26v2].
    """
    w = Tensor("w", ("d", "m"), variance=exact(init_variance))
    teacher = Tensor("teacher", ("d", "m_star"), variance=1, learned=False)

    error: list[tuple[Coefficient, list[Factor]]] = [
        (size("m", -1), [w("i", "k"), w("j", "k")]),
        (-1 * size("m_star", -1), [teacher("i", "t"), teacher("j", "t")]),
    ]
    mse = size("d", -1) * square(error, "ij")
    observables = {"mse": mse}
    if math.isfinite(alpha):
        data = Tensor("x", ("d", "d", "n"), variance=1, learned=False)
        sensed = [(c, [*factors, data("i", "j", "n")]) for c, factors in error]
        noise = (-1, [_noise(noise_variance / 2)])  # in units of sqrt(2/d)
        scale = HALF * size("n", -1) * size("d", -1)
        loss = scale * square([*sensed, noise], "n")
        observables["in_sample_error"] = scale * square(sensed, "n")
    else:
        loss = HALF * mse + exact(noise_variance) / 4 * diagram()
    decay = exact(weight_decay) * size("m", -1) * diagram(w("i", "k"), w("i", "k"))
    return ModelDiagrams(size("m") * (size("d") * loss + decay), {"loss": loss, **observables})


def _x(i: str, n: str, axis: str = "d") -> Factor:
    """sqrt(d) times an entry of the data."""
    return Tensor("x" + axis.removeprefix("d"), (axis, "n"), variance=1, learned=False)(i, n)


def _noise(variance: float) -> Factor:
    """sqrt(d) times the noise of sample n: the sum of d independent entries, so that no root of d is needed."""
    return Tensor("noise", ("d", "n"), variance=exact(variance), learned=False)("s", "n")
