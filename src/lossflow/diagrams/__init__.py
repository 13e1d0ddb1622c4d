"""Exact algebra of polynomial losses: no floating point, no time.

    loss = sum_j c_j * (powers of sizes) * (diagram j),     diagram = sum over node values of a product of tensor entries

A loss is written with `Tensor`, `diagram` and `size`, differentiated along its own gradient by `merge`, averaged over
random tensors by `mean`; `derivatives` does both for all orders. docs/theory/diagrams.md sections 2-5 [YGG26v2].
"""
