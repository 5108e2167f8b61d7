"""The one thread that owns the storage's file: jobs go in from the event loop, and are committed together.

Invariants:
- A job's future resolves after the transaction it was in is committed and on the disk, or with the error
  that kept it out; never earlier, and in the order in which the jobs came.
- A job is applied whole or not at all, and one job's failure takes nothing from those committed with it.
- An error ends the jobs it hit, never the thread: the next job is tried as if nothing had happened.
- Whatever was submitted before ``close`` is done before the file is closed.
"""

from __future__ import annotations

import asyncio
import sqlite3
import threading
import time
from collections.abc import Callable
from contextlib import closing, suppress
from pathlib import Path
from typing import Any, Generic, NamedTuple, TypeVar

import structlog

from forwarder.logs import limited
from forwarder.model import Clock, SystemClock
from forwarder.storage.file import FILE_NAME, Connection, StorageError, locked, open_for_writing, translate

LINGER = 0.003
"""Seconds a job waits for others to share its commit: an fsync costs more than most jobs do."""

VACUUM_PAGES = 4096
"""Free pages given back to the file system at close, at most: 32 MiB, so that closing stays quick."""

T = TypeVar("T")
Work = Callable[[Connection], T]


class _Job(NamedTuple):
    work: Work[Any]
    future: asyncio.Future[Any]


class _Done(NamedTuple):
    future: asyncio.Future[Any]
    answer: Any
    error: Exception | None


class Storage:
    """One directory's file. ``open`` it, ``submit`` or ``run`` jobs from that event loop, ``close`` it.

    ``max_bytes`` bounds the file; a job that would pass it fails as if the disk were full. ``linger`` is in
    seconds.
    """

    def __init__(
        self,
        directory: Path,
        *,
        max_bytes: int | None = None,
        linger: float = LINGER,
        clock: Clock | None = None,
    ) -> None:
        self.path = directory / FILE_NAME
        self._max_bytes = max_bytes
        self._linger = linger
        self._clock = clock or SystemClock()
        self._inbox: _Inbox[_Job] = _Inbox()
        self._thread = threading.Thread(target=self._own, name="storage", daemon=True)
        self._trouble: StorageError | None = None
        self._log = structlog.get_logger("storage")
        self._loop: asyncio.AbstractEventLoop
        self._opened: asyncio.Future[None]
        self._closed: asyncio.Future[None]

    @property
    def trouble(self) -> StorageError | None:
        """What kept the latest commit, or a part of it, from the disk; None when all is well."""
        return self._trouble

    async def open(self) -> None:
        """Make or check the file and begin to take jobs; StorageError says why that is not possible."""
        self._loop = asyncio.get_running_loop()
        self._opened = self._loop.create_future()
        self._closed = self._loop.create_future()
        self._thread.start()
        await asyncio.shield(self._opened)

    def submit(self, work: Work[T], *, within: float | None = None) -> asyncio.Future[T]:
        """Have ``work`` done and committed; plain, so that nothing can come between a decision and this.

        ``within``: seconds it may wait for company, ``linger`` by default. ``work`` runs in the storage's
        thread, inside a transaction, and may run a second time when the first try was rolled back: it
        changes nothing but the database. Cancelling the future stops nobody from doing the work.
        """
        future: asyncio.Future[T] = self._loop.create_future()
        due = time.monotonic() + (self._linger if within is None else within)
        if not self._inbox.add(_Job(work, future), due):
            future.set_exception(_is_closed())
        return future

    async def run(self, work: Work[T]) -> T:
        """``submit``, and wait. A caller that is cancelled leaves the job to its end."""
        return await asyncio.shield(self.submit(work))

    async def close(self) -> None:
        """Commit what waits, shrink and close the file, free the directory. More than once is fine."""
        if self._thread.ident is None:
            return  # never opened
        self._inbox.stop()
        await asyncio.shield(self._closed)
        self._thread.join()  # it has nothing left to do

    # From here on: the storage's own thread.

    def _own(self) -> None:
        try:
            with locked(self.path.parent), closing(self._connect()) as connection:
                self._tell([_Done(self._opened, None, None)])
                self._serve(connection)
        except Exception as error:
            self._tell([_Done(self._opened, None, error)])
        finally:
            self._inbox.stop()
            late = [_Done(job.future, None, _is_closed()) for job in self._inbox.next_group()]
            self._tell([*late, _Done(self._closed, None, None)])

    def _connect(self) -> Connection:
        connection, damage = open_for_writing(self.path, self._clock.wall(), self._max_bytes)
        if damage is not None:
            self._log.error("storage was damaged, begun anew", damage=damage)
        return connection

    def _serve(self, connection: Connection) -> None:
        while group := self._inbox.next_group():
            self._commit(connection, group)
        with suppress(sqlite3.Error):  # the file is whole without this, and a full disk may refuse it
            # A script, since a single execute() stops after the first freed page.
            connection.executescript(f"PRAGMA incremental_vacuum({VACUUM_PAGES})")

    def _commit(self, connection: Connection, group: list[_Job]) -> None:
        """Commit the jobs together; when that fails as a whole, each by itself, so that what fits gets in."""
        try:
            done = _transaction(connection, group)
        except sqlite3.Error as error:
            if len(group) > 1:
                for job in group:
                    self._commit(connection, [job])
                return
            done = [_Done(group[0].future, None, translate(error))]
        self._note_trouble(done)
        self._tell(done)

    def _note_trouble(self, done: list[_Done]) -> None:
        before, self._trouble = self._trouble, None
        for each in done:
            if isinstance(each.error, StorageError):
                self._trouble = each.error
        if self._trouble is not None and before is None:
            log = limited(self._log, "storage trouble")
            log.warning("storage cannot write", reason=self._trouble.reason, problem=str(self._trouble))
        elif self._trouble is None and before is not None:
            limited(self._log, "storage works").info("storage works again")

    def _tell(self, done: list[_Done]) -> None:
        with suppress(RuntimeError):  # the loop is gone, and everybody who waited with it
            self._loop.call_soon_threadsafe(_resolve, done)


def _is_closed() -> StorageError:
    return StorageError("closed", "the storage is closed")


def _resolve(done: list[_Done]) -> None:
    for future, answer, error in done:
        if future.done():
            continue  # cancelled by who waited
        if error is None:
            future.set_result(answer)
        else:
            future.set_exception(error)


def _transaction(connection: Connection, group: list[_Job]) -> list[_Done]:
    """Do the jobs in one transaction and commit it; raises sqlite3.Error when nothing of it was kept."""
    connection.execute("BEGIN IMMEDIATE")
    try:
        done = [_attempt(connection, job) for job in group]
        connection.execute("COMMIT")
    finally:
        if connection.in_transaction:
            connection.execute("ROLLBACK")
    return done


def _attempt(connection: Connection, job: _Job) -> _Done:
    connection.execute("SAVEPOINT job")
    try:
        done = _Done(job.future, job.work(connection), None)
    except Exception as error:
        if not connection.in_transaction:  # SQLite gave up the whole transaction, not only this statement
            if isinstance(error, sqlite3.Error):
                raise
            raise sqlite3.OperationalError(f"the transaction was rolled back: {error}") from error
        connection.execute("ROLLBACK TO job")
        failure = translate(error) if isinstance(error, sqlite3.Error) else error
        done = _Done(job.future, None, failure)
    connection.execute("RELEASE job")
    return done


J = TypeVar("J")


class _Inbox(Generic[J]):
    """What waits for the thread: a group leaves when any of its jobs is due, with all that came by then."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._waiting: list[J] = []
        self._due = threading.TIMEOUT_MAX
        self._stopped = False

    def add(self, job: J, due: float) -> bool:
        """Take the job, to leave at ``due`` (monotonic seconds) at the latest; False when stopped."""
        with self._changed:
            if self._stopped:
                return False
            self._waiting.append(job)
            if due < self._due:  # otherwise the thread wakes up early enough by itself
                self._due = due
                self._changed.notify()
            return True

    def stop(self) -> None:
        with self._changed:
            self._stopped = True
            self._changed.notify()

    def next_group(self) -> list[J]:
        """Wait for the next group; empty when stopped and nothing is left."""
        with self._changed:
            while not self._stopped and (left := self._due - time.monotonic()) > 0:
                self._changed.wait(left)
            group, self._waiting = self._waiting, []
            self._due = threading.TIMEOUT_MAX
            return group
