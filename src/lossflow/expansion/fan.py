"""Normal fans: which monomials lead where, in exact integer arithmetic.

Along the scaling  size_j = L^(a_j), L -> inf,  the monomial with exponents e grows like L^(a.e). The directions a along which one
monomial leads form a cone; where several sets of monomials are watched at once, the cones are cut into one another. Everything is
done by the double description of cones (their half-spaces and their rays), which is quick in the few dimensions met here.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from fractions import Fraction
from functools import cached_property
from math import gcd

Vector = tuple[int, ...]
Number = int | Fraction | float


@dataclass(frozen=True)
class Cone:
    """{a : h.a >= 0 for all facets h} = lines + nonnegative combinations of rays, with integer vectors.

    facets: one h for each facet, none redundant; rays: the extreme rays, modulo lines; lines: a basis of the largest linear
    space in the cone, in reduced echelon form. A cone without interior is never made.
    """

    facets: tuple[Vector, ...]
    rays: tuple[Vector, ...]
    lines: tuple[Vector, ...]

    @classmethod
    def orthant(cls, nonnegative: Sequence[bool]) -> Cone:
        """{a : a_j >= 0 where nonnegative[j]}, free in all other directions."""
        units = [tuple(int(i == j) for i in range(len(nonnegative))) for j in range(len(nonnegative))]
        bounded = tuple(unit for unit, bound in zip(units, nonnegative, strict=True) if bound)
        free = tuple(unit for unit, bound in zip(units, nonnegative, strict=True) if not bound)
        return cls(bounded, bounded, free)

    def cut(self, half_spaces: Iterable[Vector]) -> Cone | None:
        """The part of the cone with h.a >= 0 for all given h; None when it has no interior."""
        facets, rays, lines = list(self.facets), list(self.rays), list(self.lines)
        for h in half_spaces:
            if not any(h):
                continue
            across = next((line for line in lines if dot(h, line)), None)
            if across is not None:  # the cone reaches both sides along a line, half of which stays as a ray
                up = across if dot(h, across) > 0 else _negative(across)
                lines = [_eliminated(line, h, up) for line in lines if line is not across]
                rays = [*(_eliminated(ray, h, up) for ray in rays), up]
                facets.append(h)
                continue
            heights = [dot(h, ray) for ray in rays]
            if min(heights, default=0) >= 0:
                if max(heights, default=0) == 0:
                    return None
                continue
            if max(heights) <= 0:
                return None
            rays = _cut_rays(facets, rays, heights)
            facets.append(h)
            facets = _irredundant(facets, rays)
        lines = echelon(lines)
        return Cone(tuple(_irredundant(facets, rays)), tuple(sorted(_modulo(ray, lines) for ray in rays)), tuple(lines))

    def holds(self, a: Sequence[Number]) -> bool:
        """Whether the closed cone contains a; exact for rational a."""
        return all(dot(h, a) >= 0 for h in self.facets)

    def face(self, h: Vector) -> frozenset[Vector]:
        """The rays on the facet h."""
        return frozenset(ray for ray in self.rays if dot(h, ray) == 0)

    def faces(self) -> set[frozenset[Vector]]:
        """All faces by their rays, the cone itself and its lineality space (no rays) among them."""
        found = {frozenset(self.rays)}
        waiting = [self.face(h) for h in self.facets]
        facets = list(waiting)
        while waiting:
            face = waiting.pop()
            if face not in found:
                found.add(face)
                waiting += [face & facet for facet in facets]
        return found


@dataclass(frozen=True)
class Wall:
    """Between two maximal cones: on the side of `inner`, the monomial `step` (an integer vector of exponents) is large.

    step: the difference of exponents of the two nearest leading monomials on the wall, at the order where it is least.
    """

    inner: int
    outer: int
    step: Vector


@dataclass(frozen=True)
class Fan:
    """The common refinement of the normal fans of several sets of exponents, within {a : a_j >= 0 where growing[j]}.

    growing: which variables are sizes. cones: where the leader in each set is unique in the interior. leaders[i][k]: the
    exponents that lead in set k on cone i. walls: the steps out of every cone into its neighbors, each pair in both senses.
    """

    growing: tuple[bool, ...]
    cones: tuple[Cone, ...]
    leaders: tuple[tuple[Vector, ...], ...]
    walls: tuple[Wall, ...]

    @classmethod
    def of(cls, sets: Sequence[Iterable[Vector]], growing: Sequence[bool]) -> Fan:
        """The fan of these nonempty sets of exponents."""
        points = [sorted(set(exponents)) for exponents in sets]
        domain = Cone.orthant(growing)
        cells: list[tuple[tuple[Vector, ...], Cone]] = [((), domain)]
        for exponents in points:
            finer = []
            normal = list(_normal_cones(exponents, domain))
            for leaders, cell in cells:
                for leader, cone in normal:
                    part = cell.cut(cone.facets)
                    if part is not None:
                        finer.append(((*leaders, leader), part))
            cells = finer
        cells.sort(key=lambda cell: _rank(cell[0], growing))
        cones = tuple(cone for _, cone in cells)
        leaders = tuple(leaders for leaders, _ in cells)
        return cls(tuple(growing), cones, leaders, tuple(_walls(cones, leaders, points, growing)))

    @cached_property
    def faces(self) -> tuple[frozenset[int], ...]:
        """Every cone of the fan inside the domain, maximal ones first, as the set of the maximal cones that it lies in."""
        found = {face for cone in self.cones for face in cone.faces() if _inside(face, self.growing)}
        members = [frozenset(i for i, cone in enumerate(self.cones) if face.issubset(cone.rays)) for face in found]
        return tuple(sorted(members, key=lambda face: (len(face), sorted(face))))

    def rays(self, face: frozenset[int]) -> frozenset[Vector]:
        """The rays that all the cones of a face share."""
        return frozenset.intersection(*(frozenset(self.cones[i].rays) for i in face))

    def closure(self, cones: Iterable[int]) -> frozenset[int] | None:
        """The least face that lies in all of these maximal cones; None where they do not meet inside the domain."""
        wanted = frozenset(cones)
        return min((face for face in self.faces if wanted <= face), key=len, default=None)

    def locate(self, a: Sequence[Fraction]) -> frozenset[int]:
        """The maximal cones whose closure contains a: one in the interior of a cone, several on a wall. Exact."""
        return frozenset(i for i, cone in enumerate(self.cones) if cone.holds(a))

    def near(self, x: Sequence[float], within: float) -> frozenset[int]:
        """The least face of the maximal cone of x and of those that one comes to from there through walls with steps below
        `within` at x, the lowest first; a cone that meets the ones before it in no common face is left out.
        """
        height = [sum(dot(leader, x) for leader in leaders) for leaders in self.leaders]
        kept = {max(range(len(height)), key=height.__getitem__)}
        face = frozenset(kept)
        refused: set[int] = set()
        while steps := [
            (dot(wall.step, x), wall.outer)
            for wall in self.walls
            if wall.inner in kept and wall.outer not in kept | refused and dot(wall.step, x) < within
        ]:
            cone = min(steps)[1]
            wider = self.closure(kept | {cone})
            if wider is None:
                refused.add(cone)
            else:
                kept.add(cone)
                face = wider
        return face

    def margin(self, face: frozenset[int], x: Sequence[Number]) -> Number | None:
        """The least a.step over the walls that lead out of a face; None when none does."""
        steps = [dot(wall.step, x) for wall in self.walls if wall.inner in face and wall.outer not in face]
        return min(steps) if steps else None


def dot(a: Sequence[Number], b: Sequence[Number]) -> Number:
    """sum_j a_j b_j."""
    return sum(x * y for x, y in zip(a, b, strict=True))


def echelon(vectors: Sequence[Vector]) -> list[Vector]:
    """A basis of the span of integer vectors in reduced echelon form, with coprime entries and positive pivots."""
    found: list[Vector] = []
    for vector in vectors:
        vector = _modulo(vector, found)
        if any(vector):
            pivot = next(j for j, x in enumerate(vector) if x)
            vector = vector if vector[pivot] > 0 else _negative(vector)
            found = sorted([*(_cleared(other, vector, pivot) for other in found), vector], reverse=True)
    return found


def rank(vectors: Sequence[Vector]) -> int:
    """The dimension of the span."""
    return len(echelon(vectors))


def _normal_cones(points: Sequence[Vector], domain: Cone) -> Iterator[tuple[Vector, Cone]]:
    for leader in points:
        others = sorted((_minus(leader, other) for other in points if other != leader), key=lambda h: sum(map(abs, h)))
        cone = domain.cut(others)
        if cone is not None:
            yield leader, cone


def _walls(
    cones: Sequence[Cone],
    leaders: Sequence[tuple[Vector, ...]],
    points: Sequence[Sequence[Vector]],
    growing: Sequence[bool],
) -> Iterator[Wall]:
    for i, cone in enumerate(cones):
        for h in cone.facets:
            wall = cone.face(h)
            if not _inside(wall, growing):
                continue
            outer = next(j for j, other in enumerate(cones) if j != i and wall.issubset(other.rays))
            directions = (*wall, *cone.lines)
            steps = [
                _minus(leader, point)
                for leader, several in zip(leaders[i], points, strict=True)
                for point in several
                if point != leader and all(dot(_minus(leader, point), d) == 0 for d in directions)
            ]
            yield Wall(i, outer, min(steps, key=lambda step: sum(map(abs, step))))


def _rank(leaders: Sequence[Vector], growing: Sequence[bool]) -> tuple[tuple[int, ...], ...]:
    """High powers of the variances first, as free evolution has them, and then high powers of the sizes."""
    last = leaders[-1]
    parameters = tuple(-e for e, grows in zip(last, growing, strict=True) if not grows)
    return (parameters, *(tuple(-e for e in leader) for leader in reversed(leaders)))


def _inside(face: frozenset[Vector], growing: Sequence[bool]) -> bool:
    """Whether all sizes grow in the relative interior of the face."""
    return all(any(ray[j] > 0 for ray in face) for j, grows in enumerate(growing) if grows)


def _cut_rays(facets: Sequence[Vector], rays: Sequence[Vector], heights: Sequence[Number]) -> list[Vector]:
    """The rays of the part above a hyperplane: those above and on it, and one on each edge that crosses it."""
    tight = [frozenset(k for k, h in enumerate(facets) if dot(h, ray) == 0) for ray in rays]
    found = [ray for ray, height in zip(rays, heights, strict=True) if height >= 0]
    for i, up in enumerate(heights):
        for j, down in enumerate(heights):
            if up > 0 > down:
                common = tight[i] & tight[j]
                if not any(common <= other for k, other in enumerate(tight) if k not in (i, j)):
                    found.append(primitive([up * y - down * x for x, y in zip(rays[i], rays[j], strict=True)]))
    return found


def _irredundant(facets: Sequence[Vector], rays: Sequence[Vector]) -> list[Vector]:
    """One half-space for each facet: those whose sets of rays are largest."""
    touched: dict[frozenset[Vector], Vector] = {}
    for h in facets:
        touched.setdefault(frozenset(ray for ray in rays if dot(h, ray) == 0), primitive(h))
    return [h for face, h in touched.items() if not any(face < other for other in touched)]


def primitive(vector: Sequence[Number]) -> Vector:
    """The integer vector divided by the greatest common divisor of its entries."""
    entries = [int(x) for x in vector]
    divisor = gcd(*entries) or 1
    return tuple(x // divisor for x in entries)


def _eliminated(vector: Vector, h: Vector, up: Vector) -> Vector:
    """`vector` moved along `up` into the hyperplane h."""
    above, height = dot(h, vector), dot(h, up)
    return primitive([x * height - y * above for x, y in zip(vector, up, strict=True)])


def _modulo(vector: Vector, basis: Sequence[Vector]) -> Vector:
    """`vector` with zeros at the pivots of a basis in reduced echelon form, as a primitive vector of the same sense."""
    for line in basis:
        vector = _cleared(vector, line, next(j for j, x in enumerate(line) if x))
    return primitive(vector)


def _cleared(vector: Vector, line: Vector, pivot: int) -> Vector:
    return primitive([x * line[pivot] - y * vector[pivot] for x, y in zip(vector, line, strict=True)])


def _minus(a: Vector, b: Vector) -> Vector:
    return tuple(x - y for x, y in zip(a, b, strict=True))


def _negative(vector: Vector) -> Vector:
    return tuple(-x for x in vector)
