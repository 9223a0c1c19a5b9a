"""Who makes a number: the identity of a subject, which every trial's key holds.

A module or function is its import string. A command is its `name:`, else its program with the
script or module that it starts; its other words are its invocation, which is recorded beside the
key like code: another option makes results stale, never another trial.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Sequence
from difflib import SequenceMatcher
from pathlib import Path, PurePath

from harness.subjects.settings import CommandSettings, StudentsSettings, SubjectSpec

SCRIPTS = (".py", ".pyz", ".sh", ".bash", ".zsh", ".jl", ".r", ".pl", ".rb", ".lua", ".js")
_PYTHON = re.compile(r"python(w)?(\d+(\.\d+)*)?")
_STARTS_A_MODULE = ("-m", "--module")


def identity_of(spec: SubjectSpec) -> str:
    """What keys hold of a subject; nothing of it depends on where it lies."""
    if isinstance(spec, CommandSettings):
        return f"command {spec.name or ' '.join(program_of(spec.words, spec.cwd))}"
    if isinstance(spec, StudentsSettings):
        return f"checkpoints measured by {spec.measured_by}"
    return spec


def maker_of_references(spec: SubjectSpec) -> str:
    """What makes reference rows: whoever measures, so that trainers share them."""
    return spec if isinstance(spec, str) else spec.measured_by


def program_of(words: Sequence[str], cwd: str = ".") -> list[str]:
    """The program's basename, and the script or `-m module` that it starts, if one is there.

    Args:
        words: of the command, placeholders still in them.
        cwd: folder it is started in: a script is named relative to it.
    """
    program = PurePath(words[0]).name.removesuffix(".exe")
    # Another interpreter of the same script is no other trainer; its version is recorded.
    program = "python" if _PYTHON.fullmatch(program) else program
    for place, word in enumerate(words[1:], 1):
        if word in _STARTS_A_MODULE and place + 1 < len(words):
            return [program, "-m", words[place + 1]]
        if word.startswith("-") or "{" in word or "=" in word:
            continue
        if PurePath(word).suffix.lower() in SCRIPTS:
            return [program, _named(word, cwd)]
    return [program]


def invocation_of(spec: CommandSettings) -> tuple[str, ...]:
    """All words of a command as they are compared: the program without its folder."""
    # So an argument that matters to the student counts as a change of code. What is to vary between
    # arms is written as `{recipe.<path>}`.
    return (PurePath(spec.words[0]).name, *spec.words[1:])


def changed_words(before: Iterable[str], now: Iterable[str]) -> str:
    """What differs between two commands, e.g. `--lr 1e-4 -> --lr 1e-3, +--verbose`."""
    one, two = list(before), list(now)
    found = []
    for kind, a, b, c, d in SequenceMatcher(None, one, two, autojunk=False).get_opcodes():
        old, new = " ".join(one[a:b]), " ".join(two[c:d])
        if kind == "replace":
            found.append(f"{old} -> {new}")
        elif kind != "equal":
            found.append(f"-{old}" if old else f"+{new}")
    return ", ".join(found)


def _named(script: str, cwd: str) -> str:
    """Relative to `cwd`; by its name alone where it lies elsewhere: places are in no key."""
    path, folder = PurePath(os.path.normpath(script)), Path(os.path.normpath(cwd)).expanduser()
    if not path.is_absolute():
        return path.as_posix()
    return path.relative_to(folder).as_posix() if path.is_relative_to(folder) else path.name
