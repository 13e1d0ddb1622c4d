"""Arrays of long integers: digits in base 2^32, the lowest first, modulo 2^(32 digits); the highest bit is the sign."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt


def digits_of(values: Sequence[int], digits: int) -> npt.NDArray[np.uint32]:
    """Signed numbers as digits in base 2^32."""
    modulus = 1 << 32 * digits
    raw = b"".join((value % modulus).to_bytes(4 * digits, "little") for value in values)
    return np.frombuffer(raw, "<u4").reshape(len(values), digits).astype(np.uint32)


def integers_of(words: npt.NDArray[np.uint32]) -> list[int]:
    """The inverse of `digits_of`."""
    size = 4 * words.shape[1]
    raw = np.ascontiguousarray(words.astype("<u4")).tobytes()
    return [int.from_bytes(raw[k : k + size], "little", signed=True) for k in range(0, len(raw), size)] if size else []


def floats_of(words: npt.NDArray[np.uint32]) -> npt.NDArray[np.float64]:
    """Signed numbers, rounded."""
    if not words.size:
        return np.zeros(len(words))
    value = words[:, -1].astype(np.int32).astype(np.float64)
    for digit in range(words.shape[1] - 2, -1, -1):
        value = value * 2.0**32 + words[:, digit]
    return value


def extended(words: npt.NDArray[np.uint32], digits: int, *, signed: bool = True) -> npt.NDArray[np.uint32]:
    """The same numbers with more digits."""
    if words.shape[1] >= digits:
        return words[:, :digits]
    fill = np.where(words[:, -1:] >> 31, 0xFFFFFFFF, 0).astype(np.uint32) if signed else np.uint32(0)
    wide = np.empty((len(words), digits), np.uint32)
    wide[:, : words.shape[1]] = words
    wide[:, words.shape[1] :] = fill
    return wide


def shortened(words: npt.NDArray[np.uint32]) -> npt.NDArray[np.uint32]:
    """Without digits that only repeat the sign."""
    while words.shape[1] > 1:
        sign = np.where(words[:, -2] >> 31, 0xFFFFFFFF, 0)
        if (words[:, -1] != sign).any():
            return words
        words = words[:, :-1]
    return np.ascontiguousarray(words)
