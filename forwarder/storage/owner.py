"""The one thread that owns the storage's file: jobs go in from the event loop, and are committed together.

Invariants:
- A job's future resolves after the transaction it was in is committed and on the disk, or with the error
  that kept it out; never earlier, and in the order in which the jobs came.
- A job is applied whole or not at all, and one job's failure takes nothing from those committed with it; but
  an error of the disk itself, damage, or a file that another program holds, fails all of them.
- After such an error the file is opened anew, a damaged one set aside. When that fails, or the next commit
  meets the same, the thread ends, and ``watch`` says so.
- A full disk costs the ballast and refuses what is new, until there is room for the ballast again (``full``).
- After every commit and before its answers, once a second, and at close, the paths are compared with the open
  files. What is no longer at its path is written there anew before anything else; when that is impossible the
  thread ends, and ``watch`` says so. So no job is answered whose commit is only in a deleted file.
- Whatever was submitted before ``close`` is done before the file is closed.
"""

from __future__ import annotations

import asyncio
import sqlite3
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import TypeVar

import structlog

from forwarder.metrics import StorageMetrics
from forwarder.model import Clock, SystemClock
from forwarder.storage.ballast import Ballast
from forwarder.storage.connection import Connection, cut_log, spare_bytes, used_bytes
from forwarder.storage.errors import BROKEN, StorageError, translate
from forwarder.storage.file import FILE_NAME
from forwarder.storage.filesystem import filesystem_of
from forwarder.storage.full import FullDisk
from forwarder.storage.held import HeldFile
from forwarder.storage.inbox import Inbox
from forwarder.storage.room import Room
from forwarder.storage.salvage import Rescue
from forwarder.storage.transaction import Done, Job, Work, transaction
from forwarder.storage.trouble import Trouble

LINGER = 0.003
"""Seconds a job waits for others to share its commit: an fsync costs more than most jobs do."""

LOOK_SECONDS = 1.0
"""How often the paths are compared with the open files while nothing is written."""

VACUUM_PAGES = 4096
"""Free pages given back to the file system at close, at most: 32 MiB, so that closing stays quick."""

T = TypeVar("T")


class Storage:
    """One directory's file. ``open`` it, ``submit`` or ``run`` jobs from that event loop, ``close`` it.

    ``max_bytes`` bounds the file; a job that would pass it fails as if the disk were full. ``linger`` is in
    seconds. ``rescues`` take over what can be read of a damaged file. ``earlier``: the directory where an
    earlier version kept the file, which is taken over from there.
    """

    def __init__(
        self,
        directory: Path,
        *,
        max_bytes: int | None = None,
        linger: float = LINGER,
        clock: Clock | None = None,
        metrics: StorageMetrics | None = None,
        rescues: Sequence[Rescue] = (),
        ballast: Ballast | None = None,
        filesystem: Callable[[Path], str] = filesystem_of,
        earlier: Path | None = None,
    ) -> None:
        self.path = directory / FILE_NAME
        self._max_bytes = max_bytes
        self._linger = linger
        self._metrics = metrics or StorageMetrics()
        self._ballast = ballast or Ballast(directory)
        wall = (clock or SystemClock()).wall
        self._held = HeldFile(self.path, max_bytes, rescues, earlier, filesystem, wall)
        self._inbox: Inbox[Job] = Inbox()
        self._thread = threading.Thread(target=self._own, name="storage", daemon=True)
        self._log = structlog.get_logger("storage")
        self._trouble = Trouble(self._log, self._has_room)
        self._room = Room(directory, max_bytes, self._ballast.free)
        self._full = FullDisk(self._ballast, self._room, self._trouble, lambda: self._held.connection)
        self._reopened = False  # and nothing was committed since
        self._looked_at = 0.0
        self._ended_by: Exception | None = None
        self._loop: asyncio.AbstractEventLoop
        self._opened: asyncio.Future[None]
        self._broken: asyncio.Future[None]
        self._closed: asyncio.Future[None]

    @property
    def trouble(self) -> StorageError | None:
        """What kept the latest commit, or a part of it, from the disk; None when all is well."""
        return self._trouble.now

    @property
    def ended_by(self) -> Exception | None:
        """What ended the storage, be it during ``close``; None when nothing did."""
        return self._ended_by

    async def open(self) -> None:
        """Make or check the file and begin to take jobs; StorageError says why that is not possible."""
        self._loop = asyncio.get_running_loop()
        self._opened = self._loop.create_future()
        self._broken = self._loop.create_future()
        self._broken.add_done_callback(asyncio.Future.exception)  # nobody has to watch
        self._closed = self._loop.create_future()
        self._thread.start()
        await asyncio.shield(self._opened)

    async def watch(self) -> None:
        """Wait until nothing can be stored any more; raises what is to blame."""
        await asyncio.shield(self._broken)

    def size(self) -> int:
        """Bytes on the disk: the file, its log and the ballast."""
        return used_bytes(self.path) + self._ballast.size()

    def submit(self, work: Work[T], *, within: float | None = None) -> asyncio.Future[T]:
        """Have ``work`` done and committed; plain, so that nothing can come between a decision and this.

        ``within``: seconds it may wait for company, ``linger`` by default. ``work`` runs in the storage's
        thread, inside a transaction, and may run a second time when the first try was rolled back: it
        changes nothing but the database. Cancelling the future stops nobody from doing the work.
        """
        future: asyncio.Future[T] = self._loop.create_future()
        due = time.monotonic() + (self._linger if within is None else within)
        if not self._inbox.add(Job(work, future), due):
            future.set_exception(_is_closed())
        return future

    async def run(self, work: Work[T]) -> T:
        """``submit``, and wait; once more in the new file, should this be what met damage in the old one.

        A caller that is cancelled leaves the job to its end.
        """
        try:
            return await asyncio.shield(self.submit(work))
        except StorageError as problem:
            if problem.reason != "damaged":
                raise
        return await asyncio.shield(self.submit(work))

    async def close(self) -> None:
        """Commit what waits, shrink and close the file, free the directory. More than once is fine."""
        if self._thread.ident is None:
            return  # never opened
        self._inbox.stop()
        await asyncio.shield(self._closed)
        self._thread.join()  # it has nothing left to do

    # From here on: the storage's own thread.

    @property
    def _connection(self) -> Connection:
        return self._held.connection

    def _own(self) -> None:
        answered, ended = self._opened, list[Done]()
        try:
            same_boot = self._held.lock()
            self._held.move_in()
            self._connect(check=not same_boot)
            self._tell([Done(self._opened, None, None)])
            answered = self._broken
            self._serve()
        except Exception as error:
            self._ended_by = error
            ended = [Done(answered, None, error)]
        finally:
            self._inbox.stop()
            self._trouble.flush(last=True)
            self._held.close()
            self._held.unlock()  # before the answers: their receivers may open the directory again
            late = [Done(job.future, None, _is_closed()) for job in self._inbox.next_group() or ()]
            self._tell([*ended, *late, Done(self._closed, None, None)])

    def _connect(self, check: bool) -> None:
        try:
            self._open_file(check=check)
        except StorageError as error:
            if error.reason not in ("full", "io"):
                raise
            self._ballast.release()  # a full disk lets nobody open the file either
            try:
                self._open_file(check=check)
            except StorageError as again:
                raise self._room.with_cause(again) from again
        self._full.look()

    def _open_file(self, *, check: bool = True, damage: str | None = None) -> None:
        sentence = self._held.open(check=check, damage=damage)
        if sentence is not None:
            self._log.error(
                "storage file was damaged; recovered what was readable into a new file", damage=sentence
            )
            self._count(StorageError("damaged", sentence, "read"))

    def _serve(self) -> None:
        while (group := self._inbox.next_group(LOOK_SECONDS)) is not None:
            try:
                self._compare_sizes()  # before a commit makes a file that was emptied long again
                self._look()
                if group:
                    self._commit(group)
                self._full.relieve()
                self._trouble.flush()
                self._held.note_sizes()
            except BaseException:  # the thread ends here, but nobody waits for ever
                self._tell([Done(job.future, None, _is_closed()) for job in group])
                raise
        self._compare_sizes()
        self._look(last=True)
        with suppress(sqlite3.Error):  # the file is whole without this, and a full disk may refuse it
            # A script, since a single execute() stops after the first freed page.
            self._connection.executescript(f"PRAGMA incremental_vacuum({VACUUM_PAGES})")

    def _commit(self, group: list[Job]) -> None:
        """Commit the jobs together; when that fails as a whole, each by itself, so that what fits gets in."""
        began = time.perf_counter()
        try:
            done, wrote = transaction(self._connection, group)
        except sqlite3.Error as error:
            self._fail(group, self._full.with_cause(translate(error)))
            return
        seconds = time.perf_counter() - began
        self._reopened = False
        done = [each._replace(error=self._with_cause(each.error)) for each in done]
        for each in done:
            if isinstance(each.error, StorageError):
                self._full.give_way(each.error)
        if wrote:
            self._compare_paths()
        self._finish(done, seconds, wrote)

    def _fail(self, group: list[Job], problem: StorageError) -> None:
        """The transaction is gone: what may come of its jobs after this error."""
        made_room = self._full.give_way(problem)
        alone = problem.reason not in (*BROKEN, "locked") and len(group) > 1
        if made_room or alone:
            for job in group:
                self._commit([job])
            return
        self._finish([Done(job.future, None, problem) for job in group])
        if problem.reason in BROKEN:
            self._reopen(problem)

    def _reopen(self, problem: StorageError) -> None:
        """Trust nothing that was not synced: open the file anew and bring its log into it. Once."""
        if self._reopened:
            raise problem
        self._reopened = True
        with suppress(sqlite3.Error):
            self._held.close()
        self._ballast.release()  # some disks say so when they are full
        self._open_file(damage=str(problem) if problem.reason == "damaged" else None)
        try:
            if not cut_log(self._connection):
                raise problem
        except sqlite3.Error as error:
            raise translate(error) from error
        self._full.look()

    def _look(self, *, last: bool = False) -> None:
        """See that the open files and the ballast are still at their paths."""
        now = time.monotonic()
        if now < self._looked_at + LOOK_SECONDS and not last:
            return
        self._looked_at = now
        if not self._compare_paths():
            self._full.look()

    def _compare_sizes(self) -> None:
        """See that nobody emptied the files, and take over what can be read if somebody did."""
        if (problem := self._held.emptied()) is not None:
            self._trouble.note(problem)
            self._reopen(problem)

    def _compare_paths(self) -> bool:
        """See that the open files are at their paths, and write them there anew if not; whether it did."""
        try:
            missing = self._held.missing()
        except StorageError as error:
            self._trouble.note(error)
            return False
        if missing:
            self._restore(missing)
        return bool(missing)

    def _restore(self, missing: Sequence[Path]) -> None:
        try:
            problem = self._held.restore(missing)
        except StorageError as error:
            self._trouble.now = error
            raise
        self._trouble.now = problem  # until something is written again
        self._count(problem)
        self._log.error("storage files were moved, deleted or replaced; written again", problem=str(problem))
        self._full.look()

    def _with_cause(self, error: Exception | None) -> Exception | None:
        """An error of one job, with what is full."""
        return self._full.with_cause(error) if isinstance(error, StorageError) else error

    def _finish(self, done: list[Done], seconds: float | None = None, wrote: bool = False) -> None:
        problems = [each.error for each in done if isinstance(each.error, StorageError)]
        if problems or wrote:  # reading what is there proves nothing
            self._trouble.note(problems[-1] if problems else None)
        self._tell(done, seconds)

    def _has_room(self) -> bool:
        """More than a little."""
        return spare_bytes(self._connection) > (self._max_bytes or 0) // 16

    def _tell(self, done: list[Done], seconds: float | None = None) -> None:
        with suppress(RuntimeError):  # the loop is gone, and everybody who waited with it
            self._loop.call_soon_threadsafe(self._resolve, done, seconds)

    def _count(self, problem: StorageError) -> None:
        with suppress(RuntimeError):
            self._loop.call_soon_threadsafe(self._metrics.failed, problem.operation)

    # And back on the event loop.

    def _resolve(self, done: list[Done], seconds: float | None) -> None:
        if seconds is not None:
            self._metrics.commit(seconds)
        for future, answer, error in done:
            if isinstance(error, StorageError) and error.reason != "closed":
                self._metrics.failed(error.operation)
            if future.done():
                continue  # cancelled by who waited
            if error is None:
                future.set_result(answer)
            else:
                future.set_exception(error)


def _is_closed() -> StorageError:
    return StorageError("closed", "the storage is closed")
