"""Full steps replayed from captured graphs: on a GPU a step is then one launch.

The readable step, :func:`ensgan.train.step.full_step`, runs as it is on the CPU and the first time
of every kind of step. On a GPU it is then captured once for each kind (whether R1 is due, whether
ADA adjusts, what the average does) and replayed. What changes from step to step without being a
tensor reaches a replay through buffers: the places of the real images and the average's decay.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Hashable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Any, TypeAlias

import torch
from torch import Tensor

from ensgan.train.step import Record, full_step
from ensgan.train.training import Training
from ensgan.zoo.augment import Augmentation

Means: TypeAlias = tuple[tuple[str, ...], Tensor]
"""Names and values [n] of a step's losses."""

_EAGER_FIRST = 2
"""Steps of a kind before it is captured: libraries initialise and cuDNN chooses its algorithms."""


class GraphRecorder:
    """CUDA graphs on a stream of the training's own; all share one pool of memory."""

    def __init__(self, training: Training) -> None:
        self._random = training.random
        self._stream = torch.cuda.Stream(training.device)  # type: ignore[no-untyped-call]
        # The networks were placed by the stream of the caller.
        self._stream.wait_stream(torch.cuda.current_stream(training.device))
        self._pool: Any = None

    def stream(self) -> AbstractContextManager[object]:
        """The stream of this training as a context, for captured and for ordinary steps."""
        return torch.cuda.stream(self._stream)

    def record(self, work: Callable[[], Means]) -> tuple[Callable[[], None], Means]:
        """A function that replays ``work``, and the tensors it fills. Nothing is executed yet."""
        graph = torch.cuda.CUDAGraph()
        # Otherwise every replay would draw the numbers of the capture again.
        graph.register_generator_state(self._random)
        with torch.cuda.graph(
            graph, pool=self._pool, stream=self._stream, capture_error_mode="thread_local"
        ):
            left = work()
        self._pool = graph.pool()
        return graph.replay, left


@dataclass
class _Kind:
    """A kind of step.

    Attributes:
        seen: steps of this kind so far that were not replayed.
        draws: baskets of reals it draws.
        replay: once captured, with the means that it leaves.
    """

    seen: int = 0
    draws: int = 0
    replay: tuple[Callable[[], None], Means] | None = None


class Steps:
    """Advances a training step by step.

    Args:
        training: what is advanced.
        record: where the losses go.
        recorder: captures steps; by default CUDA graphs on a GPU, none elsewhere.

    Attributes:
        failure: why steps are not captured although they should be, else None. It is logged once.
        replays: how many steps were replayed.
    """

    def __init__(
        self, training: Training, record: Record, recorder: GraphRecorder | None = None
    ) -> None:
        if recorder is None and training.settings.capture and training.device.type == "cuda":
            recorder = GraphRecorder(training)
        self.training, self.record, self.recorder = training, record, recorder
        self.failure: str | None = None
        self.replays = 0
        self._kinds: dict[Hashable, _Kind] = {}
        if recorder is not None and (reason := _reason_against(training)):
            self._give_up(reason)

    def stream(self) -> AbstractContextManager[object]:
        """The training's CUDA stream as a context; its tensors are read within it too."""
        return nullcontext() if self.recorder is None else self.recorder.stream()

    def step(self) -> None:
        """One full step; its losses go to the record."""
        training = self.training
        with self.stream(), training.arithmetic():
            kind = self._kinds.setdefault(training.kind(), _Kind())
            if self.recorder is not None and self.failure is None and kind.seen >= _EAGER_FIRST:
                if kind.replay is None:
                    self._capture(kind, self.recorder)
                if kind.replay is not None:
                    self._replay(kind.draws, *kind.replay)
                    return
            step, training.reals.drawn = training.step, 0
            full_step(training, self.record)
            self.record.end_step(step)
            kind.seen += 1
            kind.draws = training.reals.drawn

    def _replay(self, draws: int, replay: Callable[[], None], means: Means) -> None:
        training = self.training
        training.reals.fill(draws)
        training.average.fill(training.step)
        replay()
        names, values = means
        # The next replay overwrites the values.
        self.record.add(training.step, names, values.clone())
        training.step += 1
        self.replays += 1

    def _capture(self, kind: _Kind, recorder: GraphRecorder) -> None:
        training, scratch = self.training, Record(self.record.gan)

        def work() -> Means:
            full_step(training, scratch)
            return scratch.step_means()

        step = training.step
        training.reals.held, training.reals.drawn = training.reals.buffers(kind.draws), 0
        training.average.captured = True
        try:
            kind.replay = recorder.record(work)
        except torch.OutOfMemoryError:  # an ordinary step would run out of memory, too
            raise
        except Exception as error:
            self._give_up(f"{type(error).__name__}: {str(error).splitlines()[0]}")
        finally:
            # Capturing ran the Python code of the step, but none of its kernels.
            training.step = step
            training.reals.held = None
            training.average.captured = False

    def _give_up(self, reason: str) -> None:
        self.failure = reason
        logging.getLogger("ensgan.train").warning(
            "%s trains without a captured step, more slowly: %s (where the driver is the reason, "
            "update it)",
            self.record.gan,
            reason,
        )


def _reason_against(training: Training) -> str | None:
    """Why the steps of a row must not be captured."""
    augmentation = type(training.augmentation)
    if (
        augmentation.adjust is not Augmentation.adjust
        and augmentation.adjusts is Augmentation.adjusts
    ):
        return f"{augmentation.__name__} has adjust() but does not say in adjusts() when it is due"
    return None
