"""Independent pieces of work, such as runs: on idle cores, with progress, each saved as soon as it is done.

A piece depends on its number alone, so neither threads nor interruptions change a bit of the result.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from threading import Event

import numpy as np
import numpy.typing as npt

from lossflow.checkpoint import Checkpoint
from lossflow.cores import idle_cores
from lossflow.progress import progress

Array = npt.NDArray[np.float64]
Record = dict[str, Array]
Tick = Callable[[float], None]
Work = Callable[[int, Tick], Record]

PATIENCE = 0.2  # seconds between looks at the clock, the checkpoint and the progress bar


class Interrupted(Exception):
    """A piece of work was told to stop."""


def repeat(
    pieces: Sequence[int],
    work: Work,
    checkpoint: Checkpoint,
    label: str,
    at_most: int,
    known: Mapping[int, Record] | None = None,
) -> dict[int, Record]:
    """work(piece, tick) for every piece, in up to `at_most` threads. `tick` takes the share of the piece that was just done.

    known: pieces that were done before. An interrupted call saves the pieces that are done; the same call goes on from there. The
    caller discards the checkpoint.
    """
    from threadpoolctl import threadpool_limits

    done = dict(_load(checkpoint) if known is None else known)
    waiting = [piece for piece in pieces if piece not in done]
    stop = Event()
    shares = [0.0] * len(waiting)

    def carry_out(place: int) -> Record:
        def tick(share: float) -> None:
            if stop.is_set():
                raise Interrupted
            shares[place] += share

        tick(0.0)
        record = work(waiting[place], tick)
        shares[place] = 1.0
        return record

    threads = max(1, min(len(waiting), idle_cores(), at_most))
    with (
        threadpool_limits(1, "blas"),  # a product divided among threads would be rounded differently
        ThreadPoolExecutor(threads) as pool,
        progress(float(len(pieces)), label) as bar,
    ):
        shown = 0.0
        busy: dict[Future[Record], int] = {}
        left = list(range(len(waiting)))
        try:
            while left or busy:
                while left and len(busy) < threads:
                    place = left.pop(0)
                    busy[pool.submit(carry_out, place)] = waiting[place]
                for future in wait(busy, PATIENCE, FIRST_COMPLETED).done:
                    done[busy[future]] = future.result()
                    del busy[future]
                now = len(pieces) - len(waiting) + sum(shares)
                bar.update(now - shown)
                shown = now
                if checkpoint.due() and done:
                    _save(checkpoint, done)
        except (KeyboardInterrupt, SystemExit):
            stop.set()
            _save(checkpoint, done)
            raise
        finally:
            stop.set()  # whatever happened, no thread goes on
    return {piece: done[piece] for piece in pieces}


def _save(checkpoint: Checkpoint, done: dict[int, Record]) -> None:
    checkpoint.save({f"{piece} {name}": array for piece, record in done.items() for name, array in record.items()})


def _load(checkpoint: Checkpoint) -> dict[int, Record]:
    done: dict[int, Record] = {}
    for key, array in (checkpoint.load() or {}).items():
        piece, name = key.split(" ", 1)
        done.setdefault(int(piece), {})[name] = array.astype(np.float64)
    return done


def sampled_error(runs: Array, tolerance: float) -> Array:
    """One standard error of the mean over runs (R, ...) and the error `tolerance` of their integration, in quadrature.

    inf for a single run, whose scatter is unknown; NaN where the mean is.
    """
    mean = np.mean(runs, axis=0)
    if len(runs) == 1:
        return np.where(np.isnan(mean), np.nan, np.inf)
    return np.sqrt(np.var(runs, axis=0, ddof=1) / len(runs) + (tolerance * np.abs(mean)) ** 2)
