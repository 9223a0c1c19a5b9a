"""What goes into a bundle: records, recipes, items, report, tables, environment, source."""

from __future__ import annotations

import hashlib
import json
import subprocess
from collections.abc import Collection, Iterable, Iterator, Mapping
from pathlib import Path, PurePath
from typing import TYPE_CHECKING, Any

import harness
from harness.bundle.verify.check import MANIFEST, SCHEMA
from harness.contract import Artifact, ArtifactKind
from harness.journal.attempts import folder_of
from harness.journal.history import Attempt
from harness.journal.trial import canonical
from harness.journal.workspace import in_project, project_of
from harness.report import facts
from harness.report.page import report_files
from harness.report.results import counting, packed, result_files
from harness.subjects.settings import CommandSettings

if TYPE_CHECKING:
    from harness.analysis.answered_study import AnsweredStudy
    from harness.study.planned_contrast import PlannedContrast


Members = dict[str, bytes | Path]
"""Name in the archive to content, or to the file that holds it."""
LOCK = "requirements.lock"


def recorded(
    answered: AnsweredStudy, kinds: Collection[ArtifactKind], sources: Mapping[str, Any]
) -> Members:
    """Everything about a study but its source and what explains it.

    Args:
        answered: the study, answered.
        kinds: kinds of artifacts that go along where their files are still there.
        sources: what the manifest says of the source files; see `source.compared`.

    Raises:
        NotJudgedError: no trial of the study has a result yet.
    """
    members: Members = {}

    def kept(attempt: Attempt) -> list[Artifact]:
        folder = f"trials/{attempt.opened.key}/attempts/{attempt.folder_name}"
        listed = attempt.closed.artifacts if attempt.closed else []
        artifacts = []
        for artifact in listed:
            files = _files(answered, attempt, artifact) if artifact.kind in kinds else {}
            if files:
                artifacts.append(artifact)
                members.update({f"{folder}/{name}": file for name, file in files.items()})
        return artifacts

    results = result_files(answered, kept)
    members |= {f"results/{name}": text.encode() for name, text in results.items()}
    values = packed(answered)
    members |= {f"results/{name}": content for name, content in values.items()}
    report = report_files(answered, portable=True)
    members |= {f"report/{name}": text.encode() for name, text in report.items()}
    for planned in answered.plan.trials:
        trial, record = planned.trial, answered.history.trials.get(planned.trial.key)
        if record is not None and counting(record):
            # The very bytes whose hash is the key, so that a verifier needs sha256 and nothing
            # else.
            members[f"recipes/{trial.key}.json"] = canonical(trial.identity())
    members["environment/versions.json"] = _json(
        {name: values for name, values in facts.environment(answered.plan, answered.history)}
    )
    members[MANIFEST] = _json(
        {
            "schema": SCHEMA,
            "study": answered.answer.study,
            "study_digest": answered.plan.digest,
            "artifacts": sorted(kinds),
            "contrasts": [_contrast(contrast) for contrast in answered.plan.contrasts],
            "sources": dict(sources),
        }
    )
    return members


def _contrast(contrast: PlannedContrast) -> dict[str, Any]:
    """What the verifier needs to judge a contrast: its kind, and every part's cells."""
    names = ("id", "metric", "kind", "expect", "margin", "threshold", "falls")
    fields = contrast.model_dump(include={*names})
    return {**fields, "parts": [part.model_dump() for part in contrast.parts]}


def _json(content: object) -> bytes:
    return (json.dumps(content, indent=1, sort_keys=True) + "\n").encode()


def _files(answered: AnsweredStudy, attempt: Attempt, artifact: Artifact) -> dict[str, Path]:
    """Path below the attempt to file; links are left out, a CSV beside a table goes along."""
    root = folder_of(answered.workspace, attempt)
    place = root / artifact.path
    candidates = sorted(place.rglob("*")) if place.is_dir() else [place]
    if artifact.kind in ("items", "prompts"):
        candidates.append(place.with_suffix(".csv"))
    return {
        file.relative_to(root).as_posix(): file
        for file in candidates
        if file.is_file() and not file.is_symlink()
    }


OWN = Path(harness.__file__).parents[1]
"""Root of Stillhouse's own source."""
PACKAGES = ("harness", "recipes", "evaluation")
ROOT_FILES = ("pyproject.toml", LOCK, "Makefile", "README.md", "LICENSE", "CONTRIBUTING.md")
_SOURCE = (".py", ".yaml", ".yml", ".toml", ".j2", ".css")
TRAINER = "trainer"
"""Folder of the bundle for a command's code that lies outside the study's project."""
BUNDLE = "-bundle.zip"
_PASSED_OVER = ("__pycache__", ".git")


def source(answered: AnsweredStudy) -> Members:
    """`code/` holds the study's project, `stillhouse/` Stillhouse itself where that is another.

    Of the project: packages, files of the root, the study's folder, its base recipe, and every
    file that the code digest lists; those of a command that lie elsewhere are in `trainer/`. Bytes
    are those of the working tree, which the digest hashed.
    """
    project = project_of(answered.study.file)
    folder = answered.study.file.resolve().parent
    listed = digested(answered)
    ours = not isinstance(answered.study.subject, CommandSettings)  # whose folder may hold anything
    heads = {name.split("/")[1] for name in listed if ours and name.startswith("code/")}
    names = [*PACKAGES, *ROOT_FILES, *sorted(heads)]
    members = _below("code", project, [project / name for name in names])
    if folder == project:  # a folder without a project of its own: only what the study names
        members |= _named("code", project, [answered.study.file])
    else:
        members |= _below("code", project, [folder])
    members |= _named("code", project, _recipe(answered))
    if project.resolve() != OWN.resolve():
        members |= _below("stillhouse", OWN, [OWN / name for name in (*PACKAGES, *ROOT_FILES)])
    return members | listed


def digested(answered: AnsweredStudy) -> Members:
    """Files that code digests of the study cover, by their names in the bundle."""
    members: Members = {}
    for name in {name for files in code_files(answered).values() for name in files}:
        member = member_of(answered, name)
        if member is not None:
            members[member[0]] = member[1]
    return members


def member_of(answered: AnsweredStudy, name: str) -> tuple[str, Path] | None:
    """Name in the bundle of a file that a code digest lists, and where it lies; None if nowhere.

    A command's files are named from its `cwd`, a module's from the project or from Stillhouse. What
    lies elsewhere goes along only where the study's own `code:` names it, whatever a journal lists.
    """
    project, own = project_of(answered.study.file).resolve(), OWN.resolve()
    subject = answered.study.subject
    roots = [project, own]
    is_declared = False
    if isinstance(subject, CommandSettings):
        roots.insert(0, (project / subject.cwd).resolve())
        is_declared = any(f"{name}/".startswith(f"{c.rstrip('/')}/") for c in subject.code)
    for root in roots:
        file = (root / name).resolve()
        if not file.is_file() or (root / name).is_symlink():
            continue
        for prefix, home in (("code", project), ("stillhouse", own)):
            if file.is_relative_to(home):
                return f"{prefix}/{file.relative_to(home).as_posix()}", file
        if is_declared:
            inside = [part for part in PurePath(name).parts if part not in ("..", "/")]
            return "/".join([TRAINER, *inside]), file
    return None


def compared(answered: AnsweredStudy) -> dict[str, dict[str, Any]]:
    """Of each listed file: its name in the bundle, its bytes' digest, and the subject's digest.

    A subject may digest what a file says instead of its bytes, which no verifier without that
    subject can work out. `member` is empty for what is listed and is no file.
    """
    today: dict[str, set[str]] = {}
    for planned in answered.plan.trials:
        prints = planned.fingerprints or answered.plan.fingerprints
        for name, digest_today in prints.code_files.items():
            today.setdefault(name, set()).add(digest_today)
    sums: dict[Path, str] = {}
    described: dict[str, dict[str, Any]] = {}
    for name, digests in sorted(today.items()):
        member = member_of(answered, name.partition("#")[0])
        if member is None:
            described[name] = {"member": "", "digests": sorted(digests)}
            continue
        if member[1] not in sums:
            sums[member[1]] = digest(member[1])
        bytes_of = {"member": member[0], "sha256": sums[member[1]]}
        described[name] = {**bytes_of, "digests": sorted(digests)}
    return described


def code_files(answered: AnsweredStudy) -> dict[str, dict[str, str]]:
    """Code digest to the source files it covers, for the attempts that count."""
    files_of: dict[str, dict[str, str]] = {}
    for planned in answered.plan.trials:
        record = answered.history.trials.get(planned.trial.key)
        for attempt in counting(record) if record else ():
            files_of.setdefault(attempt.opened.code, attempt.opened.code_files)
    return files_of


def study_path(answered: AnsweredStudy) -> str:
    """The study file as one types it from its project."""
    return in_project(answered.study.file)


def git(folder: Path, *words: str) -> list[str]:
    """Lines that git prints in a folder; empty without git or outside a repository."""
    try:
        process = subprocess.run(
            ["git", "-C", str(folder), *words], capture_output=True, check=True, timeout=60
        )
    except (OSError, subprocess.SubprocessError):
        return []
    text = process.stdout.decode("utf-8", "replace").replace("\0", "\n")
    return [line for line in text.split("\n") if line]


def _recipe(answered: AnsweredStudy) -> list[Path]:
    recipe = answered.study.recipe
    return [answered.study.file.parent / recipe] if isinstance(recipe, str) else []


def _below(prefix: str, root: Path, places: Iterable[Path]) -> Members:
    """Files below some places that git tracks, and source not added yet; all where it tracks none.

    What the repository ignores never goes along, nor do strange files that lie about.
    """
    tracked = {root / name for name in git(root, "ls-files", "-z", ".")}
    others = git(root, "ls-files", "-z", "--others", "--exclude-standard", ".")
    tracked |= {root / name for name in others if tracked and name.endswith(_SOURCE)}
    files: list[Path] = []
    for place in places:
        inside = sorted(place.rglob("*")) if place.is_dir() else [place]
        inside = [f for f in inside if not f.name.endswith(BUNDLE)]  # one of before
        files += [f for f in inside if not tracked or f in tracked]
    return _named(prefix, root, files)


def _named(prefix: str, root: Path, files: Iterable[Path]) -> Members:
    members: Members = {}
    for file in files:
        inside = root.resolve() in file.resolve().parents
        if not inside or file.is_symlink() or not file.is_file():
            continue
        name = file.resolve().relative_to(root.resolve())
        if not any(part in _PASSED_OVER or part.endswith(".pyc") for part in name.parts):
            members[f"{prefix}/{name.as_posix()}"] = file
    return members


_CHUNK = 2**20


def digest(content: bytes | Path) -> str:
    """sha256 in hex."""
    sha256 = hashlib.sha256()
    for piece in pieces(content):
        sha256.update(piece)
    return sha256.hexdigest()


def pieces(content: bytes | Path) -> Iterator[bytes]:
    """The content in pieces of at most a mebibyte."""
    if isinstance(content, bytes):
        yield content
        return
    with content.open("rb") as stream:
        while piece := stream.read(_CHUNK):
            yield piece
