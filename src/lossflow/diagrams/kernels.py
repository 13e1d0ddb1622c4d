"""Diagrams by the million: the inner loops of merging and averaging, on rows of bytes, compiled.

A row is  n, E, kinds of the n nodes, then E edges of 1 + A bytes each (color, nodes, padding),  A the largest arity. Kinds are
those of `algebra` (axis * base + pinned value, 0 for free), and MARKED + axis for a node that differs from all others of its
axis. Imported when first needed: importing it costs the time to load the compiler.
"""

# ruff: noqa: SIM102, SIM109, SIM110  (plain loops and conditions compile best)

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from numba import njit

MARKED = 128  # kinds from here on: marked nodes
PAD = 255
COLOR_KIND = 256  # kinds from here on: the colors of a group, which the normal form may permute
Ints = npt.NDArray[np.int64]
Words = npt.NDArray[np.uint64]
Bytes = npt.NDArray[np.uint8]

_ODD = (2 * np.arange(1, 33, dtype=np.uint64) * np.uint64(0x9E3779B97F4A7C15)) | np.uint64(1)
SEES = _ODD[:16].copy()  # an edge sees its nodes, slot by slot
SEEN = _ODD[16:].copy()  # a node sees its edges, slot by slot


class Setting(NamedTuple):
    """What is the same for all diagrams of a computation."""

    base: int
    arity: Ints  # by color
    group: Ints  # by color: the least color of its group of interchangeable ones, or -1
    members: Ints  # by least color of a group: its colors in order
    learned: Ints  # by color, 0 or 1
    centered: Ints  # by color: mean 0, so that no factor stays single
    random: Ints  # by color: variance not 0, so that factors pair
    single: Ints  # by color: the monomial of one single factor
    power: Ints  # by axis: the monomial of a freed node
    falling: Ints  # by axis: the monomial of a freed marked node
    mark_axis: Ints  # the axes whose nodes are marked and eliminated one after the other, in this order
    mark_slot: Ints  # [which of them, color]: the slot with this axis, or -1


class Scratch(NamedTuple):
    """Room to work in."""

    hashes: Words  # [row, vertex]
    keys: Words  # edges
    start: Words  # edges
    vertices: Ints  # [row, vertex]
    edges: Ints  # [row, edge]
    slots: Ints  # [edge, slot]
    ends: Ints  # [edge, slot], of the diagram in work
    child_ends: Ints
    row: Bytes


class Table(NamedTuple):
    """Distinct rows, found by their hash."""

    places: npt.NDArray[np.int32]  # open addressing; a power of two of them
    rows: Bytes
    hashes: Words
    filled: Ints  # of length 1: how many there are


class Children(NamedTuple):
    """What became of diagrams: times * monomial * row, in any numbering until `settle` gives each row its number."""

    rows: Bytes
    gone: Ints  # how many edges went, or from which right diagram the child came
    times: Ints
    monomial: Ints
    number: Ints
    filled: Ints  # of length 1: how many there are


def make_children(width: int, capacity: int) -> Children:
    """Room for so many."""
    gone, times, monomial, number = np.empty((4, capacity), np.int64)
    return Children(np.empty((capacity, width), np.uint8), gone, times, monomial, number, np.zeros(1, np.int64))


def make_scratch(nodes: int, edges: int, colors: int, arity: int) -> Scratch:
    """Room for diagrams of up to so many nodes and edges."""
    vertices = nodes + colors + 2
    return Scratch(
        hashes=np.zeros((7, vertices), np.uint64),
        keys=np.zeros(edges + 2, np.uint64),
        start=np.zeros(edges + 2, np.uint64),
        vertices=np.zeros((12, vertices), np.int64),
        edges=np.zeros((6, max(edges, colors) + 2), np.int64),
        slots=np.zeros((edges + 2, arity + 1), np.int64),
        ends=np.zeros((edges + 2, max(arity, 1)), np.int64),
        child_ends=np.zeros((edges + 2, max(arity, 1)), np.int64),
        row=np.zeros(2 + nodes + (edges + 2) * (1 + arity), np.uint8),
    )


def make_table(width: int, capacity: int) -> Table:
    """An empty table for so many rows."""
    places = 1 << max(int(2 * capacity - 1).bit_length(), 4)
    return Table(
        np.full(places, -1, np.int32),
        np.empty((capacity, width), np.uint8),
        np.empty(capacity, np.uint64),
        np.zeros(1, np.int64),
    )


def grown(table: Table, capacity: int) -> Table:
    """The same rows, with room for more."""
    larger = make_table(table.rows.shape[1], capacity)
    count = int(table.filled[0])
    larger.rows[:count] = table.rows[:count]
    larger.hashes[:count] = table.hashes[:count]
    larger.filled[0] = count
    _fill_places(larger)
    return larger


@njit(cache=True)
def _fill_places(table):
    mask = np.uint64(table.places.size - 1)
    for k in range(table.filled[0]):
        i = table.hashes[k] & mask
        while table.places[i] >= 0:
            i = (i + np.uint64(1)) & mask
        table.places[i] = k


@njit(cache=True)
def _mix(x):
    x ^= x >> np.uint64(32)
    x *= np.uint64(0xD6E8FEB86659FD93)
    return x ^ (x >> np.uint64(29))


@njit(cache=True)
def _insert(table, row, length, code):
    """The number of the row, a new one if it was not there."""
    mask = np.uint64(table.places.size - 1)
    i = code & mask
    while True:
        k = table.places[i]
        if k < 0:
            k = np.int32(table.filled[0])
            table.filled[0] += 1
            table.places[i] = k
            table.hashes[k] = code
            for b in range(length):
                table.rows[k, b] = row[b]
            return k
        if table.hashes[k] == code:
            same = True
            for b in range(length):
                if table.rows[k, b] != row[b]:
                    same = False
                    break
            if same:
                return k
        i = (i + np.uint64(1)) & mask


@njit(cache=True)
def _refine(rounds, vertices, edges, low, width, start, slots, h, sums):
    """Every vertex looks at its edges, every edge at its vertices."""
    for _ in range(rounds):
        for v in range(vertices):
            sums[v] = np.uint64(0)
        for e in range(edges):
            x = start[e]
            for a in range(low, width):
                v = slots[e, a]
                if v >= 0:
                    x += SEES[a] * h[v]
            y = _mix(x)
            for a in range(low, width):
                v = slots[e, a]
                if v >= 0:
                    sums[v] += y * SEEN[a]
        for v in range(vertices):
            h[v] = _mix(h[v] + sums[v])


@njit(cache=True)
def _sort_vertices(vertices, kind, h, order, key):
    """Order by kind, then by what was seen; returns the number of cells."""
    for v in range(vertices):
        key[v] = (np.uint64(kind[v]) << np.uint64(54)) | (h[v] >> np.uint64(10))
    for position in range(1, vertices):
        v = order[position]
        k = key[v]
        j = position - 1
        while j >= 0 and key[order[j]] > k:
            order[j + 1] = order[j]
            j -= 1
        order[j + 1] = v
    cells = 1 if vertices else 0
    for position in range(1, vertices):
        if key[order[position]] != key[order[position - 1]]:
            cells += 1
    return cells


@njit(cache=True)
def _twin_hashes(vertices, edges, low, width, start, slots, found):
    """Equal for vertices whose swap changes nothing (and, but for a coincidence of hashes, for no others)."""
    for v in range(vertices):
        found[v] = np.uint64(0)
    for e in range(edges):
        x = start[e]
        for a in range(low, width):
            v = slots[e, a]
            if v >= 0:
                x += SEES[a] * np.uint64(v + 1)
        for a in range(low, width):
            v = slots[e, a]
            if v >= 0:
                first = True
                y = x
                for b in range(low, width):
                    if slots[e, b] == v:
                        if b < a:
                            first = False
                        y -= SEES[b] * np.uint64(v + 1)  # itself counts as 0
                if first:
                    found[v] += _mix(y)


@njit(cache=True)
def _smallest_open_cell(vertices, order, key, twin):
    """(first position, size) of the smallest cell of vertices that look alike without being twins; size 0 if there is none."""
    chosen, size = -1, 0
    first = 0
    while first < vertices:
        last = first + 1
        alike = True
        while last < vertices and key[order[last]] == key[order[first]]:
            if twin[order[last]] != twin[order[first]]:
                alike = False
            last += 1
        if not alike and (size == 0 or last - first < size):
            chosen, size = first, last - first
        first = last
    return chosen, size


@njit(cache=True)
def _normal_form(raw, setting, s):
    """Write the row of the normal form of `raw` to `s.row`; returns (its length, its hash).

    Colors are refined by hashing; where that leaves alike vertices that are no twins, each is tried and the one that leads to
    the least refined picture is set apart. Vertices that look alike even then are taken to be alike: where they are not (hardly
    ever), two rows stand for one diagram, which costs time and changes no result.
    """
    h, trial, best, sums, key, twin = s.hashes[0], s.hashes[1], s.hashes[2], s.hashes[3], s.hashes[4], s.hashes[5]
    kind, order, place, vertex_of = s.vertices[0], s.vertices[1], s.vertices[2], s.vertices[3]
    slots, start = s.slots, s.start
    width = slots.shape[1]
    arity = width - 1
    n, edges = np.int64(raw[0]), np.int64(raw[1])
    for c in range(setting.arity.size):
        vertex_of[c] = -1
    for v in range(n):
        kind[v] = raw[2 + v]
    vertices = n
    low = 1
    for e in range(edges):
        at = 2 + n + e * width
        c = np.int64(raw[at])
        g = setting.group[c]
        slots[e, 0] = -1
        if g >= 0:
            if vertex_of[c] < 0:
                vertex_of[c] = vertices
                kind[vertices] = COLOR_KIND + g
                vertices += 1
            slots[e, 0] = vertex_of[c]
            start[e] = _mix(np.uint64(g + 1))
            low = 0
        else:
            start[e] = _mix(np.uint64(c + 1001))
        for a in range(1, width):
            slots[e, a] = np.int64(raw[at + a]) if a <= setting.arity[c] else -1
    for v in range(vertices):
        h[v] = _mix(np.uint64(kind[v] + 77) * np.uint64(0x9E3779B97F4A7C15))
        order[v] = v
    cells = -1
    twins_known = False
    while True:
        _refine(2, vertices, edges, low, width, start, slots, h, sums)
        found = _sort_vertices(vertices, kind, h, order, key)
        if found == vertices:
            break
        if not twins_known:
            _twin_hashes(vertices, edges, low, width, start, slots, twin)
            twins_known = True
        chosen, size = _smallest_open_cell(vertices, order, key, twin)
        if size == 0:
            break
        if found > cells:
            cells = found
            continue  # still on the move
        least = np.uint64(0)
        any_tried = False
        for k in range(chosen, chosen + size):
            v = order[k]
            tried = False
            for j in range(chosen, k):
                if twin[order[j]] == twin[v]:
                    tried = True
            if tried:
                continue
            for w in range(vertices):
                trial[w] = h[w]
            for j in range(k, chosen + size):
                if twin[order[j]] == twin[v]:
                    trial[order[j]] = _mix(h[v] + np.uint64(12345))
            _refine(2 + vertices // 8, vertices, edges, low, width, start, slots, trial, sums)
            picture = np.uint64(0)
            for w in range(vertices):
                picture += _mix(trial[w] ^ np.uint64(kind[w] * 7919))
            if not any_tried or picture < least:
                any_tried = True
                least = picture
                for w in range(vertices):
                    best[w] = trial[w]
        for w in range(vertices):
            h[w] = best[w]
        cells = 0
    # nodes come first, colors after them, group by group
    rank = 0
    for position in range(vertices):
        v = order[position]
        if position < n:
            place[v] = position
        else:
            rank = rank + 1 if position > n and kind[order[position - 1]] == kind[v] else 0
            place[v] = setting.members[kind[v] - COLOR_KIND, rank]
    for e in range(edges):
        c = np.int64(raw[2 + n + e * width])
        x = np.uint64(place[slots[e, 0]] if slots[e, 0] >= 0 else c)
        for a in range(1, width):
            x = (x << np.uint64(8)) | np.uint64(place[slots[e, a]] if slots[e, a] >= 0 else PAD)
        j = e - 1
        while j >= 0 and s.keys[j] > x:
            s.keys[j + 1] = s.keys[j]
            j -= 1
        s.keys[j + 1] = x
    row = s.row
    row[0], row[1] = n, edges
    code = np.uint64(n * 256 + edges)
    for position in range(n):
        row[2 + position] = kind[order[position]]
        code = _mix(code * np.uint64(31) + np.uint64(kind[order[position]]))
    at = 2 + n
    for e in range(edges):
        x = s.keys[e]
        code = _mix(code * np.uint64(0x9E3779B97F4A7C15) + x)
        for a in range(arity, -1, -1):
            row[at + a] = np.uint8(x & np.uint64(255))
            x >>= np.uint64(8)
        at += width
    return at, code


@njit(cache=True)
def settle(children, begin, end, by_gone, same, one_less, two_less, setting, s):
    """Bring children to normal form and number them; returns where it stopped for want of room.

    by_gone: whether they go to three tables, by the edges that went (number * 3 + gone), or all to the first.
    """
    for k in range(begin, end):
        if (
            same.filled[0] == same.rows.shape[0]
            or one_less.filled[0] == one_less.rows.shape[0]
            or two_less.filled[0] == two_less.rows.shape[0]
        ):
            return k
        length, code = _normal_form(children.rows[k], setting, s)
        gone = children.gone[k] if by_gone else 0
        if gone == 0:
            table = same
        elif gone == 1:
            table = one_less
        else:
            table = two_less
        number = _insert(table, s.row, length, code)
        children.number[k] = number * 3 + gone if by_gone else number
    return end


@njit(cache=True)
def _load(row, width, kinds, colors, ends):
    n, edges = np.int64(row[0]), np.int64(row[1])
    for v in range(n):
        kinds[v] = row[2 + v]
    at = 2 + n
    for e in range(edges):
        colors[e] = row[at]
        for a in range(width - 1):
            ends[e, a] = row[at + 1 + a]
        at += width
    return n, edges


@njit(cache=True)
def _twin_leaders(n, kinds, edges, colors, ends, skip, setting, s, leader, one, other):
    """For each node the least node whose swap with it changes nothing, for certain. Negative kinds have no twins."""
    found = s.hashes[5]
    width = s.slots.shape[1]
    for e in range(edges):
        s.start[e] = _mix(np.uint64(colors[e] + 1))
        s.slots[e, 0] = -1
        for a in range(1, width):
            s.slots[e, a] = ends[e, a - 1] if a <= setting.arity[colors[e]] and e != skip else -1
    _twin_hashes(n, edges, 1, width, s.start, s.slots, found)
    for v in range(n):
        leader[v] = v
        if kinds[v] < 0:
            continue
        for w in range(v):
            if leader[w] == w and kinds[w] == kinds[v] and found[w] == found[v]:
                if _same_view(v, w, edges, colors, ends, skip, setting, one, other):
                    leader[v] = w
                    break


@njit(cache=True)
def _same_view(v, w, edges, colors, ends, skip, setting, one, other):
    """Whether v and w sit in the same edges, each seeing itself as PAD."""
    mine = _view(v, edges, colors, ends, skip, setting, one)
    if mine != _view(w, edges, colors, ends, skip, setting, other):
        return False
    for k in range(mine):
        if one[k] != other[k]:
            return False
    return True


@njit(cache=True)
def _view(v, edges, colors, ends, skip, setting, found):
    count = 0
    for e in range(edges):
        if e == skip:
            continue
        touched = False
        x = np.uint64(colors[e])
        for a in range(setting.arity[colors[e]]):
            if ends[e, a] == v:
                touched = True
                x = (x << np.uint64(8)) | np.uint64(PAD)
            else:
                x = (x << np.uint64(8)) | np.uint64(ends[e, a])
        if touched:
            j = count - 1
            while j >= 0 and found[j] > x:
                found[j + 1] = found[j]
                j -= 1
            found[j + 1] = x
            count += 1
    return count


@njit(cache=True)
def _is_free(kind, base):
    return kind < MARKED and kind % base == 0


@njit(cache=True)
def _identify(a, b, kinds, leader, base):
    """Join two nodes; False if they cannot be equal."""
    while leader[a] != a:
        a = leader[a]
    while leader[b] != b:
        b = leader[b]
    if a == b:
        return True
    if kinds[a] >= MARKED or kinds[b] >= MARKED:
        return False  # a marked node differs from all others
    if kinds[a] != kinds[b]:
        if _is_free(kinds[a], base):
            a, b = b, a
        elif not _is_free(kinds[b], base):
            return False
    leader[b] = a
    return True


@njit(cache=True)
def _add_child(n, kinds, edges, colors, ends, first, second, leader, gone, times, monomial, setting, s, children):
    """The diagram without edges `first` and `second`, nodes joined under their leaders, nodes without edges as a monomial."""
    base = setting.base
    for v in range(n):  # one node for each pinned value
        if leader[v] == v and kinds[v] < MARKED and kinds[v] % base:
            for w in range(v):
                if leader[w] == w and kinds[w] == kinds[v]:
                    leader[v] = w
                    break
    number, kept_kinds = s.vertices[6], s.vertices[7]
    for v in range(n):
        number[v] = -1
    for e in range(edges):
        if e != first and e != second:
            for a in range(setting.arity[colors[e]]):
                v = ends[e, a]
                while leader[v] != v:
                    v = leader[v]
                number[v] = 0
    count = 0
    for v in range(n):
        if number[v] == 0:
            number[v] = count
            kept_kinds[count] = kinds[v]
            count += 1
        elif leader[v] == v:
            if kinds[v] >= MARKED:
                monomial += setting.falling[kinds[v] - MARKED]
            elif kinds[v] % base == 0:
                monomial += setting.power[kinds[v] // base]
    k = children.filled[0]
    row = children.rows[k]
    row[0] = count
    for v in range(count):
        row[2 + v] = kept_kinds[v]
    width = s.slots.shape[1]
    at, kept = 2 + count, 0
    for e in range(edges):
        if e == first or e == second:
            continue
        c = colors[e]
        row[at] = c
        for a in range(width - 1):
            if a < setting.arity[c]:
                v = ends[e, a]
                while leader[v] != v:
                    v = leader[v]
                row[at + 1 + a] = number[v]
            else:
                row[at + 1 + a] = PAD
        at += width
        kept += 1
    row[1] = kept
    children.gone[k] = gone
    children.times[k] = times
    children.monomial[k] = monomial
    children.filled[0] = k + 1


@njit(cache=True)
def _neighbors(n, edges, colors, ends, setting, degree, near):
    """The degree of each node, and the sum of the degrees around it: what choices go by, alike in diagrams that are alike."""
    for v in range(n):
        degree[v] = 0
        near[v] = 0
    for e in range(edges):
        for a in range(setting.arity[colors[e]]):
            degree[ends[e, a]] += 1
    for e in range(edges):
        total = 0
        for a in range(setting.arity[colors[e]]):
            total += degree[ends[e, a]]
        for a in range(setting.arity[colors[e]]):
            near[ends[e, a]] += total


@njit(cache=True)
def _choose_marked(n, kinds, edges, colors, ends, axis, setting, s):
    """A node of the axis with fewest different edges, then fewest edges, then smallest neighbors."""
    degree, near = s.vertices[9], s.vertices[10]
    _neighbors(n, edges, colors, ends, setting, degree, near)
    best, best_rank = -1, 1 << 60
    for v in range(n):
        if kinds[v] != axis * setting.base:
            continue
        different = 0
        for e in range(edges):
            touched = False
            repeated = e > 0 and colors[e] == colors[e - 1]
            for a in range(setting.arity[colors[e]]):
                if ends[e, a] == v:
                    touched = True
                if repeated and ends[e, a] != ends[e - 1, a]:
                    repeated = False
            if touched and not repeated:
                different += 1
        rank = (different << 40) + (degree[v] << 20) + near[v]
        if rank < best_rank:
            best, best_rank = v, rank
    return best


@njit(cache=True)
def _mark(n, kinds, edges, colors, ends, phase, setting, s, children):
    """All ways to say which nodes equal the chosen one, which then differs from the rest."""
    axis = setting.mark_axis[phase]
    leader, group_size, take, group_first = s.vertices[5], s.vertices[8], s.vertices[9], s.vertices[10]
    chosen = _choose_marked(n, kinds, edges, colors, ends, axis, setting, s)
    kept = kinds[chosen]
    seen = s.vertices[8]
    for v in range(n):
        seen[v] = kept if kinds[v] == kept and v != chosen else -1
    _twin_leaders(n, seen, edges, colors, ends, -1, setting, s, leader, s.keys, s.start)
    groups = 0
    odd = s.edges[2]
    nodes = s.vertices[11]  # of the axis but the chosen one, group by group
    count = 0
    for v in range(n):
        if v != chosen and kinds[v] == kept and leader[v] == v:
            group_first[groups] = count
            for w in range(v, n):
                if w != chosen and kinds[w] == kept and leader[w] == v:
                    nodes[count] = w
                    count += 1
            group_size[groups] = count - group_first[groups]
            take[groups] = 0
            groups += 1
    while True:
        for v in range(n):
            leader[v] = v
        times = 1
        for g in range(groups):
            for j in range(take[g]):
                leader[nodes[group_first[g] + j]] = chosen
                times = times * (group_size[g] - j) // (j + 1)
        possible = True
        for c in range(setting.arity.size):
            odd[c] = 0
        for e in range(edges):
            c = colors[e]
            slot = setting.mark_slot[phase, c]
            if slot >= 0 and leader[ends[e, slot]] == chosen:
                odd[c] ^= 1
        for c in range(setting.arity.size):
            if odd[c] and setting.centered[c]:
                possible = False
        if possible:
            kinds[chosen] = MARKED + axis
            _add_child(n, kinds, edges, colors, ends, -1, -1, leader, 0, times, 0, setting, s, children)
            kinds[chosen] = kept
        g = 0
        while g < groups and take[g] == group_size[g]:
            take[g] = 0
            g += 1
        if g == groups:
            return
        take[g] += 1


@njit(cache=True)
def _pair(n, kinds, edges, colors, ends, marked, phase, setting, s, children):
    """One edge left single, and paired with each other edge; with a marked node, edges of that node alone."""
    degree, near, leader = s.vertices[8], s.vertices[11], s.vertices[5]
    count, alike, able, done = s.edges[2], s.edges[3], s.edges[4], s.edges[5]
    _neighbors(n, edges, colors, ends, setting, degree, near)
    for c in range(setting.arity.size):
        count[c] = 0
    run = 0
    for e in range(edges):  # rows are sorted: parallel edges follow one another
        c = colors[e]
        count[c] += 1
        if e > run:
            same = colors[run] == c
            for a in range(setting.arity[c]):
                if same and ends[run, a] != ends[e, a]:
                    same = False
            if not same:
                run = e
        alike[e] = 0
        alike[run] += 1
        done[e] = run
    first, first_rank = -1, 1 << 60
    candidates = 0
    for e in range(edges):
        c = colors[e]
        if marked >= 0:
            slot = setting.mark_slot[phase, c]
            if slot < 0 or ends[e, slot] != marked:
                continue
            able[candidates] = e
            candidates += 1
            rank = (256 - alike[done[e]]) << 40  # the thickest bundle first, then what is tied to least
            for a in range(setting.arity[c]):
                if ends[e, a] != marked:
                    rank += (degree[ends[e, a]] << 20) + near[ends[e, a]]
        else:
            able[candidates] = e
            candidates += 1
            rank = count[c] * 65536
            for a in range(setting.arity[c]):
                rank += degree[ends[e, a]]
        if rank < first_rank:
            first, first_rank = e, rank
    c = colors[first]
    if not setting.centered[c]:
        for v in range(n):
            leader[v] = v
        _add_child(n, kinds, edges, colors, ends, first, -1, leader, 1, 1, setting.single[c], setting, s, children)
    if not setting.random[c]:
        return
    partners = 0
    for k in range(candidates):
        if able[k] != first and colors[able[k]] == c:
            able[partners] = able[k]
            partners += 1
    twin, seen = s.vertices[9], s.vertices[10]
    for v in range(n):
        seen[v] = -1  # of no interest
    for k in range(partners):
        for a in range(setting.arity[c]):
            seen[ends[able[k], a]] = kinds[ends[able[k], a]]
    for a in range(setting.arity[c]):
        seen[ends[first, a]] = -1
    _twin_leaders(n, seen, edges, colors, ends, first, setting, s, twin, s.keys, s.start)
    for k in range(partners):
        done[k] = 0
    for k in range(partners):
        if done[k]:
            continue
        e = able[k]
        times = 0
        for j in range(k, partners):
            if not done[j]:
                equal = True
                for a in range(setting.arity[c]):
                    if twin[ends[able[j], a]] != twin[ends[e, a]]:
                        equal = False
                        break
                if equal:
                    times += 1
                    done[j] = 1
        for v in range(n):
            leader[v] = v
        possible = True
        for a in range(setting.arity[c]):
            if not _identify(ends[first, a], ends[e, a], kinds, leader, setting.base):
                possible = False
                break
        if possible:
            _add_child(n, kinds, edges, colors, ends, first, e, leader, 2, times, 0, setting, s, children)


@njit(cache=True)
def contract(source, numbers, begin, end, most, setting, s, children, ends_at):
    """Take each diagram `numbers[begin:end]` one step down; returns where it stopped for want of room.

    most: no diagram has more children. ends_at[q]: where the children of diagram numbers[q] end.
    """
    colors = s.edges[0]
    width = s.slots.shape[1]
    kinds = np.empty(s.vertices.shape[1], np.int64)
    for q in range(begin, end):
        if children.filled[0] + most > children.times.size:
            return q
        n, edges = _load(source[numbers[q]], width, kinds, colors, s.ends)
        marked = -1
        for v in range(n):
            if kinds[v] >= MARKED:
                marked = v
        phase = -1
        for k in range(setting.mark_axis.size):
            for v in range(n):
                if phase < 0 and (
                    kinds[v] == setting.mark_axis[k] * setting.base or kinds[v] == MARKED + setting.mark_axis[k]
                ):
                    phase = k
        if phase >= 0 and marked < 0:
            _mark(n, kinds, edges, colors, s.ends, phase, setting, s, children)
        else:
            _pair(n, kinds, edges, colors, s.ends, marked, phase, setting, s, children)
        ends_at[q] = children.filled[0]
    return end


@njit(cache=True)
def merge_rows(left, begin, end, right, right_edges, right_times, most, setting, s, children, ends_at):
    """Contract every edge of left rows with every equal one of right rows; returns where it stopped for want of room.

    right_edges[r], right_times[r]: one edge of each class of twins and how many there are, closed by -1.
    `gone` of a child is the right row it came from. ends_at[q]: where the children of row q end.
    """
    colors = s.edges[0]
    width = s.slots.shape[1]
    size = s.vertices.shape[1]
    kinds, twin, done = np.empty(size, np.int64), np.empty(size, np.int64), np.empty(s.keys.size, np.int64)
    leader = s.vertices[5]
    other_kinds, other_colors = np.empty(size, np.int64), np.empty(s.keys.size, np.int64)
    other_ends = np.empty_like(s.ends)
    for q in range(begin, end):
        if children.filled[0] + most > children.times.size:
            return q
        n, edges = _load(left[q], width, kinds, colors, s.ends)
        _twin_leaders(n, kinds, edges, colors, s.ends, -1, setting, s, twin, s.keys, s.start)
        for r in range(right.shape[0]):
            m, others = _load(right[r], width, other_kinds, other_colors, other_ends)
            for v in range(m):
                kinds[n + v] = other_kinds[v]
            for e in range(others):
                colors[edges + e] = other_colors[e]
                for a in range(setting.arity[other_colors[e]]):
                    s.ends[edges + e, a] = other_ends[e, a] + n
            for e in range(edges):
                done[e] = 0
            for e in range(edges):
                c = colors[e]
                if done[e] or not setting.learned[c]:
                    continue
                times = 0
                for other in range(e, edges):
                    if colors[other] == c and not done[other]:
                        alike = True
                        for a in range(setting.arity[c]):
                            if twin[s.ends[other, a]] != twin[s.ends[e, a]]:
                                alike = False
                                break
                        if alike:
                            times += 1
                            done[other] = 1
                k = 0
                while right_edges[r, k] >= 0:
                    other = edges + right_edges[r, k]
                    if colors[other] == c:
                        for v in range(n + m):
                            leader[v] = v
                        possible = True
                        for a in range(setting.arity[c]):
                            if not _identify(s.ends[e, a], s.ends[other, a], kinds, leader, setting.base):
                                possible = False
                                break
                        if possible:
                            both = times * right_times[r, k]
                            _add_child(
                                n + m, kinds, edges + others, colors, s.ends, e, other, leader, r, both, 0, setting, s,
                                children,
                            )  # fmt: skip
                    k += 1
        ends_at[q] = children.filled[0]
    return end


@njit(cache=True)
def find_marked(rows, count, flags):
    """flags[q]: whether row q has a marked node."""
    for q in range(count):
        flags[q] = 0
        for v in range(rows[q, 0]):
            if rows[q, 2 + v] >= MARKED:
                flags[q] = 1


@njit(cache=True)
def gather(
    begin,
    end,
    starts,
    steps_child,
    steps_times,
    steps_delta,
    offsets,
    first,
    length,
    index,
    words,
    product,
    acc,
    used,
    out_first,
    out_length,
    out_index,
    out_words,
):
    """E of each diagram from those of its children; returns (where it stopped for want of room, terms written so far).

    The terms of child c of kind k (edges that went) are first[offsets[k] + c] ... in `index` (number of the monomial) and
    `words` (digits in base 2^32). product[delta, i]: the number of the product of two monomials.
    """
    digits = words.shape[1]
    filled = 0 if begin == 0 else out_first[begin - 1] + out_length[begin - 1]
    touched = np.empty(acc.shape[0], np.int64)
    mask = np.uint64(0xFFFFFFFF)
    for q in range(begin, end):
        number = 0
        for k in range(starts[q], starts[q + 1]):
            child = offsets[steps_child[k] % 3] + steps_child[k] // 3
            times = np.uint64(steps_times[k])
            row = product[steps_delta[k]]
            for i in range(first[child], first[child] + length[child]):
                m = row[index[i]]
                if not used[m]:
                    used[m] = 1
                    touched[number] = m
                    number += 1
                    for d in range(digits):
                        acc[m, d] = np.uint64(0)
                for d in range(digits):
                    acc[m, d] += times * np.uint64(words[i, d])
        if filled + number > out_index.size:
            for j in range(number):
                used[touched[j]] = 0
            return q, filled
        out_first[q] = filled
        for j in range(number):
            m = touched[j]
            used[m] = 0
            carry = np.uint64(0)
            for d in range(digits):
                x = acc[m, d] + carry
                out_words[filled, d] = np.uint32(x & mask)
                carry = x >> np.uint64(32)
            out_index[filled] = m
            filled += 1
        out_length[q] = number
    return end, filled


@njit(cache=True)
def add_multiples(parts, numbers, kinds, first, length, index, words, total):
    """total[kinds[k], monomial] += parts[k] * E of diagram numbers[k], modulo 2^(32 digits)."""
    digits = total.shape[2]
    given = words.shape[1]
    mask = np.uint64(0xFFFFFFFF)
    for k in range(numbers.size):
        child = numbers[k]
        for i in range(first[child], first[child] + length[child]):
            target = total[kinds[k], index[i]]
            for a in range(digits):
                x = np.uint64(parts[k, a])
                if x == 0:
                    continue
                carry = np.uint64(0)
                for b in range(digits - a):
                    y = target[a + b] + carry
                    if b < given:
                        y += x * np.uint64(words[i, b])
                    target[a + b] = y & mask
                    carry = y >> np.uint64(32)


@njit(cache=True)
def add_products(parents, children, factors, parts, weights, total):
    """total[children[k]] += parts[parents[k]] * weights[factors[k]], modulo 2^(32 digits)."""
    digits = total.shape[1]
    mask = np.uint64(0xFFFFFFFF)
    for k in range(parents.size):
        target = total[children[k]]
        for a in range(digits):
            x = np.uint64(parts[parents[k], a])
            if x == 0:
                continue
            carry = np.uint64(0)
            for b in range(digits - a):
                y = target[a + b] + carry + x * np.uint64(weights[factors[k], b])
                target[a + b] = y & mask
                carry = y >> np.uint64(32)
