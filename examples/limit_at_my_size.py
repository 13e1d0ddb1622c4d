"""How far is the large-size limit from gradient flow at the size of my problem?

Solves one problem in the limit and by simulation, prints the verdict, and draws both: limit_at_my_size.png.
"""

import numpy as np

import lossflow as lf
from lossflow.plot import draw_comparison

problem = lf.CPDecomposition(order=2)
sizes = {"p": 64, "H": 32, "sigma2": 1 / 256}
times = np.linspace(0, 1.5, 16)

limit = lf.solve(problem, lf.Limit(sizes), times)
experiment = lf.solve(problem, lf.Simulation(sizes, runs=64), times)
comparison = lf.compare(limit, experiment)
print(comparison.verdict)

draw_comparison(limit, experiment, per="p").savefig("limit_at_my_size.png", dpi=150)
