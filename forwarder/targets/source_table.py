"""The sources of credentials in plain words: one row for each source of the SDK's chain. Pure.

Invariants:
- ``SOURCES`` has a row for every source of the locked SDK (a test compares), in the order of its chain.
- A cure names the variable, file or permission to change, and says whether a restart is needed.
"""

from __future__ import annotations

import msgspec

NO_RESTART = "no restart is needed"
RESTART = "then restart the forwarder, because it reads its environment only at start"

BUNDLES = "AWS_CA_BUNDLE, else ca_bundle of the profile, else REQUESTS_CA_BUNDLE"
"""The settings, in their order, that name the authorities which the SDK's own clients trust."""

IGNORED_BUNDLES = "SSL_CERT_FILE, SSL_CERT_DIR and CURL_CA_BUNDLE do not count"
BY_BUNDLE = f"Add your authority to the file of {BUNDLES}; {IGNORED_BUNDLES}"
BY_CERTIFI = (
    "This source trusts only public certificate authorities, whatever AWS_CA_BUNDLE and REQUESTS_CA_BUNDLE "
    "say: use a certificate of one of them, or http:// on a loopback address"
)


class Source(msgspec.Struct, frozen=True):
    """A source of credentials.

    ``words``: what it is. ``cure``: what to do when it fails. ``renew``: what to do when AWS does not accept
    its keys. ``tls``: what to do when its certificate is not trusted; "" for a source that makes no call.
    """

    words: str
    cure: str
    renew: str
    tls: str = ""


SOURCES = {
    "env": Source(
        "the environment (AWS_ACCESS_KEY_ID)",
        f"Correct AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, {RESTART}",
        f"Set new keys in the environment, {RESTART}",
    ),
    "assume-role": Source(
        "a role, assumed with other credentials",
        f"Allow sts:AssumeRole in the role's trust policy and for its source credentials; {NO_RESTART}",
        f"Check that the role and its policies still exist; {NO_RESTART}",
        BY_BUNDLE,
    ),
    "assume-role-with-web-identity": Source(
        "a role, by a web identity token (IRSA)",
        "Check the token file, the role and its trust policy (AWS_WEB_IDENTITY_TOKEN_FILE, AWS_ROLE_ARN, or "
        "the profile); no restart is needed unless a variable changes",
        f"Check that the role and its policies still exist; {NO_RESTART}",
        BY_BUNDLE,
    ),
    "sso": Source(
        "the profile's SSO login",
        f"Run `aws sso login` as the user of the forwarder, with its HOME; {NO_RESTART}",
        f"Run `aws sso login` as the user of the forwarder, with its HOME; {NO_RESTART}",
        BY_BUNDLE,
    ),
    "shared-credentials-file": Source(
        "the shared credentials file",
        f"Correct the file (AWS_SHARED_CREDENTIALS_FILE, else ~/.aws/credentials); {NO_RESTART}",
        f"Write new keys into the file; {NO_RESTART}",
    ),
    "login": Source(
        "the profile's login session",
        f"Run `aws login` as the user of the forwarder, with its HOME; {NO_RESTART}",
        f"Run `aws login` as the user of the forwarder, with its HOME; {NO_RESTART}",
        BY_BUNDLE,
    ),
    "custom-process": Source(
        "the profile's credential_process",
        f"Run the command by hand as the user of the forwarder and correct it; {NO_RESTART}",
        f"Run the command by hand and look at the keys it prints; {NO_RESTART}",
    ),
    "config-file": Source(
        "the shared configuration file",
        f"Correct the file (AWS_CONFIG_FILE, else ~/.aws/config); {NO_RESTART}",
        f"Write new keys into the file; {NO_RESTART}",
    ),
    "ec2-credentials-file": Source(
        "the file of AWS_CREDENTIAL_FILE",
        f"Correct the file; {NO_RESTART}",
        f"Write new keys into the file; {NO_RESTART}",
    ),
    "boto-config": Source(
        "the boto configuration file",
        f"Correct the file (BOTO_CONFIG, else /etc/boto.cfg and ~/.boto); {NO_RESTART}",
        f"Write new keys into the file; {NO_RESTART}",
    ),
    "container-role": Source(
        "the container's role (ECS, EKS Pod Identity)",
        "Check the endpoint of AWS_CONTAINER_CREDENTIALS_FULL_URI or _RELATIVE_URI and the file of "
        "AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE; no restart is needed unless a variable changes",
        f"Check that the role of the task or pod and its policies still exist; {NO_RESTART}",
        BY_CERTIFI,
    ),
    "iam-role": Source(
        "the instance's role (IMDS)",
        "Check the instance's role, and that the instance metadata service can be reached (hop limit 2 from "
        f"a container); {NO_RESTART}",
        f"Check that the instance's role and its policies still exist; {NO_RESTART}",
        BY_CERTIFI,
    ),
}

CHAIN = "the SDK's chain"
"""The name of the source while it is not known which one has credentials."""

_OF_OPERATION = {
    "AssumeRole": "assume-role",
    "AssumeRoleWithWebIdentity": "assume-role-with-web-identity",
    "GetRoleCredentials": "sso",
    "CreateToken": "sso",
    "CreateOAuth2Token": "login",
}


def source_of_operation(operation: str, otherwise: str) -> str:
    """The source that makes this call for credentials."""
    return _OF_OPERATION.get(operation, otherwise)


def in_words(source: str) -> str:
    """The source, for a sentence."""
    known = SOURCES.get(source)
    return source if known is None else known.words


def cure_of(source: str) -> str:
    """What to do when the source fails."""
    known = SOURCES.get(source)
    if known is not None:
        return known.cure
    return "Give the forwarder credentials: environment, shared files, profile, role, container or instance"


def renewal_of(source: str) -> str:
    """What to do when AWS does not accept the keys of the source; "" where nothing is known of it."""
    known = SOURCES.get(source)
    return "" if known is None else known.renew


def trust_of(source: str) -> str:
    """What to do when the certificate that the source shows is not trusted."""
    known = SOURCES.get(source)
    return BY_BUNDLE if known is None or not known.tls else known.tls
