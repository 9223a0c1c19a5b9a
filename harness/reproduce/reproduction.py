"""What a reproduction found: decision, numbers, verdicts, price; as text and as JSON."""

from __future__ import annotations

import json

from pydantic import Field

from harness.frozen_model import FrozenModel
from harness.reproduce.judging import EXIT_CODES, Compared, Decision, side_by_side


class Reproduction(FrozenModel):
    """What a reproduction found."""

    key: str = Field(description="Trial key; of a claim, that of its first trial.")
    short: str = ""
    study: str = ""
    contrast: str = Field("", description="Id of the contrast, where a claim was reproduced.")
    level: str = Field("", description="How deep it went: record, tables, measure or train.")
    fresh_seeds: int = Field(0, description="New replicates of each arm.")
    decision: Decision
    reason: str = ""
    differences: list[str] = Field(
        default_factory=list, description="What differs from what the trial ran with."
    )
    ladder: list[str] = Field(default_factory=list, description="Price of each depth, as printed.")
    values: list[Compared] = Field(default_factory=list)
    verdicts: str = Field(
        "", description="What the study's verdicts are with the new numbers in place of the old."
    )
    verdict_changed: bool | None = Field(None, description="None where it was not worked out.")
    parts: list[Reproduction] = Field(
        default_factory=list, description="The trials of a claim, or the new replicates of a trial."
    )
    folder: str = ""
    seconds: float = 0.0

    @property
    def exit_code(self) -> int:
        """0 reproduced, 1 not reproduced, 3 not judged."""
        return EXIT_CODES[self.decision]


def lines(found: Reproduction) -> list[str]:
    """The finding as text: numbers side by side, verdicts, then the decision."""
    out = []
    for part in found.parts:
        out.append(f"{part.short}  {part.decision}: {part.reason}")
    out += side_by_side(found.values)
    if found.folder:
        out.append(f"folder     {found.folder}")
    if found.verdicts:
        out.append(f"verdicts   {found.verdicts}")
    out.append(f"{found.decision}: {found.reason}")
    return out


def to_json(found: Reproduction) -> str:
    """The finding as one JSON object, exit code included."""
    return json.dumps({**found.model_dump(mode="json"), "exit_code": found.exit_code})
