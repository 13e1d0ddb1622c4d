"""The figures of the sampled mean field at small sizes: their claims hold, and a theory that is off is noticed."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import numpy as np
import pytest

from lossflow.figures import committee, kernels, logistic_sgf, sgf_vs_poisson
from lossflow.figures.figure import Figure, as_json
from lossflow.meanfield import row

SMALL: Mapping[str, tuple[Figure, Mapping[str, Any]]] = {
    "logistic-sgf": (
        logistic_sgf.FIGURE,
        {"temperatures": (1.0,), "step": 0.5, "steps": 8, "dimension": 300, "runs": 10, "paths": 512},
    ),
    "sgf-vs-poisson": (
        sgf_vs_poisson.FIGURE,
        {"delta": 4.0, "temperature": 6.0, "step": 0.25, "steps": 40, "dimension": 200, "runs": 8, "paths": 2048},
    ),
    "committee": (
        committee.FIGURE,
        {"hidden": (2,), "step": 1.0, "steps": 16, "dimension": 300, "runs": 10, "paths": 512},
    ),
    "kernels": (kernels.FIGURE, {"temperature": 1.0, "step": 0.25, "steps": 20, "paths": 1024}),
}


@pytest.mark.parametrize("name", SMALL)
def test_claims_hold(name: str) -> None:
    figure, parameters = SMALL[name]
    assert figure.name == name
    assert set(parameters) == set(figure.quick) == set(figure.full)
    outcome = figure.draw(**parameters)
    assert outcome.agree, [verdict.sentence for verdict in outcome.verdicts]
    assert json.loads(as_json(figure, "quick", outcome))["agree"]


@pytest.mark.slow
def test_a_theory_without_self_response_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    """Preactivations that do not feel what their own sample did to the weights."""
    right = row.RowPass._preactivations

    def wrong(self: row.RowPass, k: int) -> tuple[np.ndarray, np.ndarray]:
        r, innovations = right(self, k)
        if k:
            r = r + self.parameters.response.row(k, k) @ self.pushes[: k * len(r)]
        return r, innovations

    monkeypatch.setattr(row.RowPass, "_preactivations", wrong)
    figure, parameters = SMALL["logistic-sgf"]
    assert not figure.draw(**parameters).agree
