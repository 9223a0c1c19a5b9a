"""Secrets of a command's `env` that stand in the study file: no bundle holds them."""

from __future__ import annotations

import gzip
import re
from collections.abc import Callable
from pathlib import Path

from harness.bundle.contents import Members
from harness.journal.prompt_values import PACKED
from harness.study.model import Study
from harness.subjects.settings import CommandSettings
from harness.text.secrets import secrets_of

MOST_BYTES = 2**26
SHORTEST = 6
"""Characters from which a value is looked for everywhere; shorter ones only beside their name."""


def withheld(members: Members, study: Study) -> Members:
    """The members with `{env:NAME}` in the place of each secret: what a reader has to set."""
    if not isinstance(study.subject, CommandSettings):
        return members
    secrets = secrets_of(study.subject.env)
    if not secrets:
        return members
    return {name: _without(name, content, secrets) for name, content in members.items()}


def _without(member: str, content: bytes | Path, secrets: dict[str, str]) -> bytes | Path:
    if is_packed(member):
        return rewritten(content, lambda text: _without_secrets(text, secrets))
    if isinstance(content, Path) and content.stat().st_size > MOST_BYTES:
        return content  # weights
    there = content.read_bytes() if isinstance(content, Path) else content
    cleaned = _without_secrets(there, secrets)
    return content if cleaned == there else cleaned


def _without_secrets(text: bytes, secrets: dict[str, str]) -> bytes:
    for name, value in secrets.items():
        beside = rf"(\b{re.escape(name)}['\"]?\s*:\s*)(['\"]?){re.escape(value)}\2(?=[\s,}}]|$)"
        text = re.sub(beside.encode(), rf'\g<1>"{{env:{name}}}"'.encode(), text)
    for name, value in secrets.items():
        if len(value) >= SHORTEST:
            text = text.replace(value.encode(), f"{{env:{name}}}".encode())
    return text


def is_packed(name: str) -> bool:
    """Whether a member holds text that is packed: values by prompt, whose names are a study's."""
    return name.rpartition("/")[2] == PACKED


def rewritten(content: bytes | Path, change: Callable[[bytes], bytes]) -> bytes:
    """The content with its text changed; the same bytes where nothing is."""
    there = content.read_bytes() if isinstance(content, Path) else content
    text = gzip.decompress(there)
    changed = change(text)
    return there if changed == text else gzip.compress(changed, 9, mtime=0)
