"""Closed forms of a committee of erf units against points."""

from __future__ import annotations

import math

import numpy as np

from lossflow.meanfield import committee
from lossflow.meanfield.online import _Points
from lossflow.problems.row import RowProcess
from lossflow.problems.two_layer import CommitteeModel, Erf


def test_four_averages_against_points() -> None:
    """One deviation of each of the 16 entries, from eight scramblings."""
    A = np.random.default_rng(1).standard_normal((4, 4))
    S = A @ A.T / 3
    C, m, Q = S[:2, :2], S[:2, 2:], S[2:, 2:]
    model = CommitteeModel(Erf(), (0.5, 0.8), (0.7, -0.4), 0.1)
    exact = committee.forces(C, m, Q, model.readout, model.teacher_readout, 0.1)
    process = RowProcess(model, 3.0, 0.0, None, C, m, Q)
    runs = [_Points(process, run, 2**13).forces(C, m) for run in range(8)]
    for k, expected in enumerate(exact):
        several = np.array([run[k] for run in runs])
        deviation = several.std(axis=0, ddof=1) / math.sqrt(8)
        assert (np.abs(several.mean(axis=0) - expected) < 5 * deviation + 1e-9).all()
        assert deviation.max() < 2e-4


def test_a_student_that_knows_everything_feels_noise_alone() -> None:
    C = np.array([[1.0, 0.2], [0.2, 1.0]])
    readout = np.array([0.6, 0.8])
    signal, drag, scatter, curvature = committee.forces(C, C, C, readout, readout, 0.3)
    assert np.abs(signal).max() < 1e-14
    assert np.abs(drag).max() < 1e-14
    assert np.abs(scatter - 0.3 * curvature).max() < 1e-14


def test_one_linearized_unit() -> None:
    """Small weights: phi(x) = sqrt(2/pi) x, so ell = (2/pi)(w - w*) for unit readouts."""
    e = 1e-4
    C, m, Q = (np.array([[value * e**2]]) for value in (1.0, 0.3, 2.0))
    one = np.ones(1)
    signal, drag, scatter, curvature = committee.forces(C, m, Q, one, one, 0.0)
    slope = 2 / math.pi
    assert np.allclose([signal, drag], [slope * (m - Q), slope * (C - m)], rtol=1e-6)
    assert np.allclose(scatter, slope**2 * (C - 2 * m + Q), rtol=1e-6)
    assert np.allclose(curvature, slope, rtol=1e-6)
