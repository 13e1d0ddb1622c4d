"""The compiled road against the plain one: equal to the last digit, on the published losses and on random ones."""

from __future__ import annotations

from fractions import Fraction
from itertools import islice, takewhile

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.diagrams.families import TENSORS, cross, decomposition, factors, square

from lossflow.diagrams import derivatives as derivatives_module
from lossflow.diagrams import packed as packed_module
from lossflow.diagrams.derivatives import Derivatives, Merging, graded_means
from lossflow.diagrams.polynomial import DiagramPolynomial, diagram, encode, size
from lossflow.diagrams.tensor import Tensor, pin
from lossflow.diagrams.wick import SizePolynomial, mean
from lossflow.errors import InvalidInput


@pytest.fixture(params=[7, 20_000], ids=["small batches", "usual batches"])
def batches(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """So few children at once that every loop stops and goes on, and as many as usual."""
    monkeypatch.setattr(packed_module, "CHILDREN_AT_ONCE", request.param)
    monkeypatch.setattr(packed_module, "ROWS_AT_ONCE", request.param)


def compared(potential: DiagramPolynomial, observable: DiagramPolynomial | None, order: int) -> list[SizePolynomial]:
    """The derivatives on the compiled road, after comparison with the plain one."""
    compiled = Derivatives(potential, observable, road="compiled")
    plain = Derivatives(potential, observable, road="plain")
    found = [next(compiled) for _ in range(order + 1)]
    assert not isinstance(compiled.power, dict)
    assert found == [next(plain) for _ in range(order + 1)]
    return found


@pytest.mark.parametrize(
    ("order", "symmetric", "highest"),
    [(2, True, 9), (2, False, 5), (3, True, 3), (3, False, 3), (4, True, 2), (4, False, 2)],
)
@pytest.mark.usefixtures("batches")
def test_decompositions(order: int, symmetric: bool, highest: int) -> None:
    compared(decomposition(order, symmetric), None, highest)


def network() -> DiagramPolynomial:
    """(1/2N) sum_n f(x_n)^2 with f = sum_k a_k (w_k . x)^2: three tensors of arities 1 and 2, one frozen, three axes."""
    w, a = Tensor("w", ("H", "p")), Tensor("a", ("H",), variance="a2")
    x = Tensor("x", ("p", "N"), variance=1, learned=False)

    def output(k: str, i: str, j: str) -> tuple:
        return a(k), w(k, i), x(i, "n"), w(k, j), x(j, "n")

    return Fraction(1, 2) * size("N", -1) * diagram(*output("k", "i", "j"), *output("l", "q", "r"))


def test_a_network_on_data_and_an_observable_of_its_own() -> None:
    w = Tensor("w", ("H", "p"))
    compared(network(), None, 1)
    compared(network(), diagram(w("k", "i"), w("k", "i")), 2)


def test_pins_means_and_all_arities() -> None:
    """Everything but relations, which the compiled road leaves to the plain one."""
    u, v = Tensor("u", ("H", "p")), Tensor("v", ("H", "p"))
    spiked = Fraction(1, 2) * square(2, True) - 3 * diagram(u("k", pin(1)), u("k", pin(2)))
    compared(spiked, None, 3)
    biased = Tensor("u", ("H", "p"), mean=Fraction(1, 2))
    norm = diagram(biased("k", "i"), biased("k", "i"))
    compared(Fraction(1, 2) * norm * norm - diagram(biased("k", "i")), None, 3)
    cubic, number = Tensor("g", ("p", "H", "p"), variance=Fraction(1, 3), mean="m"), Tensor("c", (), mean=1)
    compared(diagram(cubic("i", "k", "i"), cubic("i", "k", "j"), number()) - cross(2, True), None, 2)
    alike = diagram(*[u("k", "i")] * 4) + diagram(*[v("k", "i")] * 4) + diagram(u("k", "i"), v("k", "i"))
    compared(alike, 3 * diagram(u("k", "i"), u("k", "i")) - 5 * diagram(v("k", "i"), v("k", "i")), 3)


@st.composite
def losses(draw: st.DrawFn, most: int) -> DiagramPolynomial:
    """One to three diagrams without relations, with pins, over tensors of every kind."""
    total = 0 * diagram()
    for chosen in draw(st.lists(factors(TENSORS, most), min_size=1, max_size=3)):
        coefficient = draw(st.sampled_from([1, -2, Fraction(1, 2), Fraction(-3, 5), 10**12 + 39]))
        total = total + coefficient * size("p", draw(st.integers(-1, 1))) * diagram(*chosen)
    return total


@given(losses(4), losses(4))
@settings(max_examples=80)
def test_random_losses_and_observables(potential: DiagramPolynomial, observable: DiagramPolynomial) -> None:
    """Tensors of equal law, single factors, pinned nodes, an axis twice in a tensor, coefficients of many digits."""
    compared(potential, observable, 2)


@given(losses(6))
@settings(max_examples=80)
def test_random_means(polynomial: DiagramPolynomial) -> None:
    merging = Merging((polynomial,), (polynomial,), road="compiled")
    packed = merging.packed(encode(polynomial, merging.algebra), np.inf)
    assert not isinstance(packed, dict)
    assert merging.mean(packed).terms == mean(polynomial).terms


@given(losses(4), losses(4))
@settings(max_examples=40)
def test_packing_changes_nothing(a: DiagramPolynomial, b: DiagramPolynomial) -> None:
    """There and back, and sums: equal as sums of diagrams, up to the numbering of the nodes and tensors alike."""
    merging = Merging((a, b), (a, b), road="compiled")
    algebra, engine = merging.algebra, merging.engine
    sums = [encode(x, algebra) for x in (a, b)]

    def renumbered(sum_: dict) -> dict:
        found: dict = {}
        for (scale, (kinds, edges, rows)), weight in sum_.items():
            monomial, code = algebra.normal(kinds, edges, rows, range(len(kinds)))
            found[scale + monomial, code] = found.get((scale + monomial, code), Fraction(0)) + weight
        return {key: weight for key, weight in found.items() if weight}

    packed = [engine.pack(sum_) for sum_ in sums]
    assert [renumbered(engine.unpack(part)) for part in packed] == sums
    assert renumbered(engine.unpack(engine.add(*packed))) == merging.add(*sums)


def test_relations_take_the_plain_road() -> None:
    u, v, w = (Tensor(name, ("H", "p")) for name in ("u1", "u2", "u3"))
    target = diagram(u("k", "i"), v("k", "j"), w("k", "l"), constraints=[{"i": 1, "j": 1, "l": -1}])
    loss = Fraction(1, 2) * square(3, False) - target
    found = Derivatives(loss, road="compiled")
    assert list(islice(found, 2)) == list(islice(Derivatives(loss, road="plain"), 2))
    assert isinstance(found.power, dict)


def test_diagrams_too_large_for_bytes_take_the_plain_road(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(packed_module, "MOST_NODES", 12)
    loss = decomposition(3, True)
    found = Derivatives(loss, road="compiled")
    assert list(islice(found, 3)) == list(islice(Derivatives(loss, road="plain"), 3))
    assert isinstance(found.power, dict)


def test_going_on_from_what_was_stored() -> None:
    loss = decomposition(3, False)
    through = list(islice(Derivatives(loss, road="compiled"), 5))
    first = Derivatives(loss, road="compiled")
    assert first.stored() is not None
    assert list(islice(first, 3)) == through[:3]
    second = Derivatives(loss, stored=first.stored())
    assert second.order == 3
    assert list(islice(second, 2)) == through[3:]


def test_few_diagrams_stay_in_python_and_many_do_not(monkeypatch: pytest.MonkeyPatch) -> None:
    loss = decomposition(3, True)
    found = Derivatives(loss)
    expected = list(islice(found, 4))
    assert isinstance(found.power, dict)
    assert found.stored() is None
    monkeypatch.setattr(derivatives_module, "PATIENCE", 500)
    switching = Derivatives(loss)
    assert list(islice(switching, 4)) == expected
    assert not isinstance(switching.power, dict)


def test_an_interrupted_step_can_be_taken_again(monkeypatch: pytest.MonkeyPatch) -> None:
    """A key pressed in the middle of the merger or of the mean."""
    loss = decomposition(3, True)
    expected = list(islice(Derivatives(loss, road="plain"), 4))
    pressed = iter([False] * 3 + [True] + [False] * 9 + [True])

    def watch(fraction: float) -> None:
        assert 0 <= fraction <= 1
        if next(pressed, False):
            raise KeyboardInterrupt

    found, interruptions = Derivatives(loss, road="compiled", watch=watch), 0
    got: list[SizePolynomial] = []
    while len(got) < 4:
        try:
            got.append(next(found))
        except KeyboardInterrupt:
            interruptions += 1
    assert interruptions == 2
    assert got == expected


@pytest.mark.parametrize("refusals", [1, 2, 3])
@pytest.mark.parametrize("potential", [decomposition(2, True), decomposition(3, False)], ids=["SYM 2", "ASYM 3"])
def test_exponents_for_which_there_is_no_room_are_interpolated(
    refusals: int, potential: DiagramPolynomial, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each time the arithmetic finds no room, one variable more takes numbers instead of being kept as a symbol."""
    expected = [y for _, y in zip(range(4), Derivatives(potential, road="plain"), strict=False)]
    asked: list[str] = []

    def require(needed: float, what: str, advice: str = "") -> None:
        if what == "the arithmetic of this order":
            asked.append(what)
            if len(asked) <= refusals:
                raise InvalidInput("no room")

    for order in range(4):
        asked.clear()
        found = Derivatives(potential, road="compiled")
        for _ in range(order):
            next(found)
        asked.clear()
        monkeypatch.setattr(packed_module, "require_memory", require)
        if refusals < 3:
            assert next(found) == expected[order]
        else:
            with pytest.raises(InvalidInput, match="no room"):
                next(found)
        monkeypatch.undo()
        assert next(found) == expected[order] if refusals == 3 else len(asked) > refusals


def test_memory_is_announced_and_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    found = Derivatives(decomposition(3, True), road="compiled")
    list(islice(found, 3))
    monkeypatch.setattr(derivatives_module, "NOTEWORTHY", 1.0)
    with pytest.warns(RuntimeWarning, match="order 3 is expected to take about"):
        next(found)
    monkeypatch.setattr("lossflow.memory.available_memory", lambda: 1000.0)
    with pytest.raises(InvalidInput, match=r"order 4.*GiB of memory"):
        next(found)


def test_blocks_add_up_to_the_derivatives() -> None:
    """Y_s = (-1)^s sum over grades of the weights times B: L = D/2 - R at order 3, both roads."""
    terms, order = {"D": square(3, True), "R": cross(3, True)}, 3
    loss = Fraction(1, 2) * square(3, True) - cross(3, True)
    expected = list(islice(Derivatives(loss, road="plain"), order + 1))
    for road in ("plain", "compiled"):
        found = graded_means(terms, {"D": order + 1, "R": order + 1}, road=road)
        blocks = list(takewhile(lambda block: sum(block[0].values()) <= order + 1, found))  # fewest factors first
        for s in range(order + 1):
            total: dict[tuple[int, ...], Fraction] = {}
            for grade, block in blocks:
                if grade["D"] + grade["R"] == s + 1:
                    weight = (-1) ** s * Fraction(1, 2) ** grade["D"] * (-1) ** grade["R"]
                    for exponents, c in block.terms.items():
                        total[exponents] = total.get(exponents, Fraction(0)) + weight * c
            assert {e: c for e, c in total.items() if c} == expected[s].terms


def test_blocks_do_not_exchange_tensors_that_one_term_tells_apart() -> None:
    """u1 and u2 are alike in the sum of the terms, not in each: the blocks (2, 0) and (0, 2) have single tensors."""
    one, two = Tensor("u1", ("d",)), Tensor("u2", ("d",))
    terms = {"a": diagram(*[one("i")] * 4), "b": diagram(*[two("i")] * 4)}
    blocks = {tuple(grade.values()): block.terms for grade, block in graded_means(terms, {"a": 2, "b": 1})}
    assert blocks[1, 0] == blocks[0, 1] == {(1, 2): 3}
    assert blocks[2, 0] == {(1, 3): 16 * 15}
    assert blocks[1, 1] == blocks[2, 1] == {}
    assert set(blocks) == {(1, 0), (0, 1), (2, 0), (1, 1), (2, 1)}


def test_blocks_want_names_and_counts() -> None:
    terms = {"D": square(2, True)}
    for counts in ({}, {"R": 1}, {"D": -1}, {"D": 1.5}, {"D": True}):
        with pytest.raises(InvalidInput):
            graded_means(terms, counts)  # type: ignore[arg-type]
    with pytest.raises(InvalidInput):
        graded_means({}, {})
    assert list(graded_means(terms, {"D": 0})) == []
