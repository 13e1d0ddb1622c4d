"""Normal fans: cones by the double description against brute force, and the laws of a fan."""

from __future__ import annotations

import itertools
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lossflow.expansion.fan import Cone, Fan, dot, echelon, primitive

Points = list[tuple[int, ...]]


def vectors(dimension: int, most: int, size: int = 3) -> st.SearchStrategy[Points]:
    return st.lists(st.tuples(*[st.integers(-size, size)] * dimension), min_size=1, max_size=most)


@settings(max_examples=60, deadline=None)
@given(vectors(3, 6), st.lists(st.booleans(), min_size=3, max_size=3))
def test_a_cut_cone_is_described_twice(half_spaces: Points, bounded: list[bool]) -> None:
    """Rays and lines obey all half-spaces; on every facet they span it; and points between rays are inside."""
    cone = Cone.orthant(bounded).cut(half_spaces)
    units = [tuple(int(i == j) for i in range(3)) for j in range(3) if bounded[j]]
    everything = [*half_spaces, *units]
    grid = list(itertools.product(range(-4, 5), repeat=3))
    inside = [a for a in grid if all(dot(h, a) > 0 for h in everything if any(h))]
    if cone is None:  # no interior point: h, -h and the like
        assert not inside
        return
    for ray in cone.rays:
        assert cone.holds(ray)
        assert all(dot(h, ray) >= 0 for h in everything)
    for line in cone.lines:
        assert all(dot(h, line) == 0 for h in everything)
    assert len(echelon([*cone.rays, *cone.lines])) == 3
    for h in cone.facets:
        assert len(echelon([*cone.face(h), *cone.lines])) == 2
    for a in grid:
        assert cone.holds(a) == all(dot(h, a) >= 0 for h in everything)


@settings(max_examples=40, deadline=None)
@given(st.lists(vectors(3, 7), min_size=1, max_size=3), st.integers(0, 3))
def test_the_cones_tile_the_domain(sets: list[Points], sizes: int) -> None:
    """Every direction lies in a cone; in several only where leaders tie; and the leader there is the maximum."""
    growing = [j < sizes for j in range(3)]
    fan = Fan.of(sets, growing)
    random = np.random.default_rng(len(sets))
    for _ in range(30):
        a = [Fraction(int(x), 7) for x in random.integers(-50, 50, 3)]
        a = [abs(x) if grows else x for x, grows in zip(a, growing, strict=True)]
        cones = fan.locate(a)
        assert cones
        for i in cones:
            for leader, points in zip(fan.leaders[i], sets, strict=True):
                assert dot(leader, a) == max(dot(point, a) for point in points)
        tied = any(sum(dot(p, a) == max(dot(q, a) for q in points) for p in set(points)) > 1 for points in sets)
        if not tied:
            assert len(cones) == 1
        face = fan.closure(cones)
        assert face is None or cones <= face
        if all(x > 0 for x, grows in zip(a, growing, strict=True) if grows):
            assert face == cones  # the cones around a point are those of the face in whose interior it is
        margin = fan.margin(cones, a)
        assert margin is None or margin >= 0


@settings(max_examples=40, deadline=None)
@given(vectors(3, 8))
def test_faces_of_the_fan_are_those_of_the_polytope(points: Points) -> None:
    """Euler: with all directions free, the faces of a polytope of dimension D alternate in number to 1 - (-1)^(D+1) ... = 1."""
    fan = Fan.of([points], (False, False, False))
    dimension = 3 - len(fan.cones[0].lines)
    if dimension == 0:
        assert len(fan.faces) == 1
        return
    count = [0] * (dimension + 1)
    for face in fan.faces:
        cone_dimension = len(echelon([*fan.rays(face), *fan.cones[0].lines]))
        count[3 - cone_dimension] += 1
    assert sum((-1) ** k * n for k, n in enumerate(count)) == 1
    assert count[dimension] == 1


def test_a_step_is_the_distance_to_the_next_monomial_on_the_wall() -> None:
    """On a line of points 0, 2, 3, 7 the step out of 7 is 4 and out of 0 is 2; a second set shortens it to 1."""
    fan = Fan.of([[(0,), (2,), (3,), (7,)]], (False,))
    assert [(wall.inner, wall.step) for wall in fan.walls] == [(0, (4,)), (1, (-2,))]
    finer = Fan.of([[(0,), (2,), (3,), (7,)], [(0,), (1,)]], (False,))
    assert sorted(wall.step for wall in finer.walls) == [(-1,), (1,)]


def test_nearness_goes_through_walls_and_ends_where_steps_are_large() -> None:
    square = Fan.of([[(0, 0), (1, 0), (0, 1), (1, 1)]], (False, False))
    at = {leaders[0]: i for i, leaders in enumerate(square.leaders)}
    assert square.near((5.0, 5.0), 2.0) == {at[1, 1]}
    assert square.near((5.0, -1.0), 2.0) == {at[1, 1], at[1, 0]}
    assert square.near((0.5, -1.0), 2.0) == set(at.values())
    assert square.margin(square.near((5.0, -1.0), 2.0), (5.0, -1.0)) == 5.0
    assert square.margin(square.near((0.5, -1.0), 2.0), (0.5, -1.0)) is None


def test_a_single_point_has_one_cone_and_no_wall() -> None:
    fan = Fan.of([[(1, 2)]], (True, False))
    assert len(fan.cones) == 1
    assert fan.walls == ()
    assert fan.faces == (frozenset({0}),)


def test_echelon_bases_are_canonical() -> None:
    assert echelon([(2, 4, 0), (1, 2, 0), (0, 3, 3)]) == echelon([(0, -1, -1), (1, 5, 3)]) == [(1, 0, -2), (0, 1, 1)]
    assert primitive((0, -6, 9)) == (0, -2, 3)
    assert primitive((0, 0)) == (0, 0)


def test_six_dimensions_are_no_trouble() -> None:
    """The cube of dimension 6 cut to the orthant: one leader; with all directions free: 64 cones and 3^6 faces."""
    cube = list(itertools.product((0, 1), repeat=6))
    assert len(Fan.of([cube], [True] * 6).cones) == 1
    fan = Fan.of([cube], [False] * 6)
    assert len(fan.cones) == 64
    assert len(fan.faces) == 3**6


@pytest.mark.parametrize("growing", [(True, True), (False, True)])
def test_cones_are_the_maximum_of_a_random_polygon(growing: tuple[bool, bool]) -> None:
    """Against the brute force of many angles."""
    random = np.random.default_rng(5)
    points = [tuple(map(int, p)) for p in random.integers(-20, 20, (40, 2))]
    fan = Fan.of([points], growing)
    leaders = {leaders[0] for leaders in fan.leaders}
    seen = set()
    for angle in np.linspace(0, 2 * np.pi, 20011):
        a = (np.cos(angle), np.sin(angle))
        if all(x > 0 for x, grows in zip(a, growing, strict=True) if grows):
            seen.add(max(points, key=lambda p: float(np.dot(p, a))))
    assert seen == leaders


def test_a_neighbor_that_shares_no_face_is_left_out() -> None:
    """Three sectors of a quadrant side by side: the outer two meet only at the origin, where no size grows."""
    fan = Fan.of([[(0, 3), (2, 2), (3, 0)]], (True, True))
    at = {leaders[0]: i for i, leaders in enumerate(fan.leaders)}
    assert fan.closure({at[0, 3], at[3, 0]}) is None
    assert fan.near((0.4, 0.1), 2.0) == {at[2, 2], at[3, 0]}  # steps (-1, 2) = -0.2 and (2, -1) = 0.7 away
    assert fan.near((0.1, 0.4), 2.0) == {at[2, 2], at[0, 3]}
    assert fan.near((4.0, 4.0), 2.0) == {at[2, 2]}
