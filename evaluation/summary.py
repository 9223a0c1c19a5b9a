"""From per-item values and features to metrics and intervals.

Pure: it needs what a measurement stores (the items table and the features) and the reference sets,
so a measurement can be summarised again later without any network.

Intervals are over prompts: items of one prompt are one draw (`evaluation.clusters`).

Frechet and kernel distances are computed per prompt category against that category's references,
and averaged over categories: a mean over categories is not the distance of the pooled sets.

Item sets take prompts in turn rather than at random, so two of a student's pictures share a prompt
less often than two of independent draws would. The kernel distance of a perfect student is then a
little below 0 (by about 1/N); the offset is the same for every student of a protocol.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, cast

import numpy as np
from numpy.typing import NDArray

from evaluation.clusters import prompts_of_rows
from evaluation.frechet import Gaussian, gaussian_distance
from evaluation.intervals import Interval, jackknife_interval, macro_mean, mean_interval
from evaluation.jackknife import (
    PromptJackknife,
    assign_groups,
    delete_group_jackknife,
    prompt_jackknife,
    usable_groups,
)
from evaluation.kernel import CMMD_SCALE, KernelTerms, gaussian_rbf
from evaluation.manifold import ManifoldTerms, manifold_jackknives
from evaluation.matrices import feature_matrix, unit_rows
from evaluation.prompts_left_out import LeftOut
from evaluation.protocol import Protocol

if TYPE_CHECKING:
    import pandas as pd

    from evaluation.world import ReferenceSet

Features = NDArray[np.float32] | NDArray[np.float64]

CORRECTED_FROM = 2
"""Samples a feature from which a Frechet distance is told without its bias."""

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
    prompts = prompts_of_rows(table, protocol.load_items())
    _add_means(metrics, estimates, table, prompts, protocol)
    first = features_by_category(table, features, "t2i/features")
    if first:
        rows = table[(table["task"] == "t2i") & (table["draw"] == 0)]
        of = {str(c): list(prompts[g.index]) for c, g in rows.groupby("category", sort=False)}
        embeddings = features_by_category(table, features, "t2i/clip")
        _add_distances(metrics, estimates, first, embeddings, of, references, protocol)
        if teacher is not None:
            _add_teacher(metrics, estimates, first, teacher, of, protocol)
    edited, truth = features.get("edit/features"), features.get("edit/truth_features")
    if edited is not None and truth is not None and len(edited) > 1:
        cases = list(prompts[table["task"] == "edit"])
        _add_edit_distance(metrics, estimates, edited, truth, cases, protocol)
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


def corrected_frechet(
    features: Mapping[str, Features], references: Mapping[str, Gaussian], most_groups: int
) -> float | None:
    """Mean over categories of the Frechet distance without its bias in 1/N; None below 2 D samples.

    By a jackknife over groups of samples, group g of every category being left out at once. With
    fewer than twice as many samples as features it over-corrects: 95 % intervals around it covered
    .50 to .85 of the distance without bias at 20 samples of 64 features, .69 at 48.
    """
    fewest = min(map(len, features.values()))
    if any(fewest < CORRECTED_FROM * x_ND.shape[1] for x_ND in features.values()):
        return None
    n_groups = usable_groups(fewest, most_groups)
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

    return delete_group_jackknife(statistic, n_groups).corrected


def _add_means(
    metrics: dict[str, float],
    estimates: list[Interval],
    table: pd.DataFrame,
    prompts: pd.Series[str],
    protocol: Protocol,
) -> None:
    for name, (task, column) in MEANS.items():
        if column not in table.columns:
            continue
        rows = table[table["task"] == task]
        values, of_items = _item_values(rows, column, prompts)
        answers = bool(rows[column].dropna().isin((0, 1)).all())
        interval = mean_interval(
            name, values, of_items, level=protocol.intervals.level, share=answers
        )
        if interval is None:
            continue
        estimates.append(interval)
        metrics[name] = float(cast(float, interval["value"]))
        if column in ("fidelity", "following", "preservation") or name == "t2i/clip":
            for category, of_category in values.items():
                mean = macro_mean({category: of_category})
                if mean is not None:
                    metrics[f"more/{column}_{category}"] = mean


def _item_values(
    rows: pd.DataFrame, column: str, prompts: pd.Series[str]
) -> tuple[dict[str, NDArray[np.float64]], dict[str, list[str]]]:
    """One value per item, its draws averaged, and each item's prompt, by category."""
    of_item = rows.groupby(["category", "item_id"], sort=False)
    per_item, prompt = (
        of_item[column].mean(),
        prompts[rows.index].groupby([rows["category"], rows["item_id"]], sort=False).first(),
    )
    values, named = {}, {}
    for category, group in per_item.groupby(level="category", sort=False):
        values[str(category)] = group.to_numpy(dtype=np.float64)
        named[str(category)] = list(prompt[group.index])
    return values, named


def _add_distances(
    metrics: dict[str, float],
    estimates: list[Interval],
    features: Mapping[str, Features],
    embeddings: Mapping[str, Features],
    prompts: Mapping[str, list[str]],
    references: Mapping[str, ReferenceSet],
    protocol: Protocol,
) -> None:
    level = protocol.intervals.level
    n_items = sum(map(len, features.values()))
    n_groups = usable_groups(min(map(len, features.values())), protocol.intervals.groups)

    fid, kd, cmmd, manifold_terms, manifold_prompts = [], [], [], [], []
    for category, x_ND in features.items():
        known = references[category]
        left = LeftOut.of(prompts[category], protocol.intervals.groups)
        fid.append(left.frechet(feature_matrix(x_ND, category), known.gaussian))
        terms = KernelTerms.build(
            x_ND, known.features_MD, left.label_N, reference_mean=known.kernel_mean
        )
        kd.append(left.stratum(terms.distance))
        clip_terms = KernelTerms.build(
            unit_rows(feature_matrix(embeddings[category], "embeddings")),
            known.clip_MD,
            left.label_N,
            gaussian_rbf,
            known.clip_kernel_mean,
        )
        cmmd.append(left.stratum(clip_terms.distance))
        metrics[f"more/kd_{category}"] = terms.distance()
        metrics[f"more/fid_{category}"] = fid[-1].distance(None)
        k, max_blocks = protocol.manifold.k, protocol.manifold.max_blocks
        # As many samples as leave k neighbours when a group of items is left out.
        if k < min(len(x_ND) - -(-len(x_ND) // n_groups), len(known.features_MD)):
            manifold_prompts.append(left.prompts)
            manifold_terms.append(
                ManifoldTerms.build(known.features_MD, x_ND, k, max_blocks, left.label_N)
            )
    found = {
        "t2i/fid": prompt_jackknife(fid),
        "t2i/kd": prompt_jackknife(kd),
        "more/cmmd": prompt_jackknife(cmmd, CMMD_SCALE),
    }
    if manifold_terms:
        shares = manifold_jackknives(manifold_terms, manifold_prompts)
        found |= {f"more/{name}": share for name, share in shares.items()}
    _add_jackknives(metrics, estimates, found, n_items, level)
    gaussians = {category: references[category].gaussian for category in features}
    corrected = corrected_frechet(features, gaussians, protocol.intervals.groups)
    if corrected is not None:
        name = "more/fid_corrected"
        metrics[name] = corrected
        widest = max(x_ND.shape[1] for x_ND in features.values())
        jackknife = found["t2i/fid"]
        if min(len(set(prompts[category])) for category in features) < CORRECTED_FROM * widest:
            # Of few prompts the correction is as wrong as it is of few items.
            why = f"a category has fewer than {CORRECTED_FROM} prompts a feature"
            jackknife = replace(jackknife, why=why)
        estimates.append(jackknife_interval(name, jackknife, n_items, level=level, value=corrected))


def _add_jackknives(
    metrics: dict[str, float],
    estimates: list[Interval],
    found: Mapping[str, PromptJackknife],
    n_items: int,
    level: float,
) -> None:
    for name, jackknife in found.items():
        metrics[name] = jackknife.value
        estimates.append(jackknife_interval(name, jackknife, n_items, level=level))


def _add_edit_distance(
    metrics: dict[str, float],
    estimates: list[Interval],
    edited_ND: Features,
    truth_ND: Features,
    prompts: list[str],
    protocol: Protocol,
) -> None:
    """Edited pictures to true results; a case leaves both sets, as both are made from it."""
    left = LeftOut.of(prompts, protocol.intervals.groups)
    edited, truth = feature_matrix(edited_ND, "edits"), feature_matrix(truth_ND, "true results")
    found = {"more/fid_edit": prompt_jackknife([left.frechet_between(edited, truth)])}
    _add_jackknives(metrics, estimates, found, len(edited_ND), protocol.intervals.level)


def _add_teacher(
    metrics: dict[str, float],
    estimates: list[Interval],
    features: Mapping[str, Features],
    teacher: Mapping[str, Features],
    prompts: Mapping[str, list[str]],
    protocol: Protocol,
) -> None:
    """To samples of the same prompts: a prompt leaves both sets, where the rows say which it is."""
    missing = sorted(set(features) - set(teacher))
    if missing:
        raise ValueError(f"the teacher's samples lack the categories {', '.join(missing)}")
    n_items = sum(map(len, features.values()))
    fid, kd = [], []
    for category, x_ND in features.items():
        left = LeftOut.of(prompts[category], protocol.intervals.groups)
        x, y = feature_matrix(x_ND, category), feature_matrix(teacher[category], "teacher")
        fid.append(left.frechet_between(x, y))
        kd.append(left.kernel_between(x, y))
    found = {"t2i/fid_teacher": prompt_jackknife(fid), "more/kd_teacher": prompt_jackknife(kd)}
    _add_jackknives(metrics, estimates, found, n_items, protocol.intervals.level)
