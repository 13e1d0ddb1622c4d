"""What a gradient and a step cost on an accelerator, against the limits of the card that the same run measures.

    python benchmarks/device.py [p H order]

Operations: multiply-adds of the matrix products of one gradient, twice, as floating-point operations. Bytes: the weights and
slopes that a step reads and writes at least. Limits: a large product of matrices and a large copy, timed in the same run. Without
a GPU it says so and measures nothing.
"""

# pyright: reportMissingImports=false, reportMissingModuleSource=false
from __future__ import annotations

import importlib.util
import sys
import time
from collections.abc import Callable
from typing import Any

import numpy as np

import lossflow as lf
from lossflow.simulate.device import DeviceStages, devices, double_precision
from lossflow.simulate.gradients import Program
from lossflow.simulate.stages import SLOTS

ROUNDS = 5


def seconds(work: Callable[[], Any]) -> float:
    """The shortest of a few times, the first (compilation) apart."""
    import jax

    jax.block_until_ready(work())
    times = []
    for _ in range(ROUNDS):
        begun = time.perf_counter()
        jax.block_until_ready(work())
        times.append(time.perf_counter() - begun)
    return min(times)


def limits() -> tuple[float, float]:
    """Operations and bytes per second: a product of 8192 x 8192 matrices, a copy of 2 GiB."""
    import jax
    import jax.numpy as jnp

    a = jnp.ones((8192, 8192))
    product = jax.jit(lambda x: jnp.matmul(x, x, precision="highest"))
    b = jnp.ones(2**27)
    copy = jax.jit(lambda x: x + 1.0)
    return 2 * 8192.0**3 / seconds(lambda: product(a)), 2 * 2.0**30 / seconds(lambda: copy(b))


def main(p: int = 256, H: int = 65536, order: int = 4) -> None:
    if importlib.util.find_spec("jax") is None:
        print("skipped: JAX is not installed (the extra `gpu`)")
        return
    found = devices()
    print(f"device: {found}")
    if "gpu" not in found and "cuda" not in found:
        print("skipped: no GPU is at hand")
        return
    problem = lf.CPDecomposition(order=order)
    sizes = {"p": p, "H": H, "sigma2": 1.0 / p**2}
    program = Program(problem.as_diagrams(), sizes)
    states = np.stack([problem.as_sample(sizes, 0, 0)["u"].ravel()])
    with double_precision():
        flops, bandwidth = limits()
        stages = DeviceStages(program, states, np.zeros((1, 0)))
        stages.begin()
        gradient = seconds(lambda: stages._gradient(stages._slopes[:, 1], stages._frozen))
        step = seconds(lambda: stages.attempt(np.full(1, -1e-9)) and stages._slopes)
    operations = 2 * program.work
    moved = 8.0 * program.weights * (SLOTS * 12 / 2 + 2 * 12)  # each stage reads the slopes so far and writes one
    print(f"limits measured here: {flops / 1e12:.1f} TFLOP/s, {bandwidth / 1e12:.2f} TB/s")
    print(f"gradient, p = {p}, H = {H}, order {order}: {gradient * 1e3:.2f} ms, {operations:.2e} operations, "
          f"{operations / gradient / flops:.0%} of the product's speed")  # fmt: skip
    print(f"step: {step * 1e3:.2f} ms; 12 gradients would take {12 * gradient * 1e3:.2f} ms, the bytes of the slopes "
          f"{moved / bandwidth * 1e3:.2f} ms")  # fmt: skip


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
