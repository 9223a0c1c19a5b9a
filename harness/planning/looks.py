"""A study that runs until it is decided: what that plans, and what looks have ended.

The looks and their levels are frozen in the journal at the first run, so they are part of what was
planned before any number was seen; another maximum later is another study. What a look ended is not
planned further: its trials are no part of the plan, so nobody counts them as missing or failed.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from harness.errors import HarnessError
from harness.journal.records import Look
from harness.planning.plan import FIRST_LOOK, Adaptive, day

if TYPE_CHECKING:
    from harness.journal.history import History
    from harness.journal.records import Frozen
    from harness.study.model import Study


def looks_of(history: History, study: str) -> list[Look]:
    """The looks that are on record, the first taken of each number of replicates."""
    found: dict[int, Look] = {}
    for record in history.planned.get(study, []):
        for look in record.looks:
            known = found.get(look.replicates)
            # Of two shards that looked at once, the first look is the one that counted.
            if known is None or look.at < known.at:
                found[look.replicates] = look
    return [found[n] for n in sorted(found)]


def adaptive_of(
    study: Study,
    history: History,
    frozen: Frozen | None,
    *,
    until_decided: bool,
    at_most: int | None,
) -> Adaptive | None:
    """How the study runs until decided; None if it has a fixed number of replicates.

    Args:
        study: as its file says it.
        history: what is recorded.
        frozen: what its first run froze.
        until_decided: whether it is asked for now; a study that began so goes on so.
        at_most: replicates at most, if given; default the study's, or those frozen.

    Raises:
        HarnessError: if that is not what the first run froze, or no look could decide anything.
    """
    if frozen is not None and frozen.spending is not None:
        known = frozen.spending
        if at_most not in (None, known.at_most):
            raise HarnessError(
                f"study {study.name!r} runs until decided with at most {known.at_most} replicates: "
                f"its looks were frozen at its first run ({day(frozen.at)}), and levels chosen "
                f"after seeing results would not hold. Leave out --at-most {at_most}, or begin "
                "another study under another name."
            )
        looks = looks_of(history, study.name)
        return Adaptive(at_most=known.at_most, first=known.first, spending=known, looks=looks)
    if not until_decided:
        if at_most is not None:
            raise HarnessError(
                f"--at-most {at_most} says how far --until-decided may go: give both, or "
                "`replicates:` in the study file"
            )
        return None
    if frozen is not None:
        raise HarnessError(
            f"study {study.name!r} was first run on {day(frozen.at)} with a fixed number of "
            "replicates, and its planned verdicts are about these. Whether to go on cannot be made "
            "to depend on results already seen: begin another study under another name, with "
            "--until-decided from its first run on, or run this one without it."
        )
    wanted = at_most if at_most is not None else study.replicates
    if wanted < FIRST_LOOK:
        said = f"--at-most {wanted}" if at_most is not None else f"replicates: {wanted}"
        raise HarnessError(
            f"{said}: the first look is after replicate {FIRST_LOOK}, so --until-decided needs "
            f"{FIRST_LOOK} replicates at least, better 8 to 12. Give --at-most."
        )
    if wanted > 1000:
        raise HarnessError(f"--at-most {wanted}: at most 1000 replicates can be planned")
    if not study.contrasts:
        raise HarnessError(
            f"study {study.name!r} declares no contrasts, so nothing can be decided: add some to "
            f"{study.file}, or run it without --until-decided"
        )
    return Adaptive(at_most=wanted)


def with_most_replicates(study: Study, adaptive: Adaptive | None) -> Study:
    """The study with all the replicates that it may come to."""
    if adaptive is None or adaptive.at_most == study.replicates:
        return study
    return study.model_copy(update={"replicates": adaptive.at_most})


def looks_in_words(adaptive: Adaptive) -> list[str]:
    """The looks in words: when they are, what they ended, what is open."""
    most = f"at most {adaptive.at_most} replicates"
    if not adaptive.looks:
        return [
            f"after replicate {adaptive.first}, then after each, {most}; who is decided or given "
            "up is not planned further"
        ]
    ended = [f"{c} {adaptive.how(c)} (after {n})" for c, (n, _) in adaptive.ended().items()]
    open_ = [c for c, said in adaptive.looks[-1].outcomes.items() if said.state == "open"]
    still = f"{'undecided' if adaptive.over else 'open'}: {', '.join(open_)}"
    last = f"the last one after {adaptive.looked} of {most}"
    return [last, "; ".join([*ended, *([still] if open_ else [])])]
