"""Tensors with typed axes, and the factors u(k, i) that diagrams are products of."""

from __future__ import annotations

from lossflow.description import Description, Number, dataclass
from lossflow.errors import InvalidInput


@dataclass(frozen=True, repr=False)
class Pinned(Description):
    """A node with one fixed value, 1 <= value <= size of its axis; summed over nothing. `pin(1)` makes it."""

    value: int

    def check(self) -> None:
        if self.value < 1:
            raise InvalidInput(f"a pinned node has a value >= 1, got {self.value}")

    def __repr__(self) -> str:
        return f"pin({self.value})"


def pin(value: int) -> Pinned:
    """A node that is fixed to one value, counted from 1: `u("k", pin(1))` is u_{k,1}."""
    return Pinned(value)


@dataclass(frozen=True, repr=False)
class Tensor(Description):
    """A random tensor u with independent entries  u_{k,i,...} ~ N(mean, variance)  at time 0.

    name: how pictures and messages call it; one name is one tensor within a polynomial.
    axes: the size of each slot by name, ("H", "p") for an H x p matrix; an axis may occur twice.
    variance, mean: a rational number or the name of a parameter; a variance is >= 0.
    learned: gradient flow moves it; a frozen tensor (data, a teacher) is averaged over but never differentiated.

    Calling it with one node per axis gives a factor: `u("k", "i")`. Raises `InvalidInput`.
    docs/theory/diagrams.md section 5 [YGG26v2].
    """

    name: str
    axes: tuple[str, ...]
    variance: str | Number = "sigma2"
    mean: str | Number = 0
    learned: bool = True

    def check(self) -> None:
        _require_name(self.name, "the name of a tensor")
        for axis in self.axes:
            _require_name(axis, f"an axis of tensor {self.name!r}")
        for law, value in (("variance", self.variance), ("mean", self.mean)):
            if isinstance(value, str):
                _require_name(value, f"the {law} of tensor {self.name!r}")
                if value in self.axes:
                    raise InvalidInput(
                        f"tensor {self.name!r} uses {value!r} both as an axis and as its {law}; rename one"
                    )
        if not isinstance(self.variance, str) and self.variance < 0:
            raise InvalidInput(f"the variance of tensor {self.name!r} must be >= 0, got {self.variance}")

    def __call__(self, *nodes: str | Pinned) -> Factor:
        return Factor(self, nodes)


@dataclass(frozen=True, repr=False)
class Factor(Description):
    """One entry u_{k,i} of a tensor inside a diagram. `u("k", "i")` makes it.

    nodes: one for each axis of the tensor, by name (summed over) or pinned. Raises `InvalidInput` for a wrong number of them.
    """

    tensor: Tensor
    nodes: tuple[str | Pinned, ...]

    def check(self) -> None:
        tensor = self.tensor
        if len(self.nodes) != len(tensor.axes):
            raise InvalidInput(
                f"tensor {tensor.name!r} has {len(tensor.axes)} axes ({', '.join(tensor.axes)}), got {len(self.nodes)} nodes"
            )
        for node in self.nodes:
            if node == "":
                raise InvalidInput(f"a node of tensor {tensor.name!r} needs a nonempty name")

    def __repr__(self) -> str:
        return f"{self.tensor!r}({', '.join(map(repr, self.nodes))})"


def _require_name(value: str, what: str) -> None:
    if not value.isidentifier():
        raise InvalidInput(f"{what} must be a word such as 'sigma2' (letters, digits, underscores), got {value!r}")
