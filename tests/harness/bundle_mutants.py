"""Bundles broken in every way that a seeded generator comes up with, for tests of the reader."""

import csv
import gzip
import io
import json
import random
import struct
from collections.abc import Callable

from harness.bundle.verify.prompt_rows import PROMPTS

from .bundles import checksums, zipped

Members = dict[str, bytes]
Rows = list[dict[str, str]]
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


def changed_prompts(members: Members, rng: random.Random) -> bytes:
    """Values by prompt that are others, all of which a number of the answer rests on."""
    lines = gzip.decompress(members[PROMPTS]).decode().splitlines()
    head, *rows = csv.reader(lines)
    made = [dict(zip(head, row, strict=True)) for row in rows]
    way = rng.choice(PROMPT_WAYS)
    way(made, rng)
    text = io.StringIO(newline="")
    writer = csv.DictWriter(text, head, lineterminator="\n")
    writer.writeheader()
    writer.writerows(made)
    return _again({**members, PROMPTS: gzip.compress(text.getvalue().encode(), 9, mtime=0)})


def _of_one(rows: Rows, rng: random.Random) -> Rows:
    """The rows of one measurement's metric, one for each stratum."""
    row = rng.choice(rows)
    names = ("key", "nonce", "step", "metric")
    return [r for r in rows if all(r[name] == row[name] for name in names)]


def _value(rows: Rows, rng: random.Random) -> None:
    row = rng.choice(rows)
    values = json.loads(row["values"])
    name = rng.choice(list(values))
    old = values[name]
    odd = (None, True, "1", [old], [old, 0], [old, True], {}, 1e400, 2**2000, "", {"a": old})
    values[name] = rng.choice((*odd, -old, old + 1e-3, old * 1.01, 0, 1e308, 1e-308))
    row["values"] = json.dumps(values)


def _prompts(rows: Rows, rng: random.Random) -> None:
    """Two prompts' values exchanged, a prompt gone, one more in every trial, or renamed in one."""
    row = rng.choice(rows)
    values = json.loads(row["values"])
    one, two = rng.sample(list(values), 2)
    kind = rng.randrange(4)
    if kind == 0:
        values[one], values[two] = values[two], values[one]
    elif kind == 1:
        del values[one]
        row["n_prompts"] = str(len(values))
    elif kind == 2:
        for other in rows:
            if (other["metric"], other["stratum"]) == (row["metric"], row["stratum"]):
                values = json.loads(other["values"])
                values["one more"] = sum(values.values()) / len(values)
                other["values"], other["n_prompts"] = json.dumps(values), str(len(values))
        return
    else:
        values["another"] = values.pop(one)
    row["values"] = json.dumps(values)


def _weight(rows: Rows, rng: random.Random) -> None:
    """One weight, or two so that they add up to 1 still."""
    one, *others = _of_one(rows, rng)
    moved = rng.choice((1e-3, 0.1, -0.1))
    one["weight"] = repr(float(one["weight"]) + moved)
    if rng.random() < 0.7:
        others[0]["weight"] = repr(float(others[0]["weight"]) - moved)
    if rng.random() < 0.1:
        one["weight"] = rng.choice(("0", "-1", "nan", "inf", "", "1e999", "one"))


def _mean(rows: Rows, rng: random.Random) -> None:
    """A mean, alone or, where it is not of pseudo-values, with all values moved by the same."""
    row = rng.choice(rows)
    moved = rng.choice((1e-4, -1e-4, 0.5))
    if row["pseudo"] == "no" and rng.random() < 0.5:
        values = json.loads(row["values"])
        row["values"] = json.dumps({name: value + moved for name, value in values.items()})
    row["mean"] = repr(float(row["mean"]) + moved)
    if rng.random() < 0.2:
        row["mean"] = rng.choice(("nan", "inf", "", "1e999", "0x1p0", "mean"))


def _pseudo(rows: Rows, rng: random.Random) -> None:
    """The flag of one stratum, of a whole measurement, or of all of a metric."""
    some = _of_one(rows, rng)
    some = rng.choice((some[:1], some, [r for r in rows if r["metric"] == some[0]["metric"]]))
    for row in some:
        row["pseudo"] = {"yes": "no", "no": "yes"}[row["pseudo"]]
    if rng.random() < 0.1:
        some[0]["pseudo"] = rng.choice(("", "Yes", "1", "true"))


def _gone(rows: Rows, rng: random.Random) -> None:
    """A stratum, a whole measurement or a metric is not there, or a row is there twice."""
    some = _of_one(rows, rng)
    kind = rng.randrange(4)
    if kind == 0:
        rows.append(dict(some[0]))
        return
    metric = [r for r in rows if r["metric"] == some[0]["metric"]]
    for row in (some[:1], some, metric)[kind - 1]:
        rows.remove(row)


def _elsewhere(rows: Rows, rng: random.Random) -> None:
    """Rows of another attempt, trial, step or metric; or those of two trials exchanged."""
    some = _of_one(rows, rng)
    others = [r for r in rows if r["key"] != some[0]["key"] and r["metric"] == some[0]["metric"]]
    other = rng.choice(others)
    kind = rng.randrange(4)
    if kind == 0:
        name = rng.choice(("nonce", "key", "step", "metric", "stratum"))
        new = {"step": "7", "metric": "none", "stratum": '"elsewhere"'}
        some[0][name] = new.get(name, other[name])
    elif kind == 1:
        for row in some:
            row["nonce"] = other["nonce"]
    else:
        there = [r for r in others if r["key"] == other["key"] and r["step"] == some[0]["step"]]
        for one, two in zip(some, there, strict=True):
            for name in ("key", "nonce"):
                one[name], two[name] = two[name], one[name]


PROMPT_WAYS: tuple[Callable[[Rows, random.Random], None], ...] = (
    _value,
    _prompts,
    _weight,
    _mean,
    _pseudo,
    _gone,
    _elsewhere,
)


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
    changed_prompts,
    bomb,
)
