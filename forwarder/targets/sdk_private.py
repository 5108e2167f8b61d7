"""The undocumented members of the SDK (aiobotocore and botocore) that we use or override, checked at start.

They keep promises that the SDK's documented interface cannot keep: that no redirect is followed, that the
trusted certificates are read once, and that programs for credentials are ended in time.

Invariants:
- Every such member that ``session`` and ``sources`` use is in a table here; a test compares them.
- A release without one of them is not used: overriding what is no longer called would follow redirects again.
"""

from __future__ import annotations

from collections.abc import Iterator
from importlib.metadata import version

from aiobotocore.credentials import AioAssumeRoleProvider, AioProfileProviderBuilder
from aiobotocore.httpsession import AIOHTTPSession

from forwarder.members import Form, changed_methods, is_none_or, missing, unread
from forwarder.targets.fast_path import TESTED

_SESSION_METHODS: dict[str, tuple[str, ...]] = {
    "_build_ssl_contexts": ("proxy_url",),
    "_build_verify_context": (),
    "_get_session": ("proxy_url",),
}
_SESSION: dict[str, Form] = {
    "_cert_file": is_none_or(str),
    "_verify": lambda value: isinstance(value, bool | str),
}
_BUILDER_METHODS: dict[str, tuple[str, ...]] = {"_create_process_provider": ("profile_name",)}
_BUILDER = ("_session",)
_PROVIDER = ("_profile_provider_builder", "_prompter")


def problem(
    session: type[AIOHTTPSession] = AIOHTTPSession,
    builder: type[AioProfileProviderBuilder] = AioProfileProviderBuilder,
    provider: type[AioAssumeRoleProvider] = AioAssumeRoleProvider,
) -> str:
    """Why targets cannot work with the SDK that is installed, in a sentence; "" if they can."""
    found = "; ".join(_problems(session, builder, provider))
    if not found:
        return ""
    return (
        f"aiobotocore {version('aiobotocore')} cannot be used: {found}. The daemon was tested with "
        f"aiobotocore {TESTED}*. Install aiobotocore=={TESTED}*"
    )


def _problems(
    session: type[AIOHTTPSession],
    builder: type[AioProfileProviderBuilder],
    provider: type[AioAssumeRoleProvider],
) -> Iterator[str]:
    yield from missing(session(), _SESSION)
    yield from changed_methods(session, _SESSION_METHODS, session.__mro__)
    yield from changed_methods(builder, _BUILDER_METHODS, builder.__mro__)
    yield from unread(builder, _BUILDER)
    yield from unread(provider, _PROVIDER)
