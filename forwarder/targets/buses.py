"""Which event buses exist, by AWS's answers, and which to ask about next. Pure.

Invariants:
- Unknown does not mean "exists": no event is sent to a bus before AWS answers, unless it cannot be asked.
- A failed question (throttled, unavailable, no credentials) changes no verdict, and asking backs off
  (``answering.py``).
- If the endpoint does not support the question, or may not describe a bus, events are sent unverified.
- Three kinds of questions take turns, each at a separate rate: names known to exist and configured ones,
  again; unknown names, peer by peer; missing names, again, peer by peer.
- Everything remembered is bounded; a name that is forgotten is unknown again.
- A delivery to a bus counts as unconfirmed if the next answer about this bus is that it does not exist.
- A bus that events name both by name and by ARN is asked about once, by its name, and has one window, where
  AWS's answer about the name says that it has this ARN. If it is missing by its name, the ARN is asked about.
- A configured bus never counts against the share, and no name does while no question can be answered.
"""

from __future__ import annotations

import random
import time
from collections import OrderedDict
from collections.abc import Callable, Collection, Iterable

from forwarder.apis.put_events import DEFAULT_BUS, ENDPOINT_NAME, NO_GLOBAL_ENDPOINTS
from forwarder.apis.wire import region_of_arn
from forwarder.model import Batch, Chance, Results
from forwarder.targets.answering import Answering
from forwarder.targets.arns import Arns
from forwarder.targets.barred import MISSING, UNCALLABLE, Barred, Heard
from forwarder.targets.names import BURST, MAX_KNOWN, MAX_WAITING, PER_SECOND, UNKNOWN, display_name
from forwarder.targets.questions import DOUBTS, NOTHING, Answer, Learned, Question
from forwarder.targets.turns import FOREVER, Agenda, Bucket, Turns
from forwarder.targets.unconfirmed import Deliveries, Unconfirmed, delivered

MAX_BUS_NAME = 256
"""Limit of CreateEventBus's Name: no longer name can exist, so AWS need not be asked."""

AGAIN_PER_SECOND, AGAIN_BURST = 5.0, 100.0
MISSING_PER_SECOND, MISSING_BURST = 1.0, 20.0
DENIED_AGAIN_SECONDS = 3600.0


class BusNames:
    """The buses of one target, by the names that events use. ``place``: where they are, for sentences.

    ``every``: seconds after which a bus that exists is asked about again, ``probe`` of one that is missing;
    ``verify`` is False where nobody is asked at all.
    """

    def __init__(
        self,
        configured: Collection[str],
        *,
        default: bool,
        verify: bool,
        every: float,
        probe: float,
        cap: float,
        region: str = "",
        now: Callable[[], float] = time.monotonic,
        wall: Callable[[], float] = time.time,
        chance: Chance = random.random,
    ) -> None:
        self._configured = frozenset(configured) - {DEFAULT_BUS}
        self._also_configured: set[str] = set()  # ARNs of configured names
        self._default = default
        self._verify = verify
        self._every = every
        self._missing_again = min(every, probe)
        self._region = region
        self._now = now
        self._answering = Answering(probe, chance)
        self.alone = len(frozenset(configured)) == len(self._configured) == 1 and not default
        self.barred = Barred(self._configured, alone=self.alone, probe=probe, cap=cap)
        self._existing: OrderedDict[str, None] = OrderedDict()
        self._denied: OrderedDict[str, None] = OrderedDict()
        self._arns = Arns()
        self._missing: dict[str, int] = {}  # how often denied since; in _missing_turns unless configured
        self._unknown_turns = Turns(MAX_WAITING, BURST, PER_SECOND)
        self._missing_turns = Turns(MAX_KNOWN, FOREVER, 1.0)
        self._missing_bucket = Bucket(MISSING_BURST, MISSING_PER_SECOND)
        self._agenda = Agenda(AGAIN_BURST, AGAIN_PER_SECOND)
        self._kinds: list[Callable[[float], Question | None]] = [
            self._next_again,
            self._next_unknown,
            self._next_missing,
        ]
        self._unaskable = ""
        self._unsaved: dict[str, bool] = {}
        self.deliveries = Deliveries(now, wall)
        self.unverified = 0
        self.elsewhere = ""
        self.wanted: Callable[[], None] = lambda: None
        self.questions = dict.fromkeys((answer.value for answer in Answer), 0)
        if verify:
            for name in sorted(self._configured):
                self._agenda.add(name, 0.0)

    # --- what others ask

    def is_open(self, name: str, peer: str) -> bool:
        if not name or (name in self._existing and name not in self.barred):
            return True
        if not self._is_closed(name):
            self._use(name)
            return True
        if self._is_unknown(name) and name not in self._configured:
            self._unknown_turns.add(name, peer, self._now())
            self.wanted()
        return False

    def has_share(self, name: str) -> bool:
        if not self._is_closed(name) or name in self._configured or name in self._also_configured:
            return False
        if not self._is_unknown(name):
            return True
        now = self._now()
        return self.is_answering(now) and not (self._default and self._unknown_turns.is_near(name, now))

    def reason(self, name: str) -> str:
        why, bus = self.why(name), display_name(name)
        if not why:
            return ""
        if name.startswith(ENDPOINT_NAME):
            return (
                f"global endpoint {bus.removeprefix(ENDPOINT_NAME)} cannot be called: {NO_GLOBAL_ENDPOINTS}"
            )
        if name in self.barred:
            bar = self.barred.get(name)
            return f"event bus {bus}: {bar.message if bar is not None else ''}"
        if why == MISSING:
            return f"event bus {bus} does not exist in {self._region or 'the configured endpoint'}"
        if self._answering.is_failing:
            return f"cannot verify event bus {bus}: {self._answering.trouble}"
        return f"AWS has not been asked yet whether event bus {bus} exists"

    def why(self, name: str) -> str:
        if not self._is_closed(name):
            return ""
        if name.startswith(ENDPOINT_NAME):
            return UNCALLABLE
        bar = self.barred.get(name)
        if bar is not None:
            return bar.why
        return UNKNOWN if self._is_unknown(name) else MISSING

    def is_waiting(self, name: str) -> bool:
        if not self._is_closed(name):
            return False
        return not self._is_unknown(name) or name in self._configured or name in self._unknown_turns

    def note(self) -> str:
        """Questions that cannot be answered; AWS's own words, bounded."""
        notes = []
        if self._unaskable:
            notes.append(f"{UNASKABLE}: {self._unaskable}")
        if self._denied:
            notes.append(UNVERIFIED)
        if self.elsewhere:
            notes.append(f"{ELSEWHERE}: {display_name(self.elsewhere)}")
        if notes:
            notes.append(f"events delivered unverified: {self.unverified}")
        if self._answering.is_failing:
            notes.append(f"cannot verify event buses: {self._answering.trouble}")
        return "; ".join(notes)

    def held(self) -> str | None:
        """Why the whole target is held: its only bus does not exist."""
        missing = self._configured.intersection(self._missing)
        return self.reason(next(iter(missing))) if self.alone and missing and not self._unaskable else None

    def hurry(self) -> None:
        now = self._now()
        self.barred.hurry(now)
        self._missing_turns.hurry()
        self._missing_bucket.fill()
        self._answering.hurry()
        for name in [*self._denied, *self._configured.intersection(self._missing)]:
            self._agenda.add(name, now)
        self.wanted()

    def heard(self, batch: Batch, results: Results) -> Heard:
        for name, events in delivered(batch, results).items():
            self._count(name, events)
        heard = self.barred.heard(batch, results, self._now())
        for name in self._missing.keys() & set(heard.closed):
            self.barred.discard(
                name
            )  # a probe would succeed: AWS accepts events for a missing bus, and drops them
        if heard.closed:
            self.wanted()
        return heard._replace(opened=[name for name in heard.opened if not self._is_closed(name)])

    def is_asking(self) -> bool:
        return self._answering.is_under_way or self.wait() <= 0 or self.barred.is_probing(self._now())

    @property
    def has_answers(self) -> bool:
        """Whether anything is known by AWS's answers, so that the endpoint can be asked."""
        return bool(self._existing or self._missing or self._denied)

    @property
    def unconfirmed(self) -> int:
        return self.deliveries.total

    def unconfirmed_buses(self) -> list[Unconfirmed]:
        return self.deliveries.found()

    @property
    def pending(self) -> bool:
        now = self._now()
        if self._answering.is_given_up:
            return False
        if self._answering.is_under_way:
            return not self._answering.is_slow(now)
        return self._unknown_turns.wait(now) <= 0 or any(map(self._is_unknown, self._configured))

    def is_answering(self, now: float) -> bool:
        """Whether questions are being answered. So they are not until the first answer has come."""
        return self._answering.is_working(now)

    # --- what the asker does

    def next_question(self) -> Question | None:
        """The question to ask now. It is under way from here on, until ``learn``."""
        now = self._now()
        if self._answering.wait(now) > 0:
            return None
        for kind in list(self._kinds):
            question = kind(now)
            if question is not None:
                self._kinds.remove(kind)
                self._kinds.append(kind)
                self._answering.ask(now)
                self.deliveries.ask(question.name)
                return question
        return None

    def next_probe(self) -> str | None:
        return self.barred.next(self._now())

    def wait(self) -> float:
        """Seconds until there is something to do; FOREVER when there is nothing."""
        now = self._now()
        waits = [self._unknown_turns.wait(now), self._agenda.wait(now)]
        if len(self._missing_turns):
            waits.append(max(self._missing_turns.wait(now), self._missing_bucket.wait(now)))
        return min(max(self._answering.wait(now), min(waits)), self.barred.wait(now))

    def learn(
        self, question: Question, answer: Answer, sentence: str = "", delay: float = 0.0, arn: str = ""
    ) -> Learned:
        """Record the answer to a question. ``delay``: seconds that AWS asked us to wait, if it did; ``arn``:
        of the bus that exists, which is as good as configured where its name is."""
        now, name = self._now(), question.name
        self.questions[answer] += 1
        if answer is Answer.UNANSWERED:
            self._answering.failed(sentence, delay, now)
            return self._unanswered(question, now)
        self._answering.answered()
        if answer is Answer.UNASKABLE:
            new, self._unaskable = not self._unaskable, sentence
            self._unknown_turns.clear()
            self._agenda.add(name, now + self._every)
            return Learned(all=True) if new else NOTHING
        self._unaskable = ""
        if answer is not Answer.MISSING and self._is_alias(name):
            self._forget(name)  # it was asked about before its bus's name was
            return NOTHING
        was_closed, arn_was_closed = self._is_closed(name), self._is_closed(arn)
        denials = self._missing.get(name, DOUBTS) + 1 if answer is Answer.DENIED else 0
        self._forget(name)
        if denials and denials < DOUBTS:
            self._set_missing(name, question, now, denials)
            return NOTHING
        if answer is Answer.MISSING:
            self.barred.discard(name)
            self.deliveries.deny(name)
            self._set_missing(name, question, now)
            closed = [] if was_closed else [name]
            return Learned(closed=(*closed, *self._ask_again_by_the_other(name, now)))
        opened = [name] if was_closed else []
        if answer is Answer.EXISTS:
            opened += [arn] if self._confirm(name, arn, now) and arn_was_closed else []
            self._set_existing(name, now + self._every)
            self._unsaved[name] = True
            if arn and name in self._configured:
                self._also_configured.add(arn)
        else:
            self._part(name, now)
            self._keep(self._denied, name)
            self._agenda.add(name, now + max(self._every, DENIED_AGAIN_SECONDS))
        return Learned(opened=tuple(each for each in opened if each not in self.barred))

    def remember(self, names: Iterable[str]) -> None:
        """Names that an earlier process knew to exist: open, and verified again in the background."""
        if self._verify:
            for name in names:
                self._set_existing(name, 0.0)

    def unsaved(self) -> dict[str, bool]:
        """Names that turned out to exist (True), or that no longer do, since this was last called."""
        unsaved, self._unsaved = self._unsaved, {}
        return unsaved

    # --- one bus, by name and by ARN

    def _is_alias(self, name: str) -> bool:
        """Whether this is the ARN of a bus whose name is known to exist."""
        return (bus := self._arns.name_of(name)) != name and bus in self._existing

    def _use(self, name: str) -> None:
        """Events use this name."""
        if self._arns.use(name):
            self._unsaved[name] = True

    def _confirm(self, name: str, arn: str, now: float) -> bool:
        """The bus with this name exists, and has this ARN. Whether events use the ARN as well."""
        by_name = self._arns.name_of(name)
        if by_name != name:  # the bus with this ARN exists, although the one with its name does not
            self._arns.forget(by_name)
        is_arn = self._arns.is_arn_of(arn, name)
        if self._arns.arn_of(name) != (arn if is_arn else ""):
            self._part(name, now)
        self.deliveries.confirm(name)
        if not is_arn:
            return False
        used = self._arns.is_used(arn) or arn in self._existing or self._is_waiting_for(arn)
        self._forget(arn)
        self.deliveries.merge(arn, name)
        if not self._arns.arn_of(name):
            self._arns.set(name, arn)
        if used:
            self._arns.use(arn)
            self._unsaved[arn] = True
        return used

    def _is_waiting_for(self, name: str) -> bool:
        return name in self._missing or name in self._denied or name in self._unknown_turns

    def _part(self, name: str, now: float) -> None:
        """The bus with this name may no longer be the one with its ARN, which is asked about by itself."""
        if arn := self._arns.forget(name):
            self.deliveries.part(name, arn)
            self._set_existing(arn, now)

    def _ask_again_by_the_other(self, name: str, now: float) -> list[str]:
        """The bus does not exist by this name. By its other one it is asked about at once; the ARN is closed
        until then, as what is unknown. The names that this closes."""
        arn, bus = self._arns.arn_of(name), self._arns.name_of(name)
        if arn and self._arns.is_used(arn):
            self._agenda.add(arn, now)
            return [arn]
        if bus in self._existing:
            self._agenda.add(bus, now)
        return []

    # --- inside

    def _count(self, name: str, events: int) -> None:
        """These were delivered."""
        bus = self._arns.name_of(name)
        self._use(name)
        if bus in self._missing:
            self.deliveries.add_late(bus, events)
            return
        elsewhere = self._is_elsewhere(name)
        if bus not in self._existing:
            self.unverified += events
        if self._verify and elsewhere:
            self.elsewhere = name
        elif self._verify:
            self.deliveries.add(bus, events)

    def _is_closed(self, name: str) -> bool:
        if not name:
            return False
        if name in self.barred or name.startswith(ENDPOINT_NAME):
            return True
        if not self._verify or self._unaskable or name in self._existing or name in self._denied:
            return False
        if self._is_alias(name) and name not in self._missing:
            return False
        return not self._is_elsewhere(name)

    def _is_unknown(self, name: str) -> bool:
        """Whether the answer is still to come."""
        if name in self._missing or name in self._existing or name in self._denied or name in self.barred:
            return False
        if self._is_alias(name):
            return False
        return len(name.rpartition("/")[2]) <= MAX_BUS_NAME and not name.startswith(ENDPOINT_NAME)

    def _is_elsewhere(self, name: str) -> bool:
        """A bus of another region, about which this endpoint knows nothing."""
        return bool(self._region) and name.startswith("arn:") and region_of_arn(name) != self._region

    def _next_again(self, now: float) -> Question | None:
        name = self._agenda.next(now)
        return None if name is None else Question(name, "again")

    def _next_unknown(self, now: float) -> Question | None:
        turn = self._unknown_turns.next(now)
        return None if turn is None else Question(turn.name, "unknown", turn)

    def _next_missing(self, now: float) -> Question | None:
        if self._missing_bucket.wait(now) > 0:
            return None
        turn = self._missing_turns.next(now)
        if turn is None:
            return None
        self._missing_bucket.take(now)
        return Question(turn.name, "missing", turn)

    def _unanswered(self, question: Question, now: float) -> Learned:
        """No answer: the question is asked again after the pause, behind the others of its kind."""
        name, turn = question.name, question.turn
        if turn is None:
            self._agenda.add(name, now)
        elif question.kind == "unknown":
            self._unknown_turns.refund(turn)
            self._unknown_turns.add(name, turn.peer, now)
        else:
            self._missing_turns.add(name, turn.peer, now, now)
        return NOTHING

    def _forget(self, name: str) -> None:
        """Before the name gets its new answer."""
        self._unknown_turns.discard(name)
        self._missing_turns.discard(name)
        self._missing.pop(name, None)
        self._denied.pop(name, None)
        self._existing.pop(name, None)
        self._agenda.discard(name)

    def _set_missing(self, name: str, question: Question, now: float, denials: int = 0) -> None:
        self._unsaved[name] = False
        self._missing[name] = denials
        due = now + self._missing_again
        if name in self._configured:
            self._agenda.add(name, due)
            return
        if len(self._missing_turns) >= MAX_KNOWN and (oldest := self._missing_turns.oldest()) is not None:
            self._missing_turns.discard(oldest)
            self._arns.forget(oldest)
            del self._missing[oldest]
        self._missing_turns.add(name, question.turn.peer if question.turn else "", now, due)

    def _set_existing(self, name: str, due: float) -> None:
        self._keep(self._existing, name)
        self._agenda.add(name, due)

    def _keep(self, known: OrderedDict[str, None], name: str) -> None:
        known[name] = None
        if len(known) <= MAX_KNOWN:
            return
        oldest = next((each for each in known if each not in self._configured), None)
        if oldest is None:
            return  # so many are configured
        del known[oldest]
        self._arns.forget(oldest)
        self._agenda.discard(oldest)
        self._unsaved[oldest] = False


UNVERIFIED = (
    "some event buses are not verified, because events:DescribeEventBus is denied; "
    "AWS drops events for a bus that does not exist"
)
ELSEWHERE = "event buses of another region are not verified; AWS drops events for a bus that does not exist"
UNASKABLE = (
    "event buses are not verified, because the endpoint does not support DescribeEventBus; "
    "events for a bus that does not exist may be lost"
)
