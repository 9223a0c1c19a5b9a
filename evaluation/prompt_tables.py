"""A measurement by prompt: means as a row an item, distances as pseudo-values a prompt.

Claims over prompts need to know what each prompt did. A metric that is a mean of items is told item
by item. A distance between sets is told by the jackknife's pseudo-values, P D - (P - 1) D_(-p) for
each prompt p of the P in a category, D the category's distance (the metric is the mean over
categories). A reference set that is made of the same prompts, as a teacher's samples, loses the
prompt as well; any other stays as it is.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from evaluation.frechet import Gaussian, gaussian_distance
from evaluation.items import Item
from evaluation.kernel import CMMD_SCALE, Kernel, gaussian_rbf, mean_within, polynomial
from evaluation.matrices import Matrix, feature_matrix, unit_rows
from evaluation.summary import MEANS, Features

if TYPE_CHECKING:
    import pandas as pd

    from evaluation.protocol import Protocol
    from evaluation.world import ReferenceSet, World

Labels = NDArray[np.int64]

MOST_PROMPTS = 200
"""Of a category: with more of them, Frechet distances leave them out in groups."""
WIDEST = 512
"""Features: with more of them, too."""
GROUPS = 24


@dataclass(frozen=True)
class Compared:
    """Features of one category, and what they are compared with.

    Attributes:
        x_ND: of the student.
        prompts_N: prompt of each row.
        y_MD: of the reference.
        prompts_M: prompt of each row of the reference, where it is made of the same prompts.
    """

    x_ND: Matrix
    prompts_N: Sequence[str]
    y_MD: Matrix
    prompts_M: Sequence[str] | None = None


def prompt_name(item: Item) -> str:
    """What an item was made from, as a short name: items of one prompt have the same.

    Of a t2i item that is its caption; of an edit its instruction and the captions of its source and
    its target.
    """
    if item.task == "t2i":
        return caption_name(item.prompt)
    return _name("edit", item.prompt, item.source_caption or "", item.target_caption or "")


def caption_name(caption: str) -> str:
    """`prompt_name` of the t2i items with a caption."""
    return _name("t2i", caption)


def _name(*said: str) -> str:
    return f"p{hashlib.sha256(chr(0).join(said).encode()).hexdigest()[:11]}"


def tables_of(
    table: pd.DataFrame,
    features: Mapping[str, Features],
    protocol: Protocol,
    world: World,
    teacher: Mapping[str, Features] | None = None,
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Both tables of a measurement: of items and of pseudo-values; see there."""
    count = protocol.references.per_category
    references, captions = {}, {}
    for category in protocol.items.t2i:
        references[category] = world.reference(category, count)
        if world.reference_captions is not None:
            known = world.reference_captions(category, count)
            captions[category] = [caption_name(caption) for caption in known]
    pseudo_values = pseudo_value_table(table, features, world.items, references, teacher, captions)
    return item_table(table, world.items), pseudo_values


def item_table(table: pd.DataFrame, items: Iterable[Item]) -> pd.DataFrame:
    """A row an item: item, prompt, stratum, and a column for each metric that is a mean of items.

    Args:
        table: the items table of `Measured`.
        items: the item set.
    """
    prompts = {item.item_id: prompt_name(item) for item in items}
    columns = list(dict.fromkeys(c for _, c in MEANS.values() if c in table.columns))
    rows = table.groupby(["task", "category", "item_id"], sort=False)[columns].mean().reset_index()
    made = rows[["item_id", "category"]].rename(columns={"item_id": "item", "category": "stratum"})
    made.insert(1, "prompt", made["item"].map(prompts))
    for metric, (task, column) in MEANS.items():
        if column in columns:
            values = rows[column].astype("float64").where(rows["task"] == task)
            if values.notna().any():
                made[metric] = values
    return made


def pseudo_value_table(
    table: pd.DataFrame,
    features: Mapping[str, Features],
    items: Iterable[Item],
    references: Mapping[str, ReferenceSet],
    teacher: Mapping[str, Features] | None = None,
    reference_prompts: Mapping[str, Sequence[str]] | None = None,
) -> pd.DataFrame:
    """A row a prompt: prompt, stratum, n_prompts, and a column for each distance.

    Args:
        table: the items table of `Measured`.
        features: the features of `Measured`.
        items: the item set.
        references: reference set of each t2i category.
        teacher: samples of the trial's own teacher, category -> features: its items in their
            order, once for each of the teacher's draws.
        reference_prompts: category -> prompt of each reference row, where the references are made
            of the item set's prompts.
    """
    import pandas as pd

    listed = list(items)
    named = {item.item_id: prompt_name(item) for item in listed}
    of_category: dict[str, list[str]] = {}
    for item in listed:
        if item.task == "t2i":
            of_category.setdefault(item.category, []).append(prompt_name(item))
    known = reference_prompts or {}
    found: dict[tuple[str, str], dict[str, float]] = {}

    def add(
        metric: str, category: str, values: Mapping[str, float], sizes: Mapping[str, int]
    ) -> None:
        for prompt, value in values.items():
            row = found.setdefault((category, prompt), {"n_prompts": sizes.get(prompt, 1)})
            row[metric] = value

    first = table[table["task"] == "t2i"].reset_index(drop=True)
    first = first[first["draw"] == 0]
    for category, rows in first.groupby("category", sort=False):
        name, at = str(category), rows.index.to_numpy()
        prompts = [named[item] for item in rows["item_id"]]
        if len(set(prompts)) < 2 or len(prompts) - max(map(prompts.count, set(prompts))) < 2:
            continue
        reference = references[name]
        x = feature_matrix(features["t2i/features"][at], name)
        data = Compared(x, prompts, reference.features_MD, known.get(name))
        add("t2i/fid", name, *frechet_pseudo_values(data, reference.gaussian))
        add("t2i/kd", name, kernel_pseudo_values(data, polynomial, reference.kernel_mean), {})
        clip = unit_rows(feature_matrix(features["t2i/clip"][at], name))
        shown = Compared(clip, prompts, reference.clip_MD, known.get(name))
        values = kernel_pseudo_values(shown, gaussian_rbf, reference.clip_kernel_mean)
        add("more/cmmd", name, {p: CMMD_SCALE * v for p, v in values.items()}, {})
        if teacher is not None:
            y, each = feature_matrix(teacher[name], "teacher"), of_category[name]
            # rows are draw by draw, each all items of the category in their order
            made_of = each * (len(y) // len(each)) if len(y) % len(each) == 0 else None
            own = Compared(x, prompts, y, made_of)
            add("t2i/fid_teacher", name, *frechet_pseudo_values(own, Gaussian.from_features(y)))
            add("more/kd_teacher", name, kernel_pseudo_values(own, polynomial), {})
    rows_of = [{"prompt": p, "stratum": c, **values} for (c, p), values in found.items()]
    return pd.DataFrame(rows_of, columns=None if rows_of else ["prompt", "stratum", "n_prompts"])


def frechet_pseudo_values(
    sets: Compared, reference: Gaussian
) -> tuple[dict[str, float], dict[str, int]]:
    """Pseudo-values of the Frechet distance by prompt, or by group of prompts where they are many.

    Args:
        sets: what is compared.
        reference: Gaussian of the whole reference.

    Returns:
        prompt or group -> value, and group -> how many prompts are in it.
    """
    names, label_N = _labels(sets.prompts_N)
    label_M = _labels_among(sets.prompts_M, names)
    sizes: dict[str, int] = {}
    width = sets.x_ND.shape[1]
    if len(names) > GROUPS and (len(names) > MOST_PROMPTS or width > WIDEST):
        group_P = np.random.default_rng(0).permutation(np.arange(len(names)) % GROUPS)
        names = [f"group {group + 1:02d} of {GROUPS}" for group in range(GROUPS)]
        sizes = {name: int((group_P == group).sum()) for group, name in enumerate(names)}
        label_N = group_P[label_N]
        label_M = None if label_M is None else np.where(label_M < 0, -1, group_P[label_M])
    whole = gaussian_distance(Gaussian.from_features(sets.x_ND), reference)
    fewest = len(sets.x_ND) - int(np.bincount(label_N).max())
    # Taking a prompt out of moments is quick, but holds a covariance for each prompt at once, and
    # needs them of full rank.
    by_moments = fewest > width and width <= WIDEST
    without = _frechet_by_moments if by_moments else _frechet_afresh
    without_P = without(sets.x_ND, label_N, sets.y_MD, label_M, reference, len(names))
    return dict(zip(names, _pseudo_values(whole, without_P), strict=True)), sizes


def kernel_pseudo_values(
    sets: Compared, kernel: Kernel, reference_mean: float | None = None
) -> dict[str, float]:
    """Pseudo-values of the kernel distance (a U-statistic) by prompt, from sums over its kernel.

    Args:
        sets: what is compared.
        kernel: (N, D), (M, D) -> (N, M).
        reference_mean: of the kernel inside the reference, where it is known.
    """
    names, label_N = _labels(sets.prompts_N)
    label_M = _labels_among(sets.prompts_M, names)
    member_NP = _members(label_N, len(names))
    n, n_P = float(len(label_N)), member_NP.sum(0)
    within_NN = kernel(sets.x_ND, sets.x_ND)
    np.fill_diagonal(within_NN, 0.0)
    across_NM = kernel(sets.x_ND, sets.y_MD)
    # A U-statistic without a prompt is its sums less the prompt's rows and columns, so the kernel
    # is evaluated once for all prompts.
    xx, xx_P = _without(within_NN, member_NP, member_NP)
    m = float(len(sets.y_MD))
    if label_M is None:
        m_P: NDArray[np.float64] | float = 0.0
        xy = float(across_NM.sum())
        xy_P = xy - member_NP.T @ across_NM.sum(1)
        yy, yy_P = 0.0, np.zeros(len(names))  # the same in both distances: it cancels below
        same = mean_within(sets.y_MD, kernel) if reference_mean is None else reference_mean
    else:
        member_MP = _members(label_M, len(names))
        m_P = member_MP.sum(0)
        xy, xy_P = _without(across_NM, member_NP, member_MP)
        within_MM = kernel(sets.y_MD, sets.y_MD)
        np.fill_diagonal(within_MM, 0.0)
        yy, yy_P = _without(within_MM, member_MP, member_MP)
        same = 0.0
    whole = xx / (n * (n - 1)) + yy / (m * (m - 1)) - 2 * xy / (n * m) + same
    left_P, kept_P = n - n_P, m - m_P
    without_P = (
        xx_P / (left_P * (left_P - 1))
        + yy_P / (kept_P * (kept_P - 1))
        - 2 * xy_P / (left_P * kept_P)
        + same
    )
    return dict(zip(names, _pseudo_values(whole, without_P), strict=True))


def _pseudo_values(whole: float, without_P: NDArray[np.float64]) -> list[float]:
    count = len(without_P)
    return [float(value) for value in count * whole - (count - 1) * without_P]


def _labels(prompts_N: Sequence[str]) -> tuple[list[str], Labels]:
    """Prompts in order of their names, so that every trial has the same, and the place of each."""
    names, label_N = np.unique(np.asarray(prompts_N, dtype=np.str_), return_inverse=True)
    return [str(name) for name in names], label_N.astype(np.int64)


def _labels_among(prompts_M: Sequence[str] | None, names: list[str]) -> Labels | None:
    """Place of each row's prompt among the names; -1 for one that is not among them."""
    if prompts_M is None:
        return None
    places = {name: place for place, name in enumerate(names)}
    return np.array([places.get(prompt, -1) for prompt in prompts_M], dtype=np.int64)


def _members(label_N: Labels, count: int) -> Matrix:
    member_NP: Matrix = (label_N[:, None] == np.arange(count)).astype(np.float64)
    return member_NP


def _without(
    kernel_NM: Matrix, member_NP: Matrix, member_MP: Matrix
) -> tuple[float, NDArray[np.float64]]:
    """Sum of a kernel, and what is left of it without the rows and the columns of each prompt."""
    by_prompt_PM = member_NP.T @ kernel_NM
    total = float(kernel_NM.sum())
    rows_P, columns_P = by_prompt_PM.sum(1), member_MP.T @ kernel_NM.sum(0)
    # In the rows and in the columns: taken away twice, so added once.
    both_P = np.einsum("pm,mp->p", by_prompt_PM, member_MP)
    return total, total - rows_P - columns_P + both_P


# ---- Frechet distances without each prompt; all give (P,)

Frechet = Callable[[Matrix, Labels, Matrix, Labels | None, Gaussian, int], NDArray[np.float64]]


def _frechet_afresh(
    x_ND: Matrix,
    label_N: Labels,
    y_MD: Matrix,
    label_M: Labels | None,
    reference: Gaussian,
    count: int,
) -> NDArray[np.float64]:
    """By fitting again: for few samples of many features, covariances are not of full rank."""

    def without(place: int) -> float:
        kept = reference if label_M is None else Gaussian.from_features(y_MD[label_M != place])
        return gaussian_distance(Gaussian.from_features(x_ND[label_N != place]), kept)

    return np.array([without(place) for place in range(count)])


def _frechet_by_moments(
    x_ND: Matrix,
    label_N: Labels,
    y_MD: Matrix,
    label_M: Labels | None,
    reference: Gaussian,
    count: int,
) -> NDArray[np.float64]:
    """By taking a prompt's rows out of mean and covariance: the trace of the root of the product.

    Tr (S_x S_y)^1/2 is the sum of the roots of the eigenvalues of F S_x F^T, with F^T F = S_y.
    """
    mean_PD, cov_PDD = _moments_without(x_ND, label_N, count)
    if label_M is None:
        mean, factor = reference.mean_D, reference.factor_RD
        product = factor @ cov_PDD @ factor.T
        variance: NDArray[np.float64] | float = reference.total_variance
    else:
        mean, cov = _moments_without(y_MD, label_M, count)
        values_PD, vectors_PDD = np.linalg.eigh(cov)
        factors = np.sqrt(np.clip(values_PD, 0.0, None))[:, :, None] * vectors_PDD.swapaxes(1, 2)
        product = factors @ cov_PDD @ factors.swapaxes(1, 2)
        variance = np.einsum("pdd->p", cov)
    roots = np.sqrt(np.clip(np.linalg.eigvalsh(product), 0.0, None)).sum(1)
    shift = ((mean_PD - mean) ** 2).sum(1)
    found: NDArray[np.float64] = shift + np.einsum("pdd->p", cov_PDD) + variance - 2 * roots
    return np.clip(found, 0.0, None)


def _moments_without(x_ND: Matrix, label_N: Labels, count: int) -> tuple[Matrix, Matrix]:
    """Mean (P, D) and covariance (P, D, D) without each prompt."""
    middle_D = x_ND.mean(0)
    centred_ND = x_ND - middle_D  # so that little cancels
    square_DD, n = centred_ND.T @ centred_ND, len(x_ND)
    means, covariances = [], []
    for place in range(count):
        gone = centred_ND[label_N == place]
        left = n - len(gone)
        mean_D = -gone.sum(0) / left
        means.append(middle_D + mean_D)
        rest_DD = square_DD - gone.T @ gone - left * np.outer(mean_D, mean_D)
        covariances.append(rest_DD / (left - 1))
    return np.array(means), np.array(covariances)
