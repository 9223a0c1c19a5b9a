"""What is never told: credentials in addresses, and environment variables that hold a secret."""

from __future__ import annotations

import re
from urllib.parse import urlsplit

_CREDENTIALS = re.compile(r"(\b[a-zA-Z][a-zA-Z0-9+.-]*://)[^\s/?#'\"<>]*@")


def without_credentials(text: str) -> str:
    """A text whose addresses name no user and no password."""
    return _CREDENTIALS.sub(r"\1", text) if "://" in text else text


def has_credentials(address: str) -> bool:
    """Whether an address holds a user or a password."""
    return "@" in urlsplit(address).netloc
