"""The SDK's sessions, set up so that a daemon can rely on them.

Invariants:
- A redirect is never followed: the next host would get the body and the session token.
- ``AWS_ENDPOINT_URL`` redirects none of our clients, not even those that fetch credentials, for it usually
  names this daemon. ``AWS_ENDPOINT_URL_STS`` and its like, for the services credentials come from, do count.
- The SDK never retries an event call: one place retries, the worker. Calls for credentials are tried three
  times, as by every SDK.
- Trusted certificates are those of the SDK: ``AWS_CA_BUNDLE``, else ``ca_bundle`` of the profile, else
  ``REQUESTS_CA_BUNDLE``, else those of certifi.
- Everything that reads files (profiles, service models) happens in a thread; models are read once.
- TLS contexts are shared: reading the trusted certificates takes a client 50 ms of CPU.
- The service models are botocore's own and ours, whatever lies in ``~/.aws/models``.
"""

from __future__ import annotations

import asyncio
import functools
import os
import ssl
from collections.abc import Callable, Iterator, Mapping
from contextvars import ContextVar
from pathlib import Path
from typing import Any, Protocol

from aiobotocore.config import AioConfig
from aiobotocore.credentials import (
    AioAssumeRoleCredentialFetcher,
    AioCredentialResolver,
    AioDeferredRefreshableCredentials,
)
from aiobotocore.httpsession import AIOHTTPSession
from aiobotocore.session import AioSession
from botocore.exceptions import BotoCoreError, DataNotFoundError, InvalidConfigError, NoRegionError
from botocore.httpsession import get_cert_path
from botocore.loaders import Loader

from forwarder import __version__
from forwarder.targets.options import Role, TargetOptions

MODELS = Path(__file__).with_name("models")
"""Service models that botocore lacks: Evidently, which it dropped, and a newer field of RUM."""

KEEP_ALIVE_SECONDS = 55
"""AWS closes idle connections after 60 s; ours go first, or a call would now and then meet a closed one."""

DNS_SECONDS = 30

CREDENTIALS_READ_SECONDS = 5.0
"""How long one call for credentials may wait for its answer; a target's own ``timeouts`` can shorten it."""

CREDENTIALS_TRIES = 3

STAND_IN_REGION = "us-east-1"
"""The region to sign for when the endpoint is the operator's own and no region is configured anywhere."""


rehearsal: ContextVar[Callable[[Any, str, Mapping[str, Any]], None] | None] = ContextVar(
    "rehearsal", default=None
)
"""Who is shown a request in place of sending it: the aiohttp session, the method and the other arguments.

It raises to keep the request from being sent.
"""


MAX_CONTEXTS = 8
_contexts: dict[tuple[str, int, int, int], ssl.SSLContext] = {}


class NoRedirectSession(AIOHTTPSession):  # type: ignore[misc]
    """The SDK's HTTP session over aiohttp, without aiohttp's habit of following redirects."""

    async def _get_session(self, proxy_url: str | None) -> _NoRedirects:
        return _NoRedirects(await super()._get_session(proxy_url))

    def _build_ssl_contexts(self, proxy_url: str | None) -> tuple[ssl.SSLContext, ssl.SSLContext | None]:
        if self._cert_file or proxy_url or not self._verify:
            contexts: tuple[ssl.SSLContext, ssl.SSLContext | None] = super()._build_ssl_contexts(proxy_url)
            return contexts
        return self.tls_context(), None

    def tls_context(self) -> ssl.SSLContext:
        """The context for these trusted certificates, which is the same until their file changes."""
        path = get_cert_path(self._verify)
        found = os.stat(path)
        key = (path, found.st_ino, found.st_mtime_ns, found.st_size)
        context = _contexts.get(key)
        if context is None:
            if len(_contexts) >= MAX_CONTEXTS:
                _contexts.clear()
            context = _contexts[key] = self._build_verify_context()
        return context


class _NoRedirects:
    __slots__ = ("_session",)

    def __init__(self, session: Any) -> None:
        self._session = session

    async def request(self, method: str, **kwargs: Any) -> Any:
        if (look := rehearsal.get()) is not None:
            look(self._session, method, kwargs)
        return await self._session.request(method, **kwargs, allow_redirects=False)


class ForwarderSession(AioSession):  # type: ignore[misc]
    """A session of ours; the clients that the SDK makes by itself (STS, SSO) get our settings by it too."""

    def create_client(self, service_name: str, *args: Any, **kwargs: Any) -> Any:
        if not args and "endpoint_url" not in kwargs:
            variable = f"AWS_ENDPOINT_URL_{service_name.upper().replace('-', '_')}"
            kwargs["endpoint_url"] = os.environ.get(variable)
        return super().create_client(service_name, *args, **kwargs)


def client_config(options: TargetOptions, connections: int) -> AioConfig:
    """The configuration of a target's client. What is said here, no environment changes."""
    own = (
        options.endpoint_url is not None
    )  # then the choice of an AWS host is not ours, nor the environment's
    return AioConfig(
        http_session_cls=NoRedirectSession,
        connector_args={"keepalive_timeout": KEEP_ALIVE_SECONDS, "ttl_dns_cache": DNS_SECONDS},
        max_pool_connections=connections,
        connect_timeout=float(options.timeouts.connect),
        read_timeout=float(options.timeouts.read),
        retries={"mode": "standard", "total_max_attempts": 1},
        ignore_configured_endpoint_urls=True,
        # The hosts of RUM and Evidently have a prefix that an endpoint of the operator's own has not.
        inject_host_prefix=not own,
        # Checked at ingest; what AWS makes of the rest is AWS's word.
        parameter_validation=False,
        use_fips_endpoint=False if own else options.use_fips,
        use_dualstack_endpoint=False if own else options.use_dualstack,
        defaults_mode="legacy",
        disable_request_compression=True,
        user_agent=f"event-forwarder/{__version__}",
    )


async def open_session(options: TargetOptions, service: str, keys: CredentialProvider) -> AioSession:
    """A session that makes clients without blocking the loop. They sign with what ``keys`` loads."""
    session = await asyncio.to_thread(new_session, options, service)
    session.register_component("credential_provider", AioCredentialResolver([keys]))
    return session


def reading_session(profile: str | None = None) -> AioSession:
    """A session to look settings up in, and to make no client with: the hooks of the services, which take
    most of the time that a session takes, are not there."""
    return ForwarderSession(profile=profile, include_builtin_handlers=False)


def configured_region(options: TargetOptions) -> str:
    """The region of the options, else of the environment or the profile, else "". Raises as the SDK does when
    the shared files cannot be used."""
    if options.region:
        return options.region
    found = reading_session(options.profile).get_config_variable("region")
    return str(found or os.environ.get("AWS_REGION") or "")


def region_at_start(options: TargetOptions) -> str:
    """As ``configured_region``, and "" where files cannot be used: calls report that, until they can."""
    try:
        return configured_region(options)
    except BotoCoreError:
        return ""


def needed_region(options: TargetOptions) -> str:
    """The region to call and to sign for; raises when there is none."""
    region = configured_region(options) or (STAND_IN_REGION if options.endpoint_url else "")
    if not region:
        raise NoRegionError
    return region


def trust_setting(session: AioSession) -> tuple[str, str]:
    """Which setting names the trusted authorities, and their file; ("", certifi's file) when none does."""
    own = session.get_config_variable("ca_bundle")
    if own is not None:
        return "AWS_CA_BUNDLE" if "AWS_CA_BUNDLE" in os.environ else "ca_bundle of the profile", str(own)
    other = os.environ.get("REQUESTS_CA_BUNDLE")
    return ("", str(get_cert_path(True))) if other is None else ("REQUESTS_CA_BUNDLE", other)


def tls_context(path: str) -> ssl.SSLContext:
    """The context that trusts the authorities in a file. Reading them blocks. Raises OSError."""
    return NoRedirectSession(verify=path).tls_context()


def read_trust(session: AioSession) -> str:
    """Read the trusted certificates, which blocks; their file. Raises InvalidConfigError if that fails."""
    setting, path = trust_setting(session)
    if setting and not path.strip():
        raise InvalidConfigError(
            error_msg=f"{setting} is empty: name a file of PEM certificates, or unset it"
        )
    try:
        tls_context(path)
    except OSError as error:  # ssl.SSLError is one
        why = error.strerror or str(error)
        if isinstance(error, ssl.SSLError):
            why = "it has no PEM certificate"
        raise InvalidConfigError(
            error_msg=f"{setting or 'certifi'}: {path}: {why}; name a readable file of PEM certificates"
        ) from error
    return path


def _readable_files(session: AioSession) -> None:
    """Raise for shared files that exist and cannot be read: the SDK would take them for empty."""
    for variable in ("config_file", "credentials_file"):
        path = os.path.expanduser(os.path.expandvars(session.get_config_variable(variable)))
        if os.path.isfile(path):
            try:
                open(path, "rb").close()
            except OSError as error:
                raise InvalidConfigError(
                    error_msg=f"{path}: {error.strerror}; let the user of the forwarder read it"
                ) from error


class _Services:
    """Which services have a model of this type, looked for one by one."""

    def __init__(self, loader: Loader, type_name: str) -> None:
        self._loader = loader
        self._type = type_name

    def __contains__(self, service: str) -> bool:
        try:
            return bool(self._loader.list_api_versions(service, self._type))
        except DataNotFoundError:
            return False

    def __iter__(self) -> Iterator[str]:
        return iter(Loader.list_available_services(self._loader, self._type))


class _Loader(Loader):  # type: ignore[misc]
    """Loads a model without looking through the folders of all 400 services, which is most of the work."""

    def list_available_services(self, type_name: str) -> _Services:
        return _Services(self, type_name)


@functools.cache
def _loader() -> Loader:
    return _Loader([Loader.BUILTIN_DATA_PATH, str(MODELS)], include_default_search_paths=False)


def new_session(options: TargetOptions, service: str = "") -> AioSession:
    """A session, with the models of the service, if one is named, read already. It reads files: it blocks."""
    session = ForwarderSession(profile=options.profile)
    session.user_agent_extra = ""
    session.register_component("data_loader", _loader())
    session.set_default_client_config(
        AioConfig(
            http_session_cls=NoRedirectSession,
            connect_timeout=float(options.timeouts.connect),
            read_timeout=min(float(options.timeouts.read), CREDENTIALS_READ_SECONDS),
            retries={"mode": "standard", "total_max_attempts": CREDENTIALS_TRIES},
            ignore_configured_endpoint_urls=True,
            use_fips_endpoint=options.use_fips,
            use_dualstack_endpoint=options.use_dualstack,
        )
    )
    _readable_files(session)
    _ = session.full_config
    if service:
        session.warm_up_loader_caches(service)
    return session


class CredentialProvider(Protocol):
    """One of the SDK's ways to credentials."""

    METHOD: str

    async def load(self) -> Any: ...


class AssumedRole:
    """A credential provider: the target's role, assumed with the credentials of ``source``."""

    METHOD = "assume-role"
    CANONICAL_NAME = "forwarder-role"

    def __init__(self, session: AioSession, source: Any, role: Role, region: str) -> None:
        self._session = session
        self._source = source
        self._role = role
        self._region = region

    async def load(self) -> AioDeferredRefreshableCredentials:
        arguments = {"RoleSessionName": self._role.session_name}
        if self._role.external_id is not None:
            arguments["ExternalId"] = self._role.external_id
        fetcher = AioAssumeRoleCredentialFetcher(
            client_creator=self._client,
            source_credentials=self._source,
            role_arn=self._role.arn,
            extra_args=arguments,
        )
        return AioDeferredRefreshableCredentials(fetcher.fetch_credentials, self.METHOD)

    def _client(self, service: str, **keys: str) -> Any:
        return self._session.create_client(service, region_name=self._region, **keys)
