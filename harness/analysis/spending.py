"""Critical levels of repeated looks: how much of alpha each may spend, and the p that spends it.

A study that stops when it is decided tests every contrast after each replicate from the third. Over
all its looks a true null must be rejected with probability alpha at most, so by replicate n of at
most N it may have been rejected with probability alpha (n / N)^2 (Lan and DeMets 1983; Kim and
DeMets 1987, power family): little while few replicates say anything, most of it at the end. What
looks before the third would have spent, were there any, is the third's. A look's level is the
two-sided p below which exactly the newly spent share falls; it is calibrated on the t statistics of
the looks themselves, because Gaussian levels give .057 to .061 for .05.

With iid normal differences of mean 0, S_n their sum and Q_n their sum of squares, Z_n = S_n /
sqrt(Q_n) is a function of T_n = Z_n sqrt((n - 1) / (n - Z_n^2)), does not depend on the spread, and
is a Markov chain: the next difference over sqrt(Q_n) is V = t_n / sqrt(n), independent of the
direction of those before, so that

    Z_{n+1} = (Z_n + V) / sqrt(1 + V^2).

Its law between the looks is followed numerically on cells of |Z|, with exact probabilities from the
points of one look to the cells of the next.
"""

from __future__ import annotations

import math
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from harness.journal.records import Spending

Floats = NDArray[np.float64]

CELLS = 160
"""Of |Z| at a look. Twice as many move no level by more than half a hundredth of itself."""
SMALLEST = 1e-12
"""Two-sided p below which no level is sought."""


def calibrated(
    at_most: int, alpha: float, family: int, *, first: int = 3, cells: int = CELLS
) -> Spending:
    """Levels for a family of contrasts: at alpha, at its halves down to alpha / family and below.

    The levels between are read off by interpolation (`Spending.level`).

    Args:
        at_most: replicates N, at least `first`.
        alpha: familywise error rate in (0, 1).
        family: contrasts planned.
        first: replicate of the first look.
        cells: how finely the law is followed.

    Raises:
        ValueError: if a number is outside its range.
    """
    if not 2 <= first <= at_most:
        raise ValueError(
            f"at most {at_most} replicates: the first look is after {first}, give more"
        )
    if not 0 < alpha < 1 or family < 1:
        raise ValueError(f"alpha {alpha} must lie in (0, 1), the family {family} be at least 1")
    # From far below the strictest share of a family, beneath which a level is in proportion to its
    # share, up to 1: a p corrected for looking may be anything.
    lower = [alpha]
    while lower[-1] > alpha / family / 16:
        lower.append(lower[-1] / 2)
    upper = [alpha * 2**k for k in range(1, 64) if alpha * 2**k < 0.9]
    shares = [*reversed(lower), *upper, 1.0]
    return Spending(
        at_most=at_most,
        first=first,
        alphas=shares,
        levels=[levels(at_most, share, first=first, cells=cells) for share in shares],
    )


def levels(at_most: int, alpha: float, *, first: int = 3, cells: int = CELLS) -> list[float]:
    """The level of each look from `first` to `at_most`, for one contrast tested at `alpha`."""
    level = alpha * (first / at_most) ** 2
    critical = [level]
    edges_t = _edges(level, first, cells)
    # Even entries are edges of cells; the odd ones between them are the points their mass stands
    # at.
    points, mass = _z(edges_t[1::2], first), np.diff(_within_t(edges_t[::2], first - 1))
    for n in range(first, at_most):
        level = _level(1 - alpha * ((n + 1) / at_most) ** 2, points, mass, n, critical[-1])
        critical.append(level)
        if n + 1 < at_most:
            z = _z(_edges(level, n + 1, cells), n + 1)
            mass = np.diff(mass @ _next_within(z[None, ::2], points[:, None], n))
            points = z[1::2]
    return critical


def _level(stay: float, points: Floats, mass: Floats, n: int, before: float) -> float:
    """The p at replicate n + 1 that lets the share `stay` go unrejected."""
    low, high = math.log(SMALLEST), 0.0
    # A thousandth of the level before is nearly always too little: the search begins there then.
    if not mass @ _next_within(_edge(before * 1e-3, n + 1), points, n) <= stay:
        low = math.log(before) - 7
    while high - low > 1e-7:
        middle = (low + high) / 2
        stays = float(mass @ _next_within(_edge(math.exp(middle), n + 1), points, n))
        low, high = (middle, high) if stays > stay else (low, middle)
    return math.exp((low + high) / 2)


def _next_within(y: Floats | float, z: Floats, n: int) -> Floats:
    """P(|Z_{n+1}| <= y) given |Z_n| = z.

    With V = tan phi, Z_{n+1} = sqrt(1 + z^2) sin(phi + atan z).
    """
    at, table = _below(n)

    def below(phi: Floats) -> Floats:
        return np.interp(phi, at, table)

    turn = np.arctan(z)
    angle = np.arcsin(np.minimum(1.0, y / np.sqrt(1 + z * z)))
    return below(angle - turn) - below(-angle - turn) + 1.0 - below(np.pi - angle - turn)


@lru_cache(maxsize=256)
def _below(n: int) -> tuple[Floats, Floats]:
    """P(arctan V <= phi) on a grid of phi so fine that straight lines between err by 1e-9."""
    from scipy.special import stdtr

    at = np.linspace(-np.pi / 2, np.pi / 2, 40_001)
    with np.errstate(all="ignore"):
        table: Floats = stdtr(n, math.sqrt(n) * np.tan(at))
    table[0], table[-1] = 0.0, 1.0
    return at, table


def _edges(level: float, n: int, cells: int) -> Floats:
    """Edges and points of the cells, by |t|, up to where the level rejects: evenly in asinh."""
    return np.sinh(np.linspace(0.0, math.asinh(_t(level, n)), 2 * cells + 1))


def _edge(level: float, n: int) -> float:
    t = _t(level, n)
    return math.sqrt(n) * t / math.sqrt(n - 1 + t * t)


def _t(level: float, n: int) -> float:
    from scipy.special import stdtrit

    return -float(stdtrit(n - 1, level / 2))


def _z(t: Floats, n: int) -> Floats:
    found: Floats = math.sqrt(n) * t / np.sqrt(n - 1 + t * t)
    return found


def _within_t(t: Floats, df: int) -> Floats:
    from scipy.special import stdtr

    found: Floats = 2.0 * stdtr(df, t) - 1.0
    return found
