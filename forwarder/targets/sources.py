"""Finds credentials once, as the SDK does, and names the source of the keys or of the trouble.

Everything is made anew for each search: files are read again, and no client, program or connection stays.

Invariants:
- The order, the regions and the calls are those of the SDK's own chain. ``SDK`` code that would ask a person
  (an MFA code) or leave a program behind is replaced.
- What fails raises ``SourceTrouble`` and nothing else: a sentence with the source, the cause and the cure.
- Files are read and programs started here, so this runs outside the event loop (``searches``).
"""

from __future__ import annotations

import os
from bisect import bisect_left
from collections.abc import Callable
from typing import Any, NamedTuple

import msgspec
from aiobotocore.credentials import (
    AioAssumeRoleProvider,
    AioProcessProvider,
    AioProfileProviderBuilder,
    create_credential_resolver,
)
from aiobotocore.session import AioSession
from botocore import exceptions as errors

from forwarder.targets.options import TargetOptions
from forwarder.targets.programs import start_program
from forwarder.targets.session import AssumedRole, needed_region, new_session, read_trust
from forwarder.targets.source_table import CHAIN, cure_of, in_words, source_of_operation, trust_of

LONGEST_SECONDS = 7 * 86_400
"""No AWS credentials that end last longer than this; what lasts longer is taken not to end."""

CREDENTIALS, CONFIGURATION = "credentials", "configuration"
MAX_CAUSE = 280

NO_CREDENTIALS = (
    errors.NoCredentialsError,
    errors.PartialCredentialsError,
    errors.CredentialRetrievalError,
    errors.TokenRetrievalError,
    errors.NoAuthTokenError,
    errors.SSOError,
    errors.LoginError,
)
_ON_THE_WAY = (errors.MetadataRetrievalError, errors.ConnectionError, errors.HTTPClientError)


class Keys(NamedTuple):
    """Keys to sign with, as the SDK's frozen credentials. ``source``: the SDK's word for where they are from;
    ``lasts``: seconds until they end, None for keys that do not."""

    access_key: str
    secret_key: str
    token: str | None
    account_id: str | None
    source: str
    lasts: float | None


class Progress(msgspec.Struct):
    """What a search is asking now."""

    source: str = CHAIN


class SourceTrouble(Exception):
    """Why there are no credentials. ``code``: ``credentials`` or ``configuration``."""

    def __init__(self, code: str, source: str, cause: str, cure: str) -> None:
        self.code = code
        self.source = source
        # A program's output ends with a line's end, and the SDK's sentences with a full stop.
        line = " ".join(cause.split()).rstrip(" .")
        short = line if len(line) <= MAX_CAUSE else line[: MAX_CAUSE - 1] + "…"
        self.sentence = f"{in_words(source)}: {short}"
        self.cure = cure
        super().__init__(f"{self.sentence}. {cure}.")


async def find_keys(
    options: TargetOptions, progress: Progress, hide: Callable[[str], str] = lambda words: words
) -> Keys:
    """The keys of the first source that has some. ``hide`` takes secrets out of the words of others."""
    try:
        region = needed_region(options)
        session = new_session(options)
        read_trust(session)
        source = await _load(session, region, progress)
        if options.role is not None:
            progress.source = AssumedRole.METHOD
            source = await AssumedRole(session, source, options.role, region).load()
        progress.source = source.method or progress.source
        keys = await source.get_frozen_credentials()
        _check(keys, progress.source)
    except SourceTrouble:
        raise
    except Exception as error:
        raise _trouble(error, progress.source, hide) from error
    lasts = _seconds_left(source)
    return Keys(keys.access_key, keys.secret_key, keys.token, keys.account_id, progress.source, lasts)


def _check(keys: Any, source: str) -> None:
    """Refuse keys that cannot be in a header: files of secrets often end with a line break."""
    for word in ("access_key", "secret_key", "token"):
        value = getattr(keys, word) or ""
        if not value.isascii() or not value.isprintable() or " " in value:
            words = word.replace("_", " ")
            cause = f"its {words} has a space, a line break or another character that is not allowed in it"
            raise SourceTrouble(CREDENTIALS, source, cause, cure_of(source))
        if not value and word != "token":
            raise SourceTrouble(
                CREDENTIALS, source, f"its {word.replace('_', ' ')} is empty", cure_of(source)
            )


async def _load(session: AioSession, region: str, progress: Progress) -> Any:
    """The credentials of the first provider that has some."""
    for provider in _providers(session, region):
        progress.source = provider.METHOD
        found = await provider.load()
        if found is not None:
            return found
    progress.source = CHAIN
    raise SourceTrouble(
        CREDENTIALS, CHAIN, f"NoCredentialsError: {_what_was_looked_at(session)}", cure_of(CHAIN)
    )


def _providers(session: AioSession, region: str) -> list[Any]:
    """The SDK's chain. STS is asked in the region of the target, as the SDK asks it for a client there."""
    providers = create_credential_resolver(session, region_name=region).providers
    builder = _ProfileProviders(session, cache={}, region_name=region)
    for number, provider in enumerate(providers):
        if isinstance(provider, AioProcessProvider):
            profile = session.get_config_variable("profile") or "default"
            providers[number] = builder._create_process_provider(profile)
        elif isinstance(provider, AioAssumeRoleProvider):
            provider._profile_provider_builder = builder  # for the program of a source_profile
            provider._prompter = _no_prompt
    return list(providers)


class _ProfileProviders(AioProfileProviderBuilder):  # type: ignore[misc]
    """The SDK's providers of a profile, with programs that are ended in time."""

    def _create_process_provider(self, profile_name: str) -> AioProcessProvider:
        session = self._session
        return AioProcessProvider(
            profile_name=profile_name, load_config=lambda: session.full_config, popen=start_program
        )


def _no_prompt(_: str) -> str:
    raise errors.InvalidConfigError(
        error_msg="mfa_serial needs a code from a person, and a daemon cannot ask for one"
    )


def _what_was_looked_at(session: AioSession) -> str:
    profile = session.get_config_variable("profile") or "default"
    files = (
        f"{session.get_config_variable('config_file')} and {session.get_config_variable('credentials_file')}"
    )
    if os.environ.get("AWS_EC2_METADATA_DISABLED", "").lower() == "true":
        instance = "IMDS is disabled by AWS_EC2_METADATA_DISABLED"
    else:
        instance = "IMDS (instance metadata) did not answer, or has no role"
    return (
        "AWS_ACCESS_KEY_ID, AWS_WEB_IDENTITY_TOKEN_FILE and AWS_CONTAINER_CREDENTIALS_* are not set; "
        f"{instance}; profile {profile} has no credentials in {files}"
    )


def _trouble(error: Exception, source: str, hide: Callable[[str], str]) -> SourceTrouble:
    """The SDK's exception in words."""
    if isinstance(error, errors.ClientError):
        said = error.response.get("Error") or {}
        status = (error.response.get("ResponseMetadata") or {}).get("HTTPStatusCode")
        source = source_of_operation(error.operation_name, source)
        message = said.get("Message") or f"HTTP status {status}"
        cause = f"{error.operation_name}: {said.get('Code') or status}: {message}"
        return SourceTrouble(CREDENTIALS, source, hide(cause), cure_of(source))
    if isinstance(error, errors.CredentialRetrievalError):
        source = str(error.kwargs.get("provider") or source)
    words = str(error) or "there was no answer in time" * isinstance(error, TimeoutError)
    cause = hide(f"{type(error).__name__}: {words}".removesuffix(": "))
    if isinstance(error, errors.SSLError):
        return SourceTrouble(CREDENTIALS, source, cause, trust_of(source))
    if source == CHAIN:  # before any source was asked
        return SourceTrouble(CONFIGURATION, source, cause, _correction_of(error))
    if isinstance(error, errors.BotoCoreError) and not isinstance(error, NO_CREDENTIALS + _ON_THE_WAY):
        return SourceTrouble(CONFIGURATION, source, cause, _correction_of(error))
    if source == "custom-process" and isinstance(error, ValueError | AttributeError | TypeError):
        cause = f"its output is not the JSON object that AWS documents: {cause}"
    return SourceTrouble(CREDENTIALS, source, cause, cure_of(source))


def _correction_of(error: Exception) -> str:
    if isinstance(error, errors.NoRegionError):
        return "Set region of the target, or AWS_REGION"
    if isinstance(error, errors.ProfileNotFound):
        return "Correct profile of the target or AWS_PROFILE, or add the profile to the shared files"
    if isinstance(error, errors.ParamValidationError | errors.MissingDependencyException):
        return "Correct the profile"
    return "Correct the shared files (AWS_CONFIG_FILE, AWS_SHARED_CREDENTIALS_FILE) or the named variable"


def _seconds_left(credentials: Any) -> float | None:
    """Until they end; None when they do not. The SDK only tells whether they end within a time."""
    ends_within = getattr(credentials, "refresh_needed", None)
    if ends_within is None:
        return None
    seconds = bisect_left(range(LONGEST_SECONDS), True, key=ends_within)
    return None if seconds == LONGEST_SECONDS else float(seconds)
