"""Workers as Ray's actors, on one machine or many: https://docs.ray.io/en/latest/ray-core/actors.html

Of Ray, only actors and `wait` are used. Its own restarts and retries are off: a shard that ends
each of its workers would be tried for ever, or end the run.
"""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from mmseg_siglip.io.failures import OutputError
from mmseg_siglip.labelling.process import Died, Event, Ready, Replied, Told, Unable, reason_of
from mmseg_siglip.labelling.work import Task, Worker, WorkerSettings

VARIABLES = {'RAY_USAGE_STATS_ENABLED': '0', 'RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO': '0'}


def import_ray(variables: Mapping[str, str]) -> Any:
    """Ray, which does not report its use.

    Args:
        variables: Of the environment, as Ray reads them when it is imported.

    Raises:
        ImportError: It is not installed.
    """
    for name, value in {**VARIABLES, **variables}.items():
        os.environ.setdefault(name, value)
    try:
        import ray
    except ImportError:
        raise ImportError("--engine ray needs Ray: pip install 'mmseg_siglip[ray]'") from None
    return ray


class RayPool:
    """Workers as actors.

    Args:
        settings: See `WorkerSettings`; the store is one that all machines see.
        count: How many; by default one for each GPU of the cluster, or each machine without.
        address: Of a cluster that ``ray start`` made, ``auto`` for the one of this machine; by
            default, one is started here, for as long as the run takes. Such a cluster wants a
            token, which Ray looks for in ``~/.ray/auth_token``.
        num_cpus: CPUs that Ray keeps for a worker, and as many threads; by default one beside a
            GPU, else a worker's part of all.
        num_gpus: GPUs, or a part of one; by default 1 where there are any.

    Raises:
        ImportError: Ray is not installed.
    """

    def __init__(
        self,
        settings: WorkerSettings,
        count: int | None = None,
        *,
        address: str | None = None,
        num_cpus: float | None = None,
        num_gpus: float | None = None,
    ) -> None:
        self.settings, self.count, self.address = settings, count, address
        self.num_cpus, self.num_gpus = num_cpus, num_gpus
        self.ray = import_ray({} if address is None else dict(RAY_AUTH_MODE='token'))
        self.actors: dict[int, Any] = {}
        self.waiting: dict[Any, int] = {}

    def start(self) -> None:
        """Start all workers.

        Raises:
            OSError: There is no such cluster, or it wants another token.
            ValueError: It has no place for so many.
        """
        if self.address is None:  # without 'local', Ray waits for the last one of this machine
            options = dict(address='local', include_dashboard=False)
        else:
            options = dict(address=self.address)
        try:
            with own_signals():
                self.ray.init(log_to_driver=False, logging_level='ERROR', **options)
        except (RuntimeError, ConnectionError, self.ray.exceptions.RayError) as error:
            raise OSError(f'--engine ray, {options["address"]}: {brief(error)}') from error
        held = self.ray.cluster_resources()
        gpus, cpus = int(held.get('GPU', 0)), held.get('CPU', 0)
        if self.num_gpus is None:
            self.num_gpus = 1 if gpus else 0
        self.count = self.count or gpus or len(self.ray.nodes())
        if self.num_cpus is None:
            self.num_cpus = 1 if self.num_gpus else cpus // self.count or 0.5
        for name, each, there in (('CPUs', self.num_cpus, cpus), ('GPUs', self.num_gpus, gpus)):
            if self.count * each > there:
                raise ValueError(
                    f'--workers: expected at most {int(there // each)}, of {each:g} {name} each, '
                    f'found {self.count}'
                )
        for number in range(self.count):
            self._start(number)

    def _start(self, number: int) -> None:
        kind = self.ray.remote(Actor).options(
            num_cpus=self.num_cpus, num_gpus=self.num_gpus, max_restarts=0, max_task_retries=0
        )
        count = 1 if self.num_gpus else self.count
        place = (0 if self.num_gpus else number, count)
        self.actors[number] = kind.remote(self.settings, place, os.getcwd())
        self.waiting[self.actors[number].ready.remote()] = number

    def submit(self, worker: int, task: Task) -> None:
        self.waiting[self.actors[worker].work.remote(task)] = worker

    def wait(self) -> list[tuple[int, Event]]:
        done, _ = self.ray.wait(list(self.waiting), num_returns=1)
        return [event for future in done for event in self._events(future)]

    def _events(self, future: Any) -> list[tuple[int, Event]]:
        number = self.waiting.pop(future)
        try:
            return [(number, event) for event in self.ray.get(future)]
        except self.ray.exceptions.RayError as error:
            self.ray.kill(self.actors.pop(number))
            self._start(number)
            return [(number, Died(brief(error)))]

    def close(self) -> None:
        for actor in self.actors.values():
            self.ray.kill(actor)
        self.ray.shutdown()


class Actor:
    """A worker in an actor of its own; what cannot be done is an answer, no exception.

    Args:
        settings: See `WorkerSettings`.
        place: See `Worker.build`.
        folder: The driver's, which paths are relative to.
    """

    def __init__(self, settings: WorkerSettings, place: tuple[int, int], folder: str) -> None:
        self.settings, self.place, self.folder = settings, place, folder

    def ready(self) -> list[Event]:
        try:
            if os.path.isdir(self.folder):
                os.chdir(self.folder)
            self.worker = Worker.build(self.settings, *self.place)
        except (ValueError, OSError, ImportError, KeyError) as error:
            return [Unable(reason_of(error))]
        return [Ready(self.worker.hello)]

    def work(self, task: Task) -> list[Event]:
        told: list[int] = []
        try:
            labelled = self.worker.work(task, told.append)
        except OutputError as error:
            return [Unable(str(error))]
        return [Told(sum(told)), Replied(labelled)]


@contextmanager
def own_signals() -> Iterator[None]:
    """Keep this process's answer to SIGTERM, for which Ray has another."""
    before = signal.getsignal(signal.SIGTERM)
    yield
    if threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGTERM, before)


def brief(error: Exception) -> str:
    """What Ray says, in one line and without its advice."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[-1] if 'Traceback' in str(error) else lines[0]
