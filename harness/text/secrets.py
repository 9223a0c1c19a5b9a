"""What is never told: credentials in addresses, and environment variables that hold a secret."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Mapping

_CREDENTIALS = re.compile(r"(\b[a-zA-Z][a-zA-Z0-9+.-]*://)[^\s/?#'\"<>]*@")

_SECRET = re.compile(r"TOKEN|KEY|SECRET|PASS|CREDENTIAL", re.IGNORECASE)
_FROM_OUTSIDE = re.compile(r"\{env:([A-Za-z_][A-Za-z0-9_]*)\}")


def is_secret(name: str) -> bool:
    """Whether an environment variable of this name holds what is told to nobody."""
    return _SECRET.search(name) is not None


def public(env: Mapping[str, str]) -> dict[str, str]:
    """Variables as they may be recorded and hashed: `{env:NAME}` in the place of a secret."""
    return {
        name: f"{{env:{name}}}" if is_secret(name) and not _FROM_OUTSIDE.search(value) else value
        for name, value in env.items()
    }


def secrets_of(env: Mapping[str, str]) -> dict[str, str]:
    """The variables whose values stand in the study file itself and are told to nobody."""
    told = public(env)
    return {name: value for name, value in env.items() if value and told[name] != value}


def unset(values: Iterable[str]) -> list[str]:
    """Variables that `{env:NAME}` names and that are not set here."""
    named = [name for value in values for name in _FROM_OUTSIDE.findall(value)]
    return [name for name in dict.fromkeys(named) if name not in os.environ]


def without_credentials(text: str) -> str:
    """A text whose addresses name no user and no password."""
    return _CREDENTIALS.sub(r"\1", text) if "://" in text else text
