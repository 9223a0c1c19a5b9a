"""`bundle --blind`: who made a study is taken out, and what cannot be taken out stops it."""

import base64
import gzip
import io
import json
import subprocess
import zipfile
import zlib
from pathlib import Path

import numpy as np
import pytest

from harness.bundle.blind import Traces, refuse_traces, scrubbed, traces_left, traces_of
from harness.bundle.read import verify_bundle
from harness.bundle.write import write_bundle
from harness.commands.opening import answered
from harness.errors import BundleError

from .bundles import STUDY, contents, studied

WORD = "Quillfeather"


def png(chunk: bytes, body: bytes) -> bytes:
    def made(kind: bytes, data: bytes) -> bytes:
        crc = zlib.crc32(kind + data)
        return len(data).to_bytes(4, "big") + kind + data + crc.to_bytes(4, "big")

    head = made(b"IHDR", bytes([0, 0, 0, 1, 0, 0, 0, 1, 8, 0, 0, 0, 0]))
    pixels = made(b"IDAT", zlib.compress(b"\0\0"))
    return b"\x89PNG\r\n\x1a\n" + head + made(chunk, body) + pixels + made(b"IEND", b"")


def npz(word: str) -> bytes:
    out = io.BytesIO()
    np.savez_compressed(out, names=np.array([word, "x"]), x=np.zeros(99))
    return out.getvalue()


def parquet(word: str, where: str) -> bytes:
    import pyarrow as arrow
    from pyarrow import parquet as files

    table = arrow.table({"a": [word if where == "cell" else "x"] * 50})
    if where == "metadata":
        table = table.replace_schema_metadata({"author": word})
    out = io.BytesIO()
    files.write_table(table, out, compression="zstd", use_dictionary=True)
    return out.getvalue()


def nested(word: str) -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("deep.gz", gzip.compress(word.encode() * 9))
    return out.getvalue()


PLANTED = {
    "text": lambda w: f"by {w}".encode(),
    "another case": lambda w: w.upper().encode(),
    "utf-16": lambda w: b"\xff\xfe" + f"by {w}".encode("utf-16-le"),
    "json escape": lambda w: json.dumps(w).encode(),
    "gz": lambda w: gzip.compress(b"x" * 99 + w.encode()),
    "zip in zip with gz": nested,
    "npz": npz,
    "parquet cell": lambda w: parquet(w, "cell"),
    "parquet metadata": lambda w: parquet(w, "metadata"),
    "png tEXt": lambda w: png(b"tEXt", b"Author\0" + w.encode()),
    "png zTXt": lambda w: png(b"zTXt", b"Author\0\0" + zlib.compress(w.encode())),
    "png iTXt": lambda w: png(b"iTXt", b"Author\0\1\0en\0\0" + zlib.compress(w.encode())),
    "data uri": lambda w: (
        b'<img src="data:image/png;base64,'
        + base64.b64encode(png(b"zTXt", b"A\0\0" + zlib.compress(w.encode())))
        + b'">'
    ),
}


@pytest.mark.parametrize("word", [WORD, "Çağrı Öz"])
@pytest.mark.parametrize("kind", PLANTED)
def test_a_planted_word_is_found_wherever_it_hides(kind: str, word: str):
    if kind == "another case" and not word.isascii():
        word = "ÇELIK"  # İ has no one upper case
    who = Traces((word,))
    members = {"trials/x/file.bin": PLANTED[kind](word), "other": PLANTED[kind]("nobody here")}
    found = traces_left(members, who)
    assert found
    assert all(line.startswith("trials/x/file.bin") and ", byte " in line for line in found)
    with pytest.raises(BundleError, match=r"trials/x/file\.bin.*byte \d+") as refused:
        refuse_traces(members, who)
    assert refused.value.member.startswith("trials/x/file.bin")


def test_offsets_and_member_names_are_told():
    who = Traces((WORD,))
    found = traces_left({f"code/{WORD}.py": b"12345" + WORD.encode()}, who)
    assert any("its name" in line for line in found)
    assert any("byte 5: 'Quillfeather'" in line for line in found)


def test_what_cannot_be_looked_into_is_no_proof():
    for content in (b"%PDF-1.7 ...", b"\x28\xb5\x2f\xfdxxxx", b"\x1f\x8bbroken", b"PAR1broken"):
        assert "cannot be looked into" in traces_left({"x": content}, Traces(()))[0]


def test_short_words_count_as_words_only():
    who = Traces(("anna",))
    assert traces_left({"x": b"hosanna annapurna"}, who) == []
    assert len(traces_left({"x": b"anna, /data/anna/x anna_2"}, who)) == 3


def test_anybodys_home_is_found_in_records_but_not_in_source():
    members = {"results/x": b"open /home/someone/x", "code/x": b"open /home/someone/x"}
    assert [m.split(",")[0] for m in traces_left(members, Traces(()))] == ["results/x"]


def _repository(project: Path) -> None:
    (project / "LICENSE").write_text("Copyright Ada Quillfeather <ada@lab.example>\n")
    (project / ".gitignore").write_text("w/\n")
    who = ["-c", "user.name=Ada Quillfeather", "-c", "user.email=ada.q@lab.example"]
    for words in (["init", "-q"], ["add", "."], [*who, "commit", "-qm", "first"]):
        subprocess.run(["git", "-C", str(project), *words], check=True, capture_output=True)


def _studied(tmp_path: Path, monkeypatch, recipe: str = "{cycles: 2}"):
    monkeypatch.setattr("harness.bundle.contents.PACKAGES", ("harness",))  # weights take time
    home = tmp_path / "homes" / "quillfeather"
    project = home / "project"
    project.mkdir(parents=True)
    monkeypatch.setenv("HOME", str(home))
    monkeypatch.setenv("USER", "quillfeather")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://mlflow.quillhouse.example:5000")
    asked = STUDY.replace("Does x help?", "Does x help?  # asked by Ada Quillfeather")
    made = studied(project, asked, recipe)
    for file in made.workspace.journal.glob("*.jsonl"):  # as if it had run on a named machine
        lines = [json.loads(line) for line in file.read_text().splitlines()]
        for record in lines:
            if record["type"] == "opened":
                record["host"] = "bluewhale"
            if record["type"] == "closed":
                record["info"] = {"log": f"{home}/run.txt on bluewhale", "at": "/home/other/x"}
        file.write_text("".join(json.dumps(r) + "\n" for r in lines))
    _repository(project)
    return answered(made.study.file, made.workspace.root)


def test_nothing_of_the_maker_is_left(tmp_path: Path, monkeypatch):
    made = _studied(tmp_path, monkeypatch)
    open_ = write_bundle(made, tmp_path / "open.zip")
    plain = b"".join(contents(open_.file).values()).lower()
    assert b"quillfeather" in plain
    assert b"bluewhale" in plain
    assert made.workspace.id.encode() in plain
    who = traces_of(made)
    assert {"quillfeather", "bluewhale", "Ada Quillfeather", "ada.q@lab.example"} <= set(who.words)
    assert {"http://mlflow.quillhouse.example:5000", "mlflow.quillhouse.example"} <= set(who.words)
    done = write_bundle(made, tmp_path / "blind.zip", blind=who)
    workspace = made.workspace.id.encode()
    held = contents(done.file)
    everything = b"".join(held.values()).lower() + done.file.read_bytes().lower()
    for word in (b"quillfeather", b"bluewhale", b"quillhouse", b"/home/other", b"ada.q", workspace):
        assert word not in everything
    assert b"anonymous" in held["code/LICENSE"]
    assert "Ada Quillfeather" in done.searched
    assert verify_bundle(done.file)
    again = write_bundle(made, tmp_path / "again.zip", blind=who)
    assert again.file.read_bytes() == done.file.read_bytes()


def test_what_cannot_be_taken_out_stops_it(tmp_path: Path, monkeypatch):
    """A recipe hashes to its key: a word in it can only be refused."""
    made = _studied(tmp_path, monkeypatch, "{cycles: 2, fault: quillfeather}")
    target = tmp_path / "blind.zip"
    with pytest.raises(BundleError, match=r"recipes/\w+\.json, byte \d+: 'quillf") as found:
        write_bundle(made, target, blind=traces_of(made))
    assert "nothing was written" in str(found.value)
    assert not list(tmp_path.glob("*blind.zip*"))
    skipped = traces_of(made, skip=["quillfeather"])
    assert "quillfeather" in [word.casefold() for word in skipped.too_common]


def test_source_that_the_digest_names_is_never_changed():
    who = Traces((WORD,), as_it_ran=frozenset({"code/a.py"}))
    members = {"code/a.py": WORD.encode(), "code/b.py": WORD.encode()}
    found = scrubbed(members, who)
    assert found == {"code/a.py": WORD.encode(), "code/b.py": b"anonymous"}
    assert len(traces_left(found, who)) == 1


def test_common_names_are_said_not_to_be_searched_for(tmp_path: Path, monkeypatch):
    made = studied(tmp_path / "p")
    monkeypatch.setenv("USER", "root")
    who = traces_of(made, extra=["root"])
    assert "root" in who.words
    assert "root" in traces_of(made).too_common
    with pytest.raises(BundleError, match="too short"):
        traces_of(made, extra=["x"])
