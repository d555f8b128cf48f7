"""Several server processes behind one socket, for machines with more cores than one process makes use of.

docs/adr/0008-own-supervisor-of-workers.md explains what uvicorn's own supervisor lacks.
"""

import contextlib
import logging
import multiprocessing
import os
import secrets
import signal
import socket
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from multiprocessing.connection import Connection, wait
from multiprocessing.context import SpawnProcess
from types import FrameType

from prometheus_client.multiprocess import mark_process_dead
from pydantic import SecretStr

from service.settings import Settings, granted_threads, prepare_threads

log = logging.getLogger("handful")

_TOO_SOON_S = 10.0
_PAUSE_S = 1.0
"""A worker that ends sooner than this after its start may do so again, so its successor is started after a pause."""

# Spawned, not forked: threads of torch and of the tokenizer do not outlive a fork
_processes = multiprocessing.get_context("spawn")

Serve = Callable[[Settings, Sequence[socket.socket], Callable[[str], None]], None]
"""Serves on sockets until it is stopped; reports the reason why it is not ready, an empty text when it is."""


@dataclass(slots=True)
class _Worker:
    process: SpawnProcess
    ready: Connection
    started_at: float
    reason: str | None = None
    """Its last report; None before it listens."""


def run_workers(
    settings: Settings,
    serve: Serve,
    listening: Sequence[socket.socket],
    announce: Callable[[Sequence[socket.socket], str], None],
) -> None:
    """Starts the number of workers of the settings, replaces workers that die, and returns when all have been stopped.

    SIGTERM and SIGINT are passed on to the workers. The workers divide the threads that the settings grant. They count
    in one folder, so that each can report the metrics of all.

    Args:
        settings: The settings of the server.
        serve: The worker's function; it stands at the top of a module.
        listening: The sockets.
        announce: Called once all workers listen, with the reason why one is not ready, and when that changes.

    Raises:
        SystemExit: A worker cannot be started; it has reported the reason.
    """
    threads = max(1, (settings.threads or granted_threads()) // settings.workers)
    # The workers' common one, so that each can open the ids of the others
    secret = settings.answer_id_secret.get_secret_value() or secrets.token_hex(32)
    own = settings.model_copy(update={"threads": threads, "answer_id_secret": SecretStr(secret)})
    prepare_threads(own)
    with tempfile.TemporaryDirectory(prefix="handful-metrics-") as folder:
        os.environ["PROMETHEUS_MULTIPROC_DIR"] = folder
        _Supervisor(own, serve, listening).run(lambda reason: announce(listening, reason))


class _Supervisor:
    def __init__(self, settings: Settings, serve: Serve, listening: Sequence[socket.socket]) -> None:
        self._settings = settings
        self._serve = serve
        self._listening = listening
        self._workers: list[_Worker] = []
        self._stopping = False
        self._announced: str | None = None

    def run(self, announce: Callable[[str], None]) -> None:
        for each in (signal.SIGTERM, signal.SIGINT):
            signal.signal(each, self._pass_on)
        for _ in range(self._settings.workers):
            self._start()
        for worker in list(self._workers):
            wait([worker.ready, worker.process.sentinel])
            if not _listens(worker):
                self._give_up()
        while self._workers:
            self._announce(announce)
            wait([each for worker in self._workers for each in (worker.process.sentinel, worker.ready)])
            for worker in [worker for worker in self._workers if not worker.process.is_alive()]:
                self._replace(worker)

    def _announce(self, announce: Callable[[str], None]) -> None:
        listen = [_listens(worker) for worker in self._workers]
        if self._stopping or not all(listen):
            return
        reason = next((worker.reason for worker in self._workers if worker.reason), "")
        if reason != self._announced:
            announce(reason)
            self._announced = reason

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
        if not _listens(worker):
            self._give_up()  # it could not start, and has reported the reason
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


def _listens(worker: _Worker) -> bool:
    """Takes the worker's reports without waiting; returns whether it has begun to listen."""
    with contextlib.suppress(EOFError, OSError):
        while worker.ready.poll():
            worker.reason = worker.ready.recv()
    return worker.reason is not None


def _work(settings: Settings, serve: Serve, listening: Sequence[socket.socket], ready: Connection) -> None:
    os.setpgrp()  # Ctrl-C reaches the terminal's whole process group, so that only the parent passes it on
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    threading.Thread(target=_follow_parent, daemon=True).start()
    serve(settings, listening, ready.send)


def _follow_parent() -> None:
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os.kill(os.getpid(), signal.SIGTERM)
