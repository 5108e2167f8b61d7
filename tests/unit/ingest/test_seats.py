"""Who has a place when there are not enough, judged without sockets."""

from __future__ import annotations

from forwarder.ingest.http.seats import RETRY_SECONDS, Seats


class Held:
    """A connection that may leave, or not."""

    def __init__(self, rank: tuple[int, float] | None, only_fair: bool = False) -> None:
        self.rank = rank
        self.only_fair = only_fair
        self.left = False

    def may_leave(self, now: float, fair: bool) -> tuple[int, float] | None:
        return self.rank if fair or not self.only_fair else None

    def leave(self) -> None:
        self.left = True


def full(*, idle: int, busy: int = 0, peer: str = "many") -> tuple[Seats, list[Held]]:
    seats = Seats(idle + busy, lambda: 0.0)
    held = [Held((0, float(n))) for n in range(idle)] + [Held(None) for _ in range(busy)]
    for each in held:
        assert seats.take(each, peer)
    return seats, held


def test_one_peer_alone_has_all_places_and_nobody_leaves() -> None:
    seats, held = full(idle=5)
    assert seats.taken == 5
    assert not any(each.left for each in held)


def test_the_longest_idle_one_of_the_peer_that_holds_most_leaves_for_a_new_one() -> None:
    seats, held = full(idle=5)
    assert seats.take(Held(None), "other")
    assert seats.take(Held(None), "many")
    assert [each.left for each in held] == [True, True, False, False, False]
    assert seats.taken == 5


def test_who_is_in_use_stays_and_the_new_one_is_refused() -> None:
    seats, held = full(idle=0, busy=4)
    assert not seats.take(Held(None), "other")
    assert not any(each.left for each in held)
    assert seats.taken == 4


def test_a_peer_that_holds_less_than_the_new_ones_peer_loses_nothing() -> None:
    seats = Seats(4, lambda: 0.0)
    little = Held((0, 0.0))
    seats.take(little, "little")
    for _ in range(3):
        seats.take(Held(None), "many")
    assert not seats.take(Held(None), "many")
    assert not little.left


def test_what_is_no_request_yet_is_given_up_only_to_a_peer_that_holds_less() -> None:
    now = [0.0]
    seats = Seats(4, lambda: now[0])
    slow = [Held((1, float(n)), only_fair=True) for n in range(4)]
    for each in slow:
        seats.take(each, "many")
    assert not seats.take(Held(None), "many")
    assert seats.take(Held(None), "other")
    assert [each.left for each in slow] == [True, False, False, False]
    seats.take(Held(None), "other")
    assert not seats.take(Held(None, only_fair=True), "other"), "2 of 4: more is not its share"


def test_a_place_comes_back_once() -> None:
    seats = Seats(2, lambda: 0.0)
    held = Held(None)
    seats.take(held, "a")
    for _ in range(3):
        seats.give_back(held, "a")
    assert seats.taken == 0


def test_a_flood_of_refused_connections_is_not_looked_for_each_time() -> None:
    now, looks = [0.0], [0]

    class Counting(Held):
        def may_leave(self, now: float, fair: bool) -> tuple[int, float] | None:
            looks[0] += 1
            return self.rank

    seats = Seats(100, lambda: now[0])
    held = [Counting(None) for _ in range(100)]
    for each in held:
        seats.take(each, "a")
    for _ in range(50):
        assert not seats.take(Held(None), "a")
    assert looks[0] <= 100
    held[3].rank = (0, 0.0)
    now[0] += RETRY_SECONDS
    assert seats.take(Held(None), "a")


def test_a_search_that_found_nothing_is_not_made_again_for_peers_that_hold_as_many_or_more() -> None:
    now, looks = [0.0], [0]

    class Counting(Held):
        def may_leave(self, now: float, fair: bool) -> tuple[int, float] | None:
            looks[0] += 1
            return self.rank if fair else None

    seats = Seats(100, lambda: now[0])
    held = [Counting(None) for _ in range(100)]
    for each in held:
        seats.take(each, "a")
    for n in range(50):
        assert not seats.take(Held(None), f"other {n}")
    assert looks[0] <= 100
    held[3].rank = (0, 0.0)
    now[0] += RETRY_SECONDS
    assert not seats.take(Held(None), "a")
    assert seats.take(Held(None), "other"), "it holds less than the peer for which nothing was found"
