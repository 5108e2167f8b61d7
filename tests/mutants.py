"""``make mutants``: does the suite have teeth? Breaks the code in known ways, one at a time, and runs tests.

Each mutation is a change of text in a copy of the tree, never in the checkout. It is killed when the tests
chosen for it turn red (or never end); when they stay green it survives, and the exit code is 1. So it is when
the tests are red without any mutation, or when a text is no longer there exactly once: then the code has
moved on, and the mutation has to follow. ``make mutants`` runs all; ``python tests/mutants.py WORD`` those
whose name contains the word.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
import time
from compileall import compile_dir
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from py_compile import PycInvalidationMode
from queue import SimpleQueue

ROOT = Path(__file__).parents[1]
COPIED = ("forwarder", "tests", "config", "pyproject.toml")
SECONDS_PER_RUN = 90.0
DEADLINE = "8"
"""Seconds that a test waits for what a mutation may have made impossible."""

AT_ONCE = 2
GREEN, RED = 0, 1

QUEUES = "tests/contract/test_queues.py"
DISK = "tests/unit/queues/test_disk.py"
ASIDE = "tests/contract/test_set_aside.py"
PARKING = "tests/unit/queues/test_parking.py"
PURGING = "tests/unit/control/test_purging.py"
STORAGE = "tests/unit/storage/test_owner.py"
TROUBLE = "tests/unit/storage/test_trouble.py"
TARGETS = "tests/contract/test_targets.py"
GATE = "tests/unit/test_gate.py"
SLOTS = "tests/unit/test_concurrency.py"
PUT_EVENTS = "tests/unit/apis/test_put_events.py"
FAULTS = "tests/integration/test_faults.py"
BUSES = "tests/unit/targets/test_buses.py"
NAME_TURNS = "tests/unit/targets/test_turns.py"
EVENTBRIDGE = "tests/unit/targets/test_eventbridge.py"
NAMES = "tests/integration/test_names.py"
UNCONFIRMED = "tests/integration/test_unconfirmed.py"
UNCONFIRMED_UNIT = "tests/unit/targets/test_unconfirmed.py"
FAST_PATH = "tests/unit/targets/test_fast_path.py"
HOLDS = "tests/integration/test_holds.py"
STOP = "tests/integration/test_stop.py"
LEDGER = "tests/integration/test_ledger.py"
CONTROL = "tests/integration/test_control.py"
REPLAY = "tests/unit/control/test_operations.py"
CREDENTIALS = "tests/integration/test_credentials.py"
BROKEN_SOURCES = "tests/unit/targets/test_broken_sources.py"
TRUST_OF_SOURCES = "tests/unit/targets/test_trust_of_sources.py"
TIME = "tests/unit/test_time.py"
ACK = "tests/integration/test_ack.py"
REPEATS = "tests/unit/ingest/test_idempotency.py"
CORS = "tests/unit/ingest/test_cors.py"
PASSING = "tests/unit/ingest/test_passing.py"
MERGING = "tests/unit/ingest/test_merging.py"
MERGE = "tests/integration/test_merge.py"
SIGNATURES = "tests/unit/ingest/auth/test_signature.py"
TOKENS = "tests/unit/ingest/auth/test_tokens.py"
GUARD = "tests/unit/ingest/auth/test_guard.py"
TLS = "tests/unit/ingest/auth/test_tls.py"
SECRET_FILES = "tests/unit/ingest/auth/test_files.py"
TORTURE = "tests/torture/short.py"
NOTIFYING = "tests/unit/daemon/test_notifying.py"
MANAGER = "tests/integration/test_service_manager.py"
FUZZ = "tests/fuzz/test_fuzz.py"
LARGE = "tests/unit/ingest/test_large_bodies.py"
NEIGHBOURS = "tests/unit/ingest/test_neighbours.py"
CLOUDEVENTS = "tests/unit/ingest/test_cloudevents.py"
RESULTS = "tests/unit/ingest/test_results.py"
PARSING = "tests/unit/ingest/test_parsing.py"
SLICES = "tests/unit/ingest/test_slices.py"
HOSTILE = "tests/integration/test_hostile.py"
BUDGET = "tests/unit/ingest/test_budget.py"
BODIES = "tests/unit/ingest/test_bodies.py"
PATHS = "tests/unit/ingest/test_paths.py"
CONNECTIONS = "tests/unit/ingest/test_connections.py"
PEERS = "tests/unit/ingest/test_peers.py"
SEATS = "tests/unit/ingest/test_seats.py"
TURNS = "tests/unit/ingest/test_turns.py"
REFUSALS = "tests/unit/ingest/test_refusals.py"
WARM_UP = "tests/unit/targets/test_warm_up.py"
BROWSERS = "tests/unit/ingest/test_browsers.py"
BINDINGS = "tests/unit/ingest/test_bindings.py"
IDENTITIES = "tests/unit/ingest/test_deduplication.py"
ADMIN = "tests/unit/admin/test_server.py"
DIRECTORY = "tests/unit/storage/test_directory.py"
LETTERS = "tests/unit/test_dead_letters.py"
CORE_DUMPS = "tests/integration/test_core_dumps.py"
PROJECTS = "tests/unit/apis/test_put_project_events.py"
CHECKS = "tests/unit/config/test_checks.py"


@dataclass(frozen=True)
class Mutation:
    """``changes``: (before, after) pairs in ``file``. ``words``: pytest's ``-k`` for ``tests``."""

    name: str
    file: str
    changes: tuple[tuple[str, str], ...]
    tests: str
    words: str = ""


def mutation(name: str, file: str, before: str, after: str, tests: str, words: str = "") -> Mutation:
    return Mutation(name, file, ((before, after),), tests, words)


MUTATIONS = [
    mutation(
        "buses: a denied bus that was deleted is probed",
        "forwarder/targets/buses.py",
        "            self.barred.discard(name)\n            self.deliveries.deny(name)\n",
        "            self.deliveries.deny(name)\n",
        "tests/unit/targets/test_buses.py",
        "denied_and_then_deleted",
    ),
    mutation(
        "credentials: a program's children in other sessions live on",
        "forwarder/targets/program.py",
        "    _kill_children()\n",
        "",
        "tests/unit/targets/test_program.py",
        "session_of_its_own",
    ),
    mutation(
        "lines: nobody counts the values of a long line",
        "forwarder/ingest/dialects/lines.py",
        "    while len(found) <= most:\n",
        "    while True:\n",
        "tests/unit/ingest/test_large_bodies.py",
        "long_line",
    ),
    mutation(
        "disk: a worker gives up what a doubted clock aged",
        "forwarder/delivery/worker.py",
        "if now >= self.queue.expires_from:",
        "if True:",
        "tests/unit/test_worker.py",
        "doubted_clock",
    ),
    mutation(
        "storage: a deleted file is noticed by nobody",
        "forwarder/storage/identity.py",
        "if identity(path) != known]",
        "if False]",
        "tests/unit/storage/test_replaced.py",
        "right_before_the_close",
    ),
    mutation(
        "storage: another file's log is our own",
        "forwarder/storage/held.py",
        "            self._take_away_own_log()\n",
        "            pass\n",
        "tests/unit/storage/test_replaced.py",
        "another_file",
    ),
    mutation(
        "clock: a step is believed",
        "forwarder/clock.py",
        "        if abs(moved) < STEP_SECONDS:\n",
        "        if True:\n",
        "tests/unit/test_dead_letters.py",
        "a_step_of_the_wall_clock",
    ),
    mutation(
        "clock: letters of this boot are aged by the wall clock",
        "forwarder/dead_letters/store.py",
        "            return self.now - since\n",
        "            pass\n",
        "tests/unit/test_dead_letters.py",
        "step_of_the_wall_clock or perhaps_not",
    ),
    mutation(
        "clock: events of an earlier boot expire at once",
        "forwarder/queues/disk.py",
        "            self.expires_from = now + KEPT_SECONDS\n",
        "            pass\n",
        "tests/unit/queues/test_disk.py",
        "of_an_earlier_boot_expires",
    ),
    mutation(
        "log: what is behind the damage is not read",
        "forwarder/storage/damaged.py",
        "        if log is not None and log.last:\n",
        "        if False:\n",
        "tests/unit/storage/test_wal.py",
        "most_of_what_is_behind",
    ),
    mutation(
        "log: a torn end is called damage",
        "forwarder/storage/wal.py",
        "proven |= frame.follows and not crashed and number > first",
        "proven |= number > first",
        "tests/unit/storage/test_wal.py",
        "only_some_pages",
    ),
    mutation(
        "a retry is dropped",
        "forwarder/delivery/worker.py",
        "        fate.retry.append(event)\n",
        "        fate.delivered.append(event)\n",
        FAULTS,
        "test_every_event_arrives and 503",
    ),
    mutation(
        "a half of a refused batch is dropped",
        "forwarder/delivery/worker.py",
        "        return Fate(parts=[events[:middle], events[middle:]])\n",
        "        return Fate(parts=[events[:middle]], delivered=events[middle:])\n",
        FAULTS,
        "test_one_poison and others",
    ),
    mutation(
        "the first refusal blames the event, not the envelope",
        "forwarder/delivery/worker.py",
        "    if lesson.proven:\n",
        "    if True:\n",
        FAULTS,
        "test_an_envelope",
    ),
    mutation(
        "events that are set aside have no share of the queue",
        "forwarder/queues/shares.py",
        "        if not self._names.has_share(name) or self._fits(self._all, events, size):\n",
        "        if True:\n",
        ASIDE,
        "tenth",
    ),
    mutation(
        "the share is twice as large",
        "forwarder/queues/shares.py",
        "SHARE = 10\n",
        "SHARE = 5\n",
        ASIDE,
        "tenth or byte or quarter",
    ),
    mutation(
        "a peer alone may go beyond the share",
        "forwarder/queues/shares.py",
        "        return peers > 1 and held[0]",
        "        return held[0]",
        ASIDE,
        "tenth",
    ),
    mutation(
        "a greedy peer's use of the share shuts out the others",
        "forwarder/queues/shares.py",
        "        if self._is_below_its_part(peer) and self._fits(used, events, size, HARD):\n",
        "        if False:\n",
        ASIDE,
        "quarter",
    ),
    mutation(
        "what is on its way to the disk does not count in the share",
        "forwarder/queues/disk.py",
        "        self._share(parts, 1)\n",
        "",
        ASIDE,
        "on_its_way",
    ),
    mutation(
        "events leave memory although they could not be parked",
        "forwarder/queues/parking.py",
        "            if not failed:\n",
        "            if True:\n",
        PARKING,
        "full_disk",
    ),
    mutation(
        "events are parked and stay where they were on the disk",
        "forwarder/queues/parking.py",
        "rows.insertion(parts, removal_for(events, self._held.of))",
        "rows.insertion(parts, None)",
        PARKING,
        "each_event_once",
    ),
    mutation(
        "an entry of the set-aside table is believed whatever row has its place",
        "forwarder/queues/rows.py",
        "        if row == row_crc and crc ==",
        "        if crc ==",
        PARKING,
        "another_row",
    ),
    mutation(
        "what comes while a name is released overtakes what waited",
        "forwarder/queues/front.py",
        "if not is_open(name, first) or name in going}\n",
        "if not is_open(name, first)}\n",
        ASIDE,
        "goes_behind",
    ),
    mutation(
        "what comes back from a worker goes behind what was set aside after it",
        "forwarder/queues/front.py",
        "self._set_apart(events, closed, sealed=sealed, part=part, back=True)",
        "self._set_apart(events, closed, sealed=sealed, part=part)",
        ASIDE,
        "probe",
    ),
    mutation(
        "a release takes all out in one turn",
        "forwarder/queues/releasing.py",
        "STEP_EVENTS = 2000\n",
        "STEP_EVENTS = 10**9\n",
        ASIDE,
        "bounded_number",
    ),
    mutation(
        "a purge takes what is in flight",
        "forwarder/queues/front.py",
        "        wanted = self._forming.remove(is_wanted, most)\n",
        "        wanted = self._forming.remove(is_wanted, most) + list(self._taken.values())\n",
        PURGING,
        "in_flight",
    ),
    mutation(
        "a purge drops the oldest dead letters for those that have no room",
        "forwarder/dead_letters/store.py",
        "            if _kept(connection) > max_bytes:\n",
        "            if False:\n",
        PURGING,
        "no_room",
    ),
    mutation(
        "a large put is added in one turn",
        "forwarder/queues/memory.py",
        "SLICE_EVENTS = 4096\n",
        "SLICE_EVENTS = 10**9\n",
        ASIDE,
        "no_turn_adds",
    ),
    mutation(
        "a large put enters the front in one turn when it is committed",
        "forwarder/queues/disk.py",
        "ENTER_EVENTS = 8192\n",
        "ENTER_EVENTS = 10**9\n",
        ASIDE,
        "no_turn_adds",
    ),
    mutation(
        "a large put reserves no room for its later slices",
        "forwarder/queues/memory.py",
        "        self._pending_events += len(events)\n",
        "",
        ASIDE,
        "room_before",
    ),
    mutation(
        "one entry too many in a batch",
        "forwarder/queues/forming.py",
        "            if len(group.events) >= max_events:\n",
        "            if len(group.events) > max_events:\n",
        QUEUES,
    ),
    mutation(
        "one byte too many in a batch",
        "forwarder/queues/forming.py",
        "group.size + event.size > max_bytes:\n",
        "group.size + event.size > max_bytes + 1:\n",
        QUEUES,
    ),
    mutation(
        "one byte too many in a batch that is filled up",
        "forwarder/queues/forming.py",
        "            if size > self._limits.max_bytes:\n",
        "            if size > self._limits.max_bytes + 1:\n",
        QUEUES,
    ),
    mutation(
        "AWS's limit in bytes is off by one",
        "forwarder/apis/put_events.py",
        "DEFAULT_MAX_REQUEST_BYTES = 1_048_575\n",
        "DEFAULT_MAX_REQUEST_BYTES = 1_048_576\n",
        PUT_EVENTS,
    ),
    mutation(
        "the errors of entries are ignored",
        "forwarder/apis/wire.py",
        "    if code:\n        message = entry.get(names.message)",
        "    if False:\n        message = entry.get(names.message)",
        PUT_EVENTS,
        "answer",
    ),
    mutation(
        "FailedEntryCount is ignored",
        "forwarder/apis/wire.py",
        "    return None if counted > shown else outcomes\n",
        "    return outcomes\n",
        PUT_EVENTS,
        "answer",
    ),
    mutation(
        "a wrong number of results is taken",
        "forwarder/apis/wire.py",
        "    if not isinstance(entries, list) or len(entries) != count:\n        return None\n",
        "    if not isinstance(entries, list):\n        return None\n    entries = (entries * 99)[:count]\n",
        FAULTS,
        "test_every_event_arrives and results",
    ),
    mutation(
        "a counter line is deleted: delivered",
        "forwarder/metrics/numbers.py",
        "            self.delivered += delivered\n",
        "",
        LEDGER,
    ),
    mutation(
        "a counter line is deleted: received",
        "forwarder/queues/memory.py",
        "            self._add(events, complete)\n"
        "            self._metrics.add_accepted(len(events), sum(event.size for event in events))\n",
        "            self._add(events, complete)\n",
        LEDGER,
    ),
    mutation(
        "expired events are not counted",
        "forwarder/delivery/worker.py",
        "        lane.metrics.settled(dead=Counter(each.reason for each in dead))\n",
        "",
        HOLDS,
        "test_events_that_grow_too_old",
    ),
    mutation(
        "losses at the stop are not counted",
        "forwarder/daemon/process.py",
        '                lane.metrics.settled(dropped={"shutdown": lost})\n',
        "                pass\n",
        STOP,
        "unreachable",
    ),
    mutation(
        "a cancel is swallowed in a call",
        "forwarder/targets/aws.py",
        "        except Exception as error:\n            if not called",
        "        except BaseException as error:\n            if not called",
        TARGETS,
        "cancelling",
    ),
    mutation(
        "a cancelled worker takes its wake-up with it",
        "forwarder/queues/front.py",
        "            else:  # the word had come already: it belongs to another worker now\n"
        "                self._wake(self._clock.monotonic())\n",
        "",
        QUEUES,
        "cancelled",
    ),
    Mutation(
        "events are settled before they are sent",
        "forwarder/delivery/worker.py",
        (
            (
                "            results = await lane.target.send(batch)\n",
                "            lane.queue.settle(batch.events)\n"
                "            results = await lane.target.send(batch)\n",
            ),
            (
                "        lane.queue.settle("
                "fate.delivered, fate.retry, fate.parts, fate.aside, part=batch.part)\n",
                "        again = [*fate.retry, *(e for part in fate.parts + fate.aside for e in part)]\n"
                "        await lane.queue.put(again)\n",
            ),
        ),
        LEDGER,
    ),
    mutation(
        "a dead letter leaves the queue before it is written",
        "forwarder/delivery/worker.py",
        "        problem = await _keep(lane, some)\n",
        "        problem = await _keep(lane, some)\n        if problem is not None:\n"
        "            lane.queue.settle(gone=[each.event for each in some])\n            problem = None\n",
        HOLDS,
        "cannot_be_written and eventbridge",
    ),
    mutation(
        "the gate never closes",
        "forwarder/delivery/gate.py",
        "        state = _CLOSED_STATES[results.status]\n",
        "        state = _CLOSED_STATES[results.status]\n        return\n",
        GATE,
    ),
    mutation(
        "more calls than the limit pass at once",
        "forwarder/delivery/gate.py",
        'slots.limit if self._state == "open" else slots.most',
        "slots.most",
        GATE,
        "at_once",
    ),
    mutation(
        "calls that began before the limit fell let it fall again",
        "forwarder/delivery/concurrency.py",
        "        if round_ == self._round:\n            self._fall",
        "        if True:\n            self._fall",
        SLOTS,
        "counts_once",
    ),
    mutation(
        "slow calls never make the limit fall",
        "forwarder/delivery/concurrency.py",
        "        if seconds <= self._usual * SLOW:\n",
        "        if True:\n",
        SLOTS,
        "finds_the_fewest",
    ),
    mutation(
        "a slower service starves us",
        "forwarder/delivery/concurrency.py",
        "        if self._vain_falls == VAIN_FALLS:\n",
        "        if False:\n",
        SLOTS,
        "starve",
    ),
    mutation(
        "the limit grows while nobody is held back",
        "forwarder/delivery/concurrency.py",
        "        if self._most_taken >= self.limit:  # else",
        "        if True:  # else",
        SLOTS,
        "holds_nobody_back",
    ),
    mutation(
        "a hold that is news ends the drain",
        "forwarder/delivery/gate.py",
        'self._draining and state == self._state == "held"',
        'self._draining and state == "held"',
        STOP,
        "expire_during",
    ),
    mutation(
        "a hold never ends",
        "forwarder/delivery/gate.py",
        "            return min(options.probe_cap, options.probe * 2.0 ** min(self._failures - 1, 32))\n",
        "            return 3600.0\n",
        HOLDS,
        "credentials_that_change",
    ),
    mutation(
        "put ignores the bounds",
        "forwarder/queues/bounds.py",
        "        if held_events + events > self.max_events or held_bytes + size > self.max_bytes:\n",
        "        if False:\n",
        QUEUES,
        "full or bound",
    ),
    mutation(
        "one event too many in the queue",
        "forwarder/queues/bounds.py",
        "        if held_events + events > self.max_events or",
        "        if held_events + events > self.max_events + 1 or",
        QUEUES,
        "full or bound",
    ),
    mutation(
        "one byte too many in the queue",
        "forwarder/queues/bounds.py",
        "held_bytes + size > self.max_bytes:\n",
        "held_bytes + size > self.max_bytes + 1:\n",
        QUEUES,
        "full or bound",
    ),
    mutation(
        "events in flight are forgotten at the stop",
        "forwarder/queues/front.py",
        "        left = [*self._taken.values(), *self._forming, *self.aside]\n",
        "        left = [*self._forming, *self.aside]\n",
        STOP,
        "died",
    ),
    mutation(
        "taken events are outside the bound",
        "forwarder/queues/memory.py",
        "        self._bounds.check(events, size, len(self) + self._pending_events, held_bytes)\n",
        "        self._bounds.check(events, size, self._front.waiting_events, held_bytes)\n",
        QUEUES,
        "full or bound",
    ),
    mutation(
        "the trouble of one bus holds the others",
        "forwarder/delivery/gate.py",
        "        return last is not None and self._clock.monotonic() - last < window\n",
        "        return False\n",
        GATE,
        "part",
    ),
    mutation(
        "what stepped aside is tried first",
        "forwarder/queues/forming.py",
        "                self._due.append(group)\n\n    def _join",
        "                self._due.appendleft(group)\n\n    def _join",
        QUEUES,
        "aside",
    ),
    mutation(
        "events for a bus that is gone are sent",
        "forwarder/targets/questions.py",
        "        return Answer.MISSING\n",
        "        return Answer.EXISTS\n",
        EVENTBRIDGE,
        "deleted or missing",
    ),
    mutation(
        "a bus that is not known yet is taken to exist",
        "forwarder/targets/buses.py",
        "        return not self._is_elsewhere(name)\n",
        "        return name in self._missing\n",
        BUSES,
        "unknown_is_not_exists",
    ),
    mutation(
        "nobody knows is taken for a yes",
        "forwarder/targets/questions.py",
        "if results.status is CallStatus.REFUSED else Answer.UNANSWERED\n",
        "if results.status is CallStatus.REFUSED else Answer.EXISTS\n",
        EVENTBRIDGE,
        "nobody_knows",
    ),
    mutation(
        "a configured bus counts against the share",
        "forwarder/targets/buses.py",
        "_is_closed(name) or name in self._configured or name in self._also_configured:\n",
        "_is_closed(name):\n",
        BUSES,
        "share",
    ),
    mutation(
        "an outage shrinks the queue to the share",
        "forwarder/targets/buses.py",
        "        return self.is_answering(now) and not (",
        "        return not (",
        BUSES,
        "outage",
    ),
    mutation(
        "a peer with many questions goes first",
        "forwarder/targets/turns.py",
        "                self._peers.move_to_end(peer)\n",
        "",
        NAME_TURNS,
        "turns",
    ),
    mutation(
        "a peer's questions have no rate",
        "forwarder/targets/turns.py",
        "                own.bucket.take(now)\n",
        "",
        NAME_TURNS,
        "hundred",
    ),
    mutation(
        "an endpoint that does not know the question is not sent to",
        "forwarder/targets/questions.py",
        "        return Answer.UNASKABLE\n",
        "        return Answer.UNANSWERED\n",
        EVENTBRIDGE,
        "nobody_can_verify",
    ),
    mutation(
        "verified names do not survive a restart",
        "forwarder/targets/remembered.py",
        "            dict(names),\n",
        "            {},\n",
        NAMES,
        "survive",
    ),
    mutation(
        "what was delivered while the question was under way is confirmed by its answer",
        "forwarder/targets/unconfirmed.py",
        "max(0, events - asked.events)",
        "0",
        UNCONFIRMED_UNIT,
        "under_way",
    ),
    mutation(
        "calls that end after the bad answer are not counted",
        "forwarder/targets/buses.py",
        "            self.deliveries.add_late(name, events)\n",
        "",
        UNCONFIRMED_UNIT,
        "after_the_bad_answer",
    ),
    mutation(
        "unconfirmed deliveries do not survive a restart",
        "forwarder/targets/remembered.py",
        "        self._names.deliveries.restore(stored.counts, stored.names, complete=stored.complete)\n",
        "",
        UNCONFIRMED,
        "survives_a_restart",
    ),
    mutation(
        "after a kill a count is said to be exact",
        "forwarder/targets/remembered.py",
        '        connection.execute(_WRITE_COUNT, (target, "", place, wall, 0, 0))\n',
        '        connection.execute(_WRITE_COUNT, (target, "", place, wall, 0, 1))\n',
        UNCONFIRMED,
        "after_a_kill",
    ),
    mutation(
        "one foreign answer makes an endpoint that cannot be asked",
        "forwarder/targets/questions.py",
        "            if has_answered or self._doubts < DOUBTS:\n",
        "            if has_answered:\n",
        BUSES,
        "third_foreign_answer",
    ),
    mutation(
        "one denial opens a missing bus",
        "forwarder/targets/buses.py",
        "        if denials and denials < DOUBTS:\n",
        "        if False:\n",
        BUSES,
        "denied_three_times",
    ),
    mutation(
        "events beyond the share are accepted",
        "forwarder/ingest/shares.py",
        "    return await _refuse(route, drafts, limited, peer) if limited else drafts\n",
        "    return drafts\n",
        NAMES,
        "beyond_the_share",
    ),
    mutation(
        "every batch of a missing app monitor is tried",
        "forwarder/delivery/worker.py",
        "        for name in heard.closed:\n            self.queue.set_aside(name)\n",
        "",
        HOLDS,
        "missing_app_monitors",
    ),
    mutation(
        "a stop waits for what is set aside",
        "forwarder/delivery/worker.py",
        "        if self.queue.sendable:\n",
        "        if len(self.queue):\n",
        NAMES,
        "hold_up_a_stop",
    ),
    mutation(
        "redirects are followed",
        "forwarder/targets/session.py",
        "allow_redirects=False",
        "allow_redirects=True",
        FAULTS,
        "redirects",
    ),
    mutation(
        "redirects are followed on the fast path",
        "forwarder/targets/fast_path.py",
        "allow_redirects=False",
        "allow_redirects=True",
        TARGETS,
        "redirect",
    ),
    mutation(
        "the session token is not signed",
        "forwarder/targets/fast_path.py",
        "**{name.lower(): value for name, value in own.items()}",
        '"x-amz-date": moment',
        FAST_PATH,
        "botocore",
    ),
    mutation(
        "the key of one day signs the next",
        "forwarder/targets/fast_path.py",
        "        if day != self._day:\n",
        "        if not self._day:\n",
        FAST_PATH,
        "key_of_a_day",
    ),
    mutation(
        "one second's signature serves for ever",
        "forwarder/targets/fast_path.py",
        "        if second != self._second:\n",
        "        if self._second < 0:\n",
        FAST_PATH,
        "key_of_a_day",
    ),
    mutation(
        "refreshed credentials do not sign",
        "forwarder/targets/fast_path.py",
        "        if keys != self._keys:\n",
        "        if self._keys is None:\n",
        FAST_PATH,
        "refreshed",
    ),
    mutation(
        "the signature is not compared with the SDK's",
        "forwarder/targets/fast_path.py",
        '        if headers["Authorization"] != seen.headers[_AUTHORIZATION]:\n',
        "        if False:\n",
        FAST_PATH,
        "signature_differs",
    ),
    mutation(
        "a proxy is bypassed",
        "forwarder/targets/fast_path.py",
        "        if self.proxied:\n",
        "        if False:\n",
        FAST_PATH,
        "proxy",
    ),
    mutation(
        "an answer is read without end",
        "forwarder/targets/fast_path.py",
        "        if len(body) > MAX_ANSWER_BYTES:\n",
        "        if False:\n",
        FAST_PATH,
        "without_end",
    ),
    mutation(
        "the SDK's rehearsal is sent",
        "forwarder/targets/fast_path.py",
        "            raise _Rehearsed\n",
        "            return\n",
        TARGETS,
        "one_call",
    ),
    mutation(
        "a call keeps the SDK's invocation id",
        "forwarder/targets/fast_path.py",
        ', "amz-sdk-invocation-id", "amz-sdk-request"}',
        "}",
        FAST_PATH,
        "two_calls_are_one",
    ),
    mutation(
        "ready is said before it listens",
        "forwarder/daemon/serving.py",
        "        await daemon.start()\n        pulse.ready()\n",
        "        pulse.ready()\n        await daemon.start()\n",
        MANAGER,
        "ready_is_said or cannot_start",
    ),
    mutation(
        "the watchdog is fed by a thread",
        "forwarder/daemon/serving.py",
        'loop.create_task(pulse.run(), name="pulse")',
        "loop.create_task(asyncio.to_thread(asyncio.run, pulse.run()))",
        MANAGER,
        "stands_still",
    ),
    mutation(
        "a daemon with a dead task is fed",
        "forwarder/daemon/watchdog.py",
        "            return ping if self._alive() else {}\n",
        "            return ping\n",
        NOTIFYING,
        "dead_task",
    ),
    mutation(
        "a stop asks for no more time",
        "forwarder/daemon/watchdog.py",
        "        return more_time | ping if ",
        "        return ping if ",
        MANAGER,
        "asks_for_time",
    ),
    mutation(
        "what a full notify socket missed is forgotten",
        "forwarder/daemon/service_manager.py",
        "            return  # it is busy, and hears this with the next word\n",
        "            pass\n",
        NOTIFYING,
        "is_full",
    ),
    mutation(
        "a task that died is not noticed",
        "forwarder/daemon/process.py",
        "        if task.cancelled() and self._cancelling:\n",
        "        if task.cancelled():\n",
        STOP,
        "died",
    ),
    mutation(
        "every origin is allowed",
        "forwarder/ingest/cors.py",
        'return origin if self._is_allowed(origin) else ""\n',
        "return origin\n",
        CORS,
    ),
    mutation(
        "a wildcard allows what only ends alike",
        "forwarder/ingest/cors.py",
        'r"[a-z0-9._-]+\."',
        'r".*"',
        CORS,
    ),
    mutation(
        "a page cannot read an error",
        "forwarder/ingest/server.py",
        "        if cors is not None:\n",
        "        if cors is not None and response.status < 300:\n",
        PASSING,
    ),
    mutation(
        "a full queue is a 403",
        "forwarder/ingest/dialects/errors.py",
        "return BadRequest(429, THROTTLING, message",
        "return BadRequest(403, THROTTLING, message",
        PASSING,
    ),
    mutation(
        "a beacon's region is not looked at",
        "forwarder/ingest/aws_operations.py",
        "region = self._presigned_for or _region(headers)\n",
        "region = _region(headers)\n",
        PASSING,
    ),
    mutation(
        "a merged batch keeps a client's BatchId",
        "forwarder/apis/put_rum_events.py",
        "            envelope.BatchId = None\n",
        "            pass\n",
        MERGING,
    ),
    mutation(
        "a merged batch is joined with others when it is tried again",
        "forwarder/targets/rum.py",
        ", whole=True)",
        ", whole=False)",
        MERGE,
        "whatever_came",
    ),
    mutation(
        "a put on disk is ours before it is committed",
        "forwarder/queues/disk.py",
        "            await asyncio.shield(writing)\n",
        "            await asyncio.sleep(0)\n",
        DISK,
    ),
    Mutation(
        "a put is ours before its commit, from outside",
        "forwarder/queues/disk.py",
        (
            (
                "submit(rows.insertion(parts, removal))\n",
                "submit(rows.insertion(parts, removal), within=0.2)\n",
            ),
            ("            await asyncio.shield(writing)\n", "            await asyncio.sleep(0)\n"),
        ),
        TORTURE,
    ),
    mutation(
        "what is taken leaves the disk, from outside",
        "forwarder/queues/disk.py",
        "        batch = self._front.take()\n",
        """\
        batch = self._front.take()
        places = {self._rows[event.id].place for event in batch.events} if batch else set()
        self._storage.submit(lambda connection: rows.delete(connection, places))
""",
        TORTURE,
    ),
    mutation(
        "a put is answered before its commit",
        "forwarder/storage/owner.py",
        "            done, wrote = transaction(self._connection, group)\n",
        "            self._tell([Done(job.future, None, None) for job in group])\n"
        "            done, wrote = transaction(self._connection, group)\n",
        STORAGE,
        "fails_to_write or mistake_in_a_job",
    ),
    mutation(
        "commits are not synced",
        "forwarder/storage/connection.py",
        'PRAGMA synchronous = FULL")',
        'PRAGMA synchronous = OFF")',
        "tests/unit/storage/test_file.py",
        "synchronous",
    ),
    mutation(
        "a dead letter is kept without its removal",
        "forwarder/dead_letters/store.py",
        "            if removal is not None:\n                removal(connection)  # first",
        "            if False:\n                removal_for(connection)  # first",
        DISK,
        "one_transaction",
    ),
    mutation(
        "a mark forgets what was settled before",
        "forwarder/queues/rows.py",
        "    bitmap = (known | said).to_bytes(",
        "    bitmap = said.to_bytes(",
        DISK,
        "part",
    ),
    mutation(
        "a full disk keeps its ballast",
        "forwarder/storage/owner.py",
        "        if self._connection.disk_is_full or not self._ballast.disk_is_full:\n",
        "        if True:\n",
        TROUBLE,
        "costs_the_ballast",
    ),
    mutation(
        "nothing is saved of a damaged file",
        "forwarder/storage/file.py",
        "            for rescue in rescues:\n",
        "            for rescue in ():\n",
        TROUBLE,
        "page_of_zeros",
    ),
    mutation(
        "a replay forgets the event",
        "forwarder/control/operations.py",
        "            await target.queue.take_back(events, removal(ids))\n",
        "            await self._letters.remove(ids)\n",
        CONTROL,
        "replayed_events and disk and rum",
    ),
    mutation(
        "a replay does not ask whether the letter is still there",
        "forwarder/dead_letters/store.py",
        ".rowcount != len(every):\n",
        ".rowcount < 0:\n",
        REPLAY,
        "vanished",
    ),
    mutation(
        "a replay tears a client's batch",
        "forwarder/control/operations.py",
        " or not batch_of(letter.key)):\n",
        " or True):\n",
        REPLAY,
        "batch",
    ),
    mutation(
        "the bitmap of settled events is ignored",
        "forwarder/queues/rows.py",
        "        if item is not None and not gone >> index & 1:\n",
        "        if item is not None:\n",
        DISK,
        "part",
    ),
    mutation(
        "the checksum of a row is ignored",
        "forwarder/queues/rows.py",
        " if crc == _checksum(head, payload) else []\n",
        "\n",
        DISK,
        "damaged",
    ),
    mutation(
        "a write of settled events that failed is forgotten",
        "forwarder/queues/settling.py",
        "                self._changed.setdefault(row.place, row)\n",
        "                pass\n",
        DISK,
        "failed",
    ),
    mutation(
        "puts overtake what waits on the disk",
        "forwarder/queues/disk.py",
        "        if now and self._has_room(head.bytes) and not self._has_tail and not self._closed:\n",
        "        if now and self._has_room(head.bytes) and not self._closed:\n",
        DISK,
        "overtake",
    ),
    mutation(
        "old totals are used after a crash",
        "forwarder/queues/rows.py",
        '    connection.execute("DELETE FROM queue_totals WHERE number = ?", (number,))\n',
        "",
        DISK,
        "totals",
    ),
    mutation(
        "ages of rows of this boot are told by the wall clock",
        "forwarder/queues/rows.py",
        "    same = boot and known and known[1] == boot\n",
        "    same = False\n",
        TIME,
        "while_the_daemon_is_down",
    ),
    mutation(
        "throttling counts as an attempt",
        "forwarder/delivery/worker.py",
        "    elif results.status is CallStatus.UNAVAILABLE and results.called:\n",
        "    elif results.status is not CallStatus.HELD:\n",
        TIME,
        "an_hour_of_throttling and memory",
    ),
    mutation(
        "a call that was never made counts as one of unknown fate",
        "forwarder/targets/translation.py",
        "    return msgspec.structs.replace(results, called=False)\n",
        "    return results\n",
        BROKEN_SOURCES,
        "role and denied",
    ),
    mutation(
        "a client whose credentials are no good is kept",
        "forwarder/targets/aws.py",
        "            if client is not None and self._speaks_against(",
        "            if client is not None and False and self._speaks_against(",
        CREDENTIALS,
        "ended_early and role",
    ),
    mutation(
        "a credential program leaves behind what it started",
        "forwarder/targets/program.py",
        "            os.killpg(process.pid, signal.SIGKILL)",
        "            process.kill()",
        BROKEN_SOURCES,
        "program and hangs and not profile",
    ),
    mutation(
        "a program of a source profile is not ended in time",
        "forwarder/targets/sources.py",
        "            provider._profile_provider_builder = builder",
        "            _ = builder",
        BROKEN_SOURCES,
        "source and profile and hangs",
    ),
    mutation(
        "a daemon asks for an MFA code",
        "forwarder/targets/sources.py",
        "            provider._prompter = _no_prompt\n",
        "            pass\n",
        BROKEN_SOURCES,
        "MFA",
    ),
    mutation(
        "one denied app monitor costs all of them their client",
        "forwarder/targets/aws.py",
        "        return not (taken and results.code in ACCESS_DENIED)\n",
        "        return True\n",
        TRUST_OF_SOURCES,
        "denied_app_monitor",
    ),
    mutation(
        "STS is asked without the target's region",
        "forwarder/targets/sources.py",
        "create_credential_resolver(session, region_name=region)",
        "create_credential_resolver(session)",
        TRUST_OF_SOURCES,
        "region_that and web and us-east-2",
    ),
    mutation(
        "keys of the environment are said to need no restart",
        "forwarder/targets/translation.py",
        "    if known in OF_CREDENTIALS and (cure := renewal_of(source)):",
        "    if known in () and (cure := renewal_of(source)):",
        "tests/integration/test_broken_credentials.py",
        "ask_for_a_restart",
    ),
    mutation(
        "events that are parsed are not reserved",
        "forwarder/ingest/budget.py",
        "        self.take(count * PARSED_EVENT_BYTES)\n",
        "        pass\n",
        "tests/unit/ingest/test_bodies.py",
        "memory_of_the_events",
    ),
    mutation(
        "a sender is told of a dead letter that is not kept yet",
        "forwarder/delivery/worker.py",
        "            await bury(lane, dead)\n            lane.receipts.tell_dead(dead)\n        del",
        "            lane.receipts.tell_dead(dead)\n            await bury(lane, dead)\n        del",
        ACK,
        "kept",
    ),
    mutation(
        "every event of an answered call is said to be delivered",
        "forwarder/receipts.py",
        "            if outcome.kind is Kind.DELIVERED and (wait",
        "            if (wait",
        ACK,
        "retry or aws_answer",
    ),
    mutation(
        "a wait that ends leaves its ids",
        "forwarder/receipts.py",
        "        self.forget(list(self._untold))\n",
        "        self._untold.clear()\n",
        ACK,
        "wait_ends_first",
    ),
    mutation(
        "a refusal is remembered",
        "forwarder/ingest/idempotency.py",
        "            self._repeats.forget(self)\n",
        "",
        REPEATS,
        "refusal",
    ),
    mutation(
        "a request that comes twice is taken twice",
        "forwarder/ingest/exchange.py",
        "        if attempt is not None and repeated:\n",
        "        if False:\n",
        REPEATS,
        "same_request",
    ),
    mutation(
        "another body with the same key is a repeat",
        "forwarder/ingest/idempotency.py",
        "                if known.digest != digest:\n",
        "                if False:\n",
        REPEATS,
        "another_body",
    ),
    mutation(
        "whoever has the same key gets another sender's answer",
        "forwarder/ingest/exchange.py",
        "        scope = (lease.peer, operation.label, ",
        "        scope = (operation.label, ",
        REPEATS,
        "sender",
    ),
    mutation(
        "a signature is not compared",
        "forwarder/ingest/auth/signature.py",
        "    return compare_digest(expected.hex(), claim.signature)\n",
        "    return True\n",
        SIGNATURES,
        "flipped",
    ),
    mutation(
        "the body's hash is believed",
        "forwarder/ingest/auth/signature.py",
        "        if not compare_digest(claim.content_hash, content_hash):\n",
        "        if False:\n",
        SIGNATURES,
        "flipped and body",
    ),
    mutation(
        "a header of AWS need not be signed",
        "forwarder/ingest/auth/signature.py",
        "    if unsigned := sorted(_must_be_signed(request.headers) - signed):\n",
        "    if unsigned := []:\n",
        SIGNATURES,
        "not_signed",
    ),
    mutation(
        "a presigned URL never ends",
        "forwarder/ingest/auth/signature.py",
        "    if signed_at + (skew if claim.lifetime is None else claim.lifetime) < now:\n",
        "    if claim.lifetime is None and signed_at + skew < now:\n",
        SIGNATURES,
        "presigned",
    ),
    mutation(
        "a session token is not looked at",
        "forwarder/ingest/auth/signature.py",
        " or not compare_digest(_bytes(claim.session_token), key.session_token.encode())",
        "",
        SIGNATURES,
        "session_token",
    ),
    mutation(
        "any token will do",
        "forwarder/ingest/auth/tokens.py",
        "            if compare_digest(digest, known):\n",
        "            if True:\n",
        TOKENS,
        "flipped",
    ),
    mutation(
        "senders share the answers to their keys",
        "forwarder/ingest/exchange.py",
        "(lease.peer, operation.label, call",
        "(operation.label, call",
        GUARD,
        "told_apart",
    ),
    mutation(
        "peers do not take turns in slices",
        "forwarder/ingest/slices.py",
        "        self._paused.add(peer, pause)\n",
        '        self._paused.add("", pause)\n',
        SLICES,
    ),
    mutation(
        "large bodies begin however long the turn is",
        "forwarder/ingest/slices.py",
        "        if size > BODY_OF_SOME_SIZE and _turns().are_used_up():\n",
        "        if False:\n",
        SLICES,
    ),
    mutation(
        "the memory of a name set aside is not counted",
        "forwarder/queues/front.py",
        "self.taken_bytes + self.aside.names_bytes",
        "self.taken_bytes",
        ASIDE,
        "names_hold",
    ),
    mutation(
        "a signed body is judged when it is unpacked",
        "forwarder/ingest/bodies.py",
        "    if check is not None:\n        check(body)\n",
        "    if check is not None:\n        check(b"
        ".join(unpack(codings[0], body, lease, max_body)) if codings else body)\n",
        GUARD,
        "packed",
    ),
    mutation(
        "a packed body may be cut inside its data",
        "forwarder/ingest/unpacking.py",
        "                if not self._lacks_only_checksum(stream):\n",
        "                if False:\n",
        BODIES,
        "unpack_is_400",
    ),
    mutation(
        "what follows a packed body is not looked at",
        "forwarder/ingest/unpacking.py",
        '            if self._packed[at : at + STEP].strip(b"\\0"):\n',
        "            if False:\n",
        BODIES,
        "unpack_is_400",
    ),
    mutation(
        "only the first Content-Encoding counts",
        "forwarder/ingest/bodies.py",
        "headers.getall(ENCODING) if isinstance(headers, MultiMapping) else [value]",
        "[value]",
        BODIES,
        "however_it_is_written",
    ),
    mutation(
        "an endpoint needs its last slash",
        "forwarder/ingest/paths.py",
        "        if target is None:\n",
        '        if target is None or not path.endswith("/"):\n',
        PATHS,
        "any_path",
    ),
    mutation(
        "a header overrides the path",
        "forwarder/ingest/paths.py",
        '        if path != "/" and (found',
        "        if TARGET_HEADER not in request.headers and (found",
        PATHS,
        "never_makes",
    ),
    mutation(
        "a large event of a RUM call costs its neighbours",
        "forwarder/ingest/aws_operations.py",
        "if isinstance(draft, Refusal) and draft.reason != TOO_LARGE:",
        "if isinstance(draft, Refusal):",
        "tests/unit/ingest/test_aws.py",
        "too_large",
    ),
    mutation(
        "certificates of clients are not asked for",
        "forwarder/ingest/auth/tls.py",
        "    context.verify_mode = ssl.CERT_REQUIRED\n",
        "    pass\n",
        TLS,
        "refused",
    ),
    mutation(
        "a bad file comes into force",
        "forwarder/ingest/auth/files.py",
        "        if not reading.problem:\n            self.value = reading.value\n",
        "        self.value = reading.value\n",
        SECRET_FILES,
        "last_good",
    ),
    mutation(
        "AWS's words are told with our keys in them",
        "forwarder/targets/aws.py",
        "        return without_secrets(words, (",
        "        return words or without_secrets(words, (",
        "tests/unit/targets/test_aws.py",
        "repeats",
    ),
    mutation(
        "the page takes texts for markup",
        "forwarder/admin/page/page.js",
        "  node.textContent = text;",
        "  node.innerHTML = text;",
        "tests/unit/admin/test_server.py",
    ),
    mutation(
        "a rate is over the time that should have passed",
        "forwarder/metrics/history.py",
        "max(ended - began, 1e-9)",
        "SAMPLE_SECONDS",
        "tests/unit/metrics/test_history.py",
    ),
    mutation(
        "health takes any answer for a good one",
        "forwarder/cli/health.py",
        "if status == 200 else",
        "if status else",
        "tests/unit/test_health.py",
    ),
    mutation(
        "the doctor mistakes a clock behind for one ahead",
        "forwarder/doctor/network.py",
        "if early > late else",
        "if late > early else",
        "tests/integration/test_doctor.py",
        "clock",
    ),
    mutation(
        "a body is parsed whatever it would hold",
        "forwarder/ingest/exchange.py",
        "                lease.check_parsing(body)\n",
        "",
        HOSTILE,
        "small_to_send",
    ),
    mutation(
        "any text is a JSON object",
        "forwarder/apis/wire.py",
        '        return "\\\\u" in text and _is_json_with_half_pairs(text)\n',
        "        return True\n",
        FUZZ,
    ),
    mutation(
        "a result is lost where events are taken apart",
        "forwarder/ingest/dialects/native.py",
        "        return [self._decode(raw) for raw in raws]\n",
        "        return [self._decode(raw) for raw in raws[:3]]\n",
        FUZZ,
    ),
    mutation(
        "broken entries: a quote with a letter behind it ends a string",
        "forwarder/apis/split.py",
        """|\\\\.)*+"(?=[\\s,:}\\]]|\\Z)'\n""",
        """|\\\\.)*+"'\n""",
        NEIGHBOURS,
        "nobody_knows",
    ),
    mutation(
        "broken entries: an unreadable entry of a small call costs all",
        "forwarder/ingest/dialects/aws.py",
        "    if unread and len(unread) == len(entries):\n",
        "    if unread:\n",
        NEIGHBOURS,
        "wrong_type",
    ),
    mutation(
        "half a surrogate pair: its stand-in stays in the Detail",
        "forwarder/apis/surrogates.py",
        '            pairs = [(old, (lower if old[:1] == b"d" else upper) + old[1:]) for old in found]\n',
        "            pairs = [(old, lower + old[1:]) for old in found]\n",
        NEIGHBOURS,
        "byte_for_byte",
    ),
    mutation(
        "CloudEvents: a URI in a header is decoded whole",
        "forwarder/ingest/dialects/cloudevents/attributes.py",
        "    if name in URIS:\n",
        "    if False:\n",
        CLOUDEVENTS,
        "uri",
    ),
    mutation(
        "CloudEvents: the two forms of an event are two events",
        "forwarder/ingest/dialects/cloudevents/identity.py",
        "        return binascii.a2b_base64(event.base64)\n",
        "        return event.base64.encode()\n",
        CLOUDEVENTS,
        "one_event",
    ),
    Mutation(
        "an array has as many events as it likes",
        "forwarder/ingest/dialects/arrays.py",
        (
            ("    if count > max_events:\n", "    if False:\n"),
            ("        if seen > max_events:\n", "        if False:\n"),
        ),
        LARGE,
        "more_events and (array or batch)",
    ),
    mutation(
        "a body has as many lines as it likes",
        "forwarder/ingest/dialects/native.py",
        "            if seen > self._max_events:\n",
        "            if False:\n",
        LARGE,
        "more_events and lines",
    ),
    mutation(
        "an event is read however long it is",
        "forwarder/ingest/dialects/arrays.py",
        "        if segment.single and (size > longest or segment.signs > most):\n",
        "        if False:\n",
        LARGE,
        "unread",
    ),
    mutation(
        "a text is decoded to be judged",
        "forwarder/apis/wire.py",
        "_raw = msgspec.json.Decoder(msgspec.Raw)\n",
        "_raw = msgspec.json.Decoder()\n",
        LARGE,
        "without_an_object",
    ),
    mutation(
        "every refused event has a sentence",
        "forwarder/ingest/dialects/results.py",
        "        if sentences < MAX_SENTENCES:\n",
        "        if True:\n",
        RESULTS,
    ),
    mutation(
        "a sentence is of any length",
        "forwarder/ingest/dialects/bounds.py",
        "    return message if len(message) <= MAX_MESSAGE else",
        "    return message if True else",
        RESULTS,
        "capped",
    ),
    mutation(
        "an entry has as many resources as it likes",
        "forwarder/apis/put_events.py",
        "        if len(entry.Resources) > MAX_RESOURCES:\n",
        "        if False:\n",
        LARGE,
        "resources",
    ),
    mutation(
        "another error than the dialect's own",
        "forwarder/ingest/dialects/broken.py",
        "UnicodeDecodeError, RecursionError, ",
        "UnicodeDecodeError, ",
        FUZZ,
    ),
    mutation(
        "a promised body is reserved at its head",
        "forwarder/ingest/bodies.py",
        "        _say_continue(request)\n        arrival",
        "        _say_continue(request)\n        lease.take(length or 0)\n        arrival",
        BODIES,
        "promise",
    ),
    mutation(
        "a body on its way keeps its memory whoever waits",
        "forwarder/ingest/bodies.py",
        "        lease.revocable(partial(self._end, taken_back()))\n",
        "",
        BODIES,
        "gives_its_memory",
    ),
    mutation(
        "no body is too slow",
        "forwarder/ingest/bodies.py",
        "        if self._size < (seconds - RATE_GRACE) * MIN_RATE:\n",
        "        if False:\n",
        BODIES,
        "least_rate",
    ),
    mutation(
        "unproven requests keep all they have",
        "forwarder/ingest/budget.py",
        "        excess = self.unproven - self.unproven_share if proven else 0\n",
        "        excess = 0\n",
        BUDGET,
        "unproven",
    ),
    mutation(
        "no bytes are spare for a peer that holds nothing",
        "forwarder/ingest/budget.py",
        "        return mine + size <= ORDINARY_BYTES and ",
        "        return False and ",
        BUDGET,
        "spare",
    ),
    mutation(
        "a lease ends with its handler",
        "forwarder/ingest/server.py",
        "            lease.keep(len(reply.body))  # until it is written\n",
        "            lease.keep(0)\n",
        CONNECTIONS,
        "in_the_budget_until",
    ),
    mutation(
        "who reads nothing is not cut off",
        "forwarder/ingest/connections.py",
        "        elif now - self._unread_since >= timeout:\n",
        "        elif False:\n",
        CONNECTIONS,
        "cut_off and reads_nothing",
    ),
    mutation(
        "no idle connection is closed for a new one",
        "forwarder/ingest/seats.py",
        "        now, mine = self._now(), len(self._by_peer.get(peer, ()))\n",
        "        return False\n",
        SEATS,
        "longest_idle",
    ),
    mutation(
        "a peer loses connections to one that holds more",
        "forwarder/ingest/seats.py",
        "            if len(self._by_peer[other]) < mine:\n                return None\n",
        "",
        SEATS,
        "loses_nothing",
    ),
    mutation(
        "a failed handshake keeps its place",
        "forwarder/ingest/handshakes.py",
        "        self._all.discard(handshake)\n        self._seats.give_back(handshake, handshake.peer)\n",
        "        self._all.discard(handshake)\n",
        TLS,
        "gives_its_place_back",
    ),
    mutation(
        "anybody's X-Forwarded-For is believed",
        "forwarder/ingest/server.py",
        "        if self._peers.is_proxy(connection.sender):\n",
        "        if True:\n",
        PEERS,
        "nobody_else",
    ),
    mutation(
        "overload: ingest takes all of the loop",
        "forwarder/ingest/turns.py",
        "        return not self._waiting and (self._credit > 0 or not self._sending())\n",
        "        return not self._waiting\n",
        TURNS,
    ),
    mutation(
        "overload: what ingest uses is not counted",
        "forwarder/ingest/turns.py",
        "            used += seconds\n            self.spend(seconds)\n",
        "            used += seconds\n",
        TURNS,
    ),
    mutation(
        "overload: an idle loop lets requests wait",
        "forwarder/ingest/turns.py",
        "        elif idle or self._turns_without",
        "        elif self._turns_without",
        TURNS,
    ),
    mutation(
        "abuse: a turn of the loop accepts one connection",
        "forwarder/listening.py",
        "range(MOST_ACCEPTED - 1)",
        "range(0)",
        "tests/unit/test_listening.py",
    ),
    mutation(
        "abuse: large requests keep the small ones of others out",
        "forwarder/ingest/turns.py",
        "        elif idle or self._turns_without >= MOST_TURNS:\n",
        "        elif idle:\n",
        TURNS,
        "four_turns",
    ),
    mutation(
        "abuse: what ingest owes has no bound",
        "forwarder/ingest/turns.py",
        "max(self._credit - seconds, -MOST_OWED)",
        "self._credit - seconds",
        TURNS,
        "owes",
    ),
    mutation(
        "abuse: all requests enter the turn in which they arrived",
        "forwarder/ingest/turns.py",
        "        if self._used_of_turn >= TURN_SECONDS:\n            return False\n",
        "",
        TURNS,
        "next_turn",
    ),
    mutation(
        "abuse: all that was read is parsed in one turn",
        "forwarder/ingest/unparsed.py",
        "        if now < self._ends:\n",
        "        if True:\n",
        PARSING,
        "one_slice_whatever",
    ),
    mutation(
        "abuse: small reads of one peer are parsed without end",
        "forwarder/ingest/unparsed.py",
        "        self._late.add(peer)\n",
        "",
        PARSING,
        "small_reads",
    ),
    mutation(
        "abuse: what waits is parsed in one turn",
        "forwarder/ingest/unparsed.py",
        "                    if self._timer() >= ends:\n                        return\n",
        "",
        PARSING,
        "what_waits_is_parsed_for",
    ),
    mutation(
        "abuse: peers whose bytes wait take no turns",
        "forwarder/ingest/unparsed.py",
        "        self._waiting.add(unparsed.peer, unparsed)\n",
        '        self._waiting.add("", unparsed)\n',
        PARSING,
        "take_turns",
    ),
    mutation(
        "abuse: small chunks are held one by one",
        "forwarder/ingest/connections.py",
        "        _join(payload)\n        for",
        "        for",
        PARSING,
        "held_as_one",
    ),
    mutation(
        "abuse: one request forgets all old answers",
        "forwarder/ingest/idempotency.py",
        "        for _ in range(FORGOTTEN_AT_ONCE):\n",
        "        while True:\n",
        REPEATS,
        "bounded_number",
    ),
    mutation(
        "abuse: an answer lives on because others are forgotten first",
        "forwarder/ingest/idempotency.py",
        "known.begun_at <= now - self._max_age",
        "False",
        REPEATS,
        "bounded_number",
    ),
    mutation(
        "abuse: each new peer looks through all connections",
        "forwarder/ingest/seats.py",
        "now < self._none_until and mine >= self._none_from",
        "False",
        SEATS,
        "found_nothing",
    ),
    mutation(
        "abuse: what is found to exist stays in the total of the share",
        "forwarder/queues/shares.py",
        "            self._limit(peer, sign * events, sign * size)\n",
        "            _move(self._limited, peer, sign * events, sign * size)\n",
        "tests/unit/queues/test_shares.py",
    ),
    mutation(
        "overload: one peer's requests enter before all others",
        "forwarder/ingest/fair_line.py",
        "            self._peers.move_to_end(peer)\n",
        "            self._peers.move_to_end(peer, last=False)\n",
        TURNS,
    ),
    mutation(
        "overload: a connection is refused as fast as it can ask",
        "forwarder/ingest/refusals.py",
        "min(LONGEST_PAUSE, self.pause * 2)",
        "FIRST_PAUSE",
        REFUSALS,
    ),
    mutation(
        "overload: a refusal by the queue does not wait",
        "forwarder/ingest/refusals.py",
        "                    await asyncio.sleep(pause)\n",
        "                    await asyncio.sleep(0)\n",
        REFUSALS,
    ),
    mutation(
        "overload: every request is read before it is refused",
        "forwarder/ingest/refusals.py",
        "        if cost > self._reads:\n",
        "        if False:\n",
        REFUSALS,
    ),
    mutation(
        "overload: a full queue is no reason to wait",
        "forwarder/ingest/refusals.py",
        "        line.is_tight = len(line.waiting) > 0 or line.is_full()\n",
        "        line.is_tight = False\n",
        REFUSALS,
    ),
    mutation(
        "overload: room is promised twice",
        "forwarder/ingest/refusals.py",
        "                    room -= place.need\n",
        "                    pass\n",
        REFUSALS,
    ),
    mutation(
        "overload: nothing is made before ready",
        "forwarder/targets/warm_up.py",
        "                session = await asyncio.to_thread(_read, options, service)\n",
        "                continue\n",
        WARM_UP,
    ),
    mutation(
        "overload: the warm-up asks for credentials",
        "forwarder/targets/warm_up.py",
        "        aws_access_key_id=_NO_KEY,\n        aws_secret_access_key=_NO_KEY,\n",
        "",
        WARM_UP,
    ),
    mutation(
        "a web page may send",
        "forwarder/ingest/browsers.py",
        '    if origin is None and headers.get("Sec-Fetch-Site") not in _FOREIGN:\n        return\n',
        "    return\n",
        BROWSERS,
    ),
    mutation(
        "a page may hide its origin",
        "forwarder/ingest/browsers.py",
        '    if origin is None and headers.get("Sec-Fetch-Site") not in _FOREIGN:\n',
        "    if origin is None:\n",
        BROWSERS,
    ),
    mutation(
        "a page of any origin may send to RUM",
        "forwarder/ingest/browsers.py",
        "    if origin is None or is_allowed(origin):\n",
        "    if origin is None or is_allowed(origin) or True:\n",
        BROWSERS,
        "rum",
    ),
    mutation(
        "a rebound name may read admin",
        "forwarder/admin/server.py",
        "        if self._hosts.answers_to(host) or request.path.startswith(HEALTH):\n",
        "        if True:\n",
        ADMIN,
        "rebound",
    ),
    mutation(
        "a rebound name may read ingest",
        "forwarder/ingest/server.py",
        '        if request.method in _READS and not self._hosts.answers_to(headers.get("Host")):\n',
        '        if not self._hosts.answers_to("localhost"):\n',
        BROWSERS,
        "rebound",
    ),
    mutation(
        "an unsigned ce- header is believed",
        "forwarder/ingest/auth/signature.py",
        '_DECISIVE_PREFIXES = ("x-amz-", CLOUDEVENT)\n',
        '_DECISIVE_PREFIXES = ("x-amz-",)\n',
        SIGNATURES,
        "decides",
    ),
    mutation(
        "an unsigned idempotency key is believed",
        "forwarder/ingest/auth/signature.py",
        '_DECISIVE = frozenset({"idempotency-key"})\n',
        '_DECISIVE = frozenset({""})\n',
        SIGNATURES,
        "decides",
    ),
    mutation(
        "an unsigned Prefer is believed",
        "forwarder/ingest/auth/signature.py",
        '_ADDED_ON_THE_WAY = frozenset({"prefer", ',
        "_ADDED_ON_THE_WAY = frozenset({",
        SIGNATURES,
        "added_on_the_way",
    ),
    mutation(
        "an unsigned content type chooses the dialect",
        "forwarder/ingest/auth/signature.py",
        "        dropped.add(CONTENT_TYPE)\n",
        "        pass\n",
        SIGNATURES,
        "content_type",
    ),
    mutation(
        "an event is known without its sender",
        "forwarder/ingest/dialects/cloudevents/identity.py",
        "_encode([peer, target, known])",
        "_encode([target, known])",
        IDENTITIES,
    ),
    mutation(
        "an event is known without its bus",
        "forwarder/ingest/dialects/cloudevents/identity.py",
        "event.attributes.items()])\n",
        "event.attributes.items() if name != 'eventbusname'])\n",
        IDENTITIES,
        "decides",
    ),
    mutation(
        "one sender flushes another's idempotency keys",
        "forwarder/ingest/idempotency.py",
        "            self.forget(self._least_needed(peer))\n",
        "            self.forget(self._oldest())\n",
        REPEATS,
        "flush",
    ),
    mutation(
        "an idempotency key is any sender's",
        "forwarder/ingest/exchange.py",
        "        scope = (lease.peer, operation.label, ",
        '        scope = ("", operation.label, ',
        REPEATS,
        "another_sender",
    ),
    mutation(
        "admin answers are made anew each time",
        "forwarder/admin/server.py",
        "        if now - made_at >= max_age:\n",
        "        if now >= made_at:\n",
        ADMIN,
        "made_once",
    ),
    mutation(
        "admin answers as fast as it is asked",
        "forwarder/admin/server.py",
        "        if seconds := pace.wait(time.monotonic()):\n",
        "        if seconds := 0 * pace.wait(time.monotonic()):\n",
        ADMIN,
        "without_pause",
    ),
    mutation(
        "others may write a file of keys",
        "forwarder/ingest/auth/files.py",
        "            if mode & stat.S_IWOTH:\n",
        "            if not mode:\n",
        SECRET_FILES,
        "writable",
    ),
    mutation(
        "a file of the storage may be a symbolic link",
        "forwarder/storage/directory.py",
        "        if path.is_symlink():\n",
        "        if not path.name:\n",
        DIRECTORY,
        "symbolic_link",
    ),
    mutation(
        "the storage directory is open to others",
        "forwarder/storage/directory.py",
        "    return 0o2770 if shared else 0o700\n",
        "    return 0o2775 if shared else 0o755\n",
        DIRECTORY,
        "open_to_others",
    ),
    mutation(
        "core dumps are allowed",
        "forwarder/daemon/serving.py",
        "    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))\n",
        "    resource.getrlimit(resource.RLIMIT_CORE)\n",
        CORE_DUMPS,
    ),
    mutation(
        "dead letters of one target push out another's",
        "forwarder/dead_letters/store.py",
        "    for target, too_much in shares_over(held, excess).items():\n",
        "    for target, too_much in dict.fromkeys(held, excess).items():\n",
        LETTERS,
        "pushes_out",
    ),
    mutation(
        "only_bound is ignored",
        "forwarder/ingest/intake.py",
        "    if route.only is not None:\n",
        "    if route.only is not None and not drafts:\n",
        BINDINGS,
        "only_bound",
    ),
    mutation(
        "an ARN of another account is the bus that is bound",
        "forwarder/ingest/bindings.py",
        "self._by_plain.get(plain_name(name)) or {}\n",
        "self._by_either.get(plain_name(name)) or {}\n",
        BINDINGS,
        "another_account",
    ),
    mutation(
        "HTTP/1.0 may be sent in chunks",
        "forwarder/http_versions.py",
        '    if "Transfer-Encoding" in request.headers:\n',
        '    if "Transfer-Coding" in request.headers:\n',
        CONNECTIONS,
        "transfer_encoding",
    ),
    mutation(
        "HTTP/0.9 is spoken",
        "forwarder/http_versions.py",
        "    if version != HttpVersion10:\n",
        "    if version > HttpVersion11:\n",
        CONNECTIONS,
        "other_versions",
    ),
    mutation(
        "a project may be another path",
        "forwarder/apis/put_project_events.py",
        '_PROJECT_NAME = r"([-a-zA-Z0-9._]*[-a-zA-Z0-9_][-a-zA-Z0-9._]*|\\.{3,})"\n',
        '_PROJECT_NAME = r"[-a-zA-Z0-9._]+"\n',
        PROJECTS,
        "another_path",
    ),
]


class Tree:
    """A copy of what the tests need, to be broken and mended."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        folder.mkdir()
        for name in COPIED:
            source = ROOT / name
            if source.is_dir():
                shutil.copytree(source, folder / name, ignore=shutil.ignore_patterns("__pycache__", ".*"))
            else:
                shutil.copy2(source, folder / name)
        # Checked by the source's hash, so that what is compiled never hides a mutation.
        compile_dir(folder / "forwarder", quiet=1, invalidation_mode=PycInvalidationMode.CHECKED_HASH)
        self._environment = {
            **os.environ,
            "PYTHONPATH": str(folder),
            "PYTHONDONTWRITEBYTECODE": "1",
            "TEST_DEADLINE": DEADLINE,
        }

    def is_imported(self) -> bool:
        """Whether the tests will see the copy, not the checkout that is installed."""
        said = self._run(["-c", "import forwarder; print(forwarder.__file__)"], SECONDS_PER_RUN)
        return said.stdout.strip().startswith(str(self._folder))

    def test(self, tests: str, words: str) -> tuple[int | None, str]:
        """Run the chosen tests until the first fails: pytest's exit code, or None when they never end."""
        arguments = ["-m", "pytest", "-x", "-q", "-p", "no:cacheprovider", tests]
        try:
            done = self._run([*arguments, *(("-k", words) if words else ())], SECONDS_PER_RUN)
        except subprocess.TimeoutExpired:
            return None, ""
        return done.returncode, done.stdout + done.stderr

    def _run(self, arguments: list[str], seconds: float) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, *arguments],
            cwd=self._folder,
            env=self._environment,
            timeout=seconds,
            capture_output=True,
            text=True,
            check=False,
        )

    def judge(self, mutation: Mutation) -> tuple[bool, str]:
        """Break, test, mend: whether the mutation was killed, and what there is to say."""
        path = self._folder / mutation.file
        whole = path.read_text()
        broken = whole
        for before, after in mutation.changes:
            if broken.count(before) != 1:
                return False, f"ERROR: its text is there {broken.count(before)} times, not once"
            broken = broken.replace(before, after)
        path.write_text(broken)
        try:
            code, output = self.test(mutation.tests, mutation.words)
        finally:
            path.write_text(whole)
        if code is None:
            return True, "killed: the tests never ended"
        if code == RED:
            return True, f"killed: {_first_failure(output)}"
        return False, "SURVIVED" if code == GREEN else f"ERROR: pytest ended with {code}\n{output[-2000:]}"


def _first_failure(output: str) -> str:
    for line in output.splitlines():
        if line.startswith(("FAILED", "ERROR")):
            return line.split(" - ")[0].rpartition("::")[2]
    return "?"


def main(word: str = "") -> int:
    began = time.monotonic()
    chosen = [each for each in MUTATIONS if word in each.name]
    with (
        tempfile.TemporaryDirectory(prefix="forwarder-mutants-") as folder,
        ThreadPoolExecutor(AT_ONCE) as pool,
    ):
        trees: SimpleQueue[Tree] = SimpleQueue()
        for number in range(AT_ONCE):
            trees.put(Tree(Path(folder).resolve() / str(number)))
        if not green_without(chosen, trees, pool):
            return 1
        survivors = 0
        for each, (killed, what) in zip(chosen, pool.map(partial(judge, trees), chosen), strict=True):
            survivors += not killed
            print(f"  {each.name:<54} {what}", flush=True)
    seconds = time.monotonic() - began
    print(f"{len(chosen)} mutations, {len(chosen) - survivors} killed, {survivors} not; {seconds:.0f} s")
    return 1 if survivors or not chosen else 0


def green_without(chosen: list[Mutation], trees: SimpleQueue[Tree], pool: ThreadPoolExecutor) -> bool:
    """Whether the tests see the copies, and are green as long as nothing is broken."""

    def run(choice: tuple[str, str]) -> tuple[int | None, str]:
        tree = trees.get()
        try:
            return tree.test(*choice) if tree.is_imported() else (None, "the tests would not see the copy")
        finally:
            trees.put(tree)

    for code, output in pool.map(run, _by_file(chosen)):
        if code != GREEN:
            print(f"the tests are not green without a mutation ({code}):\n{output}", file=sys.stderr)
            return False
    return True


def _by_file(chosen: list[Mutation]) -> list[tuple[str, str]]:
    """Each file of tests once, with all tests in it that are chosen for any mutation."""
    words: dict[str, dict[str, None]] = {}
    for each in chosen:
        words.setdefault(each.tests, {})[each.words] = None
    return [
        (tests, "" if "" in some else " or ".join(f"({one})" for one in some))
        for tests, some in words.items()
    ]


def judge(trees: SimpleQueue[Tree], mutation: Mutation) -> tuple[bool, str]:
    tree = trees.get()
    try:
        return tree.judge(mutation)
    finally:
        trees.put(tree)


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:2]))
