"""Several trainings in one process, which take turns step by step.

On a GPU each has a stream of its own and a step is one launch, so that their work overlaps; on the
CPU they share the time. One that fails, finishes or is stopped leaves the others as they are.
"""

from __future__ import annotations

from collections.abc import Generator, Iterator, Mapping
from dataclasses import dataclass

from ensgan.train.snapshot import Snapshot


@dataclass(frozen=True)
class Ended:
    """A training left its pack.

    Attributes:
        error: what it failed with; None when it finished or was stopped.
    """

    error: Exception | None = None


class Pack:
    """Trainings by name, each as :func:`ensgan.train.train_steps` makes it.

    Iterating yields (name, what happened) until no training is left: a snapshot was made or found,
    or the training ended.
    """

    def __init__(self, trainings: Mapping[str, Generator[Snapshot | None, None, None]]) -> None:
        self._trainings = dict(trainings)

    @property
    def names(self) -> tuple[str, ...]:
        """Those still training."""
        return tuple(self._trainings)

    def stop(self, name: str) -> None:
        """Take a training out where it is; from its last checkpoint it can go on elsewhere.

        Raises:
            KeyError: no training of that name is going on.
        """
        self._trainings.pop(name).close()

    def __iter__(self) -> Iterator[tuple[str, Snapshot | Ended]]:
        while self._trainings:
            for name in self.names:
                if name not in self._trainings:  # stopped by whoever looks at the results
                    continue
                try:
                    snapshot = next(self._trainings[name])
                except StopIteration:
                    del self._trainings[name]
                    yield name, Ended()
                except Exception as error:  # whatever a row's code raises fails that GAN alone
                    del self._trainings[name]
                    yield name, Ended(error)
                else:
                    if snapshot is not None:
                        yield name, snapshot
