"""The abstract problem: what is learned, and the four languages in which an instance may be told to an engine.

Whether a language is spoken depends on the instance (a linear model has diagrams only with square loss), so there is one
base class and no hierarchy of languages.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from lossflow.description import Description
from lossflow.errors import NotSpoken

# language -> the methods that understand it; tests/contracts checks this table against the methods themselves
UNDERSTOOD_BY: dict[str, tuple[str, ...]] = {
    "diagrams": ("Series", "Limit"),
    "process": ("MeanField", "Online"),
    "spectrum": (),
    "sample": ("Simulation",),
}


class AbstractProblem(Description):
    """A learning problem with all its intensive parameters; sizes that go to infinity belong to the method.

    Four translations: `as_diagrams`, `as_process`, `as_spectrum`, `as_sample`. Each returns what its engine needs, or
    raises `NotSpoken` with the reason and the methods that do apply. `languages` lists those that hold for this instance.
    """

    @property
    def languages(self) -> tuple[str, ...]:
        """The languages this instance speaks, a subset of "diagrams", "process", "spectrum", "sample"."""
        return ()

    def as_diagrams(self) -> Any:
        """The loss as a `DiagramPolynomial`."""
        raise self.silence("diagrams")

    def as_potential(self) -> Any:
        """What the weights descend,  du/dt = -d(potential)/du,  as a `DiagramPolynomial`.

        The loss itself, unless a problem says otherwise: models of data move by -d * d(loss + penalty)/du
        with d the input dimension.
        """
        return self.as_diagrams()

    def diagram_observables(self) -> Mapping[str, Any]:
        """The observables that have diagrams, by name: "loss", which is `as_diagrams()`, and what else a problem offers."""
        return {"loss": self.as_diagrams()}

    def diagram_sizes(self, sizes: Mapping[str, float]) -> Mapping[str, float]:
        """The sizes of the diagrams, from the sizes that a method is given: the same, unless a problem derives some of them.

        Models of data take {"d": ...} alone and add n = delta d and the like. Raises `InvalidInput` where these are not whole.
        """
        return sizes

    def random_sizes(self) -> Mapping[str, Any]:
        """Sizes of the diagrams that are random: {"d0": 9/10, "d1": 1/10} are the numbers of the d coordinates that fall into
        classes of these probabilities, independently. A series is averaged over them exactly; there are none, unless a problem
        says so.
        """
        return {}

    def as_process(self) -> Any:
        """The single-site stochastic process of the large-size limit."""
        raise self.silence("process")

    def as_spectrum(self) -> Any:
        """The spectral problem of the end state."""
        raise self.silence("spectrum")

    def as_sample(self, sizes: Mapping[str, float], run: int, seed: int) -> Any:
        """One draw of everything random at finite sizes: run `run` depends on (seed, run) alone."""
        raise self.silence("sample")

    def silence(self, language: str, reason: str = "") -> NotSpoken:
        """The error that says why this instance does not speak `language` and which methods apply instead."""
        needing = " and ".join(UNDERSTOOD_BY[language]) or "no method so far"
        return NotSpoken(
            f"{self!r} has no {language}{f' ({reason})' if reason else ''}, needed by {needing}. "
            f"It offers: {', '.join(self.languages) or 'nothing'}. Methods that apply: {self.answered_by()}."
        )

    def answered_by(self, *but: str) -> str:
        """The methods that understand a language of this instance, `but` some, as words for a message."""
        applying = {method for language in self.languages for method in UNDERSTOOD_BY[language]}
        return ", ".join(sorted(applying.difference(but))) or "none"
