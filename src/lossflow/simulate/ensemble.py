"""Many runs of one flow: batches on all cores, progress, and a checkpoint from which an interrupted ensemble goes on.

Run r starts from what the problem draws for (seed, r), and its steps depend on nothing else. So neither the number of runs,
nor how they are grouped, nor interruptions change a bit of it. Every core has its own batch and its own buffers; the linear
algebra library is kept to one thread, since a product divided among threads would be rounded differently.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from threading import Event
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from lossflow.checkpoint import Checkpoint
from lossflow.cores import cores, idle_cores
from lossflow.errors import InvalidInput
from lossflow.memory import SHARE, available_memory, require_memory
from lossflow.progress import progress
from lossflow.simulate.flow import COMPLETE, RUNNING, Flow, Legs, at_start
from lossflow.simulate.gradients import Program
from lossflow.simulate.stages import SLOTS, AbstractStages, HostStages

Array = npt.NDArray[np.float64]
Integers = npt.NDArray[np.int64]
Sample = Callable[[int], Mapping[str, Array]]

# multiply-adds per gradient of a batch below which threads mostly wait for the interpreter, and below which they do so if
# other processes take it from them: twice the time was measured for two threads on two busy cores
WORTH_A_THREAD, UNDISTURBED = 4e6, 2e7
LARGEST_STEP = 5e7  # multiply-adds per gradient beyond which larger batches save nothing and only answer later
PATIENCE = 0.2  # seconds between looks at the clock, the checkpoint and the progress bar

_SAVED = ("elapsed", "step", "right_step", "reached", "loss", "scale", "accepted", "rejected", "outcome", "end")


class Ensemble(NamedTuple):
    """What became of every run. R runs, T times.

    loss, scale: the loss and the sum of its absolute terms, shape (R, T), NaN where a run did not get.
    outcome, end, steps: of the two directions of time, backward and forward, shape (R, 2): a constant of `flow`, the time
    where a run that is not complete ended (NaN for the others), and how many steps it took.
    """

    loss: Array
    scale: Array
    outcome: Integers
    end: Array
    steps: Integers


def run_ensemble(
    program: Program,
    sample: Sample,
    runs: int,
    times: Array,
    tolerance: float,
    checkpoint: Checkpoint,
    accelerated: bool = False,
) -> Ensemble:
    """The loss of runs 0, ..., runs - 1 at `times`, strictly monotone and of any sign.

    sample: from the number of a run to its tensors at time 0. checkpoint: where an interrupted computation is saved; the same
    call goes on from there and gives the same bits. accelerated: whether JAX does the arithmetic, on whatever device it has.
    Raises `InvalidInput` when one run does not fit into memory.
    """
    require_memory(80.0 * runs * len(times), f"the record of {runs} runs at {len(times)} times")
    directions = _directions(times)
    targets = np.full((2, len(times)), np.inf)
    for direction in directions:
        chosen = np.sort(np.abs(times[_belongs(times, direction)]))
        targets[direction, : len(chosen)] = chosen
    rows = np.array([(run, direction) for run in range(runs) for direction in directions], np.int64)
    legs = at_start(2 * rows[:, 1] - 1, targets[rows[:, 1]], np.zeros((len(rows), 0)), np.zeros((len(rows), 0)))
    legs = _Crew(program, sample, rows[:, 0], legs, tolerance, checkpoint, accelerated).run()

    unknown = np.full((runs, len(times)), np.nan)
    ensemble = Ensemble(
        loss=unknown,
        scale=unknown.copy(),
        outcome=np.full((runs, 2), COMPLETE, np.int64),
        end=np.full((runs, 2), np.nan),
        steps=np.zeros((runs, 2), np.int64),
    )
    for direction in directions:
        of = np.flatnonzero(rows[:, 1] == direction)
        columns = np.flatnonzero(_belongs(times, direction))
        columns = columns[np.argsort(np.abs(times[columns]))]
        ensemble.loss[:, columns] = legs.loss[of, : len(columns)]
        ensemble.scale[:, columns] = legs.scale[of, : len(columns)]
        ensemble.outcome[:, direction] = legs.outcome[of]
        ensemble.end[:, direction] = legs.end[of] * (2 * direction - 1)
        ensemble.steps[:, direction] = legs.accepted[of] + legs.rejected[of]
    return ensemble


def bytes_per_leg(program: Program) -> float:
    """Memory of one run in one direction of time: its slopes, states and the buffers of loss and gradient."""
    return 8.0 * ((SLOTS + 6) * program.weights + 2 * program.memory())


def grouping(program: Program, legs: int) -> tuple[int, int]:
    """(threads, legs that share an evaluation): cores busy, small problems together, large ones alone, all in memory."""
    require_memory(bytes_per_leg(program), "one run at these sizes")
    work = max(program.work, 1.0)
    fitting = int(SHARE * available_memory() / bytes_per_leg(program))
    threads = max(1, min(cores(), fitting))
    if legs * work < threads * UNDISTURBED:
        threads = min(threads, idle_cores())
    threads = int(np.clip(legs * work / WORTH_A_THREAD, 1, threads))
    return threads, max(1, min(-(-legs // threads), int(LARGEST_STEP / work), fitting // threads))


def legs_on_device(program: Program, legs: int) -> int:
    """How many legs share an evaluation on an accelerator: as many as its memory holds."""
    from lossflow.simulate.device import free_memory

    free = free_memory()
    needed = bytes_per_leg(program)
    if needed > SHARE * free:
        raise InvalidInput(
            f"one run at these sizes would need {needed / 2**30:.3g} GiB of the accelerator's memory, and "
            f"{SHARE * free / 2**30:.3g} GiB may be taken; choose smaller sizes"
        )
    return max(1, min(legs, int(SHARE * free / needed)))


def _device_stages() -> Callable[[Program, Array, Array], AbstractStages]:
    from lossflow.simulate.device import DeviceStages

    return DeviceStages


class _Batch:
    """Some legs that are integrated together, by whichever thread is free."""

    def __init__(self, crew: _Crew, rows: Integers, states: Mapping[int, Array]) -> None:
        self.crew, self.rows, self.states = crew, rows, states
        self.flow: Flow | None = None

    def advance(self) -> bool:
        """Go on until the crew pauses; whether all legs have ended."""
        if self.flow is None:
            self.flow = Flow(self.crew.program, self._legs(), self.crew.tolerance, self.crew.stages)
        return self.flow.advance(self.crew.pause.is_set)

    def current_states(self) -> dict[int, Array]:
        """The weights of the legs that have started, by row."""
        if self.flow is None:
            return {int(row): self.states[int(row)] for row in self.rows if int(row) in self.states}
        return dict(zip(map(int, self.rows), self.flow.legs().state, strict=True))

    def _legs(self) -> Legs:
        program = self.crew.program
        drawn = [self.crew.sample(int(self.crew.runs[row])) for row in self.rows]
        states, frozen = (
            np.array([np.concatenate([np.zeros(0), *(np.ravel(tensors[name]) for name in names)]) for tensors in drawn])
            for names in (program.learned, program.frozen)
        )
        for place, row in enumerate(self.rows):
            states[place] = self.states.get(int(row), states[place])
        return Legs._make(array[self.rows] for array in self.crew.legs)._replace(state=states, frozen=frozen)


class _Crew:
    """Threads that work through the batches of an ensemble and stop together when its state is to be saved."""

    def __init__(
        self,
        program: Program,
        sample: Sample,
        runs: Integers,
        legs: Legs,
        tolerance: float,
        checkpoint: Checkpoint,
        accelerated: bool,
    ) -> None:
        self.program, self.sample, self.runs, self.legs, self.tolerance = program, sample, runs, legs, tolerance
        self.checkpoint = checkpoint
        self.pause = Event()
        self.stages = _device_stages() if accelerated else HostStages
        self.threads, size = (1, legs_on_device(program, len(runs))) if accelerated else grouping(program, len(runs))
        states = self._resume()
        waiting = np.flatnonzero(self.legs.outcome == RUNNING)
        started = np.array([int(row) in states for row in waiting], bool)
        self.batches = [
            _Batch(self, group[first : first + size], states)
            for group in (waiting[started], waiting[~started])
            for first in range(0, len(group), size)
        ]

    def run(self) -> Legs:
        """All legs, ended. Ctrl-C is answered between two steps, with the state saved."""
        from threadpoolctl import threadpool_limits

        total = len(self.runs)
        with (
            threadpool_limits(1, "blas"),
            ThreadPoolExecutor(self.threads) as pool,
            progress(total, "simulating") as bar,
        ):
            busy: dict[Future[bool], _Batch] = {}
            shown = 0.0
            try:
                while self.batches or busy:
                    while self.batches and len(busy) < self.threads:
                        batch = self.batches.pop(0)
                        busy[pool.submit(batch.advance)] = batch
                    for future in wait(busy, PATIENCE, FIRST_COMPLETED).done:
                        self._take_back(future, busy)
                    done = self._progress(busy)
                    bar.update(done - shown)
                    shown = done
                    if self.checkpoint.due():
                        self._halt(busy)
                        self.checkpoint.save(self._state())
                        self.pause.clear()
            except (KeyboardInterrupt, SystemExit):
                self._halt(busy)
                self.checkpoint.save(self._state())
                raise
            finally:
                self.pause.set()  # whatever happened, no thread goes on
        self.checkpoint.discard()
        return self.legs

    def _halt(self, busy: dict[Future[bool], _Batch]) -> None:
        """Let every thread finish its step; unfinished batches are first in line again."""
        self.pause.set()
        for future in wait(busy).done:
            self._take_back(future, busy)

    def _take_back(self, future: Future[bool], busy: dict[Future[bool], _Batch]) -> None:
        """Note where a batch stands. Ctrl-C between any two lines leaves a state from which to go on."""
        batch = busy[future]
        ended = future.result()
        assert batch.flow is not None
        legs = Legs._make(map(np.array, self.legs))
        for mine, found in zip(legs, batch.flow.legs(), strict=True):
            if mine.shape[1:] == found.shape[1:]:
                mine[batch.rows] = found
        if not ended:
            self.batches.insert(0, batch)
        self.legs = legs
        del busy[future]

    def _progress(self, busy: Mapping[Future[bool], _Batch]) -> float:
        moving = {int(row) for batch in busy.values() for row in batch.rows}
        resting = sum(int(o != RUNNING) for row, o in enumerate(self.legs.outcome) if row not in moving)
        return resting + sum(batch.flow.progress for batch in busy.values() if batch.flow is not None)

    def _state(self) -> dict[str, npt.NDArray[Any]]:
        """Everything that cannot be drawn again: where all legs stand, and the weights of those on their way."""
        states: dict[int, Array] = {}
        for batch in self.batches:
            states |= batch.current_states()
        moving = [row for row in sorted(states) if self.legs.outcome[row] == RUNNING]
        saved: dict[str, npt.NDArray[Any]] = {name: getattr(self.legs, name) for name in _SAVED}
        saved["moving"] = np.array(moving, np.int64)
        saved["state"] = np.array([states[row] for row in moving]).reshape(len(moving), self.program.weights)
        return saved

    def _resume(self) -> dict[int, Array]:
        """Take up a saved state: the weights by row. A leg on its way whose weights are not there starts again."""
        saved = self.checkpoint.load()
        if saved is None:
            return {}
        lost = saved["outcome"] == RUNNING
        lost[saved["moving"].astype(np.int64)] = False
        for name in _SAVED:
            saved[name][lost] = getattr(self.legs, name)[lost]
        self.legs = self.legs._replace(**{name: saved[name] for name in _SAVED})
        return dict(zip(map(int, saved["moving"]), saved["state"].astype(np.float64), strict=True))


def _directions(times: Array) -> list[int]:
    """0 for backward, 1 for forward, as far as there are times."""
    return [direction for direction in (0, 1) if _belongs(times, direction).any()]


def _belongs(times: Array, direction: int) -> npt.NDArray[np.bool_]:
    """The times reached in this direction; time 0 is reached forward unless all other times are negative."""
    forward = (times > 0) | ((times == 0) & ((times > 0).any() or not (times < 0).any()))
    return forward if direction else ~forward
