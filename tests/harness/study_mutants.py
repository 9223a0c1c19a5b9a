"""Mutants of the shipped study files: seeded, each from one or a few small accidents or attacks."""

from __future__ import annotations

import itertools
import json
import random
import re
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML

ROOT = Path(__file__).parent.parent.parent
SHIPPED = sorted((ROOT / "studies").glob("*/*.yaml"))

LAUGHS = "\n".join(
    ["l0: &l0 [x, x, x, x, x, x, x, x, x]"]
    + [f"l{i}: &l{i} [{', '.join([f'*l{i - 1}'] * 9)}]" for i in range(1, 12)]
)
TOKENS = [
    *("&a [*a]", "*nothing", "!!python/object:os.system x", "<<: {a: 1}", "\x00", "\u2028", "\t"),
    *("{", "}", "[", "]", ": ", "- ", "#", "'", '"', "|", ">", "%TAG", "---", "...", "? x"),
    *("[" * 400 + "]" * 400, "[" * 5000, "{a: " * 300 + "1" + "}" * 300, "- " * 500),
    *(
        "9" * 5000,
        "1e999",
        ".nan",
        "-.inf",
        "0x_",
        "1_0",
        "2024-01-01",
        "~",
        "yes",
        "9:1",
        "\ud7ff",
    ),
    *(LAUGHS, "&x {<<: *x}", "\n" * 50, " " * 300, "a" * 10_000, "\ufeff"),
]
WHERE = [
    *("1", "()", "not", "a.b.c == 1", "(" * 200, "1 if 1 else 2", "9**9**9", "[x for x in y]"),
    *("'a' in 5", "True", "__import__('os')", "f'{1}'", "lambda: 1", "1 < 2 < 3", "...\\d"),
    *("composition == 'x'", "not not not composition", "composition in composition", "1 is 1"),
]
ODD: list[Any] = [
    *(None, True, False, 0, -1, 1, 2, 1e-300, 1e300, 10**15, 10**20, 0.1 + 0.2, "", " ", "x"),
    *("0.5", "9:1", "-1:2", ":", "null", "a" * 300, "\u00e9\u4e2d", "../..", "/dev/null", "."),
    *([], {}, [[]], [None], [1, 1], [{}], {"": 1}, {"a": {"b": {"c": 1}}}, {"a": None}, [1] * 300),
    *("harness.testing.stub", "full", "pairs", "zip", "fractional", "leave_one_out", "one_factor"),
    *("explicit", "ema", "last", 1000, 100_000, ["t2i/kd"], {"edit": 0.5}, {"edit": -1}),
    *WHERE,
]


def mutant(seed: int) -> tuple[Path, str]:
    """A shipped study file and a mutated text of it; the same seed gives the same."""
    dice = random.Random(seed)
    file = dice.choice(SHIPPED)
    text = file.read_text(encoding="utf-8")
    if dice.random() < 0.5:
        for _ in range(dice.choice((1, 1, 2, 4))):
            text = _text_accident(text, dice)
        return file, text
    data = YAML(typ="safe", pure=True).load(text)
    for _ in range(dice.choice((1, 1, 2, 3))):
        _change(data, dice)
    return file, json.dumps(data, default=str)


def _text_accident(text: str, dice: random.Random) -> str:
    lines = text.split("\n")
    place, row = dice.randrange(len(text) + 1), dice.randrange(len(lines))
    kind = dice.randrange(9)
    if kind == 0:
        return text[:place] + text[place + dice.randint(1, 12) :]
    if kind == 1:
        return text[:place] + dice.choice(TOKENS) + text[place:]
    if kind == 2:
        return text[:place] + chr(dice.randrange(1, 0x2FF)) + text[place:]
    if kind == 3:
        return "\n".join([*lines[:row], lines[row], *lines[row:]])
    if kind == 4:
        return "\n".join([*lines[:row], *lines[row + 1 :]])
    if kind == 5:
        other = dice.randrange(len(lines))
        lines[row], lines[other] = lines[other], lines[row]
        return "\n".join(lines)
    if kind == 6:
        return text[:place]
    if kind == 7:
        lines[row] = " " * dice.randint(1, 4) + lines[row]
        return "\n".join(lines)
    number = dice.choice(["0", "-1", "1e9", "99999999999999999999", "0.30000000000000004", "x"])
    spots = list(re.finditer(r"\d+(\.\d+)?", text)) or [re.match("", text)]
    spot = dice.choice(spots)
    assert spot is not None
    return text[: spot.start()] + number + text[spot.end() :]


def _change(data: Any, dice: random.Random) -> None:
    """Replace, drop, add, rename or copy something at a random place of nested data."""
    places = list(_places(data))
    holder, key = dice.choice(places)
    kind = dice.randrange(6)
    if kind == 0:
        del holder[key]
    elif kind == 1:
        value = dice.choice(list(_values(data)))
        holder[key] = json.loads(json.dumps(value, default=str))
    elif kind == 2 and isinstance(holder, dict):
        name = dice.choice([str(key)[:-1], str(key) + "x", "", "where", "design", "off", "a.b"])
        holder[name] = holder.pop(key)
    elif kind == 3 and isinstance(holder, list):
        holder.extend(holder[key : key + 1] * dice.choice((1, 5)))
    elif kind == 4 and isinstance(data, dict) and dice.random() < 0.3 and _mappings(data):
        dice.choice(_mappings(data))["ordered"] = json.loads(json.dumps(dice.choice(ORDERS)))
    elif kind == 4 and isinstance(data, dict):
        name, value = dice.choice(EXTRA)
        data[name] = json.loads(json.dumps(value))
    else:
        holder[key] = json.loads(json.dumps(dice.choice(ODD)))


KINDS: list[dict[str, Any]] = [
    *({"trend": f} for f in ("edit_share", "guidance.scale", "composition", "tasks.edit", "", "x")),
    *({"best": f} for f in ("edit_share", "guidance.scale", "composition", "")),
    *({"interaction": pair} for pair in (["edit_share", "composition"], ["x"], ["x", "x"], [])),
    *({"more": pair} for pair in (["edit_share", "guidance.scale"], ["composition", 1])),
    *({"more": ["edit_share", "composition"], "levels": v} for v in ({}, {"edit_share": [0, 1]})),
    *({"collapse": v, "margin": 0.1} for v in ({}, {"edit_share": 0.5}, {"x": None}, 3)),
    *({"sooner": v} for v in ({}, None, {"a": {}, "b": {}}, {"a": 1, "threshold": 1e300})),
    {"sooner": {"a": {"edit_share": 0.5}, "b": {"edit_share": 0.1}, "threshold": 0.1}},
]
ORDERS: list[Any] = [True, False, "log", "rank", {"scores": [1, 2, 3]}, {"scores": []}, "x", 1, {}]

EXTRA: list[tuple[str, Any]] = [
    *(("design", d) for d in ("full", "pairs", "zip", "fractional", "leave_one_out", "one_factor")),
    *(("resolution", r) for r in (3, 4, 9)),
    *(("where", [w]) for w in WHERE),
    *(("replicates", n) for n in (1, 2, 1000)),
    *(("set", {p: v}) for p in ("train.cycles", "tasks", "data.composition") for v in ODD[:20]),
    *(("measure_at", v) for v in ([1], [1, 1], [10**9], "x")),
    *(("contrasts", [{"id": "K", **kind}]) for kind in KINDS),
    *(("contrasts", [{"id": "K", **one, **two}]) for one, two in itertools.pairwise(KINDS)),
    ("budget", {"hours": 1e-9}),
    ("select", "last"),
    ("resources", {"gpus": 512, "cpus": 0.001}),
]


def _mappings(data: dict[str, Any]) -> list[dict[str, Any]]:
    """Factors that are written out."""
    factors = data.get("factors")
    return [f for f in factors.values() if isinstance(f, dict)] if isinstance(factors, dict) else []


def _places(data: Any) -> Any:
    if isinstance(data, dict):
        for key in list(data):
            yield data, key
            yield from _places(data[key])
    elif isinstance(data, list):
        for number in range(len(data)):
            yield data, number
            yield from _places(data[number])
    if not isinstance(data, dict | list):
        return


def _values(data: Any) -> Any:
    for holder, key in _places(data):
        yield holder[key]
