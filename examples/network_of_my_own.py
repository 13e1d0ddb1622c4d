"""What does the loss of a network of my own do at short times, at every size at once?

A quadratic network f(x) = sum_k a_k (w_k . x)^2 with zero labels on N Gaussian samples: its loss as diagrams, the exact
derivatives of the mean loss as polynomials in p, H, N and the variances, their value at sizes of interest, and the loss that
follows from them, next to an experiment on the same problem.
"""

from fractions import Fraction

import numpy as np

import lossflow as lf

w = lf.Tensor("w", ("H", "p"))
a = lf.Tensor("a", ("H",), variance="a2")
x = lf.Tensor("x", ("p", "N"), variance=1, learned=False)


def output(unit: str, i: str, j: str) -> list[lf.Factor]:
    """a_k (w_k . x_n)^2 for hidden unit `unit` on sample n, with the sums over inputs i and j."""
    return [a(unit), w(unit, i), x(i, "n"), w(unit, j), x(j, "n")]


loss = Fraction(1, 2) * lf.size("N", -1) * lf.diagram(*output("k", "i", "j"), *output("l", "q", "r"))
network = lf.PolynomialProblem(loss)

series = lf.expand(network, order=2)
print("variables:", ", ".join(series.variables))
print("terms of Y_0, Y_1, Y_2:", ", ".join(str(len(y)) for y in series.coefficients))
print("at p = 3, H = 2, N = 50:", ", ".join(map(str, series.at(p=3, H=2, N=50, sigma2=Fraction(1, 4), a2=1))))

sizes = {"p": 3, "H": 2, "N": 50, "sigma2": 0.25, "a2": 1}
times = np.linspace(0, 2e-4, 5)
theory = lf.solve(network, lf.Series(sizes, order=3), times)
experiment = lf.solve(network, lf.Simulation(sizes, runs=4096), times)
print(lf.compare(theory, experiment).verdict)
