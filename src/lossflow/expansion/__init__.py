"""From a loss to its power series in time, its large-size limits, and its sum."""
