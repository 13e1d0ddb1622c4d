"""Experiments: gradient flow at finite sizes, with seeds and error bars, for any loss that is a sum of diagrams.

    du/dt = -dL/du  for every learned tensor u,   L exactly the written sum of diagrams

From the loss to its curve: `contraction` orders the sums over the nodes of a diagram; `expressions` are the arrays that
result, and their derivatives; `evaluation` carries them out for many runs at once; `gradients` puts the three together.
`flow` integrates, with the tableau of `dormand_prince`; `ensemble` has many runs on all cores, with a checkpoint; `memory` says
beforehand whether they fit; `method` is the door. docs/theory/diagrams.md sections 1, 5 and 14 [YGG26v2].
"""
