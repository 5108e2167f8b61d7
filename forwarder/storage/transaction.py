"""Jobs that are done in one transaction, each whole or not at all.

Invariants:
- A job that fails is rolled back by itself; an error of the disk, or one that ended the transaction, fails
  all.
"""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import Callable
from typing import Any, NamedTuple, TypeVar

from forwarder.storage.connection import Connection
from forwarder.storage.errors import BROKEN, translate

T = TypeVar("T")
Work = Callable[[Connection], T]


class Job(NamedTuple):
    work: Work[Any]
    future: asyncio.Future[Any]


class Done(NamedTuple):
    future: asyncio.Future[Any]
    answer: Any
    error: Exception | None


def transaction(connection: Connection, group: list[Job]) -> tuple[list[Done], bool]:
    """Do the jobs in one transaction and commit it; raises sqlite3.Error when nothing of it was kept.

    And whether any row was changed by it.
    """
    before = connection.total_changes
    try:
        done = _all(connection, group) or _each(connection, group)
        connection.execute("COMMIT")
    finally:
        if connection.in_transaction:
            connection.execute("ROLLBACK")
    return done, connection.total_changes > before


def _begin(connection: Connection) -> None:
    connection.execute("BEGIN IMMEDIATE")
    connection.room = None


def _all(connection: Connection, group: list[Job]) -> list[Done] | None:
    """The jobs as one, which is cheaper than to save a point before each; None when one of them failed."""
    _begin(connection)
    try:
        return [Done(job.future, job.work(connection), None) for job in group]
    except Exception as error:
        if _is_of_the_disk(error):
            raise
        if connection.in_transaction:
            connection.execute("ROLLBACK")
        return None


def _each(connection: Connection, group: list[Job]) -> list[Done]:
    _begin(connection)
    return [_attempt(connection, job) for job in group]


def _attempt(connection: Connection, job: Job) -> Done:
    connection.execute("SAVEPOINT job")
    try:
        done = Done(job.future, job.work(connection), None)
    except Exception as error:
        if not connection.in_transaction:  # SQLite gave up the whole transaction, not only this statement
            if isinstance(error, sqlite3.Error):
                raise
            raise sqlite3.OperationalError(f"the transaction was rolled back: {error}") from error
        if _is_of_the_disk(error):
            raise
        connection.execute("ROLLBACK TO job")
        failure = translate(error) if isinstance(error, sqlite3.Error) else error
        done = Done(job.future, None, failure)
    connection.execute("RELEASE job")
    return done


def _is_of_the_disk(error: Exception) -> bool:
    """Then nothing of the transaction is to be trusted, and no other try may hide it."""
    return isinstance(error, sqlite3.Error) and translate(error).reason in BROKEN
