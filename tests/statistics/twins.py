"""The product's rules for thousands of studies at once; `test_twins.py` holds them to the product.

Suffixes: S studies, R replicates, C cells, P prompts, M planned contrasts.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.special import stdtr, stdtrit

from tests.statistics.noise import Array


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
    count_SC = mask_SRC.sum(axis=1)
    seen_SC = count_SC > 0
    number_S = np.maximum(seen_SC.sum(axis=1), 1)
    share_SC = seen_SC / number_S[:, None]
    n_SC = np.maximum(count_SC, 1)
    mean_SC = d_SRC.sum(axis=1) / n_SC
    difference_S = (share_SC * mean_SC).sum(axis=1)
    replicates_S = mask_SRC.any(axis=2).sum(axis=1)
    twice_SC = count_SC > 1
    judged_S = twice_SC.any(axis=1)
    w_SC = share_SC / n_SC
    u_SC = np.where(twice_SC, w_SC / np.sqrt(1 - 1 / np.maximum(n_SC, 2)), 0.0)
    e_SRC = np.where(mask_SRC, d_SRC - mean_SC[:, None], 0.0)
    variance_S = (np.einsum("src,sc->sr", e_SRC, u_SC) ** 2).sum(axis=1)
    with np.errstate(divide="ignore", invalid="ignore"):
        kept_SC = np.where(twice_SC, w_SC, 0.0)
        alone_S = (w_SC**2 * n_SC).sum(axis=1) / (kept_SC**2 * n_SC).sum(axis=1)
        whole_SR = np.einsum("src,sc->sr", mask_SRC, w_SC)
        part_SR = np.einsum("src,sc->sr", mask_SRC, kept_SC)
        together_S = (whole_SR**2).sum(axis=1) / (part_SR**2).sum(axis=1)
        variance_S = variance_S * np.maximum(alone_S, together_S)
        m_SRC = mask_SRC.astype(float)
        shared_SRQ = np.einsum("src,sqc,sc->srq", m_SRC, m_SRC, u_SC**2 / n_SC)
        path_SRQ = -np.einsum("src,sqc,sc->srq", m_SRC, m_SRC, u_SC / n_SC)
        place = np.arange(mask_SRC.shape[1])
        independent_SRQ = -shared_SRQ
        independent_SRQ[:, place, place] += np.einsum("src,sc->sr", m_SRC, u_SC**2)
        path_SRQ[:, place, place] += np.einsum("src,sc->sr", m_SRC, u_SC)
        correlated_SRQ = path_SRQ @ path_SRQ.transpose(0, 2, 1)
        df_S = np.maximum(1e-3, np.minimum(_freedom(independent_SRQ), _freedom(correlated_SRQ)))
    # A replicate and a cell that nobody has are no part of the table: the rest may be complete.
    complete_S = mask_SRC.sum(axis=(1, 2)) == replicates_S * seen_SC.sum(axis=1)
    df_S = np.where(complete_S, replicates_S - 1.0, df_S)
    return SeedsTwin(
        difference_S,
        np.where(judged_S, np.sqrt(variance_S), np.nan),
        np.where(judged_S, df_S, np.nan),
    )


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
    """Spread over prompts of the mean of the cells that were seen; strata as `PromptWorld` draws."""
    mask_SRC = worth(mask_SRC)
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


def worth(mask_SRC: Array) -> Array:
    """The pairs that are part of a difference."""
    return mask_SRC
