"""Reads a bundle without trusting it: checked, then unpacked."""

from __future__ import annotations

import hashlib
import shutil
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from pydantic import ValidationError

from harness.bundle.verify import check, looks, recomputed
from harness.errors import BundleError, WorkspaceError
from harness.text.archive import Archive, Bad

if TYPE_CHECKING:
    from harness.contract import ArtifactKind


ALWAYS: tuple[ArtifactKind, ...] = ("items", "prompts")
STUDENTS: tuple[ArtifactKind, ...] = (*ALWAYS, "student")
WHOLE: tuple[ArtifactKind, ...] = (*ALWAYS, "features", "panel", "student")


def verify_bundle(file: Path) -> list[str]:
    """Check a bundle from anybody; nothing is unpacked and nothing of it is run.

    Returns:
        a line for each kind of check.

    Raises:
        BundleError: at the first thing that is not as it must be, with member and line.
    """
    try:
        with Archive(_there(file)) as bundle:
            return _checked(bundle)
    except Bad as error:
        raise _refused(file, error) from error


def unpacked_bundle(file: Path, into: Path) -> Path:
    """Check a bundle and unpack it below a folder, once for each content.

    Args:
        file: a bundle, from anybody.
        into: made where missing; the bundle gets a folder in it that is named by its checksum.

    Returns:
        the folder, which looks like a study's: `results/`, `trials/<key>/`, `report/`, `code/`.

    Raises:
        BundleError: if the bundle is not as it must be; then nothing is left below `into`.
        WorkspaceError: if `into` cannot be written.
    """
    name = hashlib.sha256()
    try:
        with _there(file).open("rb") as stream:
            while piece := stream.read(2**20):
                name.update(piece)
    except OSError as error:
        raise BundleError(f"bundle {file} cannot be read: {error.strerror or error}") from error
    folder = into / name.hexdigest()[:32]
    if folder.is_dir():
        return folder
    extract_bundle(file, folder)
    return folder


def extract_bundle(file: Path, folder: Path) -> list[str]:
    """Check a bundle, then unpack it into a folder that does not exist yet.

    Raises as `unpacked_bundle`.
    """
    if folder.exists():
        raise BundleError(f"{folder} is there already: give the name of a new folder")
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        temporary = Path(tempfile.mkdtemp(prefix=f".{folder.name}-", dir=folder.parent))
    except OSError as error:
        raise WorkspaceError(f"{folder} cannot be made: {error.strerror or error}") from error
    try:
        with Archive(_there(file)) as bundle:
            checks = _checked(bundle)
            free = shutil.disk_usage(temporary).free
            need = sum(info.file_size for info in bundle.members.values())
            if need > free:
                raise WorkspaceError(f"{folder}: {need:,} bytes are needed, {free:,} are free")
            for name in bundle.members:
                target = temporary.joinpath(*name.split("/"))
                target.parent.mkdir(parents=True, exist_ok=True)
                with target.open("xb") as out:
                    out.writelines(bundle.chunks(name))
        # `mkdtemp` makes folders that nobody else may read.
        temporary.chmod(0o755)
        temporary.replace(folder)
        return checks
    except Bad as error:
        raise _refused(file, error) from error
    except OSError as error:
        if folder.is_dir():  # another process unpacked the same meanwhile
            return []
        raise WorkspaceError(f"{folder} cannot be written: {error.strerror or error}") from error
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def _there(file: Path) -> Path:
    if not file.is_file():
        raise BundleError(f"bundle {file} is not there: give a file that `bundle` made")
    return file


def _refused(file: Path, error: Bad) -> BundleError:
    return BundleError(
        f"{file}: {error}. It was changed or damaged; nothing of it was used. Ask for it again.",
        error.member,
        error.line,
    )


def _checked(bundle: Archive) -> list[str]:
    """The verifier's checks, then that every record is one that the journal knows."""
    from harness.analysis.model import Answer
    from harness.journal.lines import Reader

    checks: list[str] = []
    check.check(bundle, checks.append)
    # Then as every journal is read: the stand-alone verifier has no models, so it knows less of a
    # record's form.
    reader = Reader()
    for number, line in bundle.lines(looks.JOURNAL):
        try:
            reader.take(line, str(number))
        except ValidationError as error:
            raise Bad(_first(error), looks.JOURNAL, number) from error
        except ValueError as error:
            raise Bad(str(error)[:300], looks.JOURNAL, number) from error
    for place, record in reader.waiting():
        if isinstance(record, ValueError):
            reason = _first(record) if isinstance(record, ValidationError) else str(record)[:300]
            raise Bad(reason, looks.JOURNAL, int(place))
    try:
        Answer.model_validate_json(bundle.read(recomputed.ANSWER))
    except ValidationError as error:
        raise Bad(_first(error), recomputed.ANSWER) from error
    return checks


def _first(error: ValidationError) -> str:
    first = error.errors(include_url=False, include_input=False)[0]
    return f"{'.'.join(map(str, first['loc']))}: {first['msg']}"[:300]
