"""What every engine of the mean field hands to the method: values, errors, how it ended, and what else it knows."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, NamedTuple

from lossflow.trajectory import Status

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    Array = npt.NDArray[np.float64]


class Answer(NamedTuple):
    """values, uncertainty: by observable, shape (times, ...), one standard error of each; status; details: see `MeanField`."""

    values: Mapping[str, Array]
    uncertainty: Mapping[str, Array]
    status: Status
    details: Mapping[str, Any]
