"""Native answers to bodies of which many events were refused."""

from __future__ import annotations

import json
from typing import Any

from forwarder.ingest.bounds import MAX_MESSAGE, MAX_SENTENCES
from forwarder.ingest.dialects import native
from forwarder.ingest.errors import BadRequest
from forwarder.model import Refusal
from forwarder.receipts import Receipt

ID = "01a1fd65-922e-7182-b5c2-c2f63aac20ad"
Results = list[str | Refusal]


def reasons(answer: Any) -> dict[int, tuple[str, str]]:
    """By index, the code and the sentence of every event that was refused, as a client finds them."""
    found = {i: (row["code"], row["message"]) for i, row in enumerate(answer["results"]) if "message" in row}
    for group in answer.get("refusals", ()):
        for first, last in group["ranges"]:
            for i in range(first, last + 1):
                assert i not in found, "every index has one reason"
                found[i] = (group["code"], group["message"])
    return found


def test_few_refusals_have_a_sentence_each_as_ever() -> None:
    results: Results = [Refusal("Code", f"Reason {i}.") for i in range(MAX_SENTENCES)]
    answer = json.loads(native.render([ID, *results]))
    assert "refusals" not in answer
    assert answer["results"][1:] == [
        {"code": "Code", "message": f"Reason {i}."} for i in range(MAX_SENTENCES)
    ]


def test_a_sender_learns_which_of_many_events_were_refused_and_why() -> None:
    results: Results = []
    for i in range(1000):
        results.append(
            ID if i % 10 == 0 else Refusal("Odd" if i % 2 else "Even", "One." if i % 2 else "Two.")
        )
    answer = json.loads(native.render(results))
    assert (answer["accepted"], answer["refused"], len(answer["results"])) == (100, 900, 1000)
    assert reasons(answer) == {
        i: (result.code, result.message) for i, result in enumerate(results) if isinstance(result, Refusal)
    }
    assert all(
        row.get("code", "") == getattr(results[i], "code", "") for i, row in enumerate(answer["results"])
    )


def test_more_sentences_than_are_said_are_told_by_their_code() -> None:
    results: Results = [Refusal("Code", f"Reason {i}.") for i in range(1000)]
    answer = json.loads(native.DIALECT.error(native.none_taken(results)))  # type: ignore[arg-type]
    found = reasons(answer)
    assert sorted(found) == list(range(1000))
    assert len({sentence for _, sentence in found.values()}) <= 2 * MAX_SENTENCES + 1
    assert {code for code, _ in found.values()} == {"Code"}


def test_a_range_ends_where_an_event_was_taken() -> None:
    refusal = Refusal("Code", "Reason.")
    answer = json.loads(native.render([*[refusal] * 100, ID, *[refusal] * 5, ID, refusal]))
    assert answer["refusals"] == [{"code": "Code", "message": "Reason.", "ranges": [[101, 105], [107, 107]]}]


def test_a_sentence_is_capped() -> None:
    long = Refusal("Code", "\x00" * 100_000)
    for body in (native.render([ID, long]), native.DIALECT.error(native.none_taken([long]))):
        assert len(body) < 15 * MAX_MESSAGE
    assert isinstance(native.none_taken([long]), BadRequest)


def test_fates_of_many_events_are_told_the_same_way() -> None:
    dead = Receipt("rejected", "Denied", "No.")
    results: Results = [Refusal("Code", "Reason.") if i % 2 else f"{i:036d}" for i in range(1000)]
    answer = json.loads(native.render_fates(results, {f"{i:036d}": dead for i in range(0, 1000, 4)}))
    found = reasons(answer)
    assert sorted(found) == [i for i in range(1000) if i % 2 or i % 4 == 0]
    assert answer["results"][998] == {"id": f"{998:036d}", "status": "queued"}
    assert answer["results"][996] == {"id": f"{996:036d}", "status": "rejected", "code": "Denied"}


def test_no_answer_is_larger_than_what_is_leased_for_it() -> None:
    worst = Refusal("IdempotentParameterMismatchException"[:36], "\x00" * 300)
    for count in (1, 99, 101, 5000):
        mixed: Results = [worst if i % 2 else ID for i in range(count)]
        refused = count // 2
        assert len(native.render(mixed)) <= native.answer_bytes(count, refused)
        dead = Receipt("delivered", "", "", "e" * 36)
        assert len(native.render_fates(mixed, {ID: dead})) <= native.answer_bytes(count, waits=True)
        rows = len(native.DIALECT.error(native.none_taken([worst] * count)))
        assert rows <= native.answer_bytes(count, count) + 2000
