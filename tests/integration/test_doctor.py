"""``forwarder doctor``: what is wrong is found, said in a sentence with what to do, and nothing is sent."""

from __future__ import annotations

import asyncio
import json
import os
import ssl
import time
from email.utils import formatdate
from pathlib import Path

import pytest

from forwarder.cli import main
from forwarder.config import Config, parse
from forwarder.doctor import Finding, examine, format_findings, is_well, settings
from forwarder.targets import option_types
from tests.support.certificates import self_signed
from tests.support.credential_sources import (
    container,
    serving,
    sts,
    use_container,
    use_web_identity,
)
from tests.support.events import KINDS, MONITOR
from tests.support.fake_aws import fails, fake_aws, forget_credentials, says
from tests.support.harness import World

TARGET = {"kind": "eventbridge", "region": "eu-west-1", "queue": "disk", "timeouts": {"connect": "5s"}}
SMALL = {**TARGET, "queue_limits": {"max_bytes": "1MiB"}}


def config_of(storage: Path, **targets: object) -> Config:
    return parse(json.dumps({"storage": {"path": str(storage)}, "targets": targets}), option_types(), {})


def about(findings: list[Finding], word: str) -> Finding:
    (found,) = [each for each in findings if word in each.about]
    return found


async def of_one(storage: Path, url: str, **more: object) -> list[Finding]:
    return await examine(config_of(storage, orders={**TARGET, "endpoint_url": url, **more}))


async def test_all_is_well_where_all_is_well_and_nothing_is_sent(place: World) -> None:
    url = place.sandbox
    web = {"kind": "rum", "region": "eu-west-1", "app_monitors": [MONITOR], "queue": "disk"}
    flags = {"kind": "evidently", "region": "eu-west-1", "queue": "disk"}
    config = config_of(
        place.storage,
        orders={**TARGET, "endpoint_url": url},
        web={**web, "endpoint_url": url},
        flags={**flags, "endpoint_url": url},
    )
    findings = await examine(config)
    assert [each for each in findings if each.level == "FAIL"] == []
    credentials = about(findings, "credentials")
    assert "the environment" in credentials.sentence
    assert credentials.targets == ("orders", "web", "flags")
    assert "it exists" in about(findings, "event bus default").sentence
    assert "rum:GetAppMonitor" in about(findings, "web: there").sentence
    assert not place.storage.exists()
    for kind in KINDS:
        assert (await place.summary(kind))["calls"] == 0


async def test_a_bus_that_is_not_there_fails_and_one_that_is_does_not(place: World) -> None:
    await place.make_bus("there")
    findings = await of_one(place.storage, place.sandbox, buses=["there", "missing"])
    assert about(findings, "event bus there").level == "ok"
    missing = about(findings, "event bus missing")
    assert (missing.level, missing.remedy) == ("FAIL", "Create it, or correct buses.")


async def test_a_bus_that_may_not_be_described_is_a_warning(place: World) -> None:
    await place.order({"fault": "access_denied", "operation": "DescribeEventBus", "api": "eventbridge"})
    finding = about(await of_one(place.storage, place.sandbox), "event bus default")
    assert finding.level == "warn"
    assert "events:DescribeEventBus" in finding.sentence


async def test_credentials_that_aws_refuses_fail_with_its_words(place: World) -> None:
    await place.accept_keys("AKIDOTHER")
    finding = about(await of_one(place.storage, place.sandbox), "event bus default")
    assert finding.level == "FAIL"
    assert "ExpiredTokenException: The security token" in finding.sentence


async def test_no_credentials_at_all_fail_and_the_way_is_looked_at_all_the_same(
    place: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    forget_credentials(monkeypatch)
    findings = await of_one(place.storage, place.sandbox)
    assert about(findings, "orders: credentials").level == "FAIL"
    assert "NoCredentialsError" in about(findings, "orders: credentials").sentence
    assert about(findings, "orders: endpoint").level == "ok"
    assert not [each for each in findings if "event bus" in each.about]


async def test_credentials_are_found_where_they_are(place: World, monkeypatch: pytest.MonkeyPatch) -> None:
    forget_credentials(monkeypatch)
    path = place.storage.parent / "credentials"
    path.write_text("[default]\naws_access_key_id = AKID\naws_secret_access_key = secret-in-a-file\n")
    finding = about(await of_one(place.storage, place.sandbox), "orders: credentials")
    assert finding.sentence == "found in the shared credentials file; they do not expire"


async def test_a_broken_source_is_named_with_its_own_cure(
    place: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with serving(sts, tmp_path / "token") as source:
        use_web_identity(source, monkeypatch)
        source.token_file.unlink()
        finding = about(await of_one(place.storage, place.sandbox), "orders: credentials")
    assert finding.level == "FAIL"
    assert "a role, by a web identity token (IRSA): FileNotFoundError" in finding.sentence
    assert "AWS_WEB_IDENTITY_TOKEN_FILE" in finding.remedy


async def test_a_bundle_that_does_not_count_for_the_source_is_said_where_it_is_set(
    place: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    certificate, _ = self_signed(tmp_path)
    async with serving(container, tmp_path / "token") as source:
        use_container(source, monkeypatch)
        without = about(await of_one(place.storage, place.sandbox), "orders: credentials")
        monkeypatch.setenv("AWS_CA_BUNDLE", str(certificate))
        finding = about(await of_one(place.storage, place.sandbox), "orders: credentials")
    assert "found in the container's role" in without.sentence
    assert "this source ignores" not in without.sentence
    assert "this source ignores AWS_CA_BUNDLE" in finding.sentence


async def test_an_endpoint_where_nobody_is_fails(tmp_path: Path, aws_environment: None) -> None:
    finding = about(await of_one(tmp_path, "http://127.0.0.1:1"), "orders: endpoint")
    assert finding.level == "FAIL"
    assert "127.0.0.1:1 cannot be reached" in finding.sentence


async def test_a_name_that_nobody_knows_fails(tmp_path: Path, aws_environment: None) -> None:
    finding = about(await of_one(tmp_path, "http://no-such-host.invalid"), "orders: name")
    assert finding.level == "FAIL"
    assert "no-such-host.invalid cannot be resolved on this host" in finding.sentence


async def test_a_certificate_that_cannot_be_trusted_fails(tmp_path: Path, aws_environment: None) -> None:
    tls = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    tls.load_cert_chain(*self_signed(tmp_path))
    async with fake_aws(says(200, {}), tls=tls) as aws:
        finding = about(await of_one(tmp_path, aws.url), "orders: TLS")
    assert finding.level == "FAIL"
    for counts in ("AWS_CA_BUNDLE", "ca_bundle of the profile", "REQUESTS_CA_BUNDLE"):
        assert counts in finding.remedy
    assert "SSL_CERT_FILE, SSL_CERT_DIR and CURL_CA_BUNDLE do not count" in finding.remedy


async def test_a_port_without_tls_is_told_without_what_only_a_programmer_reads(
    tmp_path: Path, aws_environment: None
) -> None:
    async with fake_aws(says(200, {})) as aws:
        url = aws.url.replace("http://", "https://")
        finding = about(await of_one(tmp_path, url), "orders: TLS")
    assert "WRONG_VERSION_NUMBER" in finding.sentence
    assert "object at 0x" not in finding.sentence


async def test_authorities_that_cannot_be_read_fail_as_such(
    tmp_path: Path, aws_environment: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_CA_BUNDLE", str(tmp_path / "none.pem"))
    finding = about(await of_one(tmp_path, "https://127.0.0.1:1"), "orders: TLS")
    assert finding.level == "FAIL"
    assert f"{tmp_path / 'none.pem'}: No such file" in finding.sentence


async def test_a_file_of_senders_that_the_daemon_would_not_start_with_fails(place: World) -> None:
    tokens = place.storage.parent / "tokens"
    config = json.dumps(
        {
            "storage": {"path": str(place.storage)},
            "ingest": {"auth": {"tokens": str(tokens)}},
            "targets": {"orders": {**TARGET, "endpoint_url": place.sandbox}},
        }
    )
    findings = await examine(parse(config, option_types(), {}))
    finding = about(findings, "ingest")
    assert finding.level == "FAIL"
    assert f"{tokens} cannot be read: No such file" in finding.sentence
    tokens.write_text(f"shop {'0' * 64}\n")
    tokens.chmod(0o644)
    finding = about(await examine(parse(config, option_types(), {})), "ingest")
    assert (finding.level, "other users can read it" in finding.sentence) == ("warn", True)
    tokens.chmod(0o600)
    assert about(await examine(parse(config, option_types(), {})), "ingest").level == "ok"


@pytest.mark.parametrize(
    ("off", "level", "side"),
    [
        (0.0, "ok", "agrees"),
        (-20.0, "ok", "agrees"),
        (-90.0, "warn", "behind"),
        (90.0, "warn", "ahead of"),
        (-3600.0, "FAIL", "behind"),
        (3600.0, "FAIL", "ahead of"),
    ],
)
async def test_a_clock_that_is_off_is_told_as_aws_will_take_it(
    tmp_path: Path, aws_environment: None, off: float, level: str, side: str
) -> None:
    """``off``: how far ours is ahead of the endpoint's."""
    async with fake_aws(says(404, {}, Date=formatdate(time.time() - off, usegmt=True))) as aws:
        finding = about(await of_one(tmp_path, aws.url), "orders: clock")
    assert (finding.level, side in finding.sentence) == (level, True)


async def test_a_redirect_is_a_warning(tmp_path: Path, aws_environment: None) -> None:
    async with fake_aws(says(302, b"", Location="http://login.example/")) as aws:
        finding = about(await of_one(tmp_path, aws.url), "orders: endpoint")
    assert finding.level == "warn"
    assert "redirects to login.example" in finding.sentence


async def test_a_question_that_aws_answers_with_an_error_fails(tmp_path: Path, aws_environment: None) -> None:
    async with fake_aws(says(404, {}), fails(400, "UnrecognizedClientException", "The token is bad")) as aws:
        finding = about(await of_one(tmp_path, aws.url), "event bus default")
        assert [call.operation for call in aws.calls if call.operation] == ["DescribeEventBus"]
    assert (finding.level, "The token is bad" in finding.sentence) == ("FAIL", True)


async def test_a_way_that_many_targets_share_is_gone_once_and_is_said_of_each(
    tmp_path: Path, aws_environment: None
) -> None:
    async with fake_aws(says(404, {})) as aws:
        there = {**SMALL, "endpoint_url": aws.url}
        same = {f"t{number}": there for number in range(40)}
        other = {**there, "timeouts": {"connect": "6s"}}
        findings = await examine(config_of(tmp_path, **same, other=other))
        assert len([call for call in aws.calls if not call.operation]) == 2
        assert len([call for call in aws.calls if call.operation == "DescribeEventBus"]) == 41
    for part in ("credentials", "name", "TLS", "endpoint", "event bus default"):
        assert about(findings, part).targets == (*same, "other")


async def test_an_endpoint_that_is_nowhere_is_the_same_finding_for_two_hundred_targets(
    tmp_path: Path, aws_environment: None
) -> None:
    nowhere = {**SMALL, "endpoint_url": "http://127.0.0.1:1"}
    began = time.process_time()
    findings = await examine(config_of(tmp_path, **{f"t{number}": nowhere for number in range(200)}))
    assert len(about(findings, "endpoint").targets) == 200
    assert time.process_time() - began < 10


async def test_a_region_that_is_nowhere_is_said(tmp_path: Path, aws_environment: None) -> None:
    findings = await examine(config_of(tmp_path, orders={"kind": "eventbridge"}))
    assert "NoRegionError" in about(findings, "orders: endpoint").sentence


async def test_a_storage_that_cannot_be_written_fails(place: World) -> None:
    (place.storage.parent / "file").write_text("in the way")
    findings = await of_one(place.storage.parent / "file" / "state", place.sandbox)
    (finding,) = [each for each in findings if each.about == "storage.path"]
    assert finding.level == "FAIL"
    assert "is not a directory" in finding.sentence


async def test_a_directory_that_others_can_write_in_is_a_warning(place: World) -> None:
    place.storage.mkdir()
    for mode, warned in ((0o700, False), (0o755, False), (0o777, True), (0o2770, True), (0o1777, False)):
        place.storage.chmod(mode)
        findings = await of_one(place.storage, place.sandbox)
        said = [each for each in findings if "other users can write" in each.sentence]
        assert [each.level for each in said] == (["warn"] if warned else []), oct(mode)
        assert is_well(findings)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root may give a directory away")
async def test_a_directory_of_another_user_is_a_warning(place: World) -> None:
    place.storage.mkdir()
    os.chown(place.storage, 4321, 4321)
    findings = await of_one(place.storage, place.sandbox)
    (finding,) = [each for each in findings if "belongs to user 4321" in each.sentence]
    assert (finding.level, is_well(findings)) == ("warn", True)


async def test_web_pages_that_may_send_are_a_warning(place: World) -> None:
    for browsers, wanted in (("allow", ["warn"]), ("refuse", [])):
        config = {
            "storage": {"path": str(place.storage)},
            "ingest": {"browsers": browsers},
            "targets": {"orders": {**TARGET, "endpoint_url": place.sandbox}},
        }
        findings = await examine(parse(json.dumps(config), option_types(), {}))
        assert [each.level for each in findings if each.about == "ingest.browsers"] == wanted


@pytest.mark.parametrize(("files", "wanted"), [(1343, ["warn"]), (1344, [])])
def test_too_few_open_files_for_the_connections_are_a_warning(
    tmp_path: Path, files: int, wanted: list[str]
) -> None:
    findings = list(settings.examine(config_of(tmp_path, orders=TARGET), {}, lambda: files))
    said = [each for each in findings if each.about == "ingest.max_connections"]
    assert [each.level for each in said] == wanted
    assert all("LimitNOFILE=1344" in each.remedy for each in said)


def test_too_few_open_files_for_everything_else_are_a_warning(tmp_path: Path) -> None:
    config = {
        "ingest": {"max_connections": 10},
        "storage": {"path": str(tmp_path)},
        "targets": {"orders": TARGET},
    }
    parsed = parse(json.dumps(config), option_types(), {})
    for files, wanted in ((329, ["warn"]), (330, [])):
        findings = settings.examine(parsed, {}, lambda files=files: files)  # type: ignore[misc]
        assert [each.level for each in findings if each.about == "ingest.max_connections"] == wanted


async def test_a_daemon_that_runs_there_is_not_disturbed(place: World) -> None:
    place.storage.mkdir()
    before = sorted(place.storage.iterdir())
    await of_one(place.storage, place.sandbox)
    assert sorted(place.storage.iterdir()) == before


def run(path: Path, *more: str) -> int:
    return main(["doctor", "-c", str(path), *more])


async def test_the_exit_code_is_1_when_something_fails_and_json_says_the_same(
    place: World, capsys: pytest.CaptureFixture[str]
) -> None:
    path = place.storage.parent / "forwarder.yaml"
    for url, code, levels in ((place.sandbox, 0, {"ok"}), ("http://127.0.0.1:1", 1, {"ok", "FAIL"})):
        target = {**TARGET, "endpoint_url": url}
        path.write_text(json.dumps({"storage": {"path": str(place.storage)}, "targets": {"orders": target}}))
        assert await asyncio.to_thread(run, path, "--json") == code
        said = json.loads(capsys.readouterr().out)
        assert {finding["level"] for finding in said} == levels
        assert await asyncio.to_thread(run, path) == code
        lines = capsys.readouterr().out.splitlines()
        assert len(lines) == len(said) + 1
        assert lines[-1] == f"{len(said)} checks: {len(said) - code} passed, 0 warnings, {code} failed"


def test_a_bad_configuration_fails_with_every_problem(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "forwarder.yaml"
    path.write_text("log: {level: x}\ntargets: {a: {kind: eventbridge, region: 5}}\n")
    assert run(path) == 1
    lines = capsys.readouterr().out.splitlines()
    assert [line.split(": ")[1:3] for line in lines[:-1]] == [
        [f"{path}:1", "log.level"],
        [f"{path}:2", "targets.a.region"],
    ]


def test_a_warning_is_no_failure() -> None:
    findings = [Finding("ok", "a", "good"), Finding("warn", "b", "odd.", "Look.")]
    assert is_well(findings)
    assert format_findings(findings).splitlines() == [
        "ok    a: good",
        "warn  b: odd. Look.",
        "2 checks: 1 passed, 1 warning, 0 failed",
    ]
