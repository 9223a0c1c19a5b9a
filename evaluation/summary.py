"""From per-item values and features to metrics and intervals.

Pure: it needs what a measurement stores (the items table and the features) and the reference sets,
so a measurement can be summarised again later without any network.

Frechet and kernel distances are computed per prompt category against that category's references,
and averaged over categories: a mean over categories is not the distance of the pooled sets.

Item sets take prompts in turn rather than at random, so two of a student's pictures share a prompt
less often than two of independent draws would. The kernel distance of a perfect student is then a
little below 0 (by about 1/N); the offset is the same for every student of a protocol.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from evaluation.frechet import Gaussian, frechet_distance, gaussian_distance
from evaluation.intervals import Interval, jackknife_interval, macro_mean, mean_interval
from evaluation.jackknife import (
    Jackknife,
    assign_groups,
    delete_group_jackknife,
    usable_groups,
)
from evaluation.kernel import CMMD_SCALE, KernelTerms, gaussian_rbf
from evaluation.manifold import ManifoldTerms, manifold_jackknives
from evaluation.matrices import feature_matrix, unit_rows
from evaluation.protocol import Protocol

if TYPE_CHECKING:
    import pandas as pd

    from evaluation.world import ReferenceSet

Statistic = Callable[[int | None], float]
Features = NDArray[np.float32] | NDArray[np.float64]

MEANS = {
    "t2i/clip": ("t2i", "clip"),
    "oracle/words": ("t2i", "oracle_words"),
    "oracle/letters": ("t2i", "oracle_letters"),
    "oracle/attributes": ("t2i", "oracle_attributes"),
    "more/diversity": ("t2i", "diversity"),
    "more/noise": ("t2i", "noise"),
    "more/saturation": ("t2i", "saturation"),
    "more/clipped": ("t2i", "clipped"),
    "edit/fidelity": ("edit", "fidelity"),
    "edit/following": ("edit", "following"),
    "edit/preservation": ("edit", "preservation"),
    "more/edit_clip": ("edit", "clip"),
    "more/edit_direction": ("edit", "direction"),
    "more/edit_rmse_outside": ("edit", "rmse_outside"),
    "more/edit_rmse_inside": ("edit", "rmse_inside"),
    "more/edit_psnr_outside": ("edit", "psnr_outside"),
    "more/edit_psnr_piebench": ("edit", "psnr_piebench"),
    "more/edit_ssim_outside": ("edit", "ssim_outside"),
    "more/edit_ssim_piebench": ("edit", "ssim_piebench"),
}
"""Metric -> task and column of the items table whose macro mean it is."""


def summarise(
    table: pd.DataFrame,
    features: Mapping[str, Features],
    references: Mapping[str, ReferenceSet],
    protocol: Protocol,
    teacher: Mapping[str, Features] | None = None,
) -> tuple[dict[str, float], list[Interval]]:
    """Metrics and intervals of one measured checkpoint.

    Args:
        table: the items table of `Measured`.
        features: the features of `Measured`, rows in the order of the table's rows of that task.
        references: reference set of each t2i category.
        protocol: what was measured under.
        teacher: samples of the trial's own teacher, category -> features.

    Returns:
        Metrics by name (all finite; a metric without any applicable item is left out), and the
        intervals of those that have one.
    """
    metrics: dict[str, float] = {}
    estimates: list[Interval] = []
    _add_means(metrics, estimates, table, protocol)
    first = features_by_category(table, features, "t2i/features")
    if first:
        embeddings = features_by_category(table, features, "t2i/clip")
        _add_distances(metrics, estimates, first, embeddings, references, protocol)
        if teacher is not None:
            _add_teacher(metrics, estimates, first, teacher, protocol)
    edited, truth = features.get("edit/features"), features.get("edit/truth_features")
    if edited is not None and truth is not None and len(edited) > 1:
        _add_edit_distance(metrics, estimates, edited, truth, protocol)
    return metrics, estimates


def features_by_category(
    table: pd.DataFrame, features: Mapping[str, Features], name: str
) -> dict[str, Features]:
    """Features of the first draw of each t2i item, by category: equal numbers for every student."""
    if name not in features:
        return {}
    rows = table[table["task"] == name.split("/")[0]].reset_index(drop=True)
    assert len(rows) == len(features[name]), "one row of features per row of the table"
    first = rows[rows["draw"] == 0]
    return {
        str(category): features[name][group.index.to_numpy()]
        for category, group in first.groupby("category", sort=False)
    }


def frechet_statistic(
    features: Mapping[str, Features], references: Mapping[str, Gaussian], n_groups: int
) -> Statistic:
    """Mean over categories of the Frechet distance, as a statistic that can leave out a group."""
    parts = []
    for category, x_ND in features.items():
        x = feature_matrix(x_ND, category)
        parts.append((x, assign_groups(len(x), n_groups), references[category]))

    def statistic(group: int | None) -> float:
        distances = [
            gaussian_distance(
                Gaussian.from_features(x if group is None else x[label != group]), reference
            )
            for x, label, reference in parts
        ]
        return float(np.mean(distances))

    return statistic


def kernel_statistic(terms: Sequence[KernelTerms], scale: float = 1.0) -> Statistic:
    """Mean over categories of the kernel distance, as a statistic that can leave out a group."""
    return lambda group: scale * float(np.mean([term.distance(group) for term in terms]))


def difference_jackknife(a: Statistic, b: Statistic, n_groups: int) -> Jackknife:
    """Jackknife of a - b, leaving the same items out of both checkpoints.

    Common items and common noise make this far narrower than the two intervals apart; most of the
    Frechet bias cancels too.
    """
    return delete_group_jackknife(lambda group: a(group) - b(group), n_groups)


def _add_means(
    metrics: dict[str, float],
    estimates: list[Interval],
    table: pd.DataFrame,
    protocol: Protocol,
) -> None:
    settings = protocol.intervals
    for name, (task, column) in MEANS.items():
        if column not in table.columns:
            continue
        values = _item_values(table[table["task"] == task], column)
        interval = mean_interval(name, values, level=settings.level, resamples=settings.resamples)
        if interval is None:
            continue
        estimates.append(interval)
        metrics[name] = float(interval["value"])
        if column in ("fidelity", "following", "preservation") or name == "t2i/clip":
            for category, of_category in values.items():
                mean = macro_mean({category: of_category})
                if mean is not None:
                    metrics[f"more/{column}_{category}"] = mean


def _item_values(rows: pd.DataFrame, column: str) -> dict[str, NDArray[np.float64]]:
    """One value per item, its draws averaged, by category."""
    per_item = rows.groupby(["category", "item_id"], sort=False)[column].mean()
    return {
        str(category): group.to_numpy(dtype=np.float64)
        for category, group in per_item.groupby(level="category", sort=False)
    }


def _add_distances(
    metrics: dict[str, float],
    estimates: list[Interval],
    features: Mapping[str, Features],
    embeddings: Mapping[str, Features],
    references: Mapping[str, ReferenceSet],
    protocol: Protocol,
) -> None:
    level = protocol.intervals.level
    n_items = sum(map(len, features.values()))
    n_groups = usable_groups(min(map(len, features.values())), protocol.intervals.groups)

    gaussians = {category: references[category].gaussian for category in features}
    fid = delete_group_jackknife(frechet_statistic(features, gaussians, n_groups), n_groups)
    metrics["t2i/fid"], metrics["more/fid_corrected"] = fid.value, fid.corrected
    estimates.append(jackknife_interval("t2i/fid", fid, n_items, level=level))
    estimates.append(
        jackknife_interval("more/fid_corrected", fid, n_items, level=level, corrected=True)
    )

    kernel_terms, clip_terms, manifold_terms = [], [], []
    for category, x_ND in features.items():
        known = references[category]
        terms = KernelTerms.build(
            x_ND, known.features_MD, n_groups, reference_mean=known.kernel_mean
        )
        kernel_terms.append(terms)
        clip_terms.append(
            KernelTerms.build(
                unit_rows(feature_matrix(embeddings[category], "embeddings")),
                known.clip_MD,
                n_groups,
                gaussian_rbf,
                known.clip_kernel_mean,
            )
        )
        metrics[f"more/kd_{category}"] = terms.distance()
        metrics[f"more/fid_{category}"] = gaussian_distance(
            Gaussian.from_features(x_ND), known.gaussian
        )
        k, max_blocks = protocol.manifold.k, protocol.manifold.max_blocks
        # The jackknife leaves out a group, and every fake left still needs k neighbours.
        if k < min(len(x_ND) - -(-len(x_ND) // n_groups), len(known.features_MD)):
            manifold_terms.append(
                ManifoldTerms.build(known.features_MD, x_ND, k, max_blocks, n_groups)
            )
    for name, scale, terms_by_category in (
        ("t2i/kd", 1.0, kernel_terms),
        ("more/cmmd", CMMD_SCALE, clip_terms),
    ):
        distance = delete_group_jackknife(kernel_statistic(terms_by_category, scale), n_groups)
        metrics[name] = distance.value
        estimates.append(jackknife_interval(name, distance, n_items, level=level))
    if manifold_terms:
        for name, share in manifold_jackknives(manifold_terms, n_groups).items():
            metrics[f"more/{name}"] = share.value
            estimates.append(jackknife_interval(f"more/{name}", share, n_items, level=level))


def _add_edit_distance(
    metrics: dict[str, float],
    estimates: list[Interval],
    edited_ND: Features,
    truth_ND: Features,
    protocol: Protocol,
) -> None:
    """Edited pictures to true results; an item leaves both sets, as both are made from it."""
    name = "more/fid_edit"
    if len(edited_ND) < 4:  # too few for two groups of two
        metrics[name] = frechet_distance(edited_ND, truth_ND)
        return
    n_groups = usable_groups(len(edited_ND), protocol.intervals.groups)
    label_N = assign_groups(len(edited_ND), n_groups)

    def distance(group: int | None) -> float:
        kept = slice(None) if group is None else label_N != group
        return frechet_distance(edited_ND[kept], truth_ND[kept])

    found = delete_group_jackknife(distance, n_groups)
    metrics[name] = found.value
    interval = jackknife_interval(name, found, len(edited_ND), level=protocol.intervals.level)
    method = str(interval["method"]).replace("reference fixed", "items leave both sets")
    estimates.append({**interval, "method": method})


def _add_teacher(
    metrics: dict[str, float],
    estimates: list[Interval],
    features: Mapping[str, Features],
    teacher: Mapping[str, Features],
    protocol: Protocol,
) -> None:
    missing = sorted(set(features) - set(teacher))
    if missing:
        raise ValueError(f"the teacher's samples lack the categories {', '.join(missing)}")
    level = protocol.intervals.level
    n_items = sum(map(len, features.values()))
    n_groups = usable_groups(min(map(len, features.values())), protocol.intervals.groups)
    gaussians = {category: Gaussian.from_features(teacher[category]) for category in features}
    terms = [KernelTerms.build(x, teacher[c], n_groups) for c, x in features.items()]
    for name, statistic in (
        ("t2i/fid_teacher", frechet_statistic(features, gaussians, n_groups)),
        ("more/kd_teacher", kernel_statistic(terms)),
    ):
        distance = delete_group_jackknife(statistic, n_groups)
        metrics[name] = distance.value
        estimates.append(jackknife_interval(name, distance, n_items, level=level))
