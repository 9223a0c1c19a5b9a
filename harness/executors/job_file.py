"""A job on its way to a worker of another process: a file without secrets, and one that is eaten.

What `env` of a command keeps from every record is in no file that stays: the worker deletes it as
it reads it.
"""

from __future__ import annotations

import contextlib
import json
import os
from pathlib import Path

from harness.executors.base import Job
from harness.subjects.settings import CommandSettings
from harness.text.secrets import secrets_of

EATEN = ".job-environment.json"


def write_job(job: Job, file: Path) -> None:
    """Write a job for `taken`."""
    file.write_text(job.model_dump_json())
    secrets = secrets_of(job.subject.env) if isinstance(job.subject, CommandSettings) else {}
    if secrets:
        with contextlib.suppress(FileNotFoundError):
            file.with_name(EATEN).unlink()
        # Made anew and private from the start: a file that is there keeps its mode, and may be a
        # link.
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL
        with os.fdopen(os.open(file.with_name(EATEN), flags, 0o600), "w") as out:
            json.dump(secrets, out)


def take_job(file: Path) -> Job:
    """The job in a file, secrets put back.

    Raises:
        OSError, ValueError: if it cannot be read.
    """
    job = Job.model_validate_json(file.read_text())
    beside = file.with_name(EATEN)
    if not isinstance(job.subject, CommandSettings) or not beside.exists():
        return job
    secrets = json.loads(beside.read_text())
    beside.unlink()
    subject = job.subject.model_copy(update={"env": {**job.subject.env, **secrets}})
    return job.model_copy(update={"subject": subject})
