"""Power of a contrast over seeds and prompts: what it can detect, and how many of both it needs.

Seeds alone are the paired t with n - 1 degrees of freedom, at every n. Over prompts too, the
interval's half-width is sqrt(t(n - 1)^2 SE_R^2 + t(df_P)^2 V_P): the part of the seeds, and what
the prompts add beyond it. Both are integrated here, with `math` alone, because `plan` shows these
numbers in well under a second and importing numpy and scipy.special takes most of one. The tests
hold it against scipy's `nctdtr`, against simulation and against the published table.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache

POWER = 0.8
ASSURANCE = 0.8
"""Share of pilots whose promised power is reached, by the spread that is planned with."""
MAX_REPLICATES = 1000
MAX_PROMPTS = 100_000
_WIDTHS = 9.0
"""Standard deviations of log s to either side that are integrated: erfc(9 / sqrt 2) is 2e-19."""
_SQRT2 = math.sqrt(2.0)


@dataclass(frozen=True)
class PlannedPrompts:
    """What prompts add to the variance of a difference, as estimated from a pilot."""

    added: float
    """Variance of the difference beyond that of the seeds, at this number of prompts: P2's
    max(0, SE_P^2 - SE_E^2). In the squared unit of the metric."""
    shared: float
    """Of one replicate's variance, what seeds and prompts make together: it falls with prompts."""
    df: float
    number: int
    strata: int = 1

    def scaled(self, number: int) -> PlannedPrompts:
        """With another number of prompts, spread over the strata as they are."""
        ratio = self.number / number
        per = (number - self.strata) / max(1, self.number - self.strata)
        df = max(1.0, self.df * per)
        return PlannedPrompts(self.added * ratio, self.shared * ratio, df, number, self.strata)


@dataclass(frozen=True)
class PlannedSpread:
    """Spread of one replicate's difference, and what prompts add; 1.0 alone is SDs (d_z)."""

    seeds: float = 1.0
    """Standard deviation of one replicate's difference at the prompts of the pilot."""
    prompts: PlannedPrompts | None = None
    """None: a claim on exactly these prompts."""

    def at(self, prompts: int | None) -> PlannedSpread:
        """The spread with another number of prompts; unchanged where there are none."""
        if self.prompts is None or prompts is None or prompts == self.prompts.number:
            return self
        there = self.prompts.scaled(prompts)
        # The pilot's own estimate of the shared part may exceed the variance it is a part of.
        least = min(1.0, self.prompts.number / prompts) * self.seeds**2
        variance = max(least, self.seeds**2 - self.prompts.shared + there.shared)
        return PlannedSpread(math.sqrt(variance), there)


def power(effect: float, n: int, alpha: float = 0.05) -> float:
    """Power of the two-sided paired t test.

    Args:
        effect: true mean of the paired differences over their standard deviation (d_z).
        n: replicates, at least 2.
        alpha: error rate of this one test, in (0, 1).

    Returns:
        Probability in [alpha, 1] of p < alpha. The chance of the wrong sign is included, as in
        every table of this test.

    Raises:
        ValueError: if n < 2 or alpha is outside (0, 1).
    """
    _check(n, alpha)
    critical = quantile_t(n - 1, alpha)
    shift = abs(effect) * math.sqrt(n)
    return _survival(critical, n - 1, shift) + _survival(critical, n - 1, -shift)


def power_over(difference: float, n: int, alpha: float, spread: PlannedSpread) -> float:
    """Power to tell `difference` from 0 over n seeds, and over the spread's prompts if it has any.

    Raises:
        ValueError: as `power`.
    """
    _check(n, alpha)
    prompts = spread.prompts
    if prompts is None or prompts.added <= 0:
        return power(difference / spread.seeds, n, alpha) if spread.seeds > 0 else 1.0
    seeds = spread.seeds**2 / n
    return _two_part(abs(difference), seeds, prompts.added, n - 1, prompts.df, alpha)


def detectable(
    n: int, alpha: float = 0.05, target: float = POWER, spread: PlannedSpread | None = None
) -> float:
    """Smallest difference that n replicates find with the target power; without spread in SDs.

    Falls with n, with alpha and with the number of prompts.

    Raises:
        ValueError: as `power`.
    """
    spread = spread or PlannedSpread()
    prompts = spread.prompts
    if prompts is None or prompts.added <= 0:
        return spread.seeds * _detectable(n, alpha, target)
    least = spread.seeds * _detectable(n, alpha, target)
    return _smallest(lambda d: power_over(d, n, alpha, spread), target, least)


def floor_of_seeds(alpha: float, spread: PlannedSpread, target: float = POWER) -> float:
    """What no number of seeds can go below at the spread's prompts; 0 without prompts."""
    prompts = spread.prompts
    if prompts is None or prompts.added <= 0:
        return 0.0
    return math.sqrt(prompts.added) * _floor(round(prompts.df, 3), alpha, target)


def floor_of_prompts(n: int, alpha: float, spread: PlannedSpread, target: float = POWER) -> float:
    """What no number of prompts can go below with n seeds: the part of the seeds alone."""
    return spread.at(MAX_PROMPTS).seeds * _detectable(n, alpha, target)


def replicates_needed(
    difference: float,
    alpha: float = 0.05,
    target: float = POWER,
    spread: PlannedSpread | None = None,
) -> int | None:
    """Fewest replicates that find the difference; None if `MAX_REPLICATES` do not.

    Without spread the difference is in SDs.
    """
    spread = spread or PlannedSpread()
    if difference <= 0:
        return None
    return _fewest(2, MAX_REPLICATES, lambda n: power_over(difference, n, alpha, spread) >= target)


def prompts_needed(
    difference: float, n: int, alpha: float, spread: PlannedSpread, target: float = POWER
) -> int | None:
    """Fewest prompts, no fewer than there are, with which n seeds find the difference; or None."""
    if spread.prompts is None or difference <= 0:
        return None
    return _fewest(
        spread.prompts.number,
        MAX_PROMPTS,
        lambda number: power_over(difference, n, alpha, spread.at(number)) >= target,
    )


def both_needed(
    difference: float, alpha: float, spread: PlannedSpread, target: float = POWER
) -> tuple[int, int] | None:
    """Seeds and prompts that find the difference together, where neither does alone.

    A quarter more seeds than prompts without end would need: at exactly their number, prompts
    would have to be without end.
    """
    if spread.prompts is None:
        return None
    alone = replicates_needed(
        difference, alpha, target, PlannedSpread(spread.at(MAX_PROMPTS).seeds)
    )
    if alone is None:
        return None
    n = alone + max(1, math.ceil(alone / 4))
    number = prompts_needed(difference, n, alpha, spread, target) if n <= MAX_REPLICATES else None
    return None if number is None else (n, number)


def assured(df: float, share: float = ASSURANCE) -> float:
    """What an SD with `df` is multiplied by, to be too small in 1 - share of pilots.

    sqrt(df / q), q the (1 - share) quantile of chi-squared: 3.95, 2.12, 1.73, 1.46 and 1.29 at 1,
    2, 3, 5 and 9 degrees of freedom.
    """
    return math.sqrt(df / quantile_chi2(df, 1 - share))


@lru_cache(maxsize=1024)
def quantile_chi2(df: float, probability: float) -> float:
    """The x with P(chi2_df <= x) = probability, which lies in (0, 1)."""
    if df <= 0 or not 0 < probability < 1:
        raise ValueError(f"no quantile {probability} of chi-squared with {df} degrees of freedom")
    low, high = 0.0, df + 10.0
    while _chi2_below(high, df) < probability:
        high *= 2
    for _ in range(80):
        middle = (low + high) / 2
        low, high = (middle, high) if _chi2_below(middle, df) < probability else (low, middle)
    return high


def _chi2_below(x: float, df: float) -> float:
    """P(chi2_df <= x): the series of the lower incomplete gamma function."""
    a, half = df / 2, x / 2
    if half <= 0:
        return 0.0
    term = total = 1.0
    k = 1
    while term > 1e-17 * total:
        term *= half / (a + k)
        total += term
        k += 1
    return min(1.0, math.exp(a * math.log(half) - half - math.lgamma(a + 1) + math.log(total)))


@lru_cache(maxsize=4096)
def quantile_t(df: float, alpha: float) -> float:
    """The t with upper tail alpha / 2."""
    return _smallest(lambda t: -_survival(t, df, 0.0), -alpha / 2, 0.0)


def _check(n: int, alpha: float) -> None:
    if n < 2:
        raise ValueError(f"{n} replicate(s) have no paired t test; at least 2 are needed")
    if not 0 < alpha < 1:
        raise ValueError(f"alpha {alpha} must lie strictly between 0 and 1")


@lru_cache(maxsize=4096)
def _detectable(n: int, alpha: float, target: float) -> float:
    """Smallest d_z that n replicates find."""
    return _smallest(lambda effect: power(effect, n, alpha), target, 0.0)


@lru_cache(maxsize=1024)
def _floor(df: float, alpha: float, target: float) -> float:
    """Smallest difference found by a t with `df`, in standard errors: seeds without end."""
    critical = quantile_t(df, alpha)
    return _smallest(
        lambda d: _survival(critical, df, d) + _survival(critical, df, -d), target, 0.0
    )


def _smallest(reached: Callable[[float], float], target: float, least: float) -> float:
    """Where a rising function reaches the target, not below `least`: Illinois's false position."""
    low, high = least, 2 * least or 1.0
    while (above := reached(high) - target) < 0:
        low, high = high, 2 * high
    below = reached(low) - target
    if below >= 0:
        return low
    kept = 0
    while high - low > 1e-10 * high:
        middle = (low * above - high * below) / (above - below)
        found = reached(middle) - target
        if abs(found) < 1e-11:
            return middle
        if found > 0:
            high, above = middle, found
            below /= 2 if kept > 0 else 1
            kept = 1
        else:
            low, below = middle, found
            above /= 2 if kept < 0 else 1
            kept = -1
    return high


def _fewest(low: int, high: int, enough: Callable[[int], bool]) -> int | None:
    """Smallest whole number in [low, high] for which a monotone condition holds."""
    if not enough(high):
        return None
    low -= 1  # `low` is taken not to be enough, `high` is
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if enough(middle) else (middle, high)
    return high


def _survival(t: float, df: float, shift: float) -> float:
    """P(T > t) of the noncentral t, for t >= 0.

    T > t exactly if Z + shift > t s with s = sqrt(chi2_df / df) independent of Z ~ N(0, 1), so the
    probability is the integral of Phi(shift - t s) over the density of s.
    """
    nodes = _density(df)
    return sum(weight * 0.5 * math.erfc((t * s - shift) / _SQRT2) for s, weight in nodes)


def _two_part(
    difference: float,
    seeds: float,
    prompts: float,
    df_seeds: float,
    df_prompts: float,
    alpha: float,
) -> float:
    """Power where the squared half-width sums two estimated variances, each by its own t."""
    # Degrees of freedom are rounded for the caches: a search asks for thousands of neighbours.
    t_seeds, t_prompts = quantile_t(df_seeds, alpha), quantile_t(round(df_prompts, 3), alpha)
    error = math.sqrt(2 * (seeds + prompts))
    a, b = t_seeds**2 * seeds, t_prompts**2 * prompts
    outer = [(a * s * s, weight) for s, weight in _density(df_seeds, _step(df_seeds, t_seeds))]
    more = round(df_prompts, 3)
    inner = [(b * s * s, weight) for s, weight in _density(more, _step(more, t_prompts))]
    total = 0.0
    for first, share in outer:
        for second, weight in inner:
            half = math.sqrt(first + second)
            right = math.erfc((half - difference) / error)
            wrong = math.erfc((half + difference) / error)
            total += share * weight * 0.5 * (right + wrong)
    return total


def _step(df: float, t: float) -> float:
    """Step in u for the sum over two densities: power falls from 1 to 0 within about 1 / t of u."""
    return min(0.7 / math.sqrt(2 * df), max(0.03, 1 / t))


@lru_cache(maxsize=1024)
def _density(df: float, step: float | None = None) -> tuple[tuple[float, float], ...]:
    """Nodes and weights over the density of s = sqrt(chi2_df / df), in u = log s.

    Equal steps in u resolve both the long left tail at small df and the narrow peak at large df.
    The density falls off smoothly at both ends, where the trapezoidal rule converges faster than
    any power of the step.
    """
    width = _WIDTHS / math.sqrt(2.0 * df)
    # To the left the density of u falls as exp(df u) only, of which exp(-28) = 7e-13 is left out.
    # To the right, at small df, s = 9 is a chi-squared of 81 and more.
    low = -max(width, 28.0 / df)
    high = math.log1p(width) if df > 2 else math.log(9.0)
    step = step or 0.1 * min(1 / math.sqrt(2 * df), 0.5)
    panels = math.ceil((high - low) / step)
    step = (high - low) / panels
    constant = math.log(2.0) + df / 2 * math.log(df / 2) - math.lgamma(df / 2)
    rows = []
    for i in range(panels + 1):
        u = low + i * step
        log_density = constant + df * u - df / 2 * math.exp(2 * u)
        rows.append((math.exp(u), step * math.exp(log_density)))
    return tuple(rows)
