"""What the tests of the mean-field theory share: the numbers of other people."""

from __future__ import annotations

import json
from pathlib import Path

import pytest


@pytest.fixture(scope="session")
def references() -> dict:
    """tests/reference/mean_field.json; docs/theory/mean_field.md section 9 says how they were found."""
    return json.loads((Path(__file__).parents[1] / "reference" / "mean_field.json").read_text(encoding="utf-8"))
