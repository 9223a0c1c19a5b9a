"""A contrast as it is planned: resolved to arms, with what planning says of it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Literal

from pydantic import Field, model_validator

from harness.frozen_model import FrozenModel
from harness.journal.records import PromptSpread
from harness.study.kinds import KINDS, ContrastKind, Traits

if TYPE_CHECKING:
    from harness.study.model import Contrast


class ContrastPart(FrozenModel):
    """One weighted sum of arms that a contrast is made of, in matched cells of equal weight."""

    name: str = Field(
        description="difference, interaction: empty. trend: slope, quadratic, neighbour. more: "
        "first, second. best: level. collapse: arm. sooner: a, b."
    )
    cells: list[dict[str, float]] = Field(
        description="Arm -> weight, one for each matched cell; cell by cell the same in all parts "
        "of a contrast, except for the two of `more`. Least squares: one cell."
    )
    level: str = Field("", description="Label of a part of `best`; both, of neighbours of a trend.")


def difference_of(one: Mapping[str, float], other: Mapping[str, float]) -> dict[str, float]:
    """The cell of one less another, without arms that cancel."""
    found = dict(one)
    for arm, weight in other.items():
        found[arm] = found.get(arm, 0.0) - weight
    return {arm: weight for arm, weight in found.items() if weight}


def differences_of(
    one: Iterable[Mapping[str, float]], other: Iterable[Mapping[str, float]]
) -> list[dict[str, float]]:
    """Cell by cell one side less the other; without cells in which they are the same arms."""
    return [cell for a, b in zip(one, other, strict=True) if (cell := difference_of(a, b))]


def weights_of(pairs: Iterable[tuple[str, str]]) -> dict[str, float]:
    """Weights over arms of the mean of (a - b) over matched pairs, without arms that cancel."""
    listed = list(pairs)
    found: dict[str, float] = {}
    for a, b in listed:
        found[a] = found.get(a, 0.0) + 1.0 / len(listed)
        found[b] = found.get(b, 0.0) - 1.0 / len(listed)
    return {arm: w for arm, w in found.items() if abs(w) > 1e-12}


def mean_of(cells: Sequence[dict[str, float]]) -> dict[str, float]:
    """Weights over arms of the mean over cells, without arms that cancel."""
    found: dict[str, float] = {}
    for cell in cells:
        for arm, weight in cell.items():
            found[arm] = found.get(arm, 0.0) + weight / len(cells)
    most = max((abs(w) for w in found.values()), default=0.0)
    # What is left of arms that cancel is rounding (thirds, sixths).
    return {arm: w for arm, w in found.items() if abs(w) > 1e-12 * most}


class Enough(FrozenModel):
    """Seeds and prompts that are enough for a difference."""

    seeds: int
    prompts: int | None = Field(None, description="None: the claim is on exactly these prompts.")


class PlannedContrast(FrozenModel):
    """A contrast with its sides resolved to arms, matched cell by cell.

    `study.contrasts.match` finds the arms; planning adds why it is exploratory, what it can detect
    and its notes. What `plan --json` prints of a contrast is this.
    """

    id: str
    claim: str
    metric: str
    kind: ContrastKind = "difference"
    about: str = Field("", description="What it asks, in plain words; empty for a difference.")
    expect: Literal["higher", "lower", ""] = ""
    margin: float | None = None
    threshold: float | None = Field(None, description="Of `sooner`: the value that is reached.")
    falls: bool = Field(False, description="Of `sooner`: the value is lost, not reached.")
    pairs: list[tuple[str, str]] = Field(
        default_factory=list, description="Of a difference: matched (arm of a, arm of b)."
    )
    parts: list[ContrastPart] = Field(
        default_factory=list, description="The weighted sums of arms that decide."
    )
    weights: dict[str, float] = Field(
        default_factory=dict,
        description="Arm -> weight, where no cell of a fraction holds both sides: least squares.",
    )
    aliases: list[str] = Field(
        default_factory=list, description="Interactions that a least-squares difference contains."
    )
    fitted: int = Field(0, description="Arms of a least-squares estimate; 0 where cells match.")
    confounded: list[str] = Field(
        default_factory=list, description="What else the sides differ in, by their recipes."
    )
    amended: str = Field(
        "", description="Why it is exploratory: added or changed after the first run."
    )
    unmatched: list[str] = Field(
        default_factory=list,
        description="Arms with levels it names, in cells that lack another arm; dropped.",
    )
    same: list[str] = Field(
        default_factory=list,
        exclude=True,
        description="Arms that are the whole of a cell: what it compares there is one recipe.",
    )
    detectable: float | None = Field(None, description="Smallest difference found with 80 % power.")
    detectable_in: Literal["units", "sd"] = Field(
        "sd",
        description="`units` of the metric (of kind `sooner` cycles) when the history has "
        "replicates, else in SDs of the difference of one matched pair; of kind `collapse` in "
        "`units` the loss, margin included, in `sd` what it exceeds the margin by.",
    )
    family: int = Field(1, description="Contrasts of the first run, among which alpha is shared.")
    spread: float | None = Field(
        None,
        description="Standard deviation of one replicate's difference that is planned with, its "
        "own uncertainty included; units of the metric.",
    )
    spread_replicates: int = Field(0, description="Recorded replicates that say so.")
    prompts: int | None = Field(
        None, description="Prompts that the claim is planned over; None: on exactly these prompts."
    )
    prompt_spread: PromptSpread | None = Field(
        None, description="What the last report found over prompts."
    )
    margin_reached_by: list[Enough] = Field(
        default_factory=list,
        description="Where a difference of the margin may not be found: what would find it.",
    )
    notes: list[str] = Field(
        default_factory=list, description="What is hard to reach, and what would reach it."
    )

    @model_validator(mode="before")
    @classmethod
    def _difference(cls, given: Any) -> Any:
        """The part of a difference is its pairs, or its least squares."""
        if not isinstance(given, dict) or given.get("parts") or given.get("kind") not in _SIDES:
            return given
        cells = [{a: 1.0, b: -1.0} for a, b in given.get("pairs", ())]
        weights = given.get("weights")
        cells = [dict(weights)] if weights else cells
        return {**given, "parts": [ContrastPart(name="", cells=cells)] if cells else []}

    @classmethod
    def of(cls, contrast: Contrast, **arms: Any) -> PlannedContrast:
        """A declared contrast with its arms, before planning has said anything of it.

        Args:
            contrast: as the study file has it.
            arms: fields that say which arms it compares, and what it cannot be told from.
        """
        sooner = contrast.sooner
        return cls(
            id=contrast.id,
            claim=contrast.claim,
            metric=contrast.metric,
            kind=contrast.kind,
            expect=contrast.expect,
            margin=contrast.margin,
            threshold=sooner.threshold if sooner else None,
            falls=sooner.falls if sooner else False,
            **arms,
        )

    @property
    def traits(self) -> Traits:
        """What holds of every contrast of its kind."""
        return KINDS[self.kind]

    @property
    def comparable(self) -> bool:
        """Whether the arms say anything about the contrast."""
        return bool(self.parts)

    def compared(self) -> list[tuple[str, str]]:
        """Pairs of arms that differ in what the contrast is about."""
        if self.kind == "difference" or self.fitted or not self.parts:
            return self.pairs
        arms = [list(cell) for part in self.parts if part.name != "arm" for cell in part.cells]
        if self.parts[0].name in ("level", "a"):  # a cell's arms stand in different parts
            arms = [
                [arm for cell in cells for arm in cell]
                for cells in zip(*(part.cells for part in self.parts), strict=True)
            ]
        return list(dict.fromkeys((cell[0], arm) for cell in arms for arm in cell[1:]))

    def cells(self) -> list[dict[str, float]]:
        """Matched cells of the first part, each arm -> weight."""
        return self.parts[0].cells if self.parts else []

    def arms(self) -> list[str]:
        """Every arm that it compares, each once."""
        return list(dict.fromkeys(a for p in self.parts for cell in p.cells for a in cell))

    def arm_weights(self) -> dict[str, float]:
        """Arm -> weight of the difference, slope or interaction: the mean over its cells.

        Empty for the kinds that are no single weighted sum of arms.
        """
        if self.weights or not self.traits.linear:
            return dict(self.weights)
        return weights_of(self.pairs) if self.kind == "difference" else mean_of(self.cells())


_SIDES = (None, "difference")
