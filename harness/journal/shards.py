"""Shards: several drivers that run one study in one workspace, each its own share of the trials."""

from __future__ import annotations

import contextlib
import os
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol, TypeVar

from filelock import FileLock, Timeout

from harness.errors import ClaimedError, HarnessError
from harness.journal import claims, environment
from harness.journal.claims import Claim
from harness.journal.trial import Trial
from harness.journal.workspace import Workspace

LOCKS = "shard-*.lock"
CONCLUDING = "concluding.lock"
CONCLUDING_SECONDS = 300.0


class _HasTrial(Protocol):
    @property
    def trial(self) -> Trial: ...


_Planned = TypeVar("_Planned", bound=_HasTrial)


@dataclass(frozen=True)
class Shard:
    """Share `index` (from 1) of `count`."""

    index: int
    count: int

    @classmethod
    def parse(cls, text: str) -> Shard:
        """From `2/4`.

        Raises:
            HarnessError: unless it is i/n with 1 <= i <= n.
        """
        match = re.fullmatch(r"\s*(\d{1,6})\s*/\s*(\d{1,6})\s*", text)
        if match is None or not 1 <= int(match[1]) <= int(match[2]):
            raise HarnessError(
                f"--shard {text!r} is not i/n with i from 1 to n: give 1/4, 2/4, 3/4 and 4/4 to "
                "four processes"
            )
        return cls(int(match[1]), int(match[2]))

    def __str__(self) -> str:
        return f"{self.index}/{self.count}"

    def share(self, trials: Sequence[_Planned]) -> list[_Planned]:
        """The trials of a plan, in running order, that are this shard's.

        The plan is replicate-major, and a shard gets a stretch of it: the arms of a replicate stay
        on one machine as far as numbers allow, so that no arm is confounded with a machine, and a
        lost shard costs whole replicates. References are dealt out one by one. Sizes differ by one
        each at most. What was run already plays no part: a shard that starts again has its own.
        """
        references = [t for t in trials if t.trial.kind == "reference"]
        others = [t for t in trials if t.trial.kind != "reference"]
        # Nothing is taken over from another shard: a dead one looks like one that waits in a batch
        # queue. The price: a shard whose arms take longer ends later than the rest.
        first = (self.index - 1) * len(others) // self.count
        end = self.index * len(others) // self.count
        return references[self.index - 1 :: self.count] + others[first:end]


def lock_of(workspace: Workspace, study: str, shard: Shard | None) -> Path:
    """Lock file of a run of the study, or of one shard of it."""
    whole = claims.study_lock(workspace, study)
    if shard is None:
        return whole
    return whole.with_name(LOCKS.replace("*", f"{shard.index}-of-{shard.count}"))


def refuse_claimed(workspace: Workspace, study: str, shard: Shard | None) -> None:
    """Refuse what may not run beside what runs: a whole run stands alone, a shard beside others.

    Raises:
        ClaimedError: says who runs.
    """
    own = lock_of(workspace, study, shard)
    if claims.is_claimed(own):
        raise claims.claimed_error(own, study, workspace)
    _refuse_others(workspace, study, shard)


def claim_run(workspace: Workspace, study: str, shard: Shard | None) -> Claim:
    """Claim the run of a study, or of one shard of it.

    Raises:
        ClaimedError: as `refuse_claimed`.
    """
    own = lock_of(workspace, study, shard)
    claim = claims.try_claim(own, what=study)
    if claim is None:
        raise claims.claimed_error(own, study, workspace)
    try:
        _refuse_others(workspace, study, shard)  # after our claim: of two at once, none slips by
    except ClaimedError:
        claim.release()
        raise
    return claim


@contextlib.contextmanager
def concluding(workspace: Workspace, study: str, shard: Shard | None) -> Iterator[None]:
    """One shard at a time answers: the one that ends last reads what all have recorded.

    Where a lock cannot be had, answering goes on; `stillhouse report` answers again.
    """
    if shard is None:
        yield
        return
    lock = FileLock(workspace.study(study) / CONCLUDING, timeout=CONCLUDING_SECONDS)
    with contextlib.suppress(Timeout, OSError):
        lock.acquire()
    try:
        yield
    finally:
        lock.release()


def holders(workspace: Workspace, study: str) -> str:
    """Who runs the study now, shards included; empty if nobody does."""
    locks = [claims.study_lock(workspace, study), *_shard_locks(workspace, study)]
    running = [(lock, claims.holder(lock)) for lock in locks]
    return "; ".join(f"{_named(lock)}{who}" for lock, who in running if who)


def others_live(workspace: Workspace, study: str) -> bool:
    """True while another process runs the study, or a shard of it."""
    locks = [claims.study_lock(workspace, study), *_shard_locks(workspace, study)]
    me = (environment.host(), os.getpid())
    return any(who and (who.host, who.pid) != me for who in map(claims.holder, locks))


def _refuse_others(workspace: Workspace, study: str, shard: Shard | None) -> None:
    whole = claims.study_lock(workspace, study)
    if shard is not None:
        if claims.is_claimed(whole):
            raise claims.claimed_error(whole, study, workspace)
        return
    if any(claims.is_claimed(lock) for lock in _shard_locks(workspace, study)):
        raise ClaimedError(
            f"study {study!r} is being run in shards ({holders(workspace, study)}). Nothing was "
            "changed. Wait for them, or join in with --shard; when all have ended, the same "
            "command runs what a lost shard left."
        )


def _shard_locks(workspace: Workspace, study: str) -> list[Path]:
    return sorted(workspace.study(study).glob(LOCKS))


def _named(lock: Path) -> str:
    index, of, count = lock.stem.removeprefix("shard-").partition("-of-")
    return f"shard {index}/{count} on " if of else ""
