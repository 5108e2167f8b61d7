"""What can be found out about a target without sending an event: its place, its credentials, whom to trust.

Invariants:
- Everything is asked of the SDK's own sessions and clients, so that it holds for the daemon's calls too.
- No key is in what is told.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from urllib.parse import urlsplit, urlunsplit

import msgspec

from forwarder.targets.credentials import Credentials
from forwarder.targets.options import TargetOptions
from forwarder.targets.session import client_config, needed_region, new_session, trust_setting
from forwarder.targets.sources import SourceTrouble

Tell = Callable[[Exception], str]
"""The sentence for what the SDK raised."""


class Facts(msgspec.Struct, frozen=True, kw_only=True):
    """What was found. A ``problem`` is a sentence, and "" when there is none.

    ``url``: where events go. ``provider``: the SDK's word for where credentials came from. ``ca_file``: whom
    to trust, and ``ca_setting`` the setting that says so.
    """

    url: str = ""
    url_problem: str = ""
    provider: str = ""
    ends_at: float | None = None
    credentials_problem: str = ""
    credentials_remedy: str = ""
    ca_file: str = ""
    ca_setting: str = ""


async def examine(
    options: TargetOptions, service: str, operation: str, credentials: Credentials, tell: Tell
) -> Facts:
    """The facts of one target. Credentials may be fetched on the way, as for a call."""
    try:
        region = await asyncio.to_thread(needed_region, options)
        session = await asyncio.to_thread(new_session, options, service)
        setting, trusted = trust_setting(session)
        making = session.create_client(
            service,
            region_name=region,
            endpoint_url=options.endpoint_url,
            verify=trusted,
            config=client_config(options, 1),
            aws_access_key_id="unused",  # so that the place is found without credentials
            aws_secret_access_key="unused",
        )
        async with making as client:
            url = _place(client, operation, options.endpoint_url is not None)
        facts = Facts(url=url, ca_file=trusted, ca_setting=setting)
    except Exception as error:
        return Facts(url_problem=tell(error), credentials_problem=tell(error))
    try:
        await credentials.ready()
    except SourceTrouble as trouble:
        return msgspec.structs.replace(
            facts, credentials_problem=f"{trouble.code}: {trouble.sentence}", credentials_remedy=trouble.cure
        )
    except Exception as error:
        return msgspec.structs.replace(facts, credentials_problem=tell(error))
    return msgspec.structs.replace(facts, provider=credentials.source, ends_at=credentials.view().ends_at)


def _place(client: object, operation: str, own: bool) -> str:
    """Where the operation's calls go: the client's endpoint, with the prefix that the operation may have."""
    meta = client.meta  # type: ignore[attr-defined]
    endpoint = meta.service_model.operation_model(operation).endpoint or {}
    scheme, host, *rest = urlsplit(str(meta.endpoint_url))
    return str(urlunsplit((scheme, host if own else endpoint.get("hostPrefix", "") + host, *rest)))
