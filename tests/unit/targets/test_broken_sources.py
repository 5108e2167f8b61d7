"""Every source of credentials, broken in every way: it holds the target by name, until it is mended.

Each case breaks a source, calls, mends it and calls again, with the same client: nothing restarts.
"""

from __future__ import annotations

import asyncio
import json
import os
import shlex
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from hashlib import sha1
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web

from forwarder.model import CallStatus, Kind, Outcome, Results
from forwarder.targets import credentials, programs
from forwarder.targets.client import AwsClient
from forwarder.targets.eventbridge import EventBridgeOptions
from forwarder.targets.options import Role
from forwarder.targets.source_table import NO_RESTART, RESTART
from tests.support import credential_sources as sources
from tests.support.credential_sources import Source, serving
from tests.support.fake_aws import FakeAws, aws_environment, fake_aws, forget_credentials, says

__all__ = ["aws_environment"]
pytestmark = pytest.mark.usefixtures("aws_environment")

OK = says(200, {"FailedEntryCount": 0, "Entries": [{"EventId": "x"}]})
SLEEPER = str(86_400 + os.getpid())
"""Seconds that no other program sleeps."""


@dataclass
class Stage:
    """What a case breaks and mends: files, variables, and a server that plays STS, IMDS or a container."""

    folder: Path
    patch: pytest.MonkeyPatch
    source: Source
    options: dict[str, Any] = field(default_factory=dict)
    answer: Callable[[Source, web.Request, str], web.Response] = sources.sts
    hangs: bool = False

    def config(self, text: str) -> None:
        (self.folder / "config").write_text(text)

    def program(self, text: str) -> None:
        """A profile whose program runs this in a shell."""
        self.config(f"[default]\ncredential_process = sh {shlex.quote(str(self.script))}\n")
        self.script.write_text(text)

    @property
    def script(self) -> Path:
        return self.folder / "program.sh"

    def prints(self, **changes: object) -> str:
        """A program that prints keys."""
        keys = {"Version": 1, "AccessKeyId": "AKIDPRINTED", "SecretAccessKey": "secret", **changes}
        given = {name: value for name, value in keys.items() if value is not None}
        return f"echo {shlex.quote(json.dumps(given))}\n"

    def sso_token(self, seconds: float, **more: str) -> None:
        end = (datetime.now(UTC) + timedelta(seconds=seconds)).strftime("%Y-%m-%dT%H:%M:%SZ")
        token = {"accessToken": "sso-token", "expiresAt": end, **more}
        (self.folder / f"{sha1(b'corp').hexdigest()}.json").write_text(json.dumps(token))


Step = Callable[[Stage], object]


@dataclass(frozen=True)
class Case:
    """``words``: what the message says besides the source; ``restart``: whether the text asks for one."""

    name: str
    use: Step
    breaks: Step
    mends: Step
    source: str
    words: str
    code: str = "credentials"
    cure: str = NO_RESTART


def ends(seconds: float) -> str:
    return (datetime.now(UTC) + timedelta(seconds=seconds)).strftime("%Y-%m-%dT%H:%M:%SZ")


def nothing(stage: Stage) -> None:
    pass


# --- how each source is set up, when it works


def web_identity(stage: Stage) -> None:
    sources.use_web_identity(stage.source, stage.patch)


def role(stage: Stage) -> None:
    sources.use_role(stage.source, stage.patch)
    stage.options["role"] = Role(arn=sources.ROLE)


def container(stage: Stage) -> None:
    stage.answer = sources.container
    sources.use_container(stage.source, stage.patch)


def instance(stage: Stage) -> None:
    stage.answer = sources.imds
    sources.use_imds(stage.source, stage.patch)
    stage.patch.setenv("AWS_METADATA_SERVICE_TIMEOUT", "1")


def program(stage: Stage) -> None:
    forget_credentials(stage.patch)
    stage.program(stage.prints())


def shared_file(stage: Stage) -> None:
    forget_credentials(stage.patch)


def sso(stage: Stage) -> None:
    forget_credentials(stage.patch)
    stage.answer = _sso_portal
    stage.patch.setenv("AWS_ENDPOINT_URL_SSO", stage.source.url)
    for where in ("credentials.SSOProvider", "tokens.SSOTokenProvider"):
        stage.patch.setattr(f"botocore.{where}._SSO_TOKEN_CACHE_DIR", str(stage.folder))
    stage.config(
        "[default]\nsso_session = corp\nsso_account_id = 123456789012\nsso_role_name = events\n"
        "[sso-session corp]\nsso_region = eu-west-1\nsso_start_url = https://corp.example/start\n"
    )
    stage.sso_token(3600)


def _sso_portal(source: Source, request: web.Request, body: str) -> web.Response:
    keys = source.hand_out()
    given = {"accessKeyId": keys["AccessKeyId"], "secretAccessKey": "secret", "sessionToken": "t"}
    return web.json_response({"roleCredentials": {**given, "expiration": int(source.ends * 1000)}})


def source_profile(stage: Stage) -> None:
    """A role of a profile, assumed with the keys that another profile's program prints."""
    forget_credentials(stage.patch)
    stage.patch.setenv("AWS_ENDPOINT_URL_STS", stage.source.url)
    stage.script.write_text(stage.prints(AccessKeyId="AKIDBASE"))
    stage.config(
        f"[default]\nrole_arn = {sources.ROLE}\nsource_profile = base\n"
        f"[profile base]\ncredential_process = sh {shlex.quote(str(stage.script))}\n"
    )


# --- breaking and mending


def no_token(stage: Stage) -> None:
    stage.source.token_file.unlink()


def new_token(stage: Stage) -> None:
    stage.source.token_file.write_text("token-2")


def down(stage: Stage) -> None:
    stage.source.down = True


def no_login(stage: Stage) -> None:
    for path in stage.folder.glob("*.json"):
        path.unlink()


def torn_login(stage: Stage) -> None:
    for path in stage.folder.glob("*.json"):
        path.write_text("{")


def up(stage: Stage) -> None:
    stage.source.down = stage.hangs = False


def hang(stage: Stage) -> None:
    stage.hangs = True


def answers(status: int, text: str, kind: str = "application/json") -> Step:
    def step(stage: Stage) -> None:
        stage.answer = lambda source, request, body: web.Response(status=status, text=text, content_type=kind)

    return step


def answers_as(handler: Callable[[Source, web.Request, str], web.Response]) -> Step:
    def step(stage: Stage) -> None:
        stage.answer = handler

    return step


def runs(text: str) -> Step:
    return lambda stage: stage.program(text)


def prints(**changes: object) -> Step:
    return lambda stage: stage.program(stage.prints(**changes))


def config(text: str) -> Step:
    return lambda stage: stage.config(text.replace("FOLDER", str(stage.folder)))


def credentials_file(text: str | bytes) -> Step:
    def step(stage: Stage) -> None:
        (stage.folder / "credentials").write_bytes(text.encode() if isinstance(text, str) else text)

    return step


def variables(**values: str | None) -> Step:
    def step(stage: Stage) -> None:
        for name, value in values.items():
            if value is None:
                stage.patch.delenv(name, raising=False)
            else:
                stage.patch.setenv(name, value.replace("FOLDER", str(stage.folder)))

    return step


def unreadable(stage: Stage) -> None:
    """Root may read every file, so the refusal is the test's own."""
    whole = open
    (stage.folder / "credentials").write_text(GOOD_FILE)

    def refuse(path: Any, *rest: Any, **more: Any) -> Any:
        if str(path) == str(stage.folder / "credentials"):
            raise PermissionError(13, "Permission denied")
        return whole(path, *rest, **more)

    stage.patch.setattr("forwarder.targets.session.open", refuse, raising=False)


def readable(stage: Stage) -> None:
    stage.patch.setattr("forwarder.targets.session.open", open, raising=False)


def mkdir(name: str) -> Step:
    return lambda stage: (stage.folder / name).mkdir()


def profile(stage: Stage) -> None:
    stage.options["profile"] = "gone"


DENIED = "<ErrorResponse><Error><Code>AccessDenied</Code><Message>not you</Message></Error></ErrorResponse>"
THROTTLED = DENIED.replace("AccessDenied", "Throttling")
GOOD_FILE = "[default]\naws_access_key_id = AKIDFILE\naws_secret_access_key = secret\n"
GONE = "[profile gone]\naws_access_key_id = AKIDFILE\naws_secret_access_key = secret\n"
WEB = "a role, by a web identity token (IRSA)"
ROLE_WORDS = "a role, assumed with other credentials"
BOX = "the container's role (ECS, EKS Pod Identity)"
RUN = "the profile's credential_process"
LOGIN = "the profile's SSO login"
FILE = "the shared credentials file"
CHAIN = "the SDK's chain"
ENV = "the environment (AWS_ACCESS_KEY_ID)"
MENDED = sources.sts
TOKEN_VARIABLE = "AWS_WEB_IDENTITY_TOKEN_FILE"
CA_CURE = "name a readable file of PEM certificates"
SHARED = "Correct the shared files"
SLOW = "no answer within"
ALSO = {SLOW: ("Read timeout on endpoint URL",)}
"""What a busy machine may come to first: the SDK's own time-out for one try."""
GIVE = "Give the forwarder credentials"

CASES = [
    Case("web identity: no token file", web_identity, no_token, new_token, WEB, "No such file",
         cure=TOKEN_VARIABLE),
    Case("web identity: denied", web_identity, answers(403, DENIED, "text/xml"), answers_as(MENDED), WEB,
         "AssumeRoleWithWebIdentity: AccessDenied: not you", cure=TOKEN_VARIABLE),
    Case("web identity: STS fails", web_identity, down, up, WEB, "Error", cure=TOKEN_VARIABLE),
    Case("web identity: STS hangs", web_identity, hang, up, WEB, SLOW, cure=TOKEN_VARIABLE),
    Case("web identity: STS talks garbage", web_identity, answers(200, "<html>"), answers_as(MENDED), WEB,
         "Error", cure=TOKEN_VARIABLE),
    Case("web identity: no role", web_identity, variables(AWS_ROLE_ARN=None),
         variables(AWS_ROLE_ARN=sources.ROLE), WEB, "no role ARN", "configuration", SHARED),
    Case("role: denied", role, answers(403, DENIED, "text/xml"), answers_as(MENDED), ROLE_WORDS,
         "AssumeRole: AccessDenied: not you", cure="sts:AssumeRole"),
    Case("role: throttled", role, answers(400, THROTTLED, "text/xml"), answers_as(MENDED), ROLE_WORDS,
         "AssumeRole: Throttling"),
    Case("role: STS hangs", role, hang, up, ROLE_WORDS, SLOW),
    Case("role: nothing to assume it with", role, variables(AWS_ACCESS_KEY_ID=None),
         variables(AWS_ACCESS_KEY_ID="AKIDBASE"), CHAIN, "IMDS", cure=GIVE),
    Case("role: keys already over", role, lambda stage: setattr(stage.source, "lasts", -60.0),
         lambda stage: setattr(stage.source, "lasts", 3600.0), ROLE_WORDS, "still expired"),
    Case("program: missing", program, config("[default]\ncredential_process = /no/such/program\n"), program,
         RUN, "it cannot be started: [Errno 2] No such file or directory: '/no/such/program'"),
    Case("program: fails", program, runs("echo ask the vault >&2; exit 3"), program, RUN, "ask the vault"),
    Case("program: hangs", program, runs(f"sleep {SLEEPER} & sleep {SLEEPER}"), program, RUN,
         SLOW),
    Case("program: ended by a signal", program, runs("kill -9 $$"), program, RUN, "signal 9"),
    Case("program: garbage", program, runs("echo hello"), program, RUN, "not the JSON object"),
    Case("program: a list", program, runs("echo '[]'"), program, RUN, "not the JSON object"),
    Case("program: no UTF-8", program, runs("printf '\\377'"), program, RUN, "not the JSON object"),
    Case("program: nothing", program, runs("true"), program, RUN, "not the JSON object"),
    Case("program: without end", program, runs("yes"), program, RUN, "wrote more than"),
    Case("program: another version", program, prints(Version=2), program, RUN, "Unsupported version"),
    Case("program: no secret key", program, prints(SecretAccessKey=None), program, RUN, "SecretAccessKey"),
    Case("program: keys already over", program, prints(SessionToken="t", Expiration=ends(-60)), program, RUN,
         "still expired"),
    Case("program: a strange end", program, prints(SessionToken="t", Expiration="soon"), program, RUN,
         "soon"),
    Case("program of a source profile: hangs", source_profile,
         lambda stage: stage.script.write_text(f"sleep {SLEEPER}"), source_profile, ROLE_WORDS,
         SLOW),
    Case("program of a source profile: fails", source_profile,
         lambda stage: stage.script.write_text("echo no; exit 1"), source_profile, RUN,
         "custom-process"),
    Case("container: no token file", container, no_token, new_token, BOX, "No such file",
         cure="AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE"),
    Case("container: a token with a line break", container,
         lambda stage: stage.source.token_file.write_text("token-1\n"), new_token, BOX,
         "not a legal header value", cure="AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE"),
    Case("container: fails", container, down, up, BOX, "500", cure="no restart is needed unless"),
    Case("container: garbage", container, answers(200, "hello"), container, BOX, "Unable to parse JSON",
         cure="no restart is needed unless"),
    Case("container: keys missing", container, answers(200, "{}"), container, BOX, "AccessKeyId",
         cure="no restart is needed unless"),
    Case("container: hangs", container, hang, up, BOX, SLOW, cure="no restart is needed unless"),
    Case("container: a forbidden host", container,
         variables(AWS_CONTAINER_CREDENTIALS_FULL_URI="http://10.0.0.1/keys"), container, BOX,
         "Unsupported host", cure="AWS_CONTAINER_CREDENTIALS_FULL_URI"),
    Case("instance: hangs", instance, hang, up, CHAIN, "IMDS (instance metadata) did not answer", cure=GIVE),
    Case("instance: fails", instance, down, up, CHAIN, "IMDS (instance metadata) did not answer", cure=GIVE),
    Case("instance: garbage", instance, answers(200, "hello"), instance, CHAIN, "IMDS", cure=GIVE),
    Case("instance: disabled", instance, variables(AWS_EC2_METADATA_DISABLED="true"),
         variables(AWS_EC2_METADATA_DISABLED="false"), CHAIN, "disabled by AWS_EC2_METADATA_DISABLED",
         cure=GIVE),
    Case("SSO: no login", sso, no_login,
         sso, LOGIN, "does not exist", cure="aws sso login"),
    Case("SSO: login over", sso, lambda stage: stage.sso_token(-60), sso, LOGIN, "expired",
         cure="aws sso login"),
    Case("SSO: a broken cache", sso,
         torn_login, sso, LOGIN,
         "", cure="aws sso login"),
    Case("SSO: no such session", sso, config("[default]\nsso_session = gone\nsso_account_id = 123456789012\n"
         "sso_role_name = r\n"), sso, LOGIN, "sso-session does not exist", "configuration", SHARED),
    Case("SSO: denied", sso, answers(403, '{"message": "no"}'), answers_as(_sso_portal), LOGIN,
         "GetRoleCredentials", cure="aws sso login"),
    Case("profile of the target: missing", profile, nothing, config(GONE), CHAIN, "profile (gone)",
         "configuration", "profile of the target"),
    Case("AWS_PROFILE: missing", shared_file, variables(AWS_PROFILE="gone"), config(GONE), CHAIN,
         "profile (gone)", "configuration", "AWS_PROFILE"),
    Case("source_profile: a circle", shared_file,
         config(f"[default]\nrole_arn = {sources.ROLE}\nsource_profile = b\n"
                f"[profile b]\nrole_arn = {sources.ROLE}\nsource_profile = default\n"),
         source_profile, ROLE_WORDS, "Infinite loop", "configuration", SHARED),
    Case("source_profile: missing", shared_file,
         config(f"[default]\nrole_arn = {sources.ROLE}\nsource_profile = b\n"), source_profile, ROLE_WORDS,
         "does not exist", "configuration", SHARED),
    Case("a role that asks for MFA", shared_file,
         config(f"[default]\nrole_arn = {sources.ROLE}\nsource_profile = b\n"
                "mfa_serial = arn:aws:iam::1:mfa/me\n"
                "[profile b]\naws_access_key_id = AKIDBASE\naws_secret_access_key = secret\n"),
         source_profile, ROLE_WORDS, "a daemon cannot ask for", "configuration", SHARED),
    Case("configuration file: malformed", shared_file, config("hello\n"), source_profile, CHAIN,
         "Unable to parse config file", "configuration", SHARED),
    Case("credentials file: malformed", shared_file, credentials_file("[default\n"),
         credentials_file(GOOD_FILE), CHAIN, "Unable to parse config file", "configuration", SHARED),
    Case("credentials file: no UTF-8", shared_file, credentials_file(b"\xff\xfe[default]"),
         credentials_file(GOOD_FILE), CHAIN, "Unable to parse config file", "configuration", SHARED),
    Case("credentials file: unreadable", shared_file, unreadable, readable, CHAIN, "Permission denied",
         "configuration", "let the user of the forwarder read it"),
    Case("credentials file: half of the keys", shared_file,
         credentials_file("[default]\naws_access_key_id = AKIDFILE\n"), credentials_file(GOOD_FILE), FILE,
         "aws_secret_access_key"),
    Case("credentials file: an empty key", shared_file,
         credentials_file(GOOD_FILE.replace("secret\n", "\n")), credentials_file(GOOD_FILE), FILE,
         "is empty"),
    Case("environment: half of the keys", nothing, variables(AWS_SECRET_ACCESS_KEY=None),
         variables(AWS_SECRET_ACCESS_KEY="secret"), ENV, "AWS_SECRET_ACCESS_KEY", cure=RESTART),
    Case("environment: a line break in a key", nothing, variables(AWS_ACCESS_KEY_ID="AKIDEXAMPLE\n"),
         variables(AWS_ACCESS_KEY_ID="AKIDEXAMPLE"), ENV, "line break", cure=RESTART),
    Case("environment: keys already over", nothing,
         variables(AWS_SESSION_TOKEN="t", AWS_CREDENTIAL_EXPIRATION=ends(-60)),
         variables(AWS_CREDENTIAL_EXPIRATION=ends(3600)), ENV, "still expired", cure=RESTART),
    Case("AWS_CA_BUNDLE: missing", role, variables(AWS_CA_BUNDLE="FOLDER/none.pem"),
         variables(AWS_CA_BUNDLE=None), CHAIN, "AWS_CA_BUNDLE: ", "configuration", CA_CURE),
    Case("AWS_CA_BUNDLE: no certificate", nothing, variables(AWS_CA_BUNDLE=__file__),
         variables(AWS_CA_BUNDLE=None), CHAIN, "it has no PEM certificate", "configuration", CA_CURE),
    Case("AWS_CA_BUNDLE: empty", nothing, variables(AWS_CA_BUNDLE=""), variables(AWS_CA_BUNDLE=None), CHAIN,
         "AWS_CA_BUNDLE is empty", "configuration", "or unset it"),
    Case("AWS_CA_BUNDLE: a folder", nothing, variables(AWS_CA_BUNDLE="FOLDER"), variables(AWS_CA_BUNDLE=None),
         CHAIN, "AWS_CA_BUNDLE: ", "configuration", CA_CURE),
    Case("REQUESTS_CA_BUNDLE: missing", nothing, variables(REQUESTS_CA_BUNDLE="FOLDER/none.pem"),
         variables(REQUESTS_CA_BUNDLE=None), CHAIN, "REQUESTS_CA_BUNDLE: ", "configuration", CA_CURE),
    Case("ca_bundle of the profile: missing", nothing, config("[default]\nca_bundle = FOLDER/none.pem\n"),
         config(""), CHAIN, "ca_bundle of the profile: ", "configuration", CA_CURE),
    Case("IMDS time-out: no number", instance, variables(AWS_METADATA_SERVICE_TIMEOUT="soon"),
         variables(AWS_METADATA_SERVICE_TIMEOUT="1"), CHAIN, "'soon'", "configuration", "the named variable"),
    Case("region: none", lambda stage: stage.options.update(region=None, endpoint_url=None), nothing,
         lambda stage: stage.patch.setenv("AWS_REGION", "eu-west-1"), CHAIN, "NoRegionError", "configuration",
         "Set region"),
]  # fmt: skip


@pytest.fixture(autouse=True)
def short_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(programs, "SECONDS", 3.0)
    monkeypatch.setattr("botocore.utils.ContainerMetadataFetcher.SLEEP_TIME", 0.01)
    for name in ("AWS_CA_BUNDLE", "REQUESTS_CA_BUNDLE"):
        monkeypatch.delenv(name, raising=False)


@asynccontextmanager
async def staged(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[tuple[Stage, FakeAws]]:
    stages: list[Stage] = []

    def handler(source: Source, request: web.Request, body: str) -> web.Response:
        return stages[0].answer(source, request, body)

    async with serving(handler, tmp_path / "token", lambda: stages[0].hangs) as source, fake_aws(OK) as aws:
        stages.append(Stage(tmp_path, monkeypatch, source, {"region": "eu-west-1", "endpoint_url": aws.url}))
        yield stages[0], aws


async def put(client: AwsClient) -> Results:
    body = b'{"Entries":[{"Source":"s","DetailType":"t","Detail":"{}"}]}'
    return await client.call("PutEvents", {}, 1, lambda got, n: [Outcome(Kind.DELIVERED)], body)


def sleepers() -> Iterator[int]:
    """Programs of these tests that are still there, and the guards of any."""
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            line = path.read_bytes()
        except OSError:
            continue
        parent = (path.parent / "stat").read_text().rpartition(")")[2].split()[1]
        if SLEEPER.encode() in line or (b"targets/program.py" in line and int(parent) == os.getpid()):
            yield int(path.parent.name)


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
async def test_a_broken_source_holds_by_name_and_cure_and_works_once_it_is_mended(
    case: Case, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if case.words == SLOW:
        monkeypatch.setattr(credentials, "WAIT_SECONDS", 1.0)
        monkeypatch.setattr("forwarder.targets.session.CREDENTIALS_READ_SECONDS", 0.6)
    async with staged(tmp_path, monkeypatch) as (stage, aws):
        case.use(stage)
        case.breaks(stage)
        client = AwsClient("events", EventBridgeOptions(**stage.options), 1)
        try:
            for _ in range(2):
                results = await put(client)
                assert (results.status, results.code) == (CallStatus.HELD, case.code), results.message
                assert not results.called
                assert any(words in results.message for words in (case.words, *ALSO.get(case.words, ())))
                for words in (case.source, case.cure):
                    assert words in results.message
                for oddity in ("\n", ".. ", " . "):
                    assert oddity not in results.message, "what a program printed is one part of a sentence"
            assert aws.calls == []
            case.mends(stage)
            if stage.options["endpoint_url"] is None:
                return  # AWS itself is not called
            async with asyncio.timeout(20):
                while (results := await put(client)).status is not CallStatus.OK:
                    assert (results.status, results.code) == (CallStatus.HELD, case.code), results.message
            assert len(aws.calls) == 1
        finally:
            await client.close()
        assert list(sleepers()) == []
