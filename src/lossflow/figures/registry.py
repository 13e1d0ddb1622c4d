"""The one table of figures: name -> the module that makes it. A figure is imported when it is asked for."""

from __future__ import annotations

import importlib

from lossflow.errors import UnknownName, nearest
from lossflow.figures.figure import Figure

MODULES: dict[str, str] = {
    "diagrams": "lossflow.figures.diagrams",
    "matrix": "lossflow.figures.matrix",
    "matrix-scenarios": "lossflow.figures.matrix_scenarios",
    "free-asym3": "lossflow.figures.free_asym3",
    "free-sym4": "lossflow.figures.free_sym4",
    "ntk-asym3": "lossflow.figures.ntk_asym3",
    "quartic-ascent": "lossflow.figures.quartic_ascent",
    "quartic-descent": "lossflow.figures.quartic_descent",
    "odd-order-fronts": "lossflow.figures.odd_order_fronts",
    "pareto-polygons": "lossflow.figures.pareto_polygons",
    "three-roads": "lossflow.figures.three_roads",
    "series-vs-simulation": "lossflow.figures.series_vs_simulation",
    "modular-addition": "lossflow.figures.modular_addition",
    "real-data": "lossflow.figures.real_data",
    "logistic-sgf": "lossflow.figures.logistic_sgf",
    "sgf-vs-poisson": "lossflow.figures.sgf_vs_poisson",
    "committee": "lossflow.figures.committee",
    "kernels": "lossflow.figures.kernels",
    "linear-volterra": "lossflow.figures.linear_volterra",
    "online-limit": "lossflow.figures.online_limit",
    "stationary-glm": "lossflow.figures.stationary_glm",
    "diagonal-curves": "lossflow.figures.diagonal_curves",
    "diagonal-grokking": "lossflow.figures.diagonal_grokking",
    "diagonal-search": "lossflow.figures.diagonal_search",
    "diagonal-laws": "lossflow.figures.diagonal_laws",
    "diagonal-universality": "lossflow.figures.diagonal_universality",
    "diagonal-init": "lossflow.figures.diagonal_init",
    "diagonal-double-descent": "lossflow.figures.diagonal_double_descent",
    "diagonal-tradeoff": "lossflow.figures.diagonal_tradeoff",
    "diagonal-phase": "lossflow.figures.diagonal_phase",
    "quadratic-learning-curves": "lossflow.figures.quadratic_learning_curves",
    "quadratic-rank": "lossflow.figures.quadratic_rank",
    "quadratic-double-descent": "lossflow.figures.quadratic_double_descent",
    "quadratic-thresholds": "lossflow.figures.quadratic_thresholds",
    "quadratic-recovery": "lossflow.figures.quadratic_recovery",
    "quadratic-oja": "lossflow.figures.quadratic_oja",
    "quadratic-dynamics": "lossflow.figures.quadratic_dynamics",
    "quadratic-universality": "lossflow.figures.quadratic_universality",
    "quadratic-bayes": "lossflow.figures.quadratic_bayes",
    "quadratic-branches": "lossflow.figures.quadratic_branches",
    "cross-checks": "lossflow.figures.cross_checks",
}


def find(name: str) -> Figure:
    """The figure called `name`. Raises `UnknownName` with the nearest name."""
    if name not in MODULES:
        raise UnknownName(f"no figure is called {name!r}; {nearest(name, MODULES)}")
    return importlib.import_module(MODULES[name]).FIGURE
