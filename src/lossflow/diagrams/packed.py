"""Large sums of diagrams as arrays of bytes: merged and averaged by the compiled loops of `kernels`, exactly.

The mean goes down level by level in the number of edges. A node of an axis that every tensor has at most once is *marked*: it
is said which nodes equal it, and from then on it differs from all others, so that its edges pair among themselves; when the
last one has gone it leaves a factor of the falling factorial of its size. Where no axis can be marked, one edge is paired with
each other edge of its tensor. What became of every diagram is noted on the way down; the numbers, digits in base 2^32, come on
the way up. docs/theory/diagrams.md section 4.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from math import lcm
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from lossflow.diagrams.algebra import DIGIT, Algebra, Sum, count_alike
from lossflow.diagrams.canonical import Code, twins
from lossflow.diagrams.counting import bell_number, falling_factorial, log2_pairings, polynomial_through
from lossflow.diagrams.long_integers import digits_of, extended, floats_of, integers_of, shortened
from lossflow.diagrams.tensor import Tensor
from lossflow.diagrams.wick import Law
from lossflow.errors import InvalidInput
from lossflow.memory import require_memory

if TYPE_CHECKING:
    from lossflow.diagrams.kernels import Children, Scratch, Setting, Table

LARGEST_MARKED = 9  # nodes of an axis beyond which too many subsets would have to be told apart
MOST_NODES, MOST_ARITY, MOST_KINDS = 250, 7, 120  # of edges there are no more than of nodes: both are bytes
TRIALS, MOST_WAYS = (
    ((12, 30_000), (4, 30_000), (1, 30_000), (1, 200_000), (1, 1_000_000)),
    24,
)  # (diagrams, normal forms)
MOST_DIGITS = 15  # of a coefficient, base 2^32: its size as a float must not overflow
CHILDREN_AT_ONCE = 20_000  # between looks at the keyboard: a fraction of a second
ROWS_AT_ONCE = 50_000

Watch = Callable[[float], None]
Array = npt.NDArray[np.int64]


@dataclass
class Effort:
    """What the last mean and the last merger cost."""

    states: int = 0
    normal_forms: int = 0
    merged_forms: int = 0
    bytes: int = 0
    merging: float = 0.0
    normalizing: float = 0.0
    contracting: float = 0.0
    arithmetic: float = 0.0


@dataclass
class Packed:
    """sum over items of  parts[item] / denominator * scales[item_scale[item]] * rows[item_row[item]].

    parts: signed numbers as digits in base 2^32, the lowest first, modulo 2^(32 digits). scales: monomials of the algebra.
    """

    rows: npt.NDArray[np.uint8]
    scales: list[int]
    item_row: Array
    item_scale: Array
    parts: npt.NDArray[np.uint32]
    denominator: int


@dataclass
class _Block:
    """What became of the diagrams `numbers` of one level."""

    numbers: Array
    starts: Array
    child: npt.NDArray[np.int32]
    times: npt.NDArray[np.int32]
    delta: npt.NDArray[np.int32]
    deltas: Array


@dataclass
class _Means:
    """Polynomials by number of the diagram: terms first[k] ... first[k] + length[k]."""

    first: Array
    length: Array
    index: npt.NDArray[np.int32]
    words: npt.NDArray[np.uint32]
    monomials: Array


class _Steps:
    """Children of one batch after the other."""

    def __init__(self) -> None:
        self._parts: list[tuple[npt.NDArray[np.signedinteger], ...]] = []
        self.total = 0

    def add(self, children: Children, ends: Array) -> None:
        """The children of further diagrams; `ends` says where those of each end."""
        count = int(children.filled[0])
        columns = (children.number, children.times, children.monomial, children.gone)
        narrow = (np.int32, np.int32, np.int64, np.int32)
        self._parts.append(
            (ends + self.total, *(x[:count].astype(kind) for x, kind in zip(columns, narrow, strict=True)))
        )
        self.total += count

    def _column(self, k: int) -> Array:
        return np.concatenate([np.zeros(0, np.int64), *(part[k] for part in self._parts)]).astype(np.int64)

    @property
    def ends(self) -> Array:
        return self._column(0)

    @property
    def child(self) -> Array:
        return self._column(1)

    @property
    def times(self) -> Array:
        return self._column(2)

    @property
    def monomial(self) -> Array:
        return self._column(3)

    @property
    def gone(self) -> Array:
        return self._column(4)


class Engine:
    """Mergers and means over one algebra."""

    def __init__(self, algebra: Algebra, unpaired: Sequence[Law]) -> None:
        self.algebra = algebra
        self.unpaired = list(unpaired)
        self.laws: list[Law] = [(tensor.variance, tensor.mean) for tensor in algebra.tensors]
        self.arity = max((len(tensor.axes) for tensor in algebra.tensors), default=0)
        self.effort = Effort()
        self._noted = 0
        self.axes: tuple[int, ...] | None = None  # marked last

    def takes(self, sum_: Sum) -> bool:
        """Whether these diagrams can be packed: no relations, and not too many of anything."""
        return (
            self.arity <= MOST_ARITY
            and len(self.algebra.sizes) * self.algebra.base < MOST_KINDS
            and len(self.algebra.tensors) < MOST_KINDS
            and not any(rows for _, (_, _, rows) in sum_)
            and all(len(kinds) <= MOST_NODES and len(edges) <= MOST_NODES for _, (kinds, edges, _) in sum_)
            and all(max(abs(w.numerator), w.denominator).bit_length() < 32 * MOST_DIGITS for w in sum_.values())
        )

    def merges(self, left: Packed, right: Sum) -> bool:
        """Whether the merger stays within what bytes can number."""
        nodes = int(left.rows[:, 0].max(initial=0)) + max((len(kinds) for _, (kinds, _, _) in right), default=0)
        edges = int(left.rows[:, 1].max(initial=0)) + max((len(edges) for _, (_, edges, _) in right), default=0)
        fits = max(nodes, edges) <= MOST_NODES and nodes < 1 << self._bits(0)
        return fits and left.parts.shape[1] <= MOST_DIGITS and self.takes(right)

    def averages(self, packed: Packed) -> bool:
        """Whether the exponents of the mean fit into the digits of its monomials."""
        nodes, edges = int(packed.rows[:, 0].max(initial=0)), int(packed.rows[:, 1].max(initial=0))
        fits = max(nodes, edges) < 1 << self._bits(max(map(len, self._markable(packed.rows))))
        return fits and packed.parts.shape[1] <= MOST_DIGITS

    def pack(self, sum_: Sum) -> Packed:
        """The sum as arrays, its diagrams in the normal form of the compiled loops."""
        codes = list(dict.fromkeys(code for _, code in sum_))
        rows = self._rows(codes)
        place = self._normalized(rows)
        number = {code: place[1][k] for k, code in enumerate(codes)}
        denominator = lcm(*(weight.denominator for weight in sum_.values()))
        items: dict[tuple[int, int], int] = {}
        for (scale, code), weight in sum_.items():
            key = (int(number[code]), scale)
            items[key] = items.get(key, 0) + int(weight * denominator)
        return _packed(place[0], items, denominator)

    def unpack(self, packed: Packed) -> Sum:
        """Back to codes, in the numbering of the rows."""
        codes = [self._code(row) for row in packed.rows]
        found: Sum = {}
        for row, scale, value in zip(packed.item_row, packed.item_scale, integers_of(packed.parts), strict=True):
            found[packed.scales[scale], codes[row]] = Fraction(value, packed.denominator)
        return found

    def merge(self, left: Packed, right: Sum, watch: Watch | None = None) -> Packed:
        """sum over learned tensors of <grad left, grad right>, as `Algebra.merge`."""
        from lossflow.diagrams import kernels

        began = time.process_time()
        codes = list(dict.fromkeys(code for _, code in right))
        others = self._rows(codes)
        edges, times = self._ends(codes)
        nodes = int(left.rows[:, 0].max(initial=0)) + int(others[:, 0].max(initial=0))
        most_edges = int(left.rows[:, 1].max(initial=0)) + int(others[:, 1].max(initial=0))
        setting, bits = self._setting(())
        scratch = kernels.make_scratch(nodes, most_edges, len(self.laws), self.arity)
        most = int(left.rows[:, 1].max(initial=0)) * int((edges >= 0).sum()) + 1
        table = kernels.make_table(self._width(nodes, most_edges), 4 * len(left.rows) + CHILDREN_AT_ONCE)
        children = kernels.make_children(table.rows.shape[1], CHILDREN_AT_ONCE + most)
        steps = _Steps()
        position = 0
        while position < len(left.rows):
            children.filled[0] = 0
            ends = np.empty(len(left.rows), np.int64)
            before = position
            position = kernels.merge_rows(
                left.rows, position, len(left.rows), others, edges, times, most, setting, scratch, children, ends
            )  # fmt: skip
            (table,) = self._settled(children, (table,), setting, scratch)
            steps.add(children, ends[before:position])
            if watch:
                watch(position / len(left.rows))
        self.effort.merged_forms = steps.total
        merged = self._collected(left, right, codes, table, steps, bits)
        self.effort.merging = time.process_time() - began
        return merged

    def add(self, left: Packed, right: Packed) -> Packed:
        """The sum of two sums."""
        width = max(left.rows.shape[1], right.rows.shape[1])
        rows = np.zeros((len(left.rows) + len(right.rows), width), np.uint8)
        rows[: len(left.rows), : left.rows.shape[1]] = left.rows
        rows[len(left.rows) :, : right.rows.shape[1]] = right.rows
        found, number = self._normalized(rows)
        denominator = lcm(left.denominator, right.denominator)
        items: dict[tuple[int, int], int] = {}
        for part, shift in ((left, 0), (right, len(left.rows))):
            values = integers_of(part.parts)
            for row, scale, value in zip(part.item_row.tolist(), part.item_scale.tolist(), values, strict=True):
                key = (int(number[row + shift]), part.scales[scale])
                items[key] = items.get(key, 0) + value * (denominator // part.denominator)
        return _packed(found, items, denominator)

    def mean(self, packed: Packed, watch: Watch | None = None) -> Iterator[tuple[Counter[Law], dict[int, Fraction]]]:
        """E of the sum, in parts: (how many factors of each law there were, {monomial in sizes and singles: coefficient})."""

        began = time.process_time()
        self.effort.normalizing = 0.0
        counts = self._color_counts(packed.rows)
        alive = np.ones(len(packed.rows), bool)
        for color, tensor in enumerate(self.algebra.tensors):
            if tensor.mean == 0:
                alive &= counts[:, color] % 2 == 0 if tensor.variance != 0 else counts[:, color] == 0
        rows = packed.rows[alive]
        number = np.cumsum(alive) - 1
        axes, bell = self._best_axes(rows)
        down = self._descended(rows, axes, watch)
        assert down is not None  # without a limit there is always an end
        level, seed, blocks, sizes = down
        bits = self._bits(len(axes))
        self.effort.states = sum(sizes.values())
        self.effort.normal_forms = sum(len(block.child) for level_ in blocks.values() for block in level_)
        self.effort.contracting = time.process_time() - began - self.effort.normalizing
        began = time.process_time()
        self._noted = sum(_bytes(block) for level_ in blocks.values() for block in level_)
        spare = self._exponents(rows, axes)
        fixed: list[tuple[int, int]] = []
        while True:
            try:
                found = self._interpolated(packed, alive, number, counts, level, seed, blocks, sizes, bits, bell, fixed)
                break
            except InvalidInput:  # no room: one exponent less in the polynomials that are held
                if not spare:
                    raise
                fixed.append(spare.pop(0))
        for law_counts, scale, sum_ in found:
            result: dict[int, Fraction] = {}
            for monomial, value in sum_.items():
                for power, times in self._monomials(monomial, axes, bits):
                    total = power + scale
                    result[total] = result.get(total, Fraction(0)) + Fraction(times * value, packed.denominator)
            yield law_counts, result
        self.effort.arithmetic = time.process_time() - began

    def _exponents(self, rows: npt.NDArray[np.uint8], axes: Sequence[int]) -> list[tuple[int, int]]:
        """(which exponent of a monomial, how large it gets) of those that vary, the smallest first."""
        most = self._most_nodes(rows)
        marked = [(len(self.algebra.sizes) + k, int(most[axis])) for k, axis in enumerate(axes)]
        plain = [(axis, int(most[axis])) for axis in range(len(self.algebra.sizes)) if axis not in axes]
        return sorted((found for found in marked + plain if found[1]), key=lambda found: found[1])

    def _interpolated(
        self,
        packed: Packed,
        alive: npt.NDArray[np.bool_],
        number: Array,
        counts: Array,
        level: Array,
        seed: Array,
        blocks: dict[int, list[_Block]],
        sizes: Mapping[int, int],
        bits: int,
        bell: float,
        fixed: Sequence[tuple[int, int]],
    ) -> list[tuple[Counter[Law], int, dict[int, int]]]:
        """(laws, scale, polynomial) of each part of the sum.

        fixed: exponents that are not kept in the polynomials of all diagrams: their variable takes the values 0, 1, ..., and
        the polynomials of the sum, which alone are wanted, are interpolated from what comes of it.
        """
        if not fixed:
            return list(self._up(packed, alive, number, counts, level, seed, blocks, sizes, bits, bell))
        *others, (place, degree) = fixed
        passes = []
        for value in range(degree + 1):
            changed = {
                e: [_evaluated(block, bits * place, bits, value) for block in level_] for e, level_ in blocks.items()
            }
            more = bell + degree * float(np.log2(max(value, 1)))
            passes.append(
                self._interpolated(packed, alive, number, counts, level, seed, changed, sizes, bits, more, others)
            )
        found = []
        for parts in zip(*passes, strict=True):
            polynomial: dict[int, int] = {}
            for monomial in dict.fromkeys(key for _, _, sum_ in parts for key in sum_):
                values = [sum_.get(monomial, 0) for _, _, sum_ in parts]
                for power, coefficient in enumerate(polynomial_through(values)):
                    if coefficient:
                        polynomial[monomial + (power << bits * place)] = coefficient
            found.append((parts[0][0], parts[0][1], polynomial))
        return found

    # --- going down

    def _best_axes(self, rows: npt.NDArray[np.uint8]) -> tuple[tuple[int, ...], float]:
        """The axes to mark, in order, and log2 of the number of partitions of their nodes.

        Tried on a few of the diagrams: the order matters tenfold, and no rule is known. What was best before goes first.
        """
        candidates = self._markable(rows)
        candidates.sort(key=lambda axes: axes != self.axes)
        most = self._most_nodes(rows)
        by_size = np.argsort(rows[:, 1], kind="stable")
        best = candidates[0]
        # a few small diagrams say less than many of the order before: they are asked only if nothing else is known
        trials = TRIALS[:1] if best == self.axes else TRIALS
        for sample, least in trials if len(candidates) > 1 and len(rows) else ():
            picked = np.linspace(0, len(rows) - 1, sample + 1).astype(int)[:-1]  # evenly, without the largest
            ended = False
            for axes in candidates:
                down = self._descended(rows[by_size[np.unique(picked)]], axes, limit=least)
                if down is not None:
                    ended, best = True, axes
                    least = sum(len(block.child) for blocks in down[2].values() for block in blocks)
            if ended:
                break
        self.axes = best
        return best, sum(float(np.log2(float(bell_number(int(most[axis]))))) for axis in best)

    def _descended(
        self,
        rows: npt.NDArray[np.uint8],
        axes: tuple[int, ...],
        watch: Watch | None = None,
        limit: int | None = None,
    ) -> tuple[Array, Array, dict[int, list[_Block]], dict[int, int]] | None:
        """From the diagrams down to none: their levels (edges), their numbers there, what became of all, how many there are.

        None if that takes more than `limit` normal forms.
        """
        from lossflow.diagrams import kernels

        nodes, most_edges = int(rows[:, 0].max(initial=0)), int(rows[:, 1].max(initial=0))
        setting, _ = self._setting(axes)
        counts = self._most_nodes(rows)
        most = max([most_edges, *(2 ** (int(counts[axis]) - 1) for axis in axes)]) + 2
        scratch = kernels.make_scratch(nodes, most_edges, len(self.laws), self.arity)
        width = self._width(nodes, most_edges)
        level = rows[:, 1].astype(np.int64)
        tables: dict[int, Table] = {}
        seed = np.zeros(len(rows), np.int64)
        blocks: dict[int, list[_Block]] = {}
        sizes: dict[int, int] = {}
        forms = kept = self.effort.bytes = 0
        for e in range(most_edges, -1, -1):
            for below in (e, e - 1, e - 2):
                if below not in tables:
                    tables[below] = kernels.make_table(width, 1024)
            mine = np.nonzero(level == e)[0]
            tables[e], seed[mine] = self._inserted(rows[mine], tables[e], setting, scratch)
            blocks[e] = []
            if e:
                for want in (0, 1):
                    count = int(tables[e].filled[0])
                    flags = np.zeros(count, np.uint8)
                    kernels.find_marked(tables[e].rows, count, flags)
                    numbers = np.nonzero(flags == want)[0]
                    blocks[e].append(self._down(numbers, e, tables, most, setting, scratch))
            sizes[e] = int(tables[e].filled[0])
            kept += sum(_bytes(block) for block in blocks[e])
            self.effort.bytes = max(self.effort.bytes, kept + sum(_bytes(table) for table in tables.values()))
            del tables[e]
            forms += sum(len(block.child) for block in blocks[e])
            require_memory(sum(map(_bytes, (*blocks[e], *tables.values()))), "the next step of this order", ADVICE)
            if limit is not None and forms > limit:
                return None
            if watch:
                watch(0.9 * (1 - e / (most_edges + 1)))
        return level, seed, blocks, sizes

    def _down(
        self, numbers: Array, e: int, tables: dict[int, Table], most: int, setting: Setting, scratch: Scratch
    ) -> _Block:
        from lossflow.diagrams import kernels

        children = kernels.make_children(tables[e].rows.shape[1], CHILDREN_AT_ONCE + most)
        steps = _Steps()
        position = 0
        while position < len(numbers):
            children.filled[0] = 0
            ends = np.empty(len(numbers), np.int64)
            before = position
            position = kernels.contract(
                tables[e].rows, numbers, position, len(numbers), most, setting, scratch, children, ends
            )
            below = (tables[e], tables[e - 1], tables[e - 2])
            tables[e], tables[e - 1], tables[e - 2] = self._settled(children, below, setting, scratch)
            steps.add(children, ends[before:position])
        deltas, delta = np.unique(steps.monomial, return_inverse=True)
        starts = np.concatenate([np.zeros(1, np.int64), steps.ends])
        return _Block(
            numbers,
            starts,
            steps.child.astype(np.int32),
            steps.times.astype(np.int32),
            delta.astype(np.int32).reshape(-1),
            deltas,
        )

    def _settled(
        self, children: Children, tables: tuple[Table, ...], setting: Setting, scratch: Scratch
    ) -> tuple[Table, ...]:
        """The tables with the children in them, larger where that was needed."""
        from lossflow.diagrams import kernels

        began = time.process_time()
        found = list(tables)
        position, end = 0, int(children.filled[0])
        while position < end:
            same, one_less, two_less = found if len(found) == 3 else found * 3
            position = kernels.settle(
                children, position, end, len(found) == 3, same, one_less, two_less, setting, scratch
            )
            if position < end:
                found = [self._grown(table) if table.filled[0] == len(table.rows) else table for table in found]
        self.effort.normalizing += time.process_time() - began
        return tuple(found)

    def _inserted(
        self, rows: npt.NDArray[np.uint8], table: Table, setting: Setting, scratch: Scratch
    ) -> tuple[Table, Array]:
        """The table with these rows in it, and where they went."""
        from lossflow.diagrams.kernels import make_children

        children = make_children(rows.shape[1], len(rows))
        children.rows[:] = rows
        children.filled[0] = len(rows)
        (table,) = self._settled(children, (table,), setting, scratch)
        return table, children.number

    # --- coming up

    def _up(
        self,
        packed: Packed,
        alive: npt.NDArray[np.bool_],
        number: Array,
        counts: Array,
        level: Array,
        seed: Array,
        blocks: dict[int, list[_Block]],
        sizes: Mapping[int, int],
        bits: int,
        bell: float,
    ) -> Iterator[tuple[Counter[Law], int, dict[int, int]]]:
        """From no edges to all of them; the terms of the sum are added where their diagrams appear: (laws, scale, numerators)."""
        from lossflow.diagrams import kernels

        singles = any(tensor.mean != 0 for tensor in self.algebra.tensors)
        means: dict[int, _Means] = {}
        item_alive = alive[packed.item_row]
        item_row = number[packed.item_row[item_alive]]
        item_scale = packed.item_scale[item_alive]
        parts = packed.parts[item_alive]
        law_of = {law: k for k, law in enumerate(dict.fromkeys(self.laws))}
        law_counts = np.zeros((len(counts), len(law_of)), np.int64)
        for color, law in enumerate(self.laws):
            law_counts[:, law_of[law]] += counts[:, color]
        law_counts = law_counts[alive]
        size_bits = float(np.log2(1 + np.abs(floats_of(parts)).sum()))
        for e in sorted(blocks):
            need = log2_pairings(e, singles) + bell
            digits = int((need + 2) // 32) + 1
            first, length = np.zeros(sizes[e], np.int64), np.zeros(sizes[e], np.int64)
            if e == 0:  # the number 1
                one = np.ones((sizes[0], 1), np.uint32)
                found = _Means(first, length + 1, np.zeros(sizes[0], np.int32), one, np.zeros(sizes[0], np.int64))
            else:
                nothing = np.zeros((0, digits), np.uint32)
                found = _Means(first, length, np.zeros(0, np.int32), nothing, np.zeros(0, np.int64))
                for block in reversed(blocks[e]):  # the marked ones are children of the others
                    found = self._gathered(block, e, found, means, digits)
            means[e] = found
            held = self._noted + 2 * sum(_bytes(part) for part in means.values())  # twice: while they are put together
            self.effort.bytes = max(self.effort.bytes, held)
            means.pop(e - 2, None)
            here = np.nonzero(level[item_row] == e)[0]
            if len(here):
                classes, class_of = _distinct(item_scale[here], *law_counts[item_row[here]].T)
                total_digits = int((need + size_bits + 4) // 32) + 1
                total = np.zeros((len(classes), max(len(found.monomials), 1), total_digits), np.uint64)
                kernels.add_multiples(
                    extended(parts[here], total_digits), seed[item_row[here]], class_of,
                    found.first, found.length, found.index, found.words, total,
                )  # fmt: skip
                for k, key in enumerate(classes):
                    numbers = integers_of(total[k].astype(np.uint32))
                    sum_ = {int(m): value for m, value in zip(found.monomials, numbers, strict=False) if value}
                    yield Counter({law: int(key[1 + n]) for law, n in law_of.items()}), packed.scales[key[0]], sum_

    def _gathered(self, block: _Block, e: int, same: _Means, means: Mapping[int, _Means], digits: int) -> _Means:
        from lossflow.diagrams import kernels

        pool = [same, means.get(e - 1), means.get(e - 2)]
        offsets = np.zeros(3, np.int64)
        terms = sum(len(part.index) for part in pool if part is not None)
        require_memory(3.0 * terms * (8 + 4 * digits), "the arithmetic of this order", ADVICE)
        first, length, index, words = [], [], [], []
        monomials = np.unique(np.concatenate([np.zeros(0, np.int64), *(m.monomials for m in pool if m is not None)]))
        rows = terms = 0
        for k, part in enumerate(pool):
            offsets[k] = rows
            if part is None:
                continue
            first.append(part.first + terms)
            length.append(part.length)
            index.append(np.searchsorted(monomials, part.monomials)[part.index].astype(np.int32))
            words.append(extended(part.words, digits, signed=False))
            rows += len(part.first)
            terms += len(part.index)
        first_, length_, index_, words_ = (np.concatenate(x) for x in (first, length, index, words))
        products = block.deltas[:, None] + monomials[None, :]
        result, product = np.unique(products, return_inverse=True)
        product = product.reshape(products.shape).astype(np.int32)
        count = len(block.numbers)
        out_first, out_length = np.zeros(count, np.int64), np.zeros(count, np.int64)
        room = max(1024, int(1.3 * count * (terms / max(rows, 1) + 1))) + len(result)
        out_index, out_words = np.empty(room, np.int32), np.empty((room, digits), np.uint32)
        acc, used = np.zeros((len(result), digits), np.uint64), np.zeros(len(result), np.uint8)
        position = filled = 0
        while position < count:
            end = min(position + ROWS_AT_ONCE, count)
            stop, filled = kernels.gather(
                position, end, block.starts, block.child, block.times, block.delta, offsets, first_, length_, index_,
                words_, product, acc, used, out_first, out_length, out_index, out_words,
            )  # fmt: skip
            if stop < end:
                more = len(out_index) // 2 + len(result)
                require_memory(4.0 * (1 + digits) * (len(out_index) + more), "this order", ADVICE)
                out_index = np.concatenate([out_index[:filled], np.empty(len(out_index) + more - filled, np.int32)])
                out_words = np.concatenate([out_words[:filled], np.empty((len(out_index) - filled, digits), np.uint32)])
            position = stop
        known = same.first.copy(), same.length.copy()
        known[0][block.numbers] = out_first + len(same.index)
        known[1][block.numbers] = out_length
        both = np.unique(np.concatenate([same.monomials, result]))
        return _Means(
            known[0],
            known[1],
            np.concatenate(
                [
                    np.searchsorted(both, same.monomials)[same.index].astype(np.int32),
                    np.searchsorted(both, result)[out_index[:filled]].astype(np.int32),
                ]
            ),
            np.concatenate([extended(same.words, digits, signed=False), out_words[:filled]]),
            both,
        )

    # --- translations

    def _bits(self, marked: int) -> int:
        """Bits of one exponent in a monomial of 63."""
        return min(63 // max(len(self.algebra.sizes) + marked + len(self.unpaired), 1), 10)

    def _setting(self, marked: tuple[int, ...]) -> tuple[Setting, int]:
        """The setting of the compiled loops, and how monomials are written: bits of each exponent, the lowest first."""
        from lossflow.diagrams.kernels import Setting

        algebra, tensors = self.algebra, self.algebra.tensors
        bits = self._bits(len(marked))
        colors = len(tensors)
        group = np.full(colors, -1, np.int64)
        members = np.zeros((max(colors, 1), max(colors, 1)), np.int64)
        for color, group_ in algebra.group.items():
            group[color] = min(group_)
            members[min(group_), : len(group_)] = sorted(group_)
        slots = np.full((max(len(marked), 1), max(colors, 1)), -1, np.int64)[: len(marked)]
        for k, axis in enumerate(marked):
            for color, tensor in enumerate(tensors):
                if algebra.sizes[axis] in tensor.axes:
                    slots[k, color] = tensor.axes.index(algebra.sizes[axis])
        singles = [
            1 << bits * (len(algebra.sizes) + len(marked) + self.unpaired.index(law)) if law[1] != 0 else 0
            for law in self.laws
        ]
        falling = np.zeros(len(algebra.sizes), np.int64)
        for k, axis in enumerate(marked):
            falling[axis] = 1 << bits * (len(algebra.sizes) + k)
        setting = Setting(
            base=algebra.base,
            arity=np.array([len(tensor.axes) for tensor in tensors], np.int64),
            group=group,
            members=members,
            learned=np.array([tensor.learned for tensor in tensors], np.int64),
            centered=np.array([tensor.mean == 0 for tensor in tensors], np.int64),
            random=np.array([tensor.variance != 0 for tensor in tensors], np.int64),
            single=np.array(singles, np.int64),
            power=np.array([1 << bits * k for k in range(len(algebra.sizes))], np.int64),
            falling=falling,
            mark_axis=np.array(marked, np.int64),
            mark_slot=slots,
        )
        return setting, bits

    def _monomials(self, packed: int, marked: Sequence[int], bits: int) -> list[tuple[int, int]]:
        """A packed monomial with its falling factorials expanded: (monomial of the algebra, coefficient)."""
        sizes = len(self.algebra.sizes)
        digits = [packed >> bits * k & (1 << bits) - 1 for k in range(sizes + len(marked) + len(self.unpaired))]
        monomial = sum(d << DIGIT * k for k, d in enumerate(digits[:sizes]))
        monomial += sum(d << DIGIT * (sizes + k) for k, d in enumerate(digits[sizes + len(marked) :]))
        found = [(monomial, 1)]
        for axis, m in zip(marked, digits[sizes:], strict=False):
            found = [
                (p + (j << DIGIT * axis), c * s) for p, c in found for j, s in enumerate(falling_factorial(m)) if s
            ]
        return found

    def _most_nodes(self, rows: npt.NDArray[np.uint8]) -> Array:
        """By axis, the most free nodes on it in one diagram; the axes that have pinned nodes count as having too many."""
        algebra = self.algebra
        most = np.zeros(len(algebra.sizes), np.int64)
        for n in np.unique(rows[:, 0]):
            kinds = rows[rows[:, 0] == n, 2 : 2 + int(n)]
            for axis in range(len(algebra.sizes)):
                most[axis] = max(most[axis], int((kinds == axis * algebra.base).sum(axis=1).max(initial=0)))
                if ((kinds // algebra.base == axis) & (kinds % algebra.base != 0)).any():
                    most[axis] = MOST_NODES
        return most

    def _markable(self, rows: npt.NDArray[np.uint8]) -> list[tuple[int, ...]]:
        """Axes that can be marked one after the other until no tensor is left or nothing can be, in all orders, or none."""
        algebra, most = self.algebra, self._most_nodes(rows)
        able = [
            axis
            for axis, name in enumerate(algebra.sizes)
            if 0 < most[axis] <= LARGEST_MARKED and all(tensor.axes.count(name) <= 1 for tensor in algebra.tensors)
        ]
        able.sort(key=lambda axis: (most[axis], axis))
        found: list[tuple[int, ...]] = []

        def extend(chosen: tuple[int, ...], left: Sequence[Tensor]) -> None:
            useful = [axis for axis in able if any(algebra.sizes[axis] in tensor.axes for tensor in left)]
            if not useful and len(found) < MOST_WAYS:
                found.append(chosen)
            for axis in useful:
                extend((*chosen, axis), [tensor for tensor in left if algebra.sizes[axis] not in tensor.axes])

        extend((), algebra.tensors)
        return list(dict.fromkeys([*found, ()]))

    def _width(self, nodes: int, edges: int) -> int:
        return 2 + nodes + edges * (1 + self.arity)

    def _rows(self, codes: Sequence[Code]) -> npt.NDArray[np.uint8]:
        nodes = max((len(kinds) for kinds, _, _ in codes), default=0)
        edges = max((len(edges_) for _, edges_, _ in codes), default=0)
        rows = np.zeros((len(codes), self._width(nodes, edges)), np.uint8)
        for row, (kinds, edges_, _) in zip(rows, codes, strict=True):
            row[0], row[1] = len(kinds), len(edges_)
            row[2 : 2 + len(kinds)] = kinds
            flat = [x for edge in edges_ for x in (*edge, *[255] * (1 + self.arity - len(edge)))]
            row[2 + len(kinds) : 2 + len(kinds) + len(flat)] = flat
        return rows

    def _code(self, row: npt.NDArray[np.uint8]) -> Code:
        n, edges = int(row[0]), int(row[1])
        flat = row[2 + n : 2 + n + edges * (1 + self.arity)].reshape(edges, 1 + self.arity).tolist()
        arity = [len(tensor.axes) for tensor in self.algebra.tensors]
        return (
            tuple(row[2 : 2 + n].tolist()),
            tuple(sorted(tuple(edge[: 1 + arity[edge[0]]]) for edge in flat)),
            (),
        )

    def _normalized(self, rows: npt.NDArray[np.uint8]) -> tuple[npt.NDArray[np.uint8], Array]:
        from lossflow.diagrams import kernels

        setting, _ = self._setting(())
        nodes, edges = int(rows[:, 0].max(initial=0)), int(rows[:, 1].max(initial=0))
        table = kernels.make_table(rows.shape[1], len(rows) + 1)
        scratch = kernels.make_scratch(nodes, edges, len(self.laws), self.arity)
        table, numbers = self._inserted(rows, table, setting, scratch)
        return _trimmed(table, self.arity), numbers

    def _ends(self, codes: Sequence[Code]) -> tuple[Array, Array]:
        """One edge of each class of twins of each diagram, and how many there are."""
        found: list[list[tuple[int, int]]] = []
        for kinds, edges, rows in codes:
            alike = count_alike(edges, twins(kinds, edges, rows))
            found.append([(edges.index(edge), times) for edge, times in alike])
        longest = max(map(len, found), default=0) + 1
        edges_, times_ = (np.full((len(found), longest), fill, np.int64) for fill in (-1, 0))
        for k, ends in enumerate(found):
            for j, (edge, times) in enumerate(ends):
                edges_[k, j], times_[k, j] = edge, times
        return edges_, times_

    def _color_counts(self, rows: npt.NDArray[np.uint8]) -> Array:
        """How many edges of each color each row has."""
        counts = np.zeros((len(rows), len(self.laws)), np.int64)
        for n in np.unique(rows[:, 0]):
            these = np.nonzero(rows[:, 0] == n)[0]
            colors = rows[these][:, 2 + int(n) :: 1 + self.arity]
            inside = np.arange(colors.shape[1])[None, :] < rows[these, 1][:, None]
            for color in range(len(self.laws)):
                counts[these, color] = ((colors == color) & inside).sum(axis=1)
        return counts

    def _grown(self, table: Table) -> Table:
        from lossflow.diagrams.kernels import grown

        capacity = 2 * len(table.rows)
        require_memory(float(capacity) * (table.rows.shape[1] + 24), "this order", ADVICE)
        return grown(table, capacity)

    def _collected(
        self, left: Packed, right: Sum, codes: Sequence[Code], table: Table, steps: _Steps, bits: int
    ) -> Packed:
        """The items of a merger: products of coefficients, isomorphic diagrams and equal scales together."""
        from lossflow.diagrams import kernels

        count = steps.total
        child_of = steps.child
        parent = np.repeat(np.arange(len(left.rows)), np.diff(steps.ends, prepend=0))
        # one line for each (step, item of its parent, scale of its right diagram)
        right_items = [[(scale, weight) for (scale, code_), weight in right.items() if code_ == code] for code in codes]
        denominator = lcm(*(weight.denominator for weight in right.values()))
        order = np.argsort(left.item_row, kind="stable")
        item_count = np.bincount(left.item_row, minlength=len(left.rows))
        item_first = np.cumsum(item_count) - item_count
        repeat = item_count[parent]
        step = np.repeat(np.arange(count), repeat)
        within = np.arange(len(step)) - np.repeat(np.cumsum(repeat) - repeat, repeat)
        item = order[item_first[parent[step]] + within]
        kinds, kind = _distinct(left.item_scale[item], steps.monomial[step], steps.gone[step], steps.times[step])
        scales: dict[int, int] = {}
        norm = float(np.abs(floats_of(left.parts)).sum()) * 1.001 + 1
        longest = max((len(items) for items in right_items), default=0)
        edges = int(left.rows[:, 1].max(initial=0)) * max((len(code[1]) for code in codes), default=0)
        largest = max((abs(int(weight * denominator)) for weight in right.values()), default=0)
        digits = (
            int((np.log2(norm) + np.log2(float(max(largest, 1)) * max(edges, 1) * max(len(right), 1)) + 4) // 32) + 1
        )
        lines: list[tuple[Array, Array, Array, Array]] = []
        weights: list[int] = []
        for pick in range(longest):
            scale_of, weight_of = np.full(len(kinds), -1, np.int64), np.zeros(len(kinds), np.int64)
            for k, (scale, monomial, term, times) in enumerate(kinds.tolist()):
                if pick < len(right_items[term]):
                    more, weight = right_items[term][pick]
                    ((freed, _),) = self._monomials(monomial, (), bits)
                    total = left.scales[scale] + more + freed
                    scale_of[k] = scales.setdefault(total, len(scales))
                    weight_of[k] = len(weights)
                    weights.append(times * int(weight * denominator))
            live = scale_of[kind] >= 0
            lines.append((child_of[step[live]], scale_of[kind[live]], item[live], weight_of[kind[live]]))
        child, scale, item, weight = (np.concatenate(x) for x in zip(_NO_LINE, *lines, strict=True))
        together, target = np.unique(child * max(len(scales), 1) + scale, return_inverse=True)
        total = np.zeros((len(together), digits), np.uint64)
        kernels.add_products(
            item, target.reshape(-1), weight, extended(left.parts, digits), digits_of(weights, digits), total
        )
        kept = total.any(axis=1)
        item_row, item_scale = together[kept] // max(len(scales), 1), together[kept] % max(len(scales), 1)
        rows_used, item_row = np.unique(item_row, return_inverse=True)
        return Packed(
            _trimmed(table, self.arity)[rows_used],
            list(scales),
            item_row.reshape(-1),
            item_scale,
            shortened(total[kept].astype(np.uint32)),
            left.denominator * denominator,
        )


_NO_LINE = (np.zeros(0, np.int64),) * 4
ADVICE = "ask for a lower order; the orders before it are kept"


def _packed(rows: npt.NDArray[np.uint8], items: Mapping[tuple[int, int], int], denominator: int) -> Packed:
    scales = {scale: k for k, scale in enumerate(sorted({scale for _, scale in items}))}
    keys = [key for key in sorted(items) if items[key]]
    longest = max((abs(items[key]).bit_length() for key in keys), default=0)
    return Packed(
        rows,
        list(scales),
        np.array([row for row, _ in keys], np.int64),
        np.array([scales[scale] for _, scale in keys], np.int64),
        digits_of([items[key] for key in keys], longest // 32 + 1),
        denominator,
    )


def _distinct(*columns: npt.NDArray[np.integer]) -> tuple[Array, Array]:
    """The distinct lines, and for each line which of them it is."""
    number = np.zeros(len(columns[0]), np.int64)
    for column in columns:
        values, place = np.unique(column, return_inverse=True)
        number = number * max(len(values), 1) + place.reshape(-1)
        _, number = np.unique(number, return_inverse=True)
        number = number.reshape(-1)
    _, first = np.unique(number, return_index=True)
    return np.column_stack([np.asarray(column)[first].astype(np.int64) for column in columns]), number


def _trimmed(table: Table, arity: int) -> npt.NDArray[np.uint8]:
    """The rows of a table, no wider than needed, zero behind their ends."""
    count = int(table.filled[0])
    rows = table.rows[:count]
    length = 2 + rows[:, 0].astype(np.int64) + rows[:, 1].astype(np.int64) * (1 + arity)
    rows = rows[:, : int(length.max(initial=2))].copy()
    rows[np.arange(rows.shape[1])[None, :] >= length[:, None]] = 0
    return rows


def _bytes(parts: object) -> int:
    """What the arrays of a named tuple or a dataclass take."""
    values = parts if isinstance(parts, tuple) else vars(parts).values()
    return sum(part.nbytes for part in values if isinstance(part, np.ndarray))


def _evaluated(block: _Block, shift: int, bits: int, value: int) -> _Block:
    """With a number in place of the variable whose exponent is `bits` wide at `shift`."""
    power = block.deltas >> shift & (1 << bits) - 1
    deltas, delta = np.unique(block.deltas - (power << shift), return_inverse=True)
    times = block.times.astype(np.int64) * (value**power)[block.delta]
    if times.size and times.max() >= 2**31:
        raise InvalidInput("these numbers are beyond the arithmetic of one step; ask for a lower order")
    return _Block(
        block.numbers,
        block.starts,
        block.child,
        times.astype(np.int32),
        delta.reshape(-1).astype(np.int32)[block.delta],
        deltas,
    )
