"""Several server processes behind one socket, for machines with more cores than one process makes use of."""

import contextlib
import logging
import multiprocessing
import os
import signal
import socket
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from multiprocessing.connection import Connection, wait
from multiprocessing.context import SpawnProcess
from types import FrameType

from prometheus_client.multiprocess import mark_process_dead

from service.settings import Settings, granted_threads, prepare_threads

log = logging.getLogger("handful")

_BACKLOG = 2048
_TOO_SOON_S = 10.0
_PAUSE_S = 1.0
"""A worker that ends sooner than that after its start may do so again: its successor waits this long."""

# Started anew, not forked: threads of torch and of the tokenizer do not outlive a fork
_processes = multiprocessing.get_context("spawn")

Serve = Callable[[Settings, socket.socket, Callable[[], None]], None]
"""Serves on a socket until told to stop; calls what it is given once it is ready."""


@dataclass(slots=True)
class _Worker:
    process: SpawnProcess
    ready: Connection
    started_at: float
    served: bool = False


def run_workers(settings: Settings, serve: Serve, announce: Callable[[socket.socket], None]) -> None:
    """Starts as many workers as the settings say, replaces those that die, and returns when all have been stopped.

    SIGTERM and SIGINT are passed on to the workers. They share the threads that the settings grant, and a folder of
    counts, so that each can tell the metrics of all.

    Args:
        settings: Of the server.
        serve: A function at the top of a module: what a worker does.
        announce: Called once all workers are ready.

    Raises:
        OSError: The address cannot be bound.
        SystemExit: A worker cannot be started; it has said why.
    """
    threads = max(1, (settings.threads or granted_threads()) // settings.workers)
    own = settings.model_copy(update={"threads": threads})
    prepare_threads(own)
    family = socket.AF_INET6 if ":" in settings.host else socket.AF_INET
    with (
        tempfile.TemporaryDirectory(prefix="handful-metrics-") as folder,
        socket.create_server((settings.host, settings.port), family=family, backlog=_BACKLOG) as listening,
    ):
        os.environ["PROMETHEUS_MULTIPROC_DIR"] = folder
        _Supervisor(own, serve, listening).run(lambda: announce(listening))


class _Supervisor:
    def __init__(self, settings: Settings, serve: Serve, listening: socket.socket) -> None:
        self._settings = settings
        self._serve = serve
        self._listening = listening
        self._workers: list[_Worker] = []
        self._stopping = False

    def run(self, announce: Callable[[], None]) -> None:
        for each in (signal.SIGTERM, signal.SIGINT):
            signal.signal(each, self._pass_on)
        for _ in range(self._settings.workers):
            self._start()
        for worker in list(self._workers):
            wait([worker.ready, worker.process.sentinel])
            if not _told(worker):
                self._give_up()
        if not self._stopping:
            announce()
        while self._workers:
            wait([worker.process.sentinel for worker in self._workers])
            for worker in [worker for worker in self._workers if not worker.process.is_alive()]:
                self._replace(worker)

    def _start(self) -> None:
        ours, theirs = _processes.Pipe(duplex=False)
        process = _processes.Process(target=_work, args=(self._settings, self._serve, self._listening, theirs))
        process.start()
        theirs.close()
        self._workers.append(_Worker(process, ours, time.monotonic()))

    def _replace(self, worker: _Worker) -> None:
        self._workers.remove(worker)
        mark_process_dead(worker.process.pid)  # type: ignore[no-untyped-call]
        if self._stopping:
            return
        log.error("worker %s ended with status %s", worker.process.pid, worker.process.exitcode)
        if not _told(worker):
            self._give_up()  # it could not start, and has said why
        if time.monotonic() - worker.started_at < _TOO_SOON_S:
            time.sleep(_PAUSE_S)
        if not self._stopping:
            self._start()

    def _give_up(self) -> None:
        stopping, self._stopping = self._stopping, True
        for worker in self._workers:
            worker.process.terminate()
        for worker in self._workers:
            worker.process.join()
        sys.exit(0 if stopping else 1)

    def _pass_on(self, number: int, _: FrameType | None) -> None:
        self._stopping = True
        for worker in self._workers:
            if worker.process.pid is not None and worker.process.is_alive():
                os.kill(worker.process.pid, number)


def _told(worker: _Worker) -> bool:
    """Whether the worker has said that it is ready; does not wait for it."""
    with contextlib.suppress(EOFError):
        worker.served = worker.served or (worker.ready.poll() and bool(worker.ready.recv()))
    return worker.served


def _work(settings: Settings, serve: Serve, listening: socket.socket, ready: Connection) -> None:
    os.setpgrp()  # Ctrl-C reaches the terminal's whole group: passing it on is for the parent alone
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    threading.Thread(target=_follow_parent, daemon=True).start()
    serve(settings, listening, lambda: ready.send(True))


def _follow_parent() -> None:
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os.kill(os.getpid(), signal.SIGTERM)
