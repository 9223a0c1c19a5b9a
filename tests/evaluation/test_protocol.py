"""Protocols: loading, errors, the fingerprint and what it depends on, silent imports."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from evaluation.catalogue import catalogue
from evaluation.import_string import resolve
from evaluation.protocol import Protocol, available_protocols, load_protocol
from tests.evaluation import fake_world
from tests.evaluation.fake_world import YAML_TEXT, fake_protocol


def test_importing_protocol_and_fingerprint_load_nothing_heavy(tmp_path: Path) -> None:
    path = tmp_path / "light-v1.yaml"
    (tmp_path / "light_items.py").write_text(
        "def items(t2i, edit):\n"
        "    return [{'item_id': f'a-{i}', 'task': 't2i', 'category': 'a', 'prompt': 'p'}"
        " for i in range(t2i['a'])]\n"
    )
    path.write_text(
        "name: light\nversion: 1\nresolution: 8\n"
        "items: {factory: 'light_items:items', t2i: {a: 3}}\n"
        "sampler: {nfe: 1, noise_shape: [3]}\n"
        "references: {factory: 'not_there:references', per_category: 2}\n"
        "extractor: {factory: 'not_there:extractor'}\nclip: {factory: 'not_there:clip'}\n"
    )
    code = (
        "import sys, evaluation, evaluation.protocol, evaluation.catalogue, evaluation.items\n"
        f"sys.path.insert(0, {str(tmp_path)!r})\n"
        f"print(len(evaluation.protocol.load_protocol({str(path)!r}).fingerprint()))\n"
        "heavy = {'torch', 'scipy', 'pandas', 'numpy', 'PIL'} & set(sys.modules)\n"
        "assert not heavy, heavy"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        check=False,
        cwd=Path(__file__).parents[2],
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == "64"


@pytest.mark.parametrize("name", available_protocols())
def test_shipped_protocols_load(name: str) -> None:
    protocol = load_protocol(name)
    assert protocol.protocol_id == name
    assert protocol.description
    assert set(catalogue(protocol)) >= {"t2i/kd", "edit/fidelity"}


def test_fingerprint_changes_with_settings_items_and_digests(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    protocol = fake_protocol(tmp_path)
    before = protocol.fingerprint()
    assert protocol.fingerprint() == before

    changed = [
        YAML_TEXT.replace("nfe: 1", "nfe: 2"),
        YAML_TEXT.replace("seed: 3", "seed: 4"),
        YAML_TEXT.replace("paint: 6", "paint: 7"),
        YAML_TEXT + "edit_scoring: {preservation_scale: 0.25}\n",
    ]
    prints = [fake_protocol(tmp_path, text).fingerprint() for text in changed]
    assert len({before, *prints}) == 5

    with monkeypatch.context() as patch:
        patch.setattr(fake_world, "digests", lambda: {"extractor": "other"})
        assert protocol.fingerprint() != before
    original = fake_world.items

    def reworded(**counts: dict[str, int]) -> list[dict[str, object]]:
        made = original(**counts)
        made[0]["prompt"] = "blue"
        return made

    monkeypatch.setattr(fake_world, "items", reworded)
    assert protocol.fingerprint() != before


def test_fingerprint_ignores_prose(tmp_path: Path) -> None:
    before = fake_protocol(tmp_path).fingerprint()
    text = YAML_TEXT.replace("FakeClip}", "FakeClip, fetch: make clip}") + "description: words\n"
    assert fake_protocol(tmp_path, text).fingerprint() == before


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (("nfe: 1", "nfe: 0"), r"sampler\.nfe"),
        (("resolution: 8", "resolution: 8\nresolutoin: 8"), "resolutoin"),
        (("resolution: 8", "resolution: 8\nresolution: 9"), "duplicate"),
        (("name: fake", "name: other"), r"other-v1\.yaml"),
        (("teacher_draws: [1000, 1001]", "teacher_draws: [2]"), "teacher_draws"),
        (("edit_pictures: tests.evaluation.fake_world:edit_pictures", ""), "edit_pictures"),
        (("t2i: {warm: 12, cold: 12}", "t2i: {warm: 0}"), r"items\.t2i\.warm"),
        (("fake_world:FakeClip", "fake_world.FakeClip"), r"clip\.factory"),
    ],
)
def test_mistakes_in_the_file(tmp_path: Path, change: tuple[str, str], message: str) -> None:
    assert change[0] in YAML_TEXT
    with pytest.raises(ValueError, match=message):
        fake_protocol(tmp_path, YAML_TEXT.replace(*change))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (("sampler: {", "sampler: !a {"), r"line \d+: tag !a is not supported"),
        (("sampler: {", "sampler: !!set {"), r"tag tag:yaml.org,2002:set is not supported"),
        (("name: fake", "name: !!binary fake"), r"line \d+: tag .*binary is not supported"),
        (("name: fake", "%YAML 1.1\n---\nname: fake"), r"take the %YAML line out"),
        (("name: fake", "x: &x [*x]\nname: fake"), r"alias may not contain itself"),
        (("name: fake", "x: " + "[" * 60 + "]" * 60 + "\nname: fake"), r"more than 40 deep"),
        (("name: fake", "x: " + "[" * 9999 + "]" * 9999 + "\nname: fake"), r"more than 40 deep"),
        (("name: fake", "<<: {a: 1}\nname: fake"), r"merge keys"),
        (("name: fake", "x: on\nname: fake"), r"on is text in YAML 1.2: write true or false"),
        (("name: fake", "#" * 1_000_001 + "\nname: fake"), r"over 1000000 bytes"),
    ],
)
def test_files_that_say_two_things_or_too_much_are_refused(
    tmp_path: Path, change: tuple[str, str], message: str
) -> None:
    assert change[0] in YAML_TEXT
    with pytest.raises(ValueError, match=message) as told:
        fake_protocol(tmp_path, YAML_TEXT.replace(change[0], change[1], 1))
    assert "fake-v1.yaml" in str(told.value)


def test_a_bomb_of_aliases_is_refused_at_once(tmp_path: Path) -> None:
    bomb = "a0: &a0 [x, x, x, x, x, x, x, x, x]\n" + "".join(
        f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 9)}]\n" for n in range(1, 9)
    )
    with pytest.raises(ValueError, match="more than 50000 values"):
        fake_protocol(tmp_path, bomb + YAML_TEXT)


def test_a_protocol_that_is_no_file_or_no_text(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe-v1.yaml")
    with pytest.raises(ValueError, match="no protocol"):
        load_protocol(tmp_path / "pipe-v1.yaml")
    (tmp_path / "a-v1.yaml").write_bytes(b"name: caf\xe9\n")
    with pytest.raises(ValueError, match=r"a-v1.yaml cannot be read: not UTF-8"):
        load_protocol(tmp_path / "a-v1.yaml")
    (tmp_path / "a-v1.yaml").write_text("")
    with pytest.raises(ValueError, match=r"a-v1.yaml: file: "):
        load_protocol(tmp_path / "a-v1.yaml")


def test_unknown_protocol_lists_the_known_ones() -> None:
    with pytest.raises(ValueError, match="toyworld-v1"):
        load_protocol("toyworld-v0")


def test_item_counts_must_be_those_asked_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    protocol = fake_protocol(tmp_path)
    original = fake_world.items
    monkeypatch.setattr(fake_world, "items", lambda **counts: original(**counts)[1:])
    with pytest.raises(ValueError, match=r"'warm': 11.*'warm': 12"):
        protocol.load_items()


def test_digest_in_the_file_must_be_the_one_found(tmp_path: Path) -> None:
    right = fake_world.digests()["clip"]
    line = "clip: {factory: tests.evaluation.fake_world:FakeClip, fetch: make clip, digest: DIGEST}"
    text = YAML_TEXT.replace("clip: {factory: tests.evaluation.fake_world:FakeClip}", line)
    fake_protocol(tmp_path, text.replace("DIGEST", right)).load_digests()
    with pytest.raises(ValueError, match=r"clip has digest .* run: cd /.* && make clip"):
        fake_protocol(tmp_path, text.replace("DIGEST", "f" * 64)).load_digests()


def test_protocol_is_frozen(tmp_path: Path) -> None:
    protocol: Protocol = fake_protocol(tmp_path)
    with pytest.raises(ValueError, match="frozen"):
        protocol.resolution = 9


@pytest.mark.parametrize(
    ("import_string", "message"),
    [
        ("evaluation.items", "package.module:attribute"),
        ("evaluation.itms:noise", "no module 'evaluation.itms'"),
        ("evaluation.items:noize", "it has: .*noise"),
    ],
)
def test_bad_import_strings(import_string: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        resolve(import_string)
