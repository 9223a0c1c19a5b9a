"""What each metric is: unit, direction, range, and what it may be compared across.

Imports no torch, scipy or pandas, so that a plan can list metrics before anything runs.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from math import inf

from evaluation.protocol import Protocol


@dataclass(frozen=True)
class MetricInfo:
    """One metric.

    Attributes:
        unit: what the number counts; empty for a pure number.
        higher_is_better: the direction of good; None where neither is better.
        lo: smallest possible value.
        hi: largest possible value.
        headline: shown first; the rest is under `more/` or beside it.
        description: one sentence.
        follows: the oracle metric that a learned one should rank arms like; see `FOLLOWS`.
    """

    unit: str
    higher_is_better: bool | None
    lo: float
    hi: float
    headline: bool
    description: str
    follows: str | None = None


_DISTANCE = ""
_FIXED: dict[str, MetricInfo] = {
    "t2i/fid": MetricInfo(
        _DISTANCE, False, 0, inf, True, "Frechet distance to data, mean over categories, at this N."
    ),
    "t2i/kd": MetricInfo(
        _DISTANCE, False, -inf, inf, True, "Unbiased kernel distance to data, mean over categories."
    ),
    "t2i/clip": MetricInfo("cosine", True, -1, 1, True, "CLIP cosine of picture and prompt."),
    "t2i/fid_teacher": MetricInfo(
        _DISTANCE,
        False,
        0,
        inf,
        True,
        "Frechet distance to the samples of the trial's own teacher, mean over categories.",
    ),
    "edit/fidelity": MetricInfo(
        "", True, 0, 1, True, "sqrt(following x preservation) per edit, mean over edit types."
    ),
    "edit/following": MetricInfo(
        "", True, 0, 1, True, "Was the instruction carried out, read by the oracle."
    ),
    "edit/preservation": MetricInfo(
        "", True, 0, 1, True, "Was the rest kept: 1 - rmse / scale outside the edit mask."
    ),
    "oracle/words": MetricInfo("share", True, 0, 1, True, "Words spelt exactly."),
    "oracle/letters": MetricInfo("share", True, 0, 1, True, "Letters right in their place."),
    "oracle/attributes": MetricInfo("share", True, 0, 1, True, "Attributes of the prompt right."),
    "more/fid_corrected": MetricInfo(
        _DISTANCE,
        False,
        -inf,
        inf,
        False,
        "t2i/fid without its 1/N bias; none below 2 items a feature in each category.",
    ),
    "more/kd_teacher": MetricInfo(
        _DISTANCE,
        False,
        -inf,
        inf,
        False,
        "Unbiased kernel distance to the samples of the trial's own teacher.",
    ),
    "more/cmmd": MetricInfo(
        "1000 x squared distance", False, -inf, inf, False, "CMMD-U: U-statistic, CLIP embeddings."
    ),
    "more/precision": MetricInfo("share", True, 0, 1, False, "Samples inside the data manifold."),
    "more/recall": MetricInfo("share", True, 0, 1, False, "Data inside the sample manifold."),
    "more/density": MetricInfo("", True, 0, inf, False, "Data balls around a sample, over k."),
    "more/coverage": MetricInfo("share", True, 0, 1, False, "Data balls that hold a sample."),
    "more/diversity": MetricInfo(
        "feature distance", True, 0, inf, False, "Mean distance between draws of one prompt."
    ),
    "more/noise": MetricInfo(
        "pixel value in [0, 1]", False, 0, inf, False, "Residual noise on the plainest quarter."
    ),
    "more/saturation": MetricInfo(
        "share", None, 0, 1, False, "Mean HSV saturation; compare with the row of rendered data."
    ),
    "more/clipped": MetricInfo(
        "share", None, 0, 1, False, "Channel values at either end of the 8-bit range."
    ),
    "more/fid_edit": MetricInfo(
        _DISTANCE, False, 0, inf, False, "Frechet distance of edited pictures to the true results."
    ),
    "more/edit_clip": MetricInfo(
        "cosine",
        True,
        -1,
        1,
        False,
        "CLIP cosine of edited picture and target caption.",
    ),
    "more/edit_direction": MetricInfo(
        "cosine", True, -1, 1, False, "CLIP direction similarity; 0 where the picture did not move."
    ),
    "more/edit_rmse_outside": MetricInfo(
        "pixel value in [0, 1]", False, 0, 1, False, "Error to the source outside the edit mask."
    ),
    "more/edit_rmse_inside": MetricInfo(
        "pixel value in [0, 1]", False, 0, 1, False, "Error to the truth inside the edit mask."
    ),
    # 58.93 dB, rounded up, is what the rounding of 8-bit pictures allows: `edit.QUANTISATION_MSE`.
    "more/edit_psnr_outside": MetricInfo(
        "dB", True, 0, 58.93, False, "PSNR outside the edit mask, divided by its area."
    ),
    "more/edit_psnr_piebench": MetricInfo(
        "dB", True, 0, 58.93, False, "PSNR by PIE-Bench's rule, inflated by the masked share."
    ),
    "more/edit_ssim_outside": MetricInfo(
        "",
        True,
        -1,
        1,
        False,
        "SSIM of windows that lie outside the edit mask whole; where none fits, none.",
    ),
    "more/edit_ssim_piebench": MetricInfo(
        "", True, -1, 1, False, "SSIM by PIE-Bench's rule: what is masked out counts as kept."
    ),
}

_SHOWN, _DONE = "oracle/attributes", "edit/following"
FOLLOWS = {
    "t2i/fid": _SHOWN,
    "t2i/kd": _SHOWN,
    "t2i/clip": _SHOWN,
    "more/fid_corrected": _SHOWN,
    "more/cmmd": _SHOWN,
    "more/precision": _SHOWN,
    "more/density": _SHOWN,
    "more/coverage": _SHOWN,
    "more/fid_edit": _DONE,
    "more/edit_clip": _DONE,
    "more/edit_direction": _DONE,
}
"""Metrics read by a learned network that is not the oracle -> what the oracle reads of the same.

Not here: recall and diversity, which ask for variety that no reading of single pictures shows, and
distances to a trial's own teacher, which another guidance moves.
"""


def catalogue(protocol: Protocol) -> dict[str, MetricInfo]:
    """Name -> what it is, for every metric that measuring under the protocol may return."""
    metrics = {n: replace(info, follows=FOLLOWS.get(n)) for n, info in _FIXED.items()}
    for category in protocol.items.t2i:
        metrics[f"more/fid_{category}"] = _narrowed("t2i/fid", f"on {category} only")
        metrics[f"more/kd_{category}"] = _narrowed("t2i/kd", f"on {category} only")
        metrics[f"more/clip_{category}"] = _narrowed("t2i/clip", f"on {category} only")
    for edit_type in protocol.items.edit:
        for column in ("fidelity", "following", "preservation"):
            name = f"more/{column}_{edit_type}"
            metrics[name] = _narrowed(f"edit/{column}", f"on {edit_type} edits only")
    return metrics


def _narrowed(name: str, scope: str) -> MetricInfo:
    return replace(_FIXED[name], headline=False, description=f"{name} {scope}.")
