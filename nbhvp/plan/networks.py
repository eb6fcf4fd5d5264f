"""Sums of products of several arrays, in the order that makes products with directions cheap.

A sum over some letters of a product of arrays, each with some of the letters,

    z_kij = sum_nl  c_nk Q'_kil r_nkl r_nkj,                  Q' a tangent, c and r known at the point,

can be computed two arrays at a time in many orders. The program as it is written has one: here, the
tangent t'_nki = sum_l Q'_kil r_nkl first, of the size of the data. Another sums c r r over n first,
once per point, and a product then never sees n. So sums and contractions that depend on the direction
are taken apart into their terms, through the products, sums and views that they are made of, and each
term is put together again in its cheapest order. What does not depend on the direction costs a product
nothing, but must be computed at the point, and loaded.

The result is taken if it halves the work of a product. A sum is taken apart only where all of its
terms end in smaller arrays: else a tangent that has a value for each datum would be summed in parts.

Invariant: only sums and products of one real dtype are reordered; values agree up to rounding.
"""

from __future__ import annotations

import math
import string
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import reduce

import numpy as np

from nbhvp.graph import primitives as p
from nbhvp.graph.node import Graph, Node, dependent
from nbhvp.plan.costs import CPU

__all__ = ["reordered"]

MOST_FACTORS = 8
"""Arrays in a term: all orders of these are looked at."""
MOST_TERMS = 8
MOST_SUMS = 64
"""Contractions of a product: of a longer one, steps of a loop say, each is as it is written."""
MOST_NODES = 256
"""Nodes that are looked at for the terms of one sum."""
PRODUCTS = 4.0
"""What is computed once per point pays if it saves its cost in so many products."""
GAIN = 2.0
"""How many times less work another order must be to be taken."""


def reordered(graph: Graph, direction: Node) -> Graph:
    """The same product, its sums of products each in the cheapest order."""
    active = dependent(graph.nodes, [direction])
    sums = [node for node in graph.nodes if node in active and node.primitive is p.contract]
    if len(sums) > MOST_SUMS or not any(map(_is_stack, sums)):
        return graph
    found = _Reordering(graph, active).graph()
    return found if GAIN * _work(found, direction) <= _work(graph, direction) else graph


def _is_stack(node: Node) -> bool:
    """Whether a contraction is of stacked matrices: of others each is one call of BLAS."""
    left, rest = node.params["subscripts"].split(",")
    right, out = rest.split("->")
    return not set(left).isdisjoint(set(right) & set(out))


@dataclass(frozen=True, eq=False)
class _Factor:
    """An array, with a letter for each axis whose extent is not 1."""

    node: Node
    letters: tuple[int, ...]
    is_active: bool
    parts: tuple[_Factor, _Factor] | None = None
    """The two that it was made of, if it is no array of the graph."""


@dataclass(frozen=True)
class _Order:
    """For each set of factors, its cheapest product: entries by the number that stands for the set."""

    cost: list[float]
    letters: list[int]
    moves: list[bool]
    """Whether it depends on the direction."""
    left: list[int]
    """The first of the two parts that are multiplied, 0 for a factor alone."""

    def add(self, cost: float, letters: int, moves: bool, left: int, outside: int) -> None:
        self.cost.append(cost)
        self.letters.append(letters & outside)
        self.moves.append(moves)
        self.left.append(left)


_Term = tuple[_Factor, ...]
Letters = tuple[int | None, ...]
"""The letter of each axis, None where the extent is 1."""


class _Reordering:
    """The parts of one graph as they are made again."""

    def __init__(self, graph: Graph, active: set[Node]):
        self.old, self.active = graph, active
        self.extents: list[int] = []
        self.sizes: dict[int, int] = {}
        self.looked = 0
        """How many nodes have been looked at for the present sum."""
        self.new: dict[Node, Node] = {}

    def graph(self) -> Graph:
        for node in self.old.nodes:
            args = tuple(self.new[arg] for arg in node.args)
            found = None
            if node in self.active and node.primitive in (p.sum_, p.contract):
                found = self._sum(node)
            if found is None:
                found = node if args == node.args else node.primitive(*args, **node.params)
            self.new[node] = found
        return Graph(self.old.inputs, tuple(self.new[node] for node in self.old.outputs))

    def _sum(self, node: Node) -> Node | None:
        """A sum from its terms; None if it has but one product, and so one order."""
        self.extents, self.sizes, self.looked = [], {0: 1}, 0
        out = self._fresh(node.shape)
        terms = self._terms(node, out)
        if _are_too_many(terms):
            return None
        if len(terms) == 1 and len(terms[0]) <= 2:
            return None
        kept = tuple(letter for letter in out if letter is not None)
        parts = [self._whole(term, kept) for term in terms]
        total = reduce(p.add, (p.reshape(part, shape=node.shape) for part in parts))
        return p.broadcast(total, shape=node.shape)

    def _fresh(self, shape: Iterable[int]) -> Letters:
        return tuple(None if n == 1 else self._letter(n) for n in shape)

    def _letter(self, extent: int) -> int:
        self.extents.append(extent)
        return len(self.extents) - 1

    # Taking apart.

    def _terms(self, node: Node, letters: Letters) -> list[_Term]:
        """The products whose sum a node is, over all letters but those of its own axes."""
        is_active, entry = node in self.active, node.primitive
        self.looked += 1
        if node.dtype.kind == "f" and node.size and self.looked <= MOST_NODES:
            inner = self._inside(node, letters)
            if inner is not None:
                return inner
            if entry in (p.add, p.subtract) and is_active:
                found = self._added(node, letters)
                if found is not None:
                    return found
        wide = tuple(one for one in letters if one is not None)
        return [(_Factor(node, wide, is_active),)]

    def _inside(self, node: Node, letters: Letters) -> list[_Term] | None:
        """The terms of a product, of a sum over axes or of a view; None for all else."""
        entry, args = node.primitive, node.args
        if entry is p.multiply:
            x, y = (self._terms(arg, _aligned(letters, arg)) for arg in args)
            return [(*a, *b) for a in x for b in y]
        if entry is p.negative:
            number = p.constant(node.pool, np.asarray(-1, node.dtype))
            return [(_Factor(number, (), False), *term) for term in self._terms(args[0], letters)]
        if entry is p.broadcast:
            return self._terms(args[0], _aligned(letters, args[0]))
        if entry is p.transpose:
            places = np.argsort(node.params["axes"]).tolist()
            return self._terms(args[0], tuple(letters[k] for k in places))
        if entry is p.reshape and _wide(node.shape) == _wide(args[0].shape):
            wide = iter(one for one in letters if one is not None)
            return self._terms(
                args[0], tuple(None if n == 1 else next(wide) for n in args[0].shape)
            )
        if entry is p.sum_:
            left = iter(letters)
            axes, shape = node.params["axes"], args[0].shape
            every = (self._fresh([n])[0] if k in axes else next(left) for k, n in enumerate(shape))
            inner = tuple(every)
            return self._repeated(node, self._terms(args[0], inner), {*inner} - {*letters})
        if entry is p.contract:
            return self._contracted(node, letters)
        return None

    def _contracted(self, node: Node, letters: Letters) -> list[_Term]:
        operands, out = node.params["subscripts"].split("->")
        known: dict[str, int | None] = dict(zip(out, letters, strict=True))
        found = []
        for arg, names in zip(node.args, operands.split(","), strict=True):
            for name, extent in zip(names, arg.shape, strict=True):
                if name not in known:
                    known[name] = None if extent == 1 else self._letter(extent)
            found.append(self._terms(arg, tuple(known[name] for name in names)))
        terms = [(*a, *b) for a in found[0] for b in found[1]]
        return self._repeated(node, terms, {*known.values()} - {*letters})

    def _repeated(self, node: Node, terms: list[_Term], summed: set[int | None]) -> list[_Term]:
        """Terms of a sum over some letters, each times the extents of those that it does not have."""
        found = []
        for term in terms:
            missing = summed.difference({None}, *(one.letters for one in term))
            count = math.prod(self.extents[k] for k in missing if k is not None)
            number = p.constant(node.pool, np.asarray(count, node.dtype))
            found.append(term if count == 1 else (*term, _Factor(number, (), False)))
        return found

    def _added(self, node: Node, letters: Letters) -> list[_Term] | None:
        """The terms of a sum of tangents, if each ends in a tangent that is smaller."""
        found = []
        for k, arg in enumerate(node.args):
            terms = self._terms(arg, _aligned(letters, arg))
            if k == 1 and node.primitive is p.subtract:
                number = _Factor(p.constant(node.pool, np.asarray(-1, node.dtype)), (), False)
                terms = [(number, *term) for term in terms]
            found += terms
        if _are_too_many(found):
            return None
        tangents = (one for term in found for one in term if one.is_active)
        if any(2 * one.node.size > node.size for one in tangents):
            return None
        kept = tuple(one for one in letters if one is not None)
        wide = ([one for one in term if one.letters] for term in found)
        cost = sum(self._best(factors, kept).cost[-1] for factors in wide if factors)
        return found if cost <= CPU.limit * node.size else None

    # Putting together.

    def _whole(self, term: _Term, kept: tuple[int, ...]) -> Node:
        """A term in its cheapest order, as an array with the kept letters."""
        numbers = [one for one in term if not one.letters]
        factors = [one for one in term if one.letters]
        if factors:
            order = self._best(factors, kept)
            best = self._made(len(order.cost) - 1, order, factors)
        else:
            best = numbers.pop()
        for number in numbers:
            scaled = p.multiply(self._node(number), best.node)
            best = _Factor(scaled, best.letters, best.is_active or number.is_active)
        shape = [self.extents[k] if k in best.letters else 1 for k in kept]
        ordered = [best.letters.index(k) for k in kept if k in best.letters]
        whole = p.reshape(p.transpose(best.node, axes=tuple(ordered)), shape=tuple(shape))
        return p.broadcast(whole, shape=tuple(self.extents[k] for k in kept))

    def _best(self, factors: Sequence[_Factor], kept: tuple[int, ...]) -> _Order:
        """The cheapest order of a product of factors, summed over all but the kept letters.

        Sets of factors, and of letters, are numbers with a bit for each.
        """
        masks = [sum(1 << k for k in one.letters) for one in factors]
        found = _Order([0.0], [0], [False], [0])
        joined, full = [0], (1 << len(factors)) - 1
        for some in range(1, full + 1):
            k = (some & -some).bit_length() - 1
            joined.append(joined[some & (some - 1)] | masks[k])
        needed = sum(1 << k for k in kept)
        for some in range(1, full + 1):
            outside = needed | joined[full ^ some]
            if some & (some - 1):
                found.add(*self._pair(some, found), outside)
            else:
                k = some.bit_length() - 1
                cost = (
                    0.0
                    if masks[k] == masks[k] & outside
                    else self._cost(masks[k], factors[k].is_active)
                )
                found.add(cost, masks[k], factors[k].is_active, 0, outside)
        return found

    def _pair(self, some: int, found: _Order) -> tuple[float, int, bool, int]:
        """The cheapest two parts of a set of factors: the cost, the letters, the first part."""
        low = some & -some
        rest = some ^ low
        best, part = math.inf, rest
        while part:
            part = (part - 1) & rest
            left = low | part
            right = some ^ left
            every, moves = (
                found.letters[left] | found.letters[right],
                found.moves[left] or found.moves[right],
            )
            cost = found.cost[left] + found.cost[right] + self._cost(every, moves)
            for one in (left, right):
                if moves and not found.moves[one] and one & (one - 1):
                    cost += CPU.loaded * self._size(found.letters[one])
            if cost < best:
                best, chosen = cost, (every, moves, left)
        return best, *chosen

    def _size(self, letters: int) -> int:
        """The elements of an array with these letters."""
        if letters not in self.sizes:
            last = letters.bit_length() - 1
            self.sizes[letters] = self._size(letters ^ (1 << last)) * self.extents[last]
        return self.sizes[letters]

    def _cost(self, letters: int, is_active: bool) -> float:
        return self._size(letters) * (2.0 if is_active else 2.0 / PRODUCTS)

    def _made(self, some: int, order: _Order, factors: Sequence[_Factor]) -> _Factor:
        """The product of a set of factors, in an order."""
        left, is_active = order.left[some], order.moves[some]
        if not left:
            one = factors[some.bit_length() - 1]
            axes = tuple(at for at, k in enumerate(one.letters) if not order.letters[some] >> k & 1)
            letters = tuple(k for k in one.letters if order.letters[some] >> k & 1)
            return _Factor(p.sum_(self._node(one), axes=axes), letters, is_active)
        x, y = (self._made(part, order, factors) for part in (left, some ^ left))
        # What is computed for a tangent is computed once for all of the rest.
        every = dict.fromkeys((*x.letters, *y.letters) if x.is_active else (*y.letters, *x.letters))
        letters = tuple(k for k in every if order.letters[some] >> k & 1)
        if len(every) == len(letters):
            made = p.multiply(self._spread(x, letters), self._spread(y, letters))
        else:
            made = self._half(x, y, letters) or _contract(x, y, letters)
        return _Factor(made, letters, is_active, (x, y))

    # Symmetry: a sum of a_lj r_l r_j, or the products r_l r_j themselves, need half of the pairs.

    def _half(self, x: _Factor, y: _Factor, letters: tuple[int, ...]) -> Node | None:
        """A product of an array with itself by another letter, for half of the pairs of these."""
        for r, other in ((x, y), (y, x)):
            for twin, rest in (other.parts, other.parts[::-1]) if other.parts else ():
                if twin.node is not r.node or len(twin.letters) != len(r.letters):
                    continue
                differing = [(a, b) for a, b in zip(r.letters, twin.letters, strict=True) if a != b]
                if len(differing) != 1 or not self._is_half(r, *differing[0]):
                    continue
                (l, j) = differing[0]
                r = self._long_last(r)
                if {l, j} <= set(letters) and not {l, j} & set(rest.letters):
                    return self._half_of_products(r, rest, l, j, letters)
                if not {l, j} & set(letters) and {l, j} <= set(rest.letters):
                    return self._half_of_form(r, rest, l, j, letters)
        return None

    def _is_half(self, r: _Factor, l: int, j: int) -> bool:
        long = max(self.extents[k] for k in r.letters)
        return l != j and CPU.written_out < self.extents[l] <= CPU.narrow and long >= CPU.long

    def _long_last(self, one: _Factor) -> _Factor:
        """The same array, its longest axis last: parts of it along the others are then in order."""
        letters = self._sorted(one.letters)
        order = tuple(one.letters.index(k) for k in letters)
        return _Factor(p.transpose(one.node, axes=order), letters, one.is_active)

    def _sorted(self, letters: Iterable[int]) -> tuple[int, ...]:
        longest = max(letters, key=lambda k: self.extents[k], default=None)
        return tuple(sorted(letters, key=lambda k: (k == longest, k)))

    def _half_of_form(self, r: _Factor, a: _Factor, l: int, j: int, letters) -> Node:
        """sum_lj a_lj r_l r_j as sum_l r_l sum_{j <= l} (a_lj + a_jl) r_j, the half of it for j = l."""
        extent, places = self.extents[l], [a.letters.index(l), a.letters.index(j)]
        swapped = list(range(a.node.ndim))
        swapped[places[0]], swapped[places[1]] = places[::-1]
        weights = p.constant(a.node.pool, 1.0 - 0.5 * np.eye(extent, dtype=a.node.dtype))
        both = p.add(a.node, p.transpose(a.node, axes=tuple(swapped)))
        shape = tuple(extent if k in places else 1 for k in range(a.node.ndim))
        both = p.multiply(both, p.reshape(weights, shape=shape))
        at, total = r.letters.index(l), None
        inner = self._sorted(dict.fromkeys((*a.letters, *r.letters)).keys() - {l, j})
        for k in range(extent):
            row = _sliced(_sliced(both, places[0], k, 1), places[1], 0, k + 1)
            head = _Factor(_sliced(r.node, at, 0, k + 1), _renamed(r.letters, l, j), False)
            one = _Factor(row, a.letters, a.is_active)
            # The letter of the row has one element: it is summed with the others.
            summed = _Factor(_contract(one, head, inner), inner, a.is_active)
            part = _Factor(_sliced(r.node, at, k, 1), r.letters, False)
            term = _contract(summed, part, self._sorted(letters))
            total = term if total is None else p.add(total, term)
        assert total is not None, "an axis has elements"
        made = self._sorted(letters)
        return p.transpose(total, axes=tuple(made.index(k) for k in letters))

    def _half_of_products(self, r: _Factor, w: _Factor, l: int, j: int, letters) -> Node:
        """The sums of w r_l r_j, once for each pair."""
        extent, at = self.extents[l], r.letters.index(l)
        outer = tuple(k for k in letters if k not in (l, j))
        pieces = []
        for k in range(extent):
            part = p.reshape(_sliced(r.node, at, k, 1), shape=_removed(r.node.shape, at))
            rest = tuple(one for one in r.letters if one != l)
            every = self._sorted(dict.fromkeys((*rest, *w.letters)))
            product = p.multiply(
                self._spread(_Factor(part, rest, False), every), self._spread(w, every)
            )
            head = _Factor(_sliced(r.node, at, 0, k + 1), _renamed(r.letters, l, j), False)
            pieces.append(_contract(_Factor(product, every, w.is_active), head, (*outer, j)))
        packed = p.concatenate(*pieces, axis=len(outer))
        rows, columns = np.sort(np.indices((extent, extent)), axis=0)[::-1]
        where = p.constant(packed.pool, (rows * (rows + 1) // 2 + columns).reshape(-1))
        whole = p.gather(packed, where, axis=len(outer))
        whole = p.reshape(whole, shape=(*packed.shape[:-1], extent, extent))
        order = (*outer, l, j)
        return p.transpose(whole, axes=tuple(order.index(k) for k in letters))

    def _node(self, one: _Factor) -> Node:
        """The array of a factor, made anew, without its axes of extent 1."""
        node = self.new.get(one.node, one.node)
        return p.reshape(node, shape=tuple(self.extents[k] for k in one.letters))

    def _spread(self, one: _Factor, letters: tuple[int, ...]) -> Node:
        order = [one.letters.index(k) for k in letters if k in one.letters]
        shape = tuple(self.extents[k] if k in one.letters else 1 for k in letters)
        return p.reshape(p.transpose(one.node, axes=tuple(order)), shape=shape)


def _are_too_many(terms: Sequence[_Term]) -> bool:
    counts = [sum(bool(one.letters) for one in term) for term in terms]
    return len(terms) > MOST_TERMS or max(counts) > MOST_FACTORS


def _contract(x: _Factor, y: _Factor, letters: Sequence[int]) -> Node:
    names = {letter: string.ascii_letters[k] for k, letter in enumerate({*x.letters, *y.letters})}
    left, right, out = ("".join(names[k] for k in one) for one in (x.letters, y.letters, letters))
    return p.contract(x.node, y.node, subscripts=f"{left},{right}->{out}")


def _sliced(x: Node, axis: int, start: int, count: int) -> Node:
    return p.slice_(
        x,
        start=tuple(start if k == axis else 0 for k in range(x.ndim)),
        step=(1,) * x.ndim,
        size=tuple(count if k == axis else n for k, n in enumerate(x.shape)),
    )


def _removed(shape: tuple[int, ...], axis: int) -> tuple[int, ...]:
    return (*shape[:axis], *shape[axis + 1 :])


def _renamed(letters: tuple[int, ...], old: int, new: int) -> tuple[int, ...]:
    return tuple(new if one == old else one for one in letters)


def _aligned(letters: Letters, arg: Node) -> Letters:
    """The letters of an operand that broadcasts."""
    tail = letters[len(letters) - arg.ndim :]
    return tuple(None if n == 1 else one for one, n in zip(tail, arg.shape, strict=True))


def _wide(shape: tuple[int, ...]) -> list[int]:
    return [n for n in shape if n != 1]


def _work(graph: Graph, direction: Node) -> float:
    """What a product takes, in additions: arithmetic on tangents, and loads for matrix products."""
    active = dependent(graph.nodes, [direction])
    total = 0.0
    for node in graph.nodes:
        if node not in active:
            continue
        if node.primitive is p.contract:
            left, right = node.params["subscripts"].split("->")[0].split(",")
            extent = dict(
                zip(left + right, (*node.args[0].shape, *node.args[1].shape), strict=True)
            )
            total += 2.0 * math.prod(extent.values())
        elif node.primitive is p.sum_:
            total += node.args[0].size
        elif node.primitive.is_elementwise:
            total += node.primitive.cost * node.size
    return total
