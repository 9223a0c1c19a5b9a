"""Digests of reachable definitions: what is a change and what is none, in made-up packages."""

from __future__ import annotations

import hashlib
import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from recipes.definitions import source_file
from recipes.reached import Limits, Reached, Target, Tree
from recipes.source_files import ROOT

L = "\n        "
"""A new line of the texts below."""
BASE = {
    "recipes": "",
    "recipes.start": '''
        """Start."""
        from recipes.help import LIMIT, Shape, helper
        from recipes import tools
        import torch.nn.functional as F

        def run(x: int = LIMIT) -> int:
            """Run it."""
            from recipes.late import later
            y: int = helper(x) + tools.turned(x)
            return later(F.silu(Shape(y).area()))
    ''',
    "recipes.help": """
        from recipes.numbers import LIMIT
        TABLE = {}
        TABLE["a"] = 1

        def kept(f):
            return f

        @kept
        def helper(x):
            return even(x) + 1

        def even(x):
            return x and odd(x - 1)

        def odd(x):
            return x and even(x - 1)

        class Base:
            def area(self):
                return self.x

        class Shape(Base):
            x: int = 0

        def unused():
            return helper(1)
    """,
    "recipes.numbers": """
        LIMIT = 1
        LIMIT += 1
        STEP = 1
    """,
    "recipes.tools": """
        from recipes.numbers import STEP as BY
        COUNT = 0

        def turned(x):
            global COUNT
            COUNT = COUNT + BY
            return max(other(x) for x in (x, COUNT))

        def other(x):
            match x:
                case {"a": a, **rest}:
                    return a
            try:
                return f"{x!r:>{BY}}" "y"
            except ValueError as BY2:
                return BY2
    """,
    "recipes.late": """
        def later(x):
            return x

        def former(x):
            return -x
    """,
}


def _tree(files: dict[str, str], limits: Limits | None = None) -> Tree:
    read = {}
    for module, text in files.items():
        inner = any(name.startswith(f"{module}.") for name in files)
        place = module if inner else module.rpartition(".")[0]
        lines = text.split("\n")
        indent = min((len(s) - len(s.lstrip()) for s in lines if s.strip()), default=0)
        read[module] = source_file("\n".join(s[indent:] for s in lines).encode(), place)
    return Tree(read, limits)


def _reached(files: dict[str, str], limits: Limits | None = None) -> Reached:
    return _tree(files, limits).reached([Target("recipes.start", "run")])


def _with(*changes: tuple[str, str, str]) -> dict[str, str]:
    files = dict(BASE)
    for module, before, after in changes:
        assert before in files[module]
        files[module] = files[module].replace(before, after)
    return files


def test_what_is_reached():
    assert set(_reached(BASE).listing) == {
        "recipes.start#run", "recipes.help#helper", "recipes.help#kept", "recipes.help#even",
        "recipes.help#odd", "recipes.help#Base", "recipes.help#Shape", "recipes.help",
        "recipes.help#TABLE", "recipes.numbers#LIMIT", "recipes.numbers#STEP",
        "recipes.tools#turned", "recipes.tools#other", "recipes.tools#COUNT", "recipes.late#later",
    }  # fmt: skip


@pytest.mark.parametrize(
    "changes",
    [
        [("recipes.start", '"""Run it."""', "# why\n            '''Said otherwise.'''")],
        [("recipes.start", "x: int = LIMIT) -> int", "x: 'float' = (LIMIT)) -> float")],
        [("recipes.start", "y: int = ", "y = ")],
        [("recipes.help", "def unused", "def unheard_of")],
        [("recipes.help", "TABLE = {}", "TABLE: dict[str, int] = {}")],
        [("recipes.late", "return -x", "return +x")],
        [("recipes.start", "import torch", "import os\n        import torch")],
        [("recipes.start", "from recipes import tools", "import recipes.tools as tools")],
        [("recipes.start", "from recipes.late", "from .late")],
        [("recipes.start", "help import LIMIT,", f"numbers import LIMIT{L}from .help import")],
        [("recipes.start", "def run", f"if TYPE_CHECKING:{L}    import more{L}def run")],
        [("recipes.late", "def later", f"if __name__ == '__main__':{L}    print(1){L}def later")],
        [("recipes.late", "def former", "__all__ = ['later']\n        def former")],
    ],
    ids=lambda changes: changes[0][2].strip()[:40],
)  # fmt: skip
def test_what_is_no_change(changes: list[tuple[str, str, str]]):
    assert _reached(_with(*changes)).digest == _reached(BASE).digest


@pytest.mark.parametrize(
    ("change", "named"),
    [
        (("recipes.start", "= LIMIT)", "= 2)"), "recipes.start#run"),
        (("recipes.help", "return even(x) + 1", "return even(x) + 2"), "recipes.help#helper"),
        (("recipes.help", "return x and even(x - 1)", "return even(x - 1)"), "recipes.help#odd"),
        (("recipes.help", "return self.x", "return self.y"), "recipes.help#Base"),
        (("recipes.help", "x: int = 0", "x: float = 0"), "recipes.help#Shape"),
        (("recipes.help", "        @kept\n", ""), "recipes.help#helper"),
        (("recipes.help", "return f\n", "return f()\n"), "recipes.help#kept"),
        (("recipes.help", '["a"] = 1', '["b"] = 1'), "recipes.help"),
        (("recipes.numbers", "LIMIT += 1", "LIMIT += 2"), "recipes.numbers#LIMIT"),
        (("recipes.numbers", "STEP = 1", "STEP = 2"), "recipes.numbers#STEP"),
        (("recipes.tools", "COUNT = 0", "COUNT = 1"), "recipes.tools#COUNT"),
        (("recipes.tools", "            global COUNT\n", ""), "recipes.tools#turned"),
        (("recipes.tools", "**rest", "**more"), "recipes.tools#other"),
        (("recipes.tools", '"y"', '"z"'), "recipes.tools#other"),
        (("recipes.tools", "!r", "!s"), "recipes.tools#other"),
        (("recipes.start", "functional as F", "init as F"), "recipes.start#run"),
        (("recipes.start", "import later", "import former as later"), "recipes.start#run"),
        (("recipes.tools", "import STEP as BY", "import LIMIT as BY"), "recipes.tools#turned"),
        (("recipes.tools", "COUNT = 0", "COUNT = 0\n        max = min"), "recipes.tools#turned"),
    ],
    ids=lambda told: told[2].strip()[:40] if isinstance(told, tuple) else told,
)  # fmt: skip
def test_what_is_a_change_and_where(change: tuple[str, str, str], named: str):
    before, after = _reached(BASE), _reached(_with(change))
    assert before.digest != after.digest
    assert before.listing[named] != after.listing.get(named)


def test_a_definition_may_move_and_a_file_be_renamed():
    moved = dict(BASE)
    text = "        def odd(x):\n            return x and even(x - 1)\n"
    moved["recipes.help"] = moved["recipes.help"].replace(
        text.replace("        ", "        "), "        from recipes.elsewhere import odd\n"
    )
    moved["recipes.elsewhere"] = f"        from recipes.help import even\n{text}"
    found = _reached(moved)
    assert "recipes.elsewhere#odd" in found.listing
    assert found.digest == _reached(BASE).digest
    renamed = {name.replace("numbers", "constants"): text for name, text in BASE.items()}
    renamed = {name: text.replace("numbers", "constants") for name, text in renamed.items()}
    assert _reached(renamed).digest == _reached(BASE).digest


def test_helpers_of_one_text_that_change_places_are_told_apart():
    def files(first: str, second: str) -> dict[str, str]:
        side = "def scaled(x):\n    return x * BY\n"
        return {
            "recipes": "",
            "recipes.one": f"BY = 1\n{side}",
            "recipes.two": f"BY = 2\n{side}",
            "recipes.start": f"from recipes.{first} import scaled as a\n"
            f"from recipes.{second} import scaled as b\n"
            "def run(x):\n    return left(x) - right(x)\n"
            "def left(x):\n    return a(x)\ndef right(x):\n    return b(x)\n",
        }

    one, other = _reached(files("one", "two")), _reached(files("two", "one"))
    assert one.digest != other.digest
    assert one.listing["recipes.start#left"] != other.listing["recipes.start#left"]
    dead = {"recipes.dead": files("one", "two")["recipes.two"]}
    assert _reached({**files("one", "two"), **dead}).digest == one.digest
    merged = files("one", "one")
    dead = {**merged, "recipes.two": merged["recipes.one"]}
    dead["recipes.start"] = files("one", "two")["recipes.start"]
    assert _reached(merged).digest == _reached(dead).digest, "one of two that are the same"


def test_a_name_that_only_looks_like_a_definition_is_none():
    """Parameters, local names and loop variables hide what the module calls the same."""
    files = {
        "recipes": "",
        "recipes.start": "def run(a, *b, c=0, **d):\n"
        "    e, (f, *g) = a\n    for h in b:\n        pass\n    with a as i:\n        pass\n"
        "    j = [k for k in a if k]\n    import os as l\n"
        "    def m(n):\n        nonlocal e\n        e = n\n"
        "    return lambda o: (a, b, c, d, e, f, g, h, i, j, l, m, o, (p := 1), p)\n",
    }
    alone = _reached(files)
    names = "\n".join(f"def {name}(): return 1" for name in "abcdefghijkmnop")
    with_names = _reached({**files, "recipes.start": files["recipes.start"] + names})
    assert with_names.digest == alone.digest
    assert list(with_names.listing) == ["recipes.start#run"]


def test_modules_on_the_way_count_with_what_they_do():
    files = {
        "recipes": "from recipes.parts import listed",
        "recipes.parts": "listed = []\ndef add(f):\n    listed.append(f)\n    return f\n",
        "recipes.more": "from recipes.parts import add\n@add\ndef one():\n    return 1\n"
        "TWO = add(2)\nTHREE = 3\ndef four():\n    return 4\n",
        "recipes.start": "import recipes.more\ndef run():\n    return recipes.parts.listed\n",
    }
    assert set(_reached(files).listing) == {
        "recipes.start#run", "recipes.parts#listed", "recipes.parts#add", "recipes.more#one",
        "recipes.more#TWO",
    }  # fmt: skip


def test_conditional_definitions_count_whole():
    text = (
        "import sys\nif sys.platform:\n    from recipes.a import f\n"
        "else:\n    def f():\n        return {}\n"
    )
    base = {"recipes": "", "recipes.a": "def f():\n    return 1\n"}
    base["recipes.start"] = "from recipes.b import f\ndef run():\n    return f()\n"
    one, two = (_reached({**base, "recipes.b": text.format(n)}) for n in (1, 2))
    assert one.digest != two.digest
    assert "recipes.a#f" in one.listing


def test_a_module_as_an_object_counts_whole_and_getattr_where_a_name_is_not_found():
    base = {"recipes": "", "recipes.a": "def f():\n    return 1\ndef g():\n    return 2\n"}
    run = "from recipes import a\ndef run(name):\n    return {}\n"
    whole = _reached({**base, "recipes.start": run.format("getattr(a, name)")})
    assert {"recipes.a#f", "recipes.a#g"} <= set(whole.listing)
    base["recipes.a"] += "def __getattr__(name):\n    return name\n"
    found = _reached({**base, "recipes.start": run.format("a.other")})
    assert set(found.listing) == {"recipes.start#run", "recipes.a#__getattr__"}


def test_only_what_names_its_place_counts_with_it():
    text = "from pathlib import Path\nHOME = Path(__file__).parent\n"
    base = {"recipes": "", "recipes.x": "", "recipes.y": ""}
    run = "from recipes.{} import HOME\ndef run():\n    return HOME\n"
    places = ("x.a", "x.b", "y.a")
    one, renamed, moved = (
        _reached({**base, f"recipes.{p}": text, "recipes.start": run.format(p)}) for p in places
    )
    assert one.digest == renamed.digest != moved.digest


def test_alternatives_that_a_list_offers_are_not_reached_by_it():
    files = {
        "recipes": "",
        "recipes.a": "class One:\n    x: int = 1\nclass Two:\n    x: int = 2\n"
        "def named(x):\n    return x\n"
        "ALL = One | Two | named\n",
        "recipes.start": "from recipes.a import ALL\ndef run():\n    return ALL\n",
    }
    choices = Limits(choices=frozenset({Target("recipes.a", "ALL")}))
    assert set(_reached(files, choices).listing) == {"recipes.start#run", "recipes.a#named"}
    assert "recipes.a#Two" in _reached(files).listing


def test_a_star_is_refused():
    with pytest.raises(ValueError, match=r"line 1: from os import \*"):
        source_file(b"from os import *\n", "recipes")


def test_a_root_that_is_not_there_is_refused():
    with pytest.raises(ValueError, match=r"recipes\.start has no walk"):
        _tree(BASE).reached([Target("recipes.start", "walk")])


READ = """
import hashlib, json, sys
from pathlib import Path
from recipes.definitions import source_file
files = sorted(p for name in ("recipes", "evaluation", "harness") for p in Path(name).rglob("*.py"))
read = {p.as_posix(): source_file(p.read_bytes(), "recipes.some") for p in files}
print(hashlib.sha256(json.dumps(read, sort_keys=True).encode()).hexdigest(), sys.version_info[:2])
"""


def _others() -> list[str]:
    named = [shutil.which(f"python3.{minor}") for minor in (11, 12, 13, 14)]
    held = map(str, Path.home().glob(".pyenv/versions/3.1[1-9].*/bin/python"))
    return [python for python in [*named, *held] if python]


def test_every_python_reads_the_same():
    """Syntax trees differ between versions; in f-strings above all."""
    told = {}
    for python in (sys.executable, *_others()):
        done = subprocess.run([python, "-c", READ], cwd=ROOT, capture_output=True, text=True)
        if done.returncode == 0:  # a stub of a version that is not installed ends with 127
            digest, version = done.stdout.split(" ", 1)
            told[version] = digest
    if len(told) < 2:
        pytest.skip(f"only one Python here: {', '.join(told)}")
    assert len(set(told.values())) == 1


def test_the_reading_of_syntax_is_written_down():
    """Golden: a Python whose trees differ, where no second one is installed, is found by this."""
    read = source_file((ROOT / "tests" / "recipes" / "syntax.txt").read_bytes(), "recipes.some")
    text = json.dumps(read, sort_keys=True)
    assert hashlib.sha256(text.encode()).hexdigest()[:16] == "5e6eb8fcf222def9"
