"""What a contrast's trials say: an estimate, its spread over seeds, and its spread over prompts.

A contrast is a weighted sum of *cells*. A cell is one matched combination of all other factors and
holds weights over arms (a - b is `{a: 1, b: -1}`); it is observed in a replicate if all its arms
have a value there. With R replicates, d_rc the value of cell c in replicate r, n_c the replicates
that have it, and l_c the cell's share (1 / cells, for one group of cells):

    difference = sum_c l_c mean_r d_rc

**Seeds.** With every cell in every replicate the spread of the replicates' own sums decides (paired
t, R - 1 df). Where pairs are missing, it is the cluster-robust variance CR2 of the least-squares
fit with a fixed effect for each cell, the replicate being the cluster (Bell and McCaffrey 2002;
Pustejovsky and Tipton 2018); here it has a closed form, because the hat matrix is diagonal:

    SE_R^2 = sum_r (sum_{c in r} u_c (d_rc - mean_c))^2,   u_c = l_c / n_c / sqrt(1 - 1/n_c)

with the smaller of the Bell-McCaffrey degrees of freedom under independent and under fully
correlated cells. No variance is borrowed from other arms at any number of replicates: whatever
does so (one pooled variance, moderated ones) loses its error rate where variances differ.

**Prompts.** Trials are measured on a sample of prompts, the same for all. With psi_tp the value of
trial t on prompt p (`journal/prompt_values.py`), w_t its weight in the contrast, and strata k of
fixed weights omega_k with P_k prompts: eta_rp = sum of w_t psi_tp over the trials of replicate r,
psi_p = sum_r eta_rp, B_k = var_p psi_p, A_k = sum_r var_p eta_rp, w_r the replicate's share, W =
sum w_r^2,

    SE_P^2 = sum_k omega_k^2 B_k / P_k              (Welch-Satterthwaite df, P_k - 1 each)
    SE_E^2 = sum_k omega_k^2 W max(0, (A_k/W - B_k) / (1 - W)) / P_k

SE_E^2 is what seeds and prompts together hold in both sums. Over seeds and prompts

    SE^2 = SE_R^2 + SE_P^2 - SE_E^2
    half-width^2 = t^2(df_R) SE_R^2 + t^2(df_P) max(0, SE_P^2 - SE_E^2)

**Checkpoints.** What was not trained here has no seeds that could be drawn again: measured once
each, two checkpoints are compared over prompts alone, half-width t(df_P) SE_P. The claim is about
these checkpoints, not about how they were made.

The variance is that of the crossed random effects model (Clark 1973; Judd, Westfall and Kenny
2012); the half-width is not t times its root, because Satterthwaite's degrees of freedom for the
sum hold their level only from about six replicates on.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import NDArray

from harness.journal.prompt_values import PromptValues

Values = Mapping[str, Mapping[int, float]]
"""Arm to replicate to finite value, for one metric at one step."""
Cell = Mapping[str, float]
"""Arm to weight."""
Floats = NDArray[np.float64]

ROUNDING = 1e-12
"""Spread below this share of the values' size is rounding, not variation."""
FARTHEST = 1e150
"""A t beyond it is infinite: its square leaves the range of numbers."""
SAME = "the difference is the same in every replicate: no spread to judge it by"
ONE = "one replicate: nothing says how much another would differ"
SAME_PROMPTS = "the difference is the same on every prompt: no spread to judge it by"


@dataclass(frozen=True)
class Group:
    """Cells of one effect, weighted equally; a contrast may add effects with signs."""

    cells: tuple[Cell, ...]
    sign: float = 1.0


def one_group(cells: Sequence[Cell]) -> tuple[Group, ...]:
    """The usual contrast: the mean over its cells."""
    return (Group(tuple(cells)),)


@dataclass(frozen=True)
class OverSeeds:
    """A difference and its spread over replicates."""

    n: int
    difference: float | None = None
    se: float | None = None
    df: float | None = None
    per_replicate: Mapping[int, float] = field(default_factory=dict)
    """Replicate to its own mean over the cells that it has."""
    missing: int = 0
    """Cells of begun replicates without a value."""
    unseen: int = 0
    """Cells without a value in any replicate: no part of the difference."""
    once: int = 0
    """Cells with a value in one replicate only, others having more: no part of it either, for
    nothing says how much they vary."""
    method: str = "none"
    why: str = ""
    """Why there is no interval; empty where there is one."""


@dataclass(frozen=True)
class OverPrompts:
    """A difference's spread over prompts: squared standard errors and degrees of freedom."""

    variance: float
    """SE_P^2: prompts, what they share with seeds included."""
    both: float
    """SE_E^2: the part of `variance` that the spread over seeds holds as well."""
    df: float
    counts: Mapping[str, int]
    """Stratum to prompts."""
    pseudo: bool = False
    """Of a distance: from delete-a-prompt pseudo-values."""
    dropped: int = 0
    """Prompts that some trial lacks; left out."""

    @property
    def n(self) -> int:
        """Prompts in all strata."""
        return sum(self.counts.values())

    @property
    def further(self) -> float:
        """What prompts add to the variance over seeds."""
        return max(0.0, self.variance - self.both)


@dataclass(frozen=True)
class Estimated:
    """What the trials say about one contrast, over seeds and, where known, over prompts."""

    seeds: OverSeeds
    prompts: OverPrompts | None = None
    why_not_prompts: str = ""
    """Why nothing is said over prompts."""
    checkpoints: bool = False
    """A claim about the very checkpoints that were measured: over prompts alone."""

    @property
    def difference(self) -> float | None:
        """The estimate, in units of the metric."""
        return self.seeds.difference

    @property
    def judged(self) -> bool:
        """Whether there is an interval."""
        if self.checkpoints:
            return self.difference is not None and not self.why
        return self.seeds.se is not None and not self.seeds.why

    @property
    def why(self) -> str:
        """Why there is no interval; empty where there is one."""
        if not self.checkpoints:
            return self.seeds.why
        if self.prompts is None:
            return self.why_not_prompts
        return "" if self.prompts.variance > 0 else SAME_PROMPTS

    def half_width(self, alpha: float, *, narrow: bool = False) -> float | None:
        """Half of the two-sided interval at 1 - alpha; None where there is none.

        Args:
            alpha: error rate in (0, 1).
            narrow: the claim on exactly these prompts, over seeds alone.
        """
        if self.checkpoints:
            if narrow or self.prompts is None or not self.judged:
                return None
            return t_quantile(self.prompts.df, alpha) * math.sqrt(self.prompts.variance)
        if not self.judged or self.seeds.se is None or self.seeds.df is None:
            return None
        half = (t_quantile(self.seeds.df, alpha) * self.seeds.se) ** 2
        if self.prompts is not None and not narrow and self.prompts.further > 0:
            half += t_quantile(self.prompts.df, alpha) ** 2 * self.prompts.further
        return math.sqrt(half)

    def interval(self, alpha: float, *, narrow: bool = False) -> tuple[float, float] | None:
        """The two-sided interval at 1 - alpha."""
        half, middle = self.half_width(alpha, narrow=narrow), self.difference
        return None if half is None or middle is None else (middle - half, middle + half)

    def p(self, *, narrow: bool = False, shift: float = 0.0) -> float | None:
        """Two-sided p: the alpha at which the interval ends at `shift`."""
        if self.half_width(0.5, narrow=narrow) is None or self.difference is None:
            return None
        return self._alpha_of(abs(self.difference - shift), narrow)

    def _alpha_of(self, distance: float, narrow: bool) -> float:
        seeds, prompts = self.seeds, self.prompts
        if self.checkpoints:
            assert prompts is not None
            return p_of(distance / math.sqrt(prompts.variance), prompts.df)
        assert seeds.se is not None
        assert seeds.df is not None
        if narrow or prompts is None or prompts.further == 0:
            return p_of(distance / seeds.se, seeds.df)
        # Two t quantiles of different df: the alpha at which their sum is the distance is searched
        # for.
        low, high = -700.0, 0.0  # log alpha
        for _ in range(100):
            middle = (low + high) / 2
            half = self.half_width(math.exp(middle))
            assert half is not None
            low, high = (middle, high) if half > distance else (low, middle)
            if high - low < 1e-13:
                break
        return math.exp((low + high) / 2)

    @property
    def variance(self) -> float | None:
        """SE^2 over what the claim reaches over, as the crossed model has it."""
        if self.checkpoints:
            return self.prompts.variance if self.prompts else None
        if self.seeds.se is None:
            return None
        more = self.prompts.variance - self.prompts.both if self.prompts else 0.0
        return self.seeds.se**2 + more


def t_quantile(df: float, alpha: float) -> float:
    """The t with P(|T| > t) = alpha; infinite where it leaves the range of numbers."""
    from scipy.special import stdtrit

    t = -float(stdtrit(df, alpha / 2))
    return t if t < FARTHEST else math.inf


def p_of(t: float, df: float) -> float:
    """P(|T| > t) of Student's t."""
    from scipy.special import stdtr

    return min(1.0, 2.0 * float(stdtr(df, -abs(t))))


@dataclass(frozen=True)
class _Observed:
    """Cells in arrays: differences (R, C) with zeros where there is none, and which there are."""

    replicates: list[int]
    d_RC: Floats
    mask_RC: NDArray[np.bool_]
    share_C: Floats
    """Signed shares l_c, of the cells seen at all."""
    group_C: NDArray[np.int64]
    """Which group each cell belongs to."""
    cells: list[Cell]
    unseen: int
    once: int
    scale: float


def estimate(
    values: Values,
    groups: Sequence[Group],
    by_prompt: ByPrompt | None = None,
    why_not: str = "no values by prompt are recorded",
    *,
    checkpoints: bool = False,
) -> Estimated:
    """Estimate a contrast over seeds and, with the trials' values by prompt, over prompts too.

    Args:
        values: arm to replicate to value.
        groups: the contrast's cells.
        by_prompt: values by prompt of the same metric and step; None: nothing is said over prompts.
        why_not: the reason to give where `by_prompt` is None.
        checkpoints: the values are of checkpoints that were not trained here; those of a single
            replicate make a claim about themselves.
    """
    observed = _observed(values, groups)
    seeds = _seeds(observed)
    alone = checkpoints and seeds.n == 1
    if by_prompt is None or observed is None or not seeds.n:
        return Estimated(seeds, None, why_not, alone)
    prompts, why = over_prompts(by_prompt, *_trial_weights(observed))
    return Estimated(seeds, prompts, why, alone)


def over_seeds(values: Values, groups: Sequence[Group]) -> OverSeeds:
    """The estimate and its spread over replicates."""
    return _seeds(_observed(values, groups))


def _observed(values: Values, groups: Sequence[Group]) -> _Observed | None:
    rows: list[tuple[Cell, float, int, dict[int, float]]] = []
    unseen, once, scale = 0, 0, 0.0
    for number, group in enumerate(groups):
        with_values = []
        for cell in group.cells:
            columns = [(w, values.get(arm, {})) for arm, w in cell.items()]
            shared = set.intersection(*(set(row) for _, row in columns)) if columns else set()
            d = {r: math.fsum(w * row[r] for w, row in columns) for r in shared}
            if d:
                with_values.append((cell, d))
                sizes = [abs(w * row[r]) for w, row in columns for r in shared]
                scale = max(scale, *sizes)
        unseen += len(group.cells) - len(with_values)
        if not with_values:
            return None
        # One value says nothing of its cell's spread, and other cells' is not it: with it, one arm
        # of five times their noise makes the false positives of two replicates .11 of .05.
        if several := [(cell, d) for cell, d in with_values if len(d) > 1]:
            once += len(with_values) - len(several)
            with_values = several
        rows += [(cell, group.sign / len(with_values), number, d) for cell, d in with_values]
    if not rows:
        return None
    replicates = sorted({r for *_, d in rows for r in d})
    place = {r: i for i, r in enumerate(replicates)}
    d_RC = np.zeros((len(replicates), len(rows)))
    mask_RC = np.zeros(d_RC.shape, dtype=bool)
    for c, (*_, d) in enumerate(rows):
        for r, value in d.items():
            d_RC[place[r], c] = value
            mask_RC[place[r], c] = True
    share_C = np.array([share for _, share, *_ in rows])
    group_C = np.array([number for _, _, number, _ in rows])
    cells = [cell for cell, *_ in rows]
    return _Observed(replicates, d_RC, mask_RC, share_C, group_C, cells, unseen, once, scale)


def _seeds(observed: _Observed | None) -> OverSeeds:
    if observed is None:
        return OverSeeds(0, why="no replicate has both sides")
    n, d_RC, mask = len(observed.replicates), observed.d_RC, observed.mask_RC
    count_C = mask.sum(axis=0)
    # fsum is exact, so that no digit depends on the order in which arms or replicates come.
    mean_C = np.array([math.fsum(column) for column in d_RC.T]) / count_C
    difference = math.fsum(observed.share_C * mean_C)
    own = _own_sums(observed)
    spreadless = OverSeeds(
        n, difference, None, None, own, int((~mask).sum()), observed.unseen, observed.once
    )
    if n == 1:
        return _told(spreadless, "none", ONE)
    if mask.all():
        sums = np.array(list(own.values()))
        se, df = float(sums.std(ddof=1)) / math.sqrt(n), float(n - 1)
        method = f"paired t, {n - 1} df"
    else:
        if (count_C == 1).any():
            return _told(spreadless, "none", "no pair exists in two replicates")
        se, df = _cr2(observed, count_C, mean_C)
        method = f"CR2 clustered on {n} replicates, {df:.3g} df"
    # Equal differences look certain and are not: six times +1/192 would give p = 0, and nothing
    # says how much a seventh would differ.
    if se * math.sqrt(n) <= ROUNDING * max(observed.scale, abs(difference)):
        return _told(spreadless, method, SAME)
    return replace(spreadless, se=se, df=df, method=method)


def _told(spreadless: OverSeeds, method: str, why: str) -> OverSeeds:
    return replace(spreadless, method=method, why=why)


def _own_sums(observed: _Observed) -> dict[int, float]:
    """Each replicate's own value of the contrast, from the cells it has; none without a group's."""
    sums = {}
    for i, r in enumerate(observed.replicates):
        total = 0.0
        for number in np.unique(observed.group_C):
            group = observed.group_C == number
            has = group & observed.mask_RC[i]
            if not has.any():
                break
            # Shares within a replicate are those of its cells: the group's weight stays whole.
            weight = observed.share_C[has] * (
                observed.share_C[group].sum() / observed.share_C[has].sum()
            )
            total += math.fsum(weight * observed.d_RC[i, has])
        else:
            sums[r] = total
    return sums


def _cr2(observed: _Observed, count_C: Floats, mean_C: Floats) -> tuple[float, float]:
    mask = observed.mask_RC
    u_C = observed.share_C / count_C / np.sqrt(1.0 - 1.0 / count_C)
    e_RC = np.where(mask, observed.d_RC - mean_C, 0.0)
    variance = float(((e_RC @ u_C) ** 2).sum())
    # p_r holds the weights that the sum of replicate r puts on each observation, the cells' means
    # taken off; G = p' Phi p. With independent cells Phi is the identity, and p_r' p_s is a sum
    # over cells. With fully correlated ones all cells of a replicate err alike, so p_r is first
    # added up within each replicate.
    mu_RC = mask * u_C
    independent = np.diag((mask * u_C**2).sum(axis=1)) - (mask * (u_C**2 / count_C)) @ mask.T
    path_RR = np.diag(mu_RC.sum(axis=1)) - (mu_RC / count_C) @ mask.T
    correlated = path_RR @ path_RR.T
    freedom = [_bell_mccaffrey(g_RR) for g_RR in (independent, correlated)]
    # 0 degrees of freedom have no quantile; at a thousandth of one the interval is infinite
    # (`FARTHEST`).
    return math.sqrt(variance), max(1e-3, min(freedom))


def _bell_mccaffrey(g_RR: Floats) -> float:
    """(sum of eigenvalues)^2 / sum of their squares."""
    squares = float((g_RR**2).sum())
    # Satterthwaite: the chi-squared with the mean and the variance of this quadratic form.
    return float(np.trace(g_RR)) ** 2 / squares if squares > 0 else 0.0


def _trial_weights(
    observed: _Observed,
) -> tuple[dict[tuple[str, int], float], dict[int, float]]:
    """Weight w_t of each trial, and share w_r of each replicate (of sum 1)."""
    weight_C = observed.share_C / observed.mask_RC.sum(axis=0)
    trials: dict[tuple[str, int], float] = {}
    for i, r in enumerate(observed.replicates):
        for c, cell in enumerate(observed.cells):
            if observed.mask_RC[i, c]:
                for arm, w in cell.items():
                    trials[arm, r] = trials.get((arm, r), 0.0) + float(weight_C[c]) * w
    share_R = observed.mask_RC @ np.abs(weight_C)
    share_R = share_R / share_R.sum()
    return trials, dict(zip(observed.replicates, map(float, share_R), strict=True))


Trial = tuple[str, int]
"""Arm and replicate."""


@dataclass(frozen=True)
class Stratum:
    """Values by prompt of one stratum: a row a trial, NaN where it lacks the prompt."""

    omega: float
    values_TP: Floats
    size_P: NDArray[np.int64]
    """Prompts behind each value: several where they were left out in groups."""


@dataclass(frozen=True)
class ByPrompt:
    """Values by prompt of all trials of a metric, in arrays that every contrast shares."""

    rows: Mapping[Trial, int]
    strata: Mapping[str, Stratum]
    pseudo: bool
    odd: Mapping[Trial, str] = field(default_factory=dict)
    """Trials whose values by prompt do not go with the others', and why."""

    @classmethod
    def of(cls, tables: Mapping[Trial, PromptValues]) -> ByPrompt:
        """The arrays of some trials; the first trial says which strata there are."""
        first = next(iter(tables.values()))
        odd = {
            trial: "strata or their weights are others"
            for trial, table in tables.items()
            if dict(table.strata) != dict(first.strata) or table.pseudo != first.pseudo
        }
        rows = {trial: i for i, trial in enumerate(t for t in tables if t not in odd)}
        strata = {}
        for name, omega in first.strata.items():
            if omega == 0:
                continue
            listed = [tables[trial].values.get(name, {}) for trial in rows]
            names = {p: i for i, p in enumerate(sorted(set().union(*listed)))}
            values_TP = np.full((len(rows), len(names)), np.nan)
            for i, row in enumerate(listed):
                values_TP[i, [names[p] for p in row]] = list(row.values())
            grouped = first.sizes.get(name, {})
            size_P = np.array([grouped.get(p, 1) for p in names])
            strata[name] = Stratum(omega, values_TP, size_P)
        return cls(rows, strata, first.pseudo, odd)


def over_prompts(
    by_prompt: ByPrompt, weights: Mapping[Trial, float], shares: Mapping[int, float]
) -> tuple[OverPrompts | None, str]:
    """Spread over prompts of a weighted sum of trials; None and the reason where it is unknown.

    Args:
        by_prompt: values by prompt.
        weights: (arm, replicate) to weight; a trial of weight 0 is not needed.
        shares: replicate to its share, of sum 1. One replicate: a claim about these checkpoints.
    """
    trials = [trial for trial, w in weights.items() if w]
    if not trials:
        return None, "no trial has a weight"
    if lacking := [trial for trial in trials if trial not in by_prompt.rows]:
        arm, r = lacking[0]
        more = f" and {len(lacking) - 1} more" if len(lacking) > 1 else ""
        why = by_prompt.odd.get(lacking[0], "there are none")
        return None, f"values by prompt of {arm} r{r}{more}: {why}"
    picked = [by_prompt.rows[trial] for trial in trials]
    w_T = np.array([weights[trial] for trial in trials])
    replicates = sorted({r for _, r in trials})
    place = {r: i for i, r in enumerate(replicates)}
    weight_RT = np.zeros((len(replicates), len(trials)))
    weight_RT[[place[r] for _, r in trials], range(len(trials))] = w_T
    squares = sum(shares.get(r, 0.0) ** 2 for r in replicates)
    variance = both = fourth = 0.0
    counts, dropped, fewest = {}, 0, 2**31
    for name, stratum in by_prompt.strata.items():
        values_TP = stratum.values_TP[picked]
        # Only prompts that every trial has: else the sides would differ by their prompts, too.
        known_P = ~np.isnan(values_TP).any(axis=0)
        size = int(known_P.sum())
        dropped += int((~np.isnan(values_TP).all(axis=0)).sum()) - size
        if size < 2:
            return None, f"{name} has {size} prompt(s) that all trials share"
        eta_RP = weight_RT @ values_TP[:, known_P]
        # A variance that is rounding alone counts as none: sums of equal values differ in the last
        # digit.
        rounding = (ROUNDING * float(np.abs(w_T[:, None] * values_TP[:, known_P]).max())) ** 2
        between, *each = (
            float(v) if v > rounding else 0.0
            for v in (eta_RP.sum(axis=0).var(ddof=1), *eta_RP.var(axis=1, ddof=1))
        )
        within = math.fsum(each)
        part = stratum.omega**2 * between / size
        variance += part
        fourth += part**2 / (size - 1)
        # With one replicate (W = 1) nothing tells what seeds and prompts make together from
        # prompts.
        if squares < 1:
            left = max(0.0, (within / squares - between) / (1 - squares))
            both += stratum.omega**2 * squares * left / size
        counts[name] = int(stratum.size_P[known_P].sum())
        fewest = min(fewest, size)
    df = variance**2 / fourth if fourth > 0 else float(fewest - 1)
    return OverPrompts(variance, both, df, counts, by_prompt.pseudo, dropped), ""
