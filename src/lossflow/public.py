"""The one table of public names: name -> the module it lives in. Nothing is imported until a name is used.

A name is listed when its engine works, not before. `lossflow list` prints this table by kind.
"""

from __future__ import annotations

HOMES: dict[str, str] = {
    # problems and what they are made of
    "CPDecomposition": "lossflow.problems.cp",
    "PolynomialProblem": "lossflow.problems.polynomial",
    "Zero": "lossflow.problems.targets",
    "Identity": "lossflow.problems.targets",
    "Tensor": "lossflow.diagrams.tensor",
    "Factor": "lossflow.diagrams.tensor",
    "Pinned": "lossflow.diagrams.tensor",
    "pin": "lossflow.diagrams.tensor",
    "DiagramPolynomial": "lossflow.diagrams.polynomial",
    "diagram": "lossflow.diagrams.polynomial",
    "size": "lossflow.diagrams.polynomial",
    # methods and dynamics
    "Series": "lossflow.expansion.method",
    "Limit": "lossflow.expansion.method",
    "Taylor": "lossflow.expansion.resummation",
    "Simulation": "lossflow.simulate.method",
    "GradientFlow": "lossflow.dynamics",
    # verbs
    "solve": "lossflow.method",
    "expand": "lossflow.expansion.series",
    "compare": "lossflow.comparison",
    "save": "lossflow.storage",
    "load": "lossflow.storage",
    # what they return
    "Trajectory": "lossflow.trajectory",
    "EndState": "lossflow.trajectory",
    "Status": "lossflow.trajectory",
    "LossSeries": "lossflow.expansion.series",
    "Comparison": "lossflow.comparison",
    # what users extend
    "Description": "lossflow.description",
    "SizeMap": "lossflow.description",
    "AbstractProblem": "lossflow.problem",
    "AbstractTarget": "lossflow.problems.targets",
    "AbstractMethod": "lossflow.method",
    "AbstractDynamics": "lossflow.dynamics",
    "Resummation": "lossflow.expansion.resummation",
    # errors
    "LossflowError": "lossflow.errors",
    "InvalidInput": "lossflow.errors",
    "UnknownField": "lossflow.errors",
    "UnknownName": "lossflow.errors",
    "NotSpoken": "lossflow.errors",
    "StorageError": "lossflow.errors",
    "CorruptedFile": "lossflow.errors",
}
