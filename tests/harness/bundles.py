"""A small bundle of a stub study, and bundles changed by hand, for the tests of `bundle`."""

import hashlib
import io
import zipfile
from collections.abc import Mapping
from pathlib import Path

from harness.analysis.answered_study import AnsweredStudy
from harness.bundle.write import write_bundle
from harness.commands.opening import answered

from .run_place import Place

STUDY = """\
name: demo
question: Does x help?
subject: harness.testing.stub_measured
recipe: {recipe}
factors: {{part.x: [0.0, 1.0], part.y: [0, 1]}}
baseline: {{part.x: 0.0, part.y: 0}}
design: full
replicates: 6
protocol: {protocol}
contrasts:
  - {{id: H1, claim: x helps, a: {{part.x: 1.0}}, b: {{part.x: 0.0}}, expect: higher}}
  - {{id: H2, claim: y is harmless, a: {{part.y: 1}}, b: {{part.y: 0}}, margin: 0.5}}
"""


def studied(folder: Path, text: str = STUDY, recipe: str = "{cycles: 2}") -> AnsweredStudy:
    """The study, run, and answered."""
    place = Place(folder)
    made = place.study(text, recipe)
    assert place.run(made).exit_code in (0, 1)
    return answered(made.file, place.workspace.root)


def small(made: AnsweredStudy, file: Path, **options) -> Path:
    """Its bundle without Stillhouse's own source, which would only take time."""
    write_bundle(made, file, **options)
    drop = {n: None for n in contents(file) if n.startswith("stillhouse/")}
    return rewritten(file, file, drop)


def contents(file: Path) -> dict[str, bytes]:
    with zipfile.ZipFile(file) as archive:
        return {name: archive.read(name) for name in archive.namelist()}


def rewritten(
    file: Path, to: Path, changes: Mapping[str, bytes | None], *, sums: bool = True
) -> Path:
    """The bundle with members changed, added or (None) left out; checksums made afresh."""
    members = {k: v for k, v in {**contents(file), **changes}.items() if v is not None}
    if sums and "CHECKSUMS" not in changes:
        members["CHECKSUMS"] = checksums(members)
    to.write_bytes(zipped(members.items()))
    return to


def checksums(members: Mapping[str, bytes]) -> bytes:
    kept = sorted(name for name in members if name != "CHECKSUMS")
    lines = [f"{hashlib.sha256(members[name]).hexdigest()}  {name}\n" for name in kept]
    return "".join(lines).encode("utf-8", "surrogateescape")


def zipped(members, attributes: int = 0o100644 << 16) -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in members:
            info = zipfile.ZipInfo("x")
            info.filename = info.orig_filename = name  # the constructor would mend odd ones
            info.external_attr = attributes
            info.compress_type = zipfile.ZIP_DEFLATED
            archive.writestr(info, content)
    return out.getvalue()
