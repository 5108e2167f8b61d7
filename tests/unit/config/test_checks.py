"""What must hold between settings."""

from __future__ import annotations

from typing import ClassVar

import msgspec
import pytest

from forwarder.config import Bytes, ConfigError, parse


class Options(msgspec.Struct, frozen=True, kw_only=True):
    bound_by: ClassVar[str] = "buses"

    region: str | None = None
    default: bool | None = None
    only_bound: bool = False
    buses: list[str] = []
    queue_memory: Bytes = Bytes(64 << 20)


class Other(Options, frozen=True, kw_only=True):
    bound_by: ClassVar[str] = "projects"

    projects: list[str] = []


def problems(text: str) -> list[str]:
    try:
        parse(text, {"bus": Options, "project": Other}, {})
    except ConfigError as error:
        return [str(problem) for problem in error.problems]
    return []


def test_targets_that_do_not_meet_are_no_problem() -> None:
    text = """
    targets:
      a: {kind: bus, region: eu-west-1, default: true, buses: [orders]}
      b: {kind: bus, region: us-east-1, default: true, buses: [orders]}
      c: {kind: project, region: eu-west-1, default: true, projects: [orders]}
    """
    assert problems(text) == []


def test_two_defaults_of_one_kind_in_one_region_are_refused() -> None:
    text = """
    targets:
      a: {kind: bus, region: eu-west-1, default: true}
      b: {kind: bus, region: eu-west-1, default: true}
    """
    assert problems(text) == ["targets.b.default: a is already the default target of this kind in eu-west-1"]


@pytest.mark.parametrize("again", ["orders", "arn:aws:events:eu-west-1:000000000000:event-bus/orders"])
def test_a_bus_bound_twice_in_one_region_is_refused_by_name_or_arn(again: str) -> None:
    text = f"""
    targets:
      a: {{kind: bus, region: eu-west-1, buses: [orders, web]}}
      b: {{kind: bus, region: eu-west-1, buses: ['{again}']}}
    """
    assert problems(text) == [f"targets.b.buses[0]: {again} is already bound to a in eu-west-1"]


@pytest.mark.parametrize(("budget", "good"), [("96MiB", True), (100_663_295, False)])
def test_full_queues_and_four_bodies_fit_into_the_memory_budget(budget: str, good: bool) -> None:
    text = f"targets: {{a: {{kind: bus}}}}\ningest: {{max_body: 8MiB, memory_budget: {budget}}}"
    assert (problems(text) == []) == good


@pytest.mark.parametrize(("budget", "good"), [("48MiB", True), (50_331_647, False)])
def test_what_a_queue_needs_in_memory_is_in_the_budget(budget: str, good: bool) -> None:
    target = "{kind: bus, queue_memory: 16MiB}"
    text = f"targets: {{a: {target}}}\ningest: {{max_body: 8MiB, memory_budget: {budget}}}"
    assert (problems(text) == []) == good


def test_a_budget_that_is_too_small_is_told_with_its_sum() -> None:
    text = "targets: {a: {kind: bus}, b: {kind: bus}, c: {kind: bus}, d: {kind: bus}}"
    (problem,) = problems(text)
    assert problem.startswith(
        "ingest.memory_budget: must be at least 288MiB, got 256MiB: the queues need 256MiB"
    )


def test_a_budget_for_many_targets_is_told_as_it_can_be_written() -> None:
    buses = ", ".join(f"t{number}: {{kind: bus}}" for number in range(200))
    text = f"targets: {{{buses}}}\ningest: {{max_body: 1MB, memory_budget: SIZE}}".replace("1MB", "1000000")
    (problem,) = problems(text.replace("SIZE", "300000000"))
    assert problem.startswith("ingest.memory_budget: must be at least 12804MiB, got 300000000: ")
    assert problems(text.replace("SIZE", "12804MiB")) == []


def test_both_listeners_on_one_address_are_refused() -> None:
    same = "targets: {a: {kind: bus}}\ningest: {listen: LISTEN}\nadmin: {listen: LISTEN}"
    assert problems(same.replace("LISTEN", "127.0.0.1:99")) == [
        "admin.listen: 127.0.0.1:99 is already ingest.listen: use another port"
    ]
    assert problems(same.replace("LISTEN", "127.0.0.1:0")) == []


@pytest.mark.parametrize(
    ("ingest", "admin", "said"),
    [
        ("['127.0.0.1:99', '[::1]:99']", "[':98']", ""),
        (
            "['127.0.0.1:99', '127.0.0.1:99']",
            "':98'",
            "ingest.listen[1]: 127.0.0.1:99 is already ingest.listen[0]: use another port",
        ),
        (
            "['*:99', '127.0.0.1:99'], auth: {tokens: /t}",
            "':98'",
            "ingest.listen[1]: 127.0.0.1:99 overlaps ingest.listen[0], which is *:99: remove one, or use "
            "another port",
        ),
        (
            "'127.0.0.1:99'",
            "['127.0.0.1:98', ':99']",
            "admin.listen[1]: :99 overlaps ingest.listen, which is 127.0.0.1:99: remove one, or use another "
            "port",
        ),
    ],
)
def test_addresses_that_cannot_be_had_at_once_are_refused(ingest: str, admin: str, said: str) -> None:
    text = f"targets: {{a: {{kind: bus}}}}\ningest: {{listen: {ingest}}}\nadmin: {{listen: {admin}}}"
    assert problems(text) == ([said] if said else [])


def test_contradictions_are_told_beside_what_cannot_be_read() -> None:
    text = """
    targets:
      a: {kind: bus, region: eu-west-1, default: true, buses: [x]}
      b: {kind: bus, region: eu-west-1, default: true, buses: [x]}
      c: {kind: bus, nonsense: 1}
    """
    told = problems(text)
    assert len(told) == 3
    assert any("nonsense" in problem for problem in told)


def test_an_arn_of_another_region_cannot_be_bound() -> None:
    text = """
    targets:
      a: {kind: bus, region: eu-west-1, buses: ["arn:aws:events:us-east-1:111122223333:event-bus/far"]}
    """
    assert problems(text) == [
        "targets.a.buses[0]: must be in the region of the target, eu-west-1, got "
        '"arn:aws:events:us-east-1:111122223333:event-bus/far", which is in us-east-1'
    ]


@pytest.mark.parametrize(("length", "good"), [(89, True), (90, False)])
def test_the_control_socket_must_have_a_path_that_the_system_takes(length: int, good: bool) -> None:
    path = "/" + "x" * (length - 1)
    found = problems(f"{{storage: {{path: {path}}}, targets: {{a: {{kind: bus}}}}}}")
    socket = f"{path}/data/control.sock"
    why = f"the unix socket {socket} has a path of {len(socket)} bytes, and Linux allows 107"
    assert found == ([] if good else [f"storage.path: must have at most 89 bytes: {why}"])


@pytest.mark.parametrize(("listen", "good"), [("127.0.0.1:2780", True), ("unix:/run/in.sock", False)])
def test_only_a_tcp_port_can_be_shared(listen: str, good: bool) -> None:
    said = problems(f"{{ingest: {{listen: '{listen}', reuse_port: true}}, targets: {{a: {{kind: bus}}}}}}")
    expected = "ingest.reuse_port: unix:/run/in.sock is a unix socket; only a TCP port can be shared"
    assert said == ([] if good else [expected])


OPEN = "can be reached from other machines, and nothing asks who sends"
TLS = "certificate: /c, key: /k"


@pytest.mark.parametrize(
    ("ingest", "refused"),
    [
        ("listen: 127.0.0.1:1", False),
        ("listen: localhost:1", False),
        ("listen: '[::1]:1'", False),
        ("listen: unix:/run/x.sock", False),
        ("listen: 0.0.0.0:1", True),
        ("listen: '[::]:1'", True),
        ("listen: ingest.internal:1", True),
        ("listen: ':1'", True),
        ("listen: '*:1'", True),
        ("listen: '[0::0]:1'", True),
        ("listen: '[fe80::1%eth0]:1'", True),
        ("listen: ['127.0.0.1:1', '[::1]:1', 'unix:/x']", False),
        ("listen: ':1', auth: {tokens: /t}", False),
        ("listen: ['127.0.0.1:1', '10.0.0.1:1'], auth: {tokens: /t}", False),
        (f"listen: 0.0.0.0:1, tls: {{{TLS}}}", True),
        ("listen: 0.0.0.0:1, auth: {clock_skew: 1m}", True),
        ("listen: 0.0.0.0:1, auth: {tokens: /t}", False),
        ("listen: 0.0.0.0:1, auth: {access_keys: /a}", False),
        ("listen: 0.0.0.0:1, auth: {allow_unauthenticated: true}", False),
        (f"listen: 0.0.0.0:1, tls: {{{TLS}, client_ca: /ca}}", False),
    ],
)
def test_a_listener_that_others_reach_must_ask_who_sends(ingest: str, refused: bool) -> None:
    told = problems(f"targets: {{a: {{kind: bus}}}}\ningest: {{{ingest}}}")
    assert len(told) == refused
    if refused:
        assert told[0].startswith("ingest.listen: ")
        assert OPEN in told[0]
        assert "ingest.auth.allow_unauthenticated: true" in told[0]


def test_each_address_of_a_list_that_others_reach_is_named() -> None:
    listen = "['127.0.0.1:1', '10.0.0.1:1', '[::]:2']"
    told = problems(f"targets: {{a: {{kind: bus}}}}\ningest: {{listen: {listen}}}")
    assert [each.partition(" can be")[0] for each in told] == [
        "ingest.listen[1]: 10.0.0.1:1",
        "ingest.listen[2]: [::]:2",
    ]


def test_a_wrong_address_of_a_list_is_named_by_its_index() -> None:
    (told,) = problems("targets: {a: {kind: bus}}\nadmin: {listen: ['127.0.0.1:1', '127.0.0.1']}")
    assert told.startswith("admin.listen[1]: must be host:port")


def test_to_ask_and_to_let_everyone_in_contradict_each_other() -> None:
    text = "targets: {a: {kind: bus}}\ningest: {auth: {tokens: /t, allow_unauthenticated: true}}"
    [told] = problems(text)
    assert told.startswith("ingest.auth.allow_unauthenticated: ")


def test_the_skew_of_clocks_is_bounded() -> None:
    [told] = problems("targets: {a: {kind: bus}}\ningest: {auth: {clock_skew: 16m}}")
    assert told.startswith("ingest.auth.clock_skew: must be at most 15m, got 16m")


def test_a_certificate_needs_its_key() -> None:
    assert problems("targets: {a: {kind: bus}}\ningest: {tls: {certificate: /c}}") == [
        "ingest.tls.key: is required"
    ]


@pytest.mark.parametrize(
    ("origins", "problem"),
    [
        ("[https://shop.example.com, 'https://*.example.com', 'http://localhost:3000']", None),
        ("['*']", None),
        (
            "[https://shop.example.com/]",
            'got "https://shop.example.com/". Did you mean "https://shop.example.com"?',
        ),
        ("[shop.example.com]", 'got "shop.example.com"'),
        ("['*.example.com']", 'got "*.example.com"'),
        ("['https://*']", 'got "https://*"'),
        ("['https://shop.*.com']", 'got "https://shop.*.com"'),
        ("[https://Shop.example.com]", "in lower case"),
        ("[https://shop.example.com:443]", 'Did you mean "https://shop.example.com"?'),
        ("['*', https://shop.example.com]", "must be alone in the list"),
    ],
)
def test_origins_are_as_browsers_say_them(origins: str, problem: str | None) -> None:
    text = f"{{ingest: {{cors: {{origins: {origins}}}}}, targets: {{a: {{kind: bus}}}}}}"
    found = problems(text)
    if problem is None:
        assert found == []
    else:
        assert len(found) == 1
        assert found[0].startswith("ingest.cors.origins[")
        assert problem in found[0]


def test_one_name_may_be_bound_by_arn_in_two_accounts() -> None:
    first = "arn:aws:events:eu-west-1:000000000000:event-bus/orders"
    second = first.replace("000000000000", "222222222222")
    text = f"""
    targets:
      a: {{kind: bus, region: eu-west-1, buses: ['{first}']}}
      b: {{kind: bus, region: eu-west-1, buses: ['{second}']}}
      c: {{kind: bus, region: eu-west-1, buses: ['{second}']}}
    """
    assert problems(text) == [f"targets.c.buses[0]: {second} is already bound to b in eu-west-1"]


def test_only_bound_needs_bindings_and_is_no_default() -> None:
    text = """
    targets:
      a: {kind: bus, only_bound: true, buses: [orders]}
      b: {kind: bus, only_bound: true}
      c: {kind: bus, only_bound: true, default: true, buses: [web]}
    """
    assert problems(text) == [
        "targets.b.only_bound: must not be true while buses is empty",
        "targets.c.only_bound: must not be true together with default: true",
    ]
