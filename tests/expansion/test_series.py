"""The exact series: published coefficients, two routes, exact evaluation, leading exponents, and the cache."""

from __future__ import annotations

import itertools
import json
from fractions import Fraction
from pathlib import Path

import pytest

import lossflow as lf
from lossflow.diagrams import derivatives as derivatives_module
from lossflow.diagrams.wick import SizePolynomial
from lossflow.expansion import series as series_module

REFERENCE = json.loads((Path(__file__).parents[1] / "reference" / "diagrams.json").read_text())["Y"]
FAMILIES = {
    "SYM_nu2": (2, True),
    "ASYM_nu2": (2, False),
    "ASYM_nu3": (3, False),
    "SYM_nu3": (3, True),
    "SYM_nu4": (4, True),
}


@pytest.fixture
def cold(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty cache."""
    monkeypatch.setenv("LOSSFLOW_CACHE", str(tmp_path))
    return tmp_path


@pytest.mark.parametrize("family", FAMILIES)
def test_every_published_coefficient_is_equal(family: str, cold: Path) -> None:
    order, symmetric = FAMILIES[family]
    published = [
        {tuple(map(int, key.split(","))): Fraction(value) for key, value in y.items()} for y in REFERENCE[family]
    ]
    series = lf.expand(lf.CPDecomposition(order, symmetric), len(published) - 1, route="general")
    assert series.variables == ("p", "H", "sigma2")
    assert series.assumptions == ()
    assert [dict(y) for y in series.coefficients] == published


@pytest.mark.parametrize("target", [lf.Identity(), lf.Identity(Fraction(3, 2)), lf.Identity(-1), lf.Zero()])
def test_both_routes_to_order_two_are_equal(target: lf.AbstractTarget, cold: Path) -> None:
    problem = lf.CPDecomposition(target=target)
    rings, diagrams = (lf.expand(problem, 5, route=route) for route in ("auto", "general"))
    assert rings == diagrams
    assert len(list(cold.rglob("*.json"))) == 2  # the second was not read from the file of the first


def test_a_scaled_target_is_a_rescaling(cold: Path) -> None:
    """Scale c: sigma2 -> sigma2 c^(-2/nu), t -> t c^((2 nu - 2)/nu), L -> c^2 L; whole powers at order 4, c = 16."""
    nu, c = 4, 16
    root = 2  # c^(1/nu)
    unit = lf.expand(lf.CPDecomposition(nu), 2).at(p=3, H=5, sigma2=Fraction(1, 7 * root**2))
    scaled = lf.expand(lf.CPDecomposition(nu, target=lf.Identity(c)), 2).at(p=3, H=5, sigma2=Fraction(1, 7))
    assert scaled == tuple(c**2 * root ** ((2 * nu - 2) * s) * y for s, y in enumerate(unit))


def test_a_scalar_flow_by_hand(cold: Path) -> None:
    """p = H = 1, order 3: L = (u^3 - 1)^2 / 2, so -dL/dt = 9 (u^5 - u^2)^2 with E u^4 = 3 s^2, E u^7 = 0, E u^10 = 945 s^5."""
    s = Fraction(2, 5)
    y = lf.expand(lf.CPDecomposition(3), 1).at(p=1, H=1, sigma2=s)
    assert y[0] == (15 * s**3 + 1) / 2
    assert y[1] == -9 * (945 * s**5 + 3 * s**2)


def test_the_network_of_a_user(cold: Path) -> None:
    """A quadratic network on data, p = H = N = 1: L = (a w^2 x^2)^2 / 2 and its gradient, by Gaussian moments."""
    w, a = lf.Tensor("w", ("H", "p")), lf.Tensor("a", ("H",), variance="a2")
    x = lf.Tensor("x", ("p", "N"), variance=1, learned=False)
    f = [
        a("k"),
        w("k", "i"),
        x("i", "n"),
        w("k", "j"),
        x("j", "n"),
        a("l"),
        w("l", "q"),
        x("q", "n"),
        w("l", "r"),
        x("r", "n"),
    ]
    net = lf.PolynomialProblem(Fraction(1, 2) * lf.size("N", -1) * lf.diagram(*f))
    series = lf.expand(net, 1)
    assert series.variables == ("p", "H", "N", "a2", "sigma2")
    s, v = Fraction(1, 4), Fraction(2, 3)
    y = series.at(p=1, H=1, N=1, sigma2=s, a2=v)
    assert y[0] == v * 3 * s**2 * 3 / 2
    # (dL/da)^2 = a^2 w^8 x^8, (dL/dw)^2 = 4 a^4 w^6 x^8
    assert y[1] == -(v * 105 * s**4 * 105 + 4 * 3 * v**2 * 15 * s**3 * 105)
    assert any(e < 0 for exponent in series.coefficients[1] for e in exponent)


@pytest.mark.parametrize("family", ["SYM_nu2", "ASYM_nu2", "ASYM_nu3", "SYM_nu4"])
def test_leading_exponents_are_those_of_the_theorem(family: str) -> None:
    """docs/theory/diagrams.md section 6: p^Q(n, s_D) H^n sigma2^l with 2 l = nu (s_D + 1) + (nu - 2) s."""
    nu, symmetric = FAMILIES[family]
    highest = {2: 5, 3: 3, 4: 2}[nu]
    series = lf.expand(lf.CPDecomposition(nu, symmetric), highest)
    for s in range(highest + 1):
        expected = set()
        for d, n in itertools.product(range(s + 2), range(1, s + 3)):
            if n > d + 1 or (not symmetric and ((s + 1 - d) % 2 or n == s + 2)):
                continue  # the exceptions of the asymmetric case: an odd number of cross terms, and one corner
            q = 1 + (nu - 1) * d - (nu * (n - 1)) // 2 if symmetric else 1 + (nu - 1) * (d + 1 - n)
            expected.add((q, n, (nu * (d + 1) + (nu - 2) * s) // 2))
        assert series.pareto(s) == expected


def test_evaluation_wants_every_variable_and_possible_values(cold: Path) -> None:
    series = lf.expand(lf.CPDecomposition(), 1)
    assert series.at(p=2, H=1, sigma2="1/3")[0] == series.at(p=2.0, H=1, sigma2=Fraction(1, 3))[0]  # type: ignore[arg-type]
    for wrong, match in [
        ({"p": 2, "H": 1}, "sigma2"),
        ({"p": 2, "h": 1, "sigma2": 1}, "did you mean 'H'"),
        ({"p": 2.5, "H": 1, "sigma2": 1}, "whole number"),
        ({"p": 0, "H": 1, "sigma2": 1}, "whole number"),
        ({"p": 2, "H": 1, "sigma2": float("nan")}, "rational"),
        ({"p": 2, "H": 1, "sigma2": -1}, "variance 'sigma2' must be >= 0"),
    ]:
        with pytest.raises(lf.InvalidInput, match=match):
            series.at(**wrong)
    with pytest.raises(lf.InvalidInput, match=r"s = 0 \.\. 1"):
        series.pareto(2)


def test_an_assumption_is_kept_and_enforced(cold: Path) -> None:
    """Modular constraints with an even divisor count solutions only at odd p: docs/theory/diagrams.md section 11."""
    v = lf.Tensor("v", ("p",), mean=1, variance=0)
    loss = lf.diagram(v("i"), v("j"), constraints=[{"i": 1, "j": 1}, {"i": 1, "j": -1}])
    series = lf.expand(lf.PolynomialProblem(loss), 0)
    assert series.assumptions == ("p odd",)
    assert series.at(p=5)[0] == 1  # 2 i = 0 mod 5 has the one solution i = 0
    with pytest.raises(lf.InvalidInput, match="p odd"):
        series.at(p=4)


def test_orders_and_problems_that_make_no_sense_are_refused(cold: Path) -> None:
    for wrong in (-1, 2.5, "two", None):
        with pytest.raises(lf.InvalidInput, match="order"):
            lf.expand(lf.CPDecomposition(), wrong)  # type: ignore[arg-type]
    with pytest.raises(lf.InvalidInput, match="route"):
        lf.expand(lf.CPDecomposition(), 1, route="fast")  # type: ignore[arg-type]
    with pytest.raises(lf.InvalidInput, match="problem"):
        lf.expand("matrix", 1)  # type: ignore[arg-type]


class Penalized(lf.PolynomialProblem):
    """A problem whose weights descend the loss and a penalty, and which tells two observables."""

    def as_potential(self) -> lf.DiagramPolynomial:
        w = lf.Tensor("w", ("d",))
        return self.loss + lf.size("lam") * lf.diagram(w("i"), w("i"))

    def diagram_observables(self) -> dict[str, lf.DiagramPolynomial]:
        w = lf.Tensor("w", ("d",))
        return {"loss": self.loss, "norm": lf.diagram(w("i"), w("i"))}


def test_a_potential_and_observables_of_their_own(cold: Path) -> None:
    """V = |w|^4/4 + lam |w|^2 at d = 1:  dw/dt = -w^3 - 2 lam w;  E d(w^2)/dt = -2 E w^4 - 4 lam E w^2."""
    w = lf.Tensor("w", ("d",))
    problem = Penalized(Fraction(1, 4) * lf.diagram(w("i"), w("i"), w("j"), w("j")))
    loss, norm = lf.expand(problem, 2), lf.expand(problem, 1, observable="norm")
    assert loss.variables == norm.variables == ("d", "lam", "sigma2")
    v, lam = Fraction(1, 3), 2
    assert norm.at(d=1, lam=lam, sigma2=v) == (v, -2 * 3 * v**2 - 4 * lam * v)
    assert loss.at(d=1, lam=lam, sigma2=v)[:2] == (3 * v**2 / 4, -15 * v**3 - 2 * lam * 3 * v**2)
    assert lf.expand(problem, 1).coefficients == loss.coefficients[:2]  # each has its own file in the cache
    assert len(list(cold.rglob("*.json"))) == 2


def test_an_unknown_observable_is_refused_with_the_nearest(cold: Path) -> None:
    problem = Penalized(lf.diagram(*[lf.Tensor("w", ("d",))("i")] * 4))
    with pytest.raises(lf.InvalidInput, match="did you mean 'norm'"):
        lf.expand(problem, 1, observable="nrom")
    with pytest.raises(lf.InvalidInput, match="observable"):
        lf.expand(lf.CPDecomposition(2), 1, observable="norm")
    with pytest.raises(lf.InvalidInput, match="observable"):
        lf.expand(problem, 1, observable=3)  # type: ignore[arg-type]


def test_the_cache_is_used_and_extended(cold: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    problem = lf.CPDecomposition(3)
    short = lf.expand(problem, 1)
    longer = lf.expand(problem, 2)
    assert longer.coefficients[:2] == short.coefficients

    def refuse(*polynomials: lf.DiagramPolynomial, **settings: object) -> None:
        raise AssertionError("computed again")

    monkeypatch.setattr(series_module, "Derivatives", refuse)
    assert lf.expand(problem, 2) == longer
    assert lf.expand(problem, 0).coefficients == short.coefficients[:1]


def test_an_interrupted_expansion_keeps_finished_orders(cold: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    problem = lf.CPDecomposition(3, symmetric=False)

    class Interrupted(series_module.Derivatives):
        def __next__(self) -> SizePolynomial:
            if self.order == 2:
                raise KeyboardInterrupt
            return super().__next__()

    monkeypatch.setattr(series_module, "Derivatives", Interrupted)
    with pytest.raises(KeyboardInterrupt):
        lf.expand(problem, 4)
    assert lf.expand(problem, 1).order == 1  # from the cache: computing would be interrupted only at order 2
    assert len(list(cold.rglob("*.json"))) == 1


def test_a_higher_order_goes_on_from_the_merged_sum_on_disk(cold: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What took long (here: everything) is not done again; each order is worked on once, with the same result."""
    monkeypatch.setattr(derivatives_module, "PATIENCE", 0)
    problem = lf.CPDecomposition(3, symmetric=False)
    worked: list[int] = []

    class Watched(series_module.Derivatives):
        def __next__(self) -> SizePolynomial:
            worked.append(self.order)
            return super().__next__()

    monkeypatch.setattr(series_module, "Derivatives", Watched)
    lf.expand(problem, 2)
    lf.expand(problem, 4)
    assert worked == [0, 1, 2, 3, 4]
    assert len(list(cold.rglob("*.npz"))) == 1
    resumed = lf.expand(problem, 4)
    for file in cold.rglob("*.*"):
        file.unlink()
    monkeypatch.setattr(derivatives_module, "PATIENCE", 1e9)
    assert lf.expand(problem, 4) == resumed


def test_a_damaged_merged_sum_is_not_believed(cold: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(derivatives_module, "PATIENCE", 0)
    lf.expand(lf.CPDecomposition(3), 2)
    (file,) = cold.rglob("*.npz")
    data = bytearray(file.read_bytes())
    data[len(data) // 2] ^= 1
    file.write_bytes(data)
    assert lf.expand(lf.CPDecomposition(3), 2).order == 2  # not needed
    with pytest.raises(lf.CorruptedFile, match="delete it"):
        lf.expand(lf.CPDecomposition(3), 3)


@pytest.mark.parametrize("damage", ["flip", "cut", "empty", "foreign"])
def test_a_damaged_cache_is_not_believed(damage: str, cold: Path) -> None:
    lf.expand(lf.CPDecomposition(3), 1)
    (file,) = cold.rglob("*.json")
    data = bytearray(file.read_bytes())
    if damage == "flip":
        data[len(data) // 3] ^= 4
    file.write_bytes({"flip": data, "cut": data[:-7], "empty": b"", "foreign": b"[]"}[damage])
    with pytest.raises(lf.CorruptedFile, match="delete it"):
        lf.expand(lf.CPDecomposition(3), 1)
    file.unlink()
    assert lf.expand(lf.CPDecomposition(3), 1).order == 1


def test_a_cache_that_cannot_be_written_loses_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").write_text("in the way")
    monkeypatch.setenv("LOSSFLOW_CACHE", str(tmp_path / "file"))
    with pytest.warns(RuntimeWarning, match="not kept"):
        assert lf.expand(lf.CPDecomposition(3), 1).order == 1
