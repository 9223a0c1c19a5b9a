"""Bundles broken in every way that a seeded generator comes up with, for tests of the reader."""

import json
import random
import struct
from collections.abc import Callable

from .bundles import checksums, zipped

Members = dict[str, bytes]
SIGNATURES = (b"PK\x01\x02", b"PK\x03\x04", b"PK\x05\x06")
NUMBERS = (0, 1, 2, 0x7F, 0x80, 0xFF, 0x7FFF, 0xFFFF, 0x7FFFFFFF, 0xFFFFFFFE, 0xFFFFFFFF)
NAMES = (
    "../{}",
    "/{}",
    "C:\\{}",
    "{}/..",
    "a/../../{}",
    "{}\0",
    "\\\\host\\{}",
    "{}/",
    "{}\n",
    "con",
    "./{}",
    "..",
    "{}.",
    "{}\udcff",
    "{}/x",
)
ODD = (
    None,
    True,
    -1,
    0,
    1e308,
    2**70,
    "",
    "x" * 5000,
    "\x1b[2J",
    "../../x",
    [],
    {},
    [[[[]]]],
    {"": None},
    "nan",
    [None] * 100,
    {"key": {"key": []}},
)
RAW_JSON = (
    b"NaN",
    b"1e999",
    b"-Infinity",
    b"[" * 5000,
    b"{",
    b'"\\ud800"',
    b"9" * 6000,
    b"\xff\xfe",
)


def bits(members: Members, rng: random.Random) -> bytes:
    """Bits of the file flipped."""
    content = bytearray(zipped(members.items()))
    for _ in range(rng.choice((1, 1, 2, 8, 64))):
        content[rng.randrange(len(content))] ^= 1 << rng.randrange(8)
    return bytes(content)


def cut(members: Members, rng: random.Random) -> bytes:
    """A part of the file missing, twice there, or strange bytes in it."""
    content = zipped(members.items())
    start = rng.randrange(len(content))
    end = min(len(content), start + rng.choice((1, 4, 100, 10**6)))
    part = rng.choice((b"", content[start:end] * 2, rng.randbytes(9)))
    return content[:start] + part + content[end:]


def header(members: Members, rng: random.Random) -> bytes:
    """Numbers of a header replaced: sizes, offsets, methods, counts, lengths, modes."""
    content = bytearray(zipped(members.items()))
    for _ in range(rng.choice((1, 1, 2, 4))):
        places = []
        signature, at = rng.choice(SIGNATURES), -1
        while (at := content.find(signature, at + 1)) >= 0:
            places.append(at)
        place = rng.choice(places) + rng.randrange(4, 46)
        kind = rng.choice(("<H", "<I"))
        number = rng.choice((*NUMBERS, rng.randrange(2**32))) & (
            0xFFFF if kind == "<H" else 2**32 - 1
        )
        made = struct.pack(kind, number)
        content[place : place + len(made)] = made
    return bytes(content)


def swapped(members: Members, rng: random.Random) -> bytes:
    """Contents of two members exchanged, one gone, or one that is there twice."""
    one, two = rng.sample(sorted(members), 2)
    kind = rng.randrange(4)
    made = dict(members)
    if kind == 0:
        del made[one]
    else:
        made[one], made[two] = made[two], made[one]
    if kind != 2:
        made["CHECKSUMS"] = checksums(made)
    items = list(made.items())
    return zipped([*items, items[0]] if kind == 3 else items)


def renamed(members: Members, rng: random.Random) -> bytes:
    """A member under a name that leaves its folder, collides, or is none."""
    name = rng.choice(sorted(members))
    other = rng.choice(sorted(members))
    bad = rng.choice((*NAMES, other.upper(), other.lower(), other + "/x", other.split("/")[0]))
    made = dict(members)
    made[bad.format(name)] = made.pop(name)
    if rng.random() < 0.8:
        made["CHECKSUMS"] = checksums(made)
    mode = rng.choice((0o100644, 0o100644, 0o120777, 0o040755, 0o060644))
    return zipped([(n.encode("utf-8", "replace").decode(), c) for n, c in made.items()], mode << 16)


def changed_json(members: Members, rng: random.Random) -> bytes:
    """A value of a JSON member replaced, removed or moved; checksums fit again."""
    name = rng.choice([n for n in sorted(members) if n.endswith((".json", ".jsonl"))])
    lines = members[name].splitlines() if name.endswith("jsonl") else [members[name]]
    at = rng.randrange(len(lines))
    if rng.random() < 0.2:
        where = rng.randrange(len(lines[at]) + 1)
        strange = rng.choice(RAW_JSON)
        lines[at] = lines[at][:where] + strange + lines[at][where + rng.choice((0, 3)) :]
    else:
        lines[at] = json.dumps(_odd(json.loads(lines[at]), rng)).encode()
    return _again({**members, name: b"\n".join(lines) + b"\n"})


def _odd(value: object, rng: random.Random) -> object:
    while isinstance(value, dict | list) and value:
        inside = list(value) if isinstance(value, dict) else list(range(len(value)))
        key = rng.choice(inside)
        child = value[key]
        if isinstance(child, dict | list) and child and rng.random() < 0.8:
            value[key] = _odd(child, rng)
        elif rng.random() < 0.2:
            del value[key]
        elif rng.random() < 0.2 and isinstance(value, dict):
            value[rng.choice(("x", "", key.upper()))] = value.pop(key)
        elif isinstance(child, int | float) and rng.random() < 0.3:
            value[key] = child + rng.choice((1, -1, 1e-3))
        else:
            value[key] = rng.choice((*ODD, value[rng.choice(inside)]))
        return value
    return rng.choice(ODD)


def changed_text(members: Members, rng: random.Random) -> bytes:
    """Bytes of a table, the checksums, the page or a recipe replaced."""
    name = rng.choice([n for n in sorted(members) if n.endswith((".csv", "SUMS", ".md", ".json"))])
    content = bytearray(members[name] or b"x")
    for _ in range(rng.choice((1, 3))):
        at = rng.randrange(len(content) + 1)
        content[at : at + rng.choice((0, 1, 20))] = rng.choice(
            (b"", b"\0", b'"', b"\n", b",", b"9", b"\xff")
        )
    made = {**members, name: bytes(content)}
    return zipped(made.items()) if name == "CHECKSUMS" else _again(made)


def bomb(members: Members, rng: random.Random) -> bytes:
    """A member that unpacks to far more than it is."""
    name = rng.choice(("results/journal.jsonl", "results/answer.json", "more", "CHECKSUMS"))
    filling = rng.choice((b"\0", b" ", b"[", b'{"a":', b"0" * 64 + b"  x\n"))
    return _again({**members, name: filling * (2**21 // len(filling))})


def _again(members: Members) -> bytes:
    return zipped({**members, "CHECKSUMS": checksums(members)}.items())


MUTATIONS: tuple[Callable[[Members, random.Random], bytes], ...] = (
    bits,
    cut,
    header,
    swapped,
    renamed,
    changed_json,
    changed_json,
    changed_text,
    bomb,
)
