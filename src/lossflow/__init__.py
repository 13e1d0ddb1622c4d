"""lossflow: how the loss of a large model falls under gradient flow.

A *problem* is described once, a *method* answers it with a *trajectory*, trajectories are compared:

    import numpy as np, lossflow as lf
    problem = lf.CPDecomposition(order=2)
    sizes = {"p": 64, "H": 32, "sigma2": 1 / 64}
    times = np.linspace(0, 1, 20)
    theory = lf.solve(problem, lf.Limit(sizes), times)
    experiment = lf.solve(problem, lf.Simulation(sizes, runs=8), times)
    print(lf.compare(theory, experiment).verdict)

Names are imported when they are used; `lossflow list` prints them.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from lossflow.errors import nearest
from lossflow.public import HOMES

if TYPE_CHECKING:
    from lossflow.comparison import Comparison, compare
    from lossflow.description import Description, SizeMap
    from lossflow.diagnosis import diagnose
    from lossflow.diagrams.polynomial import DiagramPolynomial, diagram, size
    from lossflow.diagrams.tensor import Factor, Pinned, Tensor, pin
    from lossflow.dynamics import (
        SGD,
        AbstractDynamics,
        GradientDescent,
        GradientFlow,
        PoissonSGD,
        StochasticGradientFlow,
    )
    from lossflow.end_states import learning_curve, stationary
    from lossflow.errors import (
        CorruptedFile,
        InvalidInput,
        LossflowError,
        NotSpoken,
        StorageError,
        UnknownField,
        UnknownName,
    )
    from lossflow.expansion.borel import BorelPade, ConformalBorel
    from lossflow.expansion.method import Limit, Series
    from lossflow.expansion.pade import Pade
    from lossflow.expansion.recurrence import Recurrence
    from lossflow.expansion.regimes import Placement, Regime, classify, regimes
    from lossflow.expansion.resummation import Resummation, Resummed, Taylor, resum
    from lossflow.expansion.series import LossSeries, expand
    from lossflow.expansion.solutions.one_weight import quartic_threshold
    from lossflow.meanfield.method import MeanField
    from lossflow.meanfield.online import Online
    from lossflow.method import AbstractMethod, solve
    from lossflow.problem import AbstractProblem
    from lossflow.problems.cp import CPDecomposition
    from lossflow.problems.diagonal import AbstractInit, DiagonalLinear, GeneralInit, NonNegativeInit, SymmetricInit
    from lossflow.problems.glm import GeneralizedLinear
    from lossflow.problems.labels import (
        AbstractLabels,
        CubicNoiseLabels,
        LinearLabels,
        LogitLabels,
        NoiseLabels,
        SignLabels,
        SquaredLabels,
    )
    from lossflow.problems.losses import AbstractLoss, Huber, Logistic, PhaseRetrieval, SmoothHinge, Square
    from lossflow.problems.penalties import L1
    from lossflow.problems.polynomial import PolynomialProblem
    from lossflow.problems.priors import (
        AbstractPrior,
        AtomicPrior,
        BernoulliGaussian,
        GaussianPrior,
        PositiveSparse,
        RademacherSparse,
    )
    from lossflow.problems.quadratic import QuadraticNetwork, Spectrum
    from lossflow.problems.row import AbstractPenalty
    from lossflow.problems.softmax import Softmax
    from lossflow.problems.targets import (
        AbstractTarget,
        Constant,
        Identity,
        ModularAddition,
        RandomTeacher,
        Spiked,
        Zero,
    )
    from lossflow.problems.two_layer import AbstractActivation, Erf, TwoLayer
    from lossflow.questions import AbstractQuestion, Solve, Stationary
    from lossflow.simulate.design import Design
    from lossflow.simulate.method import Simulation
    from lossflow.spectral.bayes import bayes_optimal
    from lossflow.spectral.nuclear_norm import nuclear_norm
    from lossflow.spectral.thresholds import Thresholds, thresholds
    from lossflow.storage import load, save
    from lossflow.sweeps import sweep
    from lossflow.trajectory import EndState, Status, TimeScale, Trajectory

__version__ = "0.1.0"
__all__ = [  # pyright: ignore[reportUnsupportedDunderAll]  (the table is the list)
    "__version__",
    *HOMES,
]


def __getattr__(name: str) -> Any:
    if name not in HOMES:
        raise AttributeError(f"lossflow has no {name!r}; {nearest(name, HOMES)}")
    value = getattr(importlib.import_module(HOMES[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *HOMES})
