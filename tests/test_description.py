"""Descriptions: equal when they mean the same, printable as the call, whole after every journey, clear when wrong."""

from __future__ import annotations

import copy
import dataclasses
import math
import os
import pickle
import subprocess
import sys
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from fractions import Fraction
from typing import Any, Literal

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import lossflow as lf
from lossflow.description import Description, brief, coerce
from lossflow.public import HOMES


@dataclass(frozen=True, repr=False)
class Everything(Description):
    """One field of each kind that descriptions use."""

    whole: int = 1
    real: float = 0.5
    ratio: Fraction = Fraction(1, 2)
    flag: bool = False
    text: str = ""
    choice: Literal["independent", "reshuffled"] = "independent"
    weight_decay: float | Literal["0+"] = 0.0
    optional: float | None = None
    either: str | int | Fraction = "sigma2"
    row: tuple[float, ...] = ()
    matrix: tuple[tuple[int, ...], ...] | None = None
    pair: tuple[str, int] = ("p", 1)
    sizes: Mapping[str, float] = dataclasses.field(default_factory=lambda: lf.SizeMap({}))
    inner: lf.AbstractTarget = lf.Identity()  # noqa: RUF009  (a frozen description)
    several: tuple[lf.AbstractTarget, ...] = ()


@dataclass(frozen=True, repr=False)
class Needy(Description):
    """Fields without defaults."""

    first: int
    second: Fraction


# descriptions at random

texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=8)
reals = st.floats(allow_nan=False)
targets = st.one_of(st.just(lf.Zero()), st.fractions(max_denominator=1000).map(lf.Identity))
everythings = st.builds(
    Everything,
    whole=st.integers(),
    real=reals,
    ratio=st.fractions(),
    flag=st.booleans(),
    text=texts,
    choice=st.sampled_from(["independent", "reshuffled"]),
    weight_decay=st.one_of(reals, st.just("0+")),
    optional=st.one_of(st.none(), reals),
    either=st.one_of(texts, st.integers(), st.fractions()),
    row=st.lists(reals, max_size=3),
    matrix=st.one_of(st.none(), st.lists(st.lists(st.integers(), max_size=2), max_size=2)),
    pair=st.tuples(texts, st.integers()),
    sizes=st.dictionaries(texts, st.floats(0, 1e300), max_size=3),
    inner=targets,
    several=st.lists(targets, max_size=3),
)
decompositions = st.builds(lf.CPDecomposition, order=st.integers(2, 5), symmetric=st.booleans(), target=targets)
sizes = st.fixed_dictionaries({"p": st.integers(1, 999), "H": st.integers(1, 999), "sigma2": st.floats(0, 10)})
methods = st.one_of(
    st.builds(lf.Limit, sizes=sizes),
    st.builds(lf.Series, sizes=sizes, order=st.integers(1, 9)),
    st.builds(lf.Simulation, sizes=sizes, runs=st.integers(1, 99), seed=st.integers(0, 2**70)),
)
polynomials = st.builds(
    lambda problem, factor: lf.PolynomialProblem(factor * problem.as_diagrams()),
    st.builds(lf.CPDecomposition, order=st.integers(2, 3), symmetric=st.booleans(), target=targets),
    st.fractions(1, 3, max_denominator=9),
)
descriptions = st.one_of(everythings, decompositions, methods, polynomials)
NAMESPACE = {
    **{name: getattr(lf, name) for name in HOMES},
    "Fraction": Fraction,
    "Everything": Everything,
    "Needy": Needy,
}


@given(descriptions)
def test_printing_is_the_call_that_makes_it(x: Description) -> None:
    assert eval(repr(x), NAMESPACE) == x
    assert "\n" not in repr(x)


@given(descriptions)
def test_toml_there_and_back(x: Description) -> None:
    assert type(x).from_toml(x.to_toml()) == x
    assert Description.from_toml(x.to_toml()) == x
    assert tomllib.loads(x.to_toml()) == x.to_plain()


@given(descriptions)
def test_plain_data_there_and_back(x: Description) -> None:
    assert type(x).from_plain(x.to_plain()) == x
    assert x.to_plain()["type"] == type(x).__name__


@given(descriptions)
def test_pickle_copy_and_replace(x: Description) -> None:
    for other in (pickle.loads(pickle.dumps(x)), copy.deepcopy(x), dataclasses.replace(x)):  # type: ignore[type-var]
        assert other == x
        assert hash(other) == hash(x)
        assert other.content_key == x.content_key
        assert repr(other) == repr(x)


@given(st.lists(descriptions, min_size=2, max_size=6))
def test_equal_descriptions_and_only_they_share_a_key(several: list[Description]) -> None:
    for x in several:
        for y in several:
            assert (x == y) == (x.content_key == y.content_key)
            assert x != y or hash(x) == hash(y)


def test_the_words_of_the_documentation() -> None:
    method = lf.Limit({"p": 512, "H": 256, "sigma2": 0.0025})
    assert repr(method) == "Limit(sizes={'H': 256, 'p': 512, 'sigma2': 0.0025})"
    assert repr(lf.CPDecomposition()) == "CPDecomposition()"
    assert repr(lf.CPDecomposition(3, False, lf.Identity(0.1))) == (
        "CPDecomposition(order=3, symmetric=False, target=Identity(scale=Fraction(1, 10)))"
    )
    assert repr(Everything(real=math.inf)) == "Everything(real=float('inf'))"
    assert lf.CPDecomposition(3, target=lf.Identity(2)).to_toml() == (
        'type = "CPDecomposition"\norder = 3\n\n[target]\ntype = "Identity"\nscale = 2\n'
    )


# numbers


@pytest.mark.parametrize(
    ("field", "values"),
    [
        ("whole", [1, 1.0, np.float64(1), np.float32(1), np.int64(1), np.uint8(1), Fraction(1), Fraction(2, 2)]),
        ("real", [1, 1.0, np.float64(1), np.float16(1), np.int64(1), Fraction(1)]),
        ("real", [0.0, -0.0, 0, Fraction(0)]),
        ("ratio", [0.1, "0.1", "1/10", Fraction(1, 10), np.float64(0.1), "1e-1"]),
        ("ratio", [3, 3.0, np.int64(3), "3", Fraction(3)]),
        ("flag", [True, np.bool_(True)]),
        ("text", ["a", np.str_("a")]),
        ("weight_decay", ["0+", np.str_("0+")]),
        ("optional", [2, np.float64(2), Fraction(2)]),
        ("either", [1, 1.0, np.int64(1), Fraction(1)]),
        ("row", [(1, 2), [1.0, 2.0], np.array([1, 2]), (x for x in (1, 2)), range(1, 3)]),
        ("matrix", [((1,), (2,)), [[1], [2]], np.array([[1], [2]]), np.array([[1.0], [2.0]])]),
        ("sizes", [{"p": 1, "H": 2}, {"H": 2.0, "p": np.float64(1)}, lf.SizeMap({"p": 1, "H": np.int64(2)})]),
    ],
)
def test_one_number_is_one_key(field: str, values: list[Any]) -> None:
    made = [Everything(**{field: value}) for value in values]
    for x in made:
        assert x == made[0]
        assert hash(x) == hash(made[0])
        assert x.content_key == made[0].content_key
        assert repr(x) == repr(made[0])
        assert type(getattr(x, field)) is type(getattr(made[0], field))
        assert pickle.dumps(x) == pickle.dumps(made[0])


def test_large_whole_numbers_are_exact() -> None:
    for value in (2**53 + 1, 2**63 - 1):
        assert Everything(whole=np.int64(value)).whole == value  # type: ignore[arg-type]
        assert Everything(whole=Fraction(value)).whole == value  # type: ignore[arg-type]
    assert Everything(whole=2**200 + 1).whole == 2**200 + 1
    assert Everything(whole=10**400).whole == 10**400


@pytest.mark.parametrize(
    ("field", "value", "message"),
    [
        ("whole", 1.5, "Everything.whole must be a whole number, got 1.5"),
        ("whole", True, "Everything.whole must be a whole number, got True"),
        ("whole", np.bool_(True), "Everything.whole must be a whole number"),
        ("whole", "1", "Everything.whole must be a whole number, got '1'"),
        ("whole", math.inf, "Everything.whole must be a whole number, got float('inf')"),
        ("whole", math.nan, "Everything.whole must be a whole number, got nan"),
        ("whole", None, "Everything.whole must be a whole number, got None"),
        ("whole", 1j, "Everything.whole must be a whole number, got 1j"),
        ("real", math.nan, "Everything.real must be a number, got nan"),
        ("real", np.float64("nan"), "Everything.real must be a number"),
        ("real", False, "Everything.real must be a number, got False"),
        ("real", "0.5", "Everything.real must be a number, got '0.5'"),
        ("real", 10**400, "Everything.real must be a number below 1.8e308, got 1000"),
        ("real", [1.0], "Everything.real must be a number, got [1.0]"),
        ("real", np.ones(100), "Everything.real must be a number, got array([1., 1., 1."),
        ("ratio", "one half", "Everything.ratio must be a rational number"),
        ("ratio", "1/0", "Everything.ratio must be a rational number"),
        ("ratio", math.nan, "Everything.ratio must be a rational number"),
        ("ratio", math.inf, "Everything.ratio must be a rational number"),
        ("ratio", True, "Everything.ratio must be a rational number"),
        ("flag", 1, "Everything.flag must be True or False, got 1"),
        ("flag", "yes", "Everything.flag must be True or False, got 'yes'"),
        ("text", 1, "Everything.text must be a string, got 1"),
        ("text", b"a", "Everything.text must be a string, got b'a'"),
        ("choice", "independant", "one of 'independent', 'reshuffled', got 'independant'; did you mean 'independent'?"),
        ("weight_decay", "0-", "Everything.weight_decay must be a number or '0+', got '0-'"),
        ("optional", "x", "Everything.optional must be a number or None, got 'x'"),
        ("row", 1.0, "Everything.row must be a sequence, got 1"),
        ("row", "12", "Everything.row must be a sequence, got '12'"),
        ("row", {1.0}, "Everything.row must be a sequence, got {1.0}"),
        ("row", np.array(1.0), "Everything.row must be a sequence"),
        ("row", (1, "b"), "Everything.row[1] must be a number, got 'b'"),
        ("matrix", ((1,), (2, 0.5)), "Everything.matrix must be a sequence or None"),
        ("pair", ("p",), "Everything.pair must have 2 entries, got 1"),
        ("sizes", {"p": -1}, "size 'p' must be a finite number >= 0, got -1"),
        ("sizes", {"p": math.inf}, "size 'p' must be a finite number >= 0"),
        ("sizes", {"p": math.nan}, "size 'p' must be a number, got nan"),
        ("sizes", {"p": "64"}, "size 'p' must be a number, got '64'"),
        ("sizes", {"p": True}, "size 'p' must be a number, got True"),
        ("sizes", {1: 2}, "a size has a name, such as 'p'; got 1"),
        ("sizes", [("p", 1)], "sizes must be a mapping such as"),
        ("inner", lf.Identity, "Everything.inner must be an instance: write Identity(...), with parentheses"),
        ("inner", 1, "Everything.inner must be an AbstractTarget, got 1; there is: Constant(...), Identity(...)"),
        ("inner", lf.GradientFlow(), "Everything.inner must be an AbstractTarget, got GradientFlow()"),
        ("several", (lf.Zero(), lf.Zero), "Everything.several[1] must be an instance: write Zero(...)"),
    ],
)
def test_a_wrong_value_is_answered_by_place(field: str, value: Any, message: str) -> None:
    with pytest.raises(lf.InvalidInput) as caught:
        Everything(**{field: value})
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


def test_real_descriptions_refuse_wrong_values() -> None:
    for make in (
        lambda: lf.Limit({"p": -4, "H": 2, "sigma2": 1}),
        lambda: lf.Simulation({"p": 4, "H": 2, "sigma2": math.nan}),
        lambda: lf.Simulation({"p": 4}, runs=0),
        lambda: lf.Simulation({"p": 4}, runs=True),
        lambda: lf.CPDecomposition(order=1),
        lambda: lf.CPDecomposition(order=2.5),  # type: ignore[arg-type]
        lambda: lf.CPDecomposition(target=lf.Zero),  # type: ignore[arg-type]
        lambda: lf.CPDecomposition(symmetric=1),  # type: ignore[arg-type]
        lambda: lf.PolynomialProblem(lf.CPDecomposition()),  # type: ignore[arg-type]
    ):
        with pytest.raises(lf.InvalidInput) as caught:
            make()
        assert "\n" not in str(caught.value)


# fields and names


def test_a_wrong_field_is_answered_with_the_nearest() -> None:
    with pytest.raises(lf.UnknownField, match=r"CPDecomposition has no field 'ordr'; did you mean 'order'\?"):
        lf.CPDecomposition(ordr=3)  # type: ignore[call-arg]
    with pytest.raises(lf.UnknownField, match="Everything has no field 'zzz'; there is: choice, either, flag"):
        Everything(zzz=1)  # type: ignore[call-arg]
    with pytest.raises(lf.UnknownField, match=r"Needy needs 'first', 'second'; its fields: first, second"):
        Needy()  # type: ignore[call-arg]
    with pytest.raises(lf.UnknownField, match="Needy needs 'second'"):
        Needy(1)  # type: ignore[call-arg]
    with pytest.raises(lf.UnknownField, match=r"Needy takes at most 2 values \(first, second\), got 3"):
        Needy(1, 2, 3)  # type: ignore[call-arg]
    with pytest.raises(lf.UnknownField, match="did you mean 'second'"):
        dataclasses.replace(Needy(1, Fraction(2)), seconds=3)  # type: ignore[call-arg]


def test_abstract_descriptions_cannot_be_made() -> None:
    with pytest.raises(
        lf.InvalidInput, match=r"AbstractTarget is abstract; there is: Constant\(\.\.\.\), Identity\(\.\.\.\), "
    ):
        lf.AbstractTarget()
    with pytest.raises(lf.InvalidInput, match="Description is abstract"):
        Description()


def test_descriptions_do_not_change() -> None:
    with pytest.raises(dataclasses.FrozenInstanceError):
        lf.CPDecomposition().order = 3  # type: ignore[misc]
    given_sizes = {"p": 4.0, "H": 2.0, "sigma2": 0.5}
    method = lf.Limit(given_sizes)
    given_sizes["p"] = 8
    assert method.sizes["p"] == 4
    with pytest.raises(TypeError):
        method.sizes["p"] = 8  # type: ignore[index]


def test_unknown_names_in_files() -> None:
    with pytest.raises(
        lf.UnknownName, match=r"no description is called 'CPDecompositon'; did you mean 'CPDecomposition'\?"
    ):
        Description.from_plain({"type": "CPDecompositon"})
    with pytest.raises(lf.UnknownName, match="no description is called 'solve'"):
        Description.from_plain({"type": "solve"})
    with pytest.raises(lf.UnknownName, match="did you mean 'Stationary'"):  # and not the function
        Description.from_plain({"type": "Stationry"})
    with pytest.raises(lf.UnknownField, match="did you mean 'order'"):
        Description.from_toml('type = "CPDecomposition"\nordre = 3')
    with pytest.raises(lf.InvalidInput, match=r"CPDecomposition\.order must be a whole number"):
        Description.from_toml('type = "CPDecomposition"\norder = "three"')
    with pytest.raises(lf.InvalidInput, match=r"expected a CPDecomposition, the data describe Zero\(\)"):
        lf.CPDecomposition.from_toml('type = "Zero"')
    with pytest.raises(lf.InvalidInput, match=r"expected a CPDecomposition, the data describe {'order': 3}"):
        lf.CPDecomposition.from_toml("order = 3")
    with pytest.raises(lf.InvalidInput, match=r"not a TOML document: .*line 1"):
        Description.from_toml("order == 3")


@pytest.mark.parametrize(
    ("written", "complaint"),
    [
        ('value = "1/0"', "the value of a Fraction must be a rational number .* got '1/0'"),
        ('value = "half"', "must be a rational number .* got 'half'"),
        ("value = [1, 2]", r"must be a rational number .* got \(?\[?1, 2"),
        ("value = true", "must be a rational number .* got True"),
        ("value = nan", "must be a rational number .* got nan"),
        ('value = "1e999999999"', "must be a rational number .* got '1e999999999'"),
        ('vlaue = "1/2"', "has the fields 'type' and 'value', got 'type', 'vlaue'"),
        ('value = "1/2", more = 1', "has the fields 'type' and 'value', got 'type', 'value', 'more'"),
    ],
)
def test_fractions_in_files_are_answered_as_every_other_value(written: str, complaint: str) -> None:
    text = 'type = "Identity"\nscale = { type = "Fraction", ' + written + " }"
    with pytest.raises(lf.InvalidInput, match=complaint) as caught:
        Description.from_toml(text)
    assert "\n" not in str(caught.value)
    assert lf.Identity.from_toml(text.replace(written, "value = 0.1")).scale == Fraction(1, 10)


def test_names_of_the_library_cannot_be_taken() -> None:
    """A file says "Zero": were it a user's own Zero, another problem would be loaded without a word."""
    with pytest.raises(lf.InvalidInput, match="'Zero' is a name of lossflow"):
        type("Zero", (lf.AbstractTarget,), {"__module__": "theirs"})


def test_two_descriptions_of_one_name_are_not_guessed_between() -> None:
    for module in ("alices", "bobs"):
        dataclass(frozen=True, repr=False)(type("Ambiguous", (Description,), {"__module__": module}))
    with pytest.raises(
        lf.UnknownName, match="'Ambiguous' is the name of descriptions in alices and in bobs; rename one"
    ):
        Description.from_plain({"type": "Ambiguous"})


def test_a_field_cannot_be_called_type() -> None:
    made = dataclasses.make_dataclass("Typed", [("type", int)], bases=(Description,), frozen=True, repr=False)
    with pytest.raises(lf.InvalidInput, match=r"Typed.type: in files, 'type' is the name of the class"):
        made(1)


def test_a_size_may_be_called_type() -> None:
    x = Everything(sizes={"type": 3, "p": 2})
    assert Everything.from_toml(x.to_toml()) == x


def test_a_file_loads_what_it_needs() -> None:
    """A fresh process reads a description without importing its module first."""
    text = lf.CPDecomposition(order=3, target=lf.Zero()).to_toml()
    program = f"from lossflow import Description; print(Description.from_toml({text!r}))"
    assert fresh(program) == "CPDecomposition(order=3, target=Zero())\n"


def test_the_key_is_the_same_in_every_process() -> None:
    program = (
        "import lossflow as lf; p = lf.CPDecomposition(3); print(p.content_key, "
        "lf.PolynomialProblem(p.as_diagrams()).content_key, lf.Limit({'p': 3, 'H': 2.0, 'sigma2': 0.1}).content_key)"
    )
    assert len({fresh(program, PYTHONHASHSEED=seed) for seed in ("0", "1", "12345")}) == 1
    assert fresh(program).split()[0] == lf.CPDecomposition(3).content_key


def fresh(program: str, **environment: str) -> str:
    done = subprocess.run(
        [sys.executable, "-c", program], env={**os.environ, **environment}, capture_output=True, text=True, check=True
    )
    return done.stdout


def test_the_key_notices_every_field() -> None:
    base = Everything()
    changed = [
        Everything(whole=2), Everything(real=0.25), Everything(ratio=Fraction(1, 3)), Everything(flag=True),
        Everything(text="a"), Everything(choice="reshuffled"), Everything(weight_decay="0+"), Everything(optional=0.0),
        Everything(either="a"), Everything(row=(1.0,)), Everything(matrix=()), Everything(pair=("p", 2)),
        Everything(sizes={"p": 1}), Everything(inner=lf.Zero()), Everything(several=(lf.Zero(),)),
    ]  # fmt: skip
    assert len(changed) == len(dataclasses.fields(Everything))
    assert len({x.content_key for x in [base, *changed]}) == len(changed) + 1
    assert len({*changed, base}) == len(changed) + 1


# sizes and messages


def test_sizes_are_a_mapping() -> None:
    m = lf.SizeMap({"sigma2": 0.5, "p": 4})
    assert dict(m) == {"p": 4.0, "sigma2": 0.5}
    assert list(m) == ["p", "sigma2"]
    assert m == {"p": 4, "sigma2": 0.5}
    assert m != {"p": 4}
    assert hash(m) == hash(lf.SizeMap({"p": np.int64(4), "sigma2": Fraction(1, 2)}))
    assert pickle.loads(pickle.dumps(m)) == m
    assert eval(repr(m)) == m
    assert "H" not in m
    with pytest.raises(KeyError):
        m["H"]


def test_messages_are_short_and_of_one_line() -> None:
    for value in (np.ones((50, 50)), "a\nb", 10**5000, list(range(10**4)), lf.CPDecomposition(4).as_diagrams()):
        assert "\n" not in brief(value)
        assert len(brief(value)) <= 100


def test_coercion_says_where() -> None:
    assert coerce(np.int64(3), int, "order") == 3
    with pytest.raises(lf.InvalidInput, match="the order must be a whole number, got 'x'"):
        coerce("x", int, "the order")
