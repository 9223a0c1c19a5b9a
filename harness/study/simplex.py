"""Mixtures: shares of named components that sum to 1 (simplex values), e.g. of tasks or data."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from fractions import Fraction
from functools import lru_cache

from harness.text.spelling import nearest

TOLERANCE = 1e-9
"""A sum this close to 1 is left as written, so that resolving a resolved mixture changes no bit."""


class MixtureError(ValueError):
    """A mixture that cannot be resolved: says what was given and what is allowed."""


def normalise(
    value: object, components: Sequence[str], *, closed: bool = False
) -> dict[str, float]:
    """Shares that sum to 1, zeros kept; from a map of weights or a ratio such as `"9:1"`.

    Weights are taken as the decimals they are written as, so `{a: 0.3, b: 0.3}`, `{a: 1, b: 1}` and
    `"1:1"` give the same bits and thus the same trial key.

    Args:
        value: name to weight, or a ratio in the order of `components`.
        components: the declared names, in order; only a ratio needs them.
        closed: refuse other names than these.

    Raises:
        MixtureError: if all weights are zero, one is negative or not finite, or a ratio has not
            one number per component.
    """
    weights = _ratio(value, components) if isinstance(value, str) else _weights(value)
    unknown = [name for name in weights if name not in components] if closed else []
    if unknown:
        hint = nearest(unknown[0], components)
        raise MixtureError(f"no component {unknown[0]!r} in the mixture{hint}")
    if abs(math.fsum(weights.values()) - 1) <= TOLERANCE:
        return {name: float(weight) for name, weight in weights.items()}
    total = sum((_exact(w) for w in weights.values()), Fraction(0))
    if total == 0:
        raise MixtureError(
            f"mixture {_shown(weights)} is all zero; at least one share must be positive"
        )
    return {name: float(_exact(weight) / total) for name, weight in weights.items()}


def with_components(base: Mapping[str, float], given: Mapping[str, object]) -> dict[str, float]:
    """Set some components of a mixture; the others are rescaled to what is left.

    Several components given together do not depend on their order. A single other component takes
    the rest even from zero.

    Args:
        base: the mixture so far, any positive scale; defines which components there are.
        given: component to share, each in [0, 1], their sum at most 1.

    Raises:
        MixtureError: for an unknown component, a share outside [0, 1], a sum above 1, or a rest
            that the other components (all zero, and more than one) give no way to divide.
    """
    for name, share in given.items():
        if name not in base:
            raise MixtureError(f"no component {name!r}; the mixture has {', '.join(base)}")
        if not _is_number(share) or not 0 <= share <= 1:  # type: ignore[operator]
            raise MixtureError(f"share {name}: {share!r} must be a number from 0 to 1")
    return dict(_rescaled(tuple(base.items()), tuple(given.items())))


def without_zeros(shares: Mapping[str, float]) -> dict[str, float]:
    """The components that take part: how a mixture enters the trial key."""
    return {name: share for name, share in shares.items() if share != 0}


_Shares = tuple[tuple[str, float], ...]


@lru_cache(maxsize=4096)  # exact fractions are slow, and large plans repeat few mixtures
def _rescaled(base_items: _Shares, given_items: _Shares) -> _Shares:
    base, given = dict(base_items), dict(given_items)
    fixed = {name: _exact(share) for name, share in given.items()}
    rest = 1 - sum(fixed.values(), Fraction(0))
    others = {name: _exact(base[name]) for name in base if name not in fixed}
    if abs(rest) <= TOLERANCE:
        rest = Fraction(0)
    if rest < 0:
        raise MixtureError(f"shares {_shown(given)} sum to more than 1")
    if rest > 0 and not others:
        raise MixtureError(
            f"shares {_shown(given)} name every component but sum to {float(1 - rest):g}, not 1"
        )
    total = sum(others.values(), Fraction(0))
    if rest > 0 and total == 0 and len(others) > 1:
        raise MixtureError(
            f"{_shown(given)} leaves {float(rest):g} to {', '.join(others)}, which are all zero; "
            "give the whole mixture instead"
        )
    scaled = {
        name: rest / len(others) if total == 0 else share * rest / total
        for name, share in others.items()
    }
    shares = {**dict.fromkeys(base, Fraction(0)), **scaled, **fixed}
    return tuple((name, float(shares[name])) for name in base)


def _weights(value: object) -> dict[str, float]:
    if not isinstance(value, Mapping):
        raise MixtureError(
            f"{value!r} is not a mixture; give a map of component to weight, or a ratio like '9:1'"
        )
    for name, weight in value.items():
        if not _is_number(weight) or weight < 0:
            raise MixtureError(f"weight {name}: {weight!r} must be a finite number, 0 or more")
    return {str(name): weight for name, weight in value.items()}


def _ratio(text: str, components: Sequence[str]) -> dict[str, float]:
    parts = text.split(":")
    if len(parts) != len(components):
        raise MixtureError(
            f"ratio {text!r} has {len(parts)} numbers for {len(components)} components "
            f"({', '.join(components)})"
        )
    try:
        numbers = [float(part) for part in parts]
    except ValueError:
        raise MixtureError(f"ratio {text!r} must be numbers separated by ':', like '9:1'") from None
    return _weights(dict(zip(components, numbers, strict=True)))


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def _exact(value: float) -> Fraction:
    return Fraction(repr(value))  # the decimal as written, not the binary double


def _shown(weights: Mapping[str, object]) -> str:
    return "{" + ", ".join(f"{name}: {weight}" for name, weight in weights.items()) + "}"
