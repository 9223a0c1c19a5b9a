"""The product's rules for thousands of studies at once; `test_twins.py` holds them to the product.

Suffixes: S studies, R replicates, C cells, P prompts, M planned contrasts.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.special import stdtr, stdtrit

from tests.statistics.worlds import Array


def quantile(df: Array, alpha: float) -> Array:
    """The t with P(|T| > t) = alpha."""
    return -stdtrit(df, alpha / 2)


@dataclass(frozen=True)
class SeedsTwin:
    """`inference.over_seeds` of many studies; NaN where nothing is judged."""

    difference_S: Array
    se_S: Array
    df_S: Array

    @property
    def judged_S(self) -> Array:
        return np.isfinite(self.se_S)

    @property
    def p_S(self) -> Array:
        return 2 * stdtr(self.df_S, -np.abs(self.difference_S / self.se_S))

    def half_S(self, alpha: float) -> Array:
        return quantile(self.df_S, alpha) * self.se_S


def over_seeds(d_SRC: Array, mask_SRC: Array) -> SeedsTwin:
    """The mean of the cells that were seen, with CR2 and the smaller Bell-McCaffrey df."""
    mask_SRC = kept(mask_SRC)
    d_SRC = np.where(mask_SRC, d_SRC, 0.0)
    count_SC = mask_SRC.sum(axis=1)
    seen_SC = count_SC > 0
    share_SC = seen_SC / np.maximum(seen_SC.sum(axis=1), 1)[:, None]
    n_SC = np.maximum(count_SC, 1)
    mean_SC = d_SRC.sum(axis=1) / n_SC
    difference_S = (share_SC * mean_SC).sum(axis=1)
    replicates_S = mask_SRC.any(axis=2).sum(axis=1)
    several_S = (count_SC > 1).any(axis=1)
    u_SC = share_SC / n_SC / np.sqrt(1 - 1 / np.maximum(n_SC, 2))
    e_SRC = np.where(mask_SRC, d_SRC - mean_SC[:, None], 0.0)
    variance_S = (np.einsum("src,sc->sr", e_SRC, u_SC) ** 2).sum(axis=1)
    judged_S = several_S & (variance_S > 0)  # no spread is not certainty
    m_SRC = mask_SRC.astype(float)
    # Both matrices are a diagonal less what the replicates share through the cells' means.
    independent_SRQ = -np.einsum("src,sqc,sc->srq", m_SRC, m_SRC, u_SC**2 / n_SC, optimize=True)
    path_SRQ = -np.einsum("src,sqc,sc->srq", m_SRC, m_SRC, u_SC / n_SC, optimize=True)
    place = np.arange(mask_SRC.shape[1])
    independent_SRQ[:, place, place] += np.einsum("src,sc->sr", m_SRC, u_SC**2)
    path_SRQ[:, place, place] += np.einsum("src,sc->sr", m_SRC, u_SC)
    correlated_SRQ = path_SRQ @ path_SRQ.transpose(0, 2, 1)
    with np.errstate(divide="ignore", invalid="ignore"):
        df_S = np.minimum(_freedom(independent_SRQ), _freedom(correlated_SRQ))
    # A replicate and a cell that nobody has are no part of the table: the rest may be complete.
    complete_S = mask_SRC.sum(axis=(1, 2)) == replicates_S * seen_SC.sum(axis=1)
    df_S = np.where(complete_S, replicates_S - 1.0, np.maximum(1e-3, df_S))
    return SeedsTwin(
        difference_S,
        np.where(judged_S, np.sqrt(variance_S), np.nan),
        np.where(judged_S, df_S, np.nan),
    )


def kept(mask_SRC: Array) -> Array:
    """The pairs that are part of the difference: of cells seen twice, where there are such."""
    several_SC = mask_SRC.sum(axis=1) > 1
    return mask_SRC & (several_SC | ~several_SC.any(axis=1, keepdims=True))[:, None]


def _freedom(g_SRQ: Array) -> Array:
    return np.trace(g_SRQ, axis1=1, axis2=2) ** 2 / (g_SRQ**2).sum(axis=(1, 2))


@dataclass(frozen=True)
class PromptsTwin:
    """`inference.over_prompts` of many studies."""

    variance_S: Array
    both_S: Array
    df_S: Array

    @property
    def further_S(self) -> Array:
        return np.maximum(0.0, self.variance_S - self.both_S)


def over_prompts(strata: list[Array], omega_K: Array, mask_SRC: Array) -> PromptsTwin:
    """Spread over prompts of the mean of the cells that were seen; strata as `PromptWorld`'s."""
    mask_SRC = kept(mask_SRC)
    count_SC = mask_SRC.sum(axis=1)
    seen_SC = count_SC > 0
    share_SC = seen_SC / np.maximum(seen_SC.sum(axis=1), 1)[:, None]
    weight_SRC = mask_SRC * (share_SC / np.maximum(count_SC, 1))[:, None]
    squares_S = (weight_SRC.sum(axis=2) ** 2).sum(axis=1)
    variance_S = both_S = fourth_S = np.zeros(len(mask_SRC))
    with np.errstate(divide="ignore", invalid="ignore"):
        for omega, psi_SRCP in zip(omega_K, strata, strict=True):
            size = psi_SRCP.shape[-1]
            eta_SRP = np.einsum("srcp,src->srp", psi_SRCP, weight_SRC)
            between_S = eta_SRP.sum(axis=1).var(axis=1, ddof=1)
            within_S = eta_SRP.var(axis=2, ddof=1).sum(axis=1)
            part_S = omega**2 * between_S / size
            variance_S = variance_S + part_S
            fourth_S = fourth_S + part_S**2 / (size - 1)
            left_S = np.maximum(0.0, (within_S / squares_S - between_S) / (1 - squares_S))
            both_S = both_S + omega**2 * squares_S * left_S / size
        return PromptsTwin(variance_S, both_S, variance_S**2 / fourth_S)


def half_width(seeds: SeedsTwin, prompts: PromptsTwin | None, alpha: float) -> Array:
    """`Estimated.half_width` of many studies."""
    half_S = seeds.half_S(alpha) ** 2
    if prompts is not None:
        half_S = half_S + quantile(prompts.df_S, alpha) ** 2 * prompts.further_S
    return np.sqrt(half_S)


IMPROVES, UNSETTLED, UNDECIDED, EQUIVALENT = 2, 1, 0, 9
"""Codes of verdicts where higher is better; `harms` and its unsettled kind have a minus."""


def step_down(difference: Array, se: Array, df: Array, margin: float, alpha: float) -> Array:
    """`step_down.step_down` over `step_down.read`: codes (S, M) of the last readings."""
    left_S1 = np.full((len(difference), 1), difference.shape[1])
    gone = np.zeros(difference.shape, dtype=bool)
    half = np.zeros(difference.shape)
    size = np.abs(difference)
    while True:
        half = np.where(gone, half, quantile(df, alpha / left_S1) * se)
        inside = (size + half <= margin) & (margin > 0)
        leaving = ~gone & (size - half > margin) & ~inside
        more_S1 = leaving.any(axis=1, keepdims=True) & ~(leaving | gone).all(axis=1, keepdims=True)
        if not more_S1.any():
            break
        # A study that nobody leaves is done: its contrasts keep the intervals that they have.
        gone |= leaving & more_S1
        left_S1 = left_S1 - (leaving & more_S1).sum(axis=1, keepdims=True)
    beyond = np.where(size - half > margin, IMPROVES, UNSETTLED)
    found = np.where(size <= half, UNDECIDED, np.sign(difference) * beyond)
    return np.where(inside, EQUIVALENT, found).astype(int)


def wrong(codes: Array, true_M: Array, margin: float) -> Array:
    """Which verdicts (S, M) say what is not so."""
    up, size = true_M * np.sign(codes), np.abs(codes)
    false = (size == IMPROVES) & (up <= margin + 1e-12)
    false |= (size == UNSETTLED) & (up <= 0)
    return np.where(codes == EQUIVALENT, np.abs(true_M) >= margin - 1e-12, false)


def paired(d: Array) -> tuple[Array, Array, float]:
    """Mean, standard error and df over axis 1, the replicates."""
    n = d.shape[1]
    return d.mean(axis=1), d.std(axis=1, ddof=1) / np.sqrt(n), n - 1.0


def best(y_SRK: Array, alpha: float) -> Array:
    """`kinds.Best.kept`, higher being better: which levels (S, K) stay in the set."""
    levels = y_SRK.shape[2]
    mean, se, df = paired(y_SRK[..., :, None] - y_SRK[..., None, :])
    t = quantile(np.array(df), min(1.0, 2 * alpha / (levels - 1)))
    return ~((mean + t * se < 0) & ~np.eye(levels, dtype=bool)).any(axis=2)


def more(a_SR: Array, b_SR: Array, alpha: float) -> Array:
    """`kinds.More`: 1 more, -1 less, 0 undecided."""
    signs = []
    for d_SR in (a_SR - b_SR, a_SR + b_SR):
        mean, se, df = paired(d_SR)
        half = quantile(np.array(df), alpha) * se
        signs.append(np.where(np.abs(mean) > half, np.sign(mean), 0.0))
    return signs[0] * signs[1]


def collapse(y_SRC: Array, margin: float, alpha: float) -> tuple[Array, Array]:
    """`kinds.Collapse` of values by measured cycle, higher being better: collapses, holds."""
    mean, se, df = paired(y_SRC[..., :-1] - y_SRC[..., -1:])
    t = quantile(np.array(df), min(1.0, 2 * alpha / mean.shape[1]))
    collapses = (mean - t * se > margin).any(axis=1)
    upper = mean + quantile(np.array(df), 2 * alpha) * se
    return collapses, (upper < margin).all(axis=1) & ~collapses
