"""Distances of one category that can leave out groups of its prompts, for their jackknife.

A fixed reference stays as it is; a reference made of the same prompts, as a teacher's samples or
the true results of edits, loses the prompt as well.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from evaluation.frechet import Gaussian, frechet_distance, gaussian_distance
from evaluation.jackknife import Groups, Stratum, prompt_groups
from evaluation.kernel import KernelTerms, kernel_distance
from evaluation.matrices import Matrix


@dataclass(frozen=True)
class LeftOut:
    """Which samples each group of prompts takes along.

    Attributes:
        label_N: group of each sample.
        prompts: how many prompts there are, at least as many as groups.
    """

    label_N: Groups
    prompts: int

    @classmethod
    def of(cls, prompts_N: Sequence[str], most_groups: int) -> LeftOut:
        """Groups of the prompts of N samples: one each, where there are no more than allowed."""
        return cls(prompt_groups(prompts_N, most_groups), len(set(prompts_N)))

    def stratum(self, distance: Callable[[int | None], float]) -> Stratum:
        """A distance that knows these groups; it needs two samples."""
        sizes = np.bincount(self.label_N)
        lonely = len(sizes) > 1 and len(self.label_N) - sizes.max() < 2
        why = "without one of its prompts a category has one sample" if lonely else ""
        return Stratum(distance, len(sizes), self.prompts, why)

    def frechet(self, x_ND: Matrix, reference: Gaussian) -> Stratum:
        """Frechet distance to a fixed reference."""

        def distance(group: int | None) -> float:
            kept = x_ND if group is None else x_ND[self.label_N != group]
            return gaussian_distance(Gaussian.from_features(kept), reference)

        return self.stratum(distance)

    def frechet_between(self, x_ND: Matrix, y_MD: Matrix) -> Stratum:
        """Frechet distance to a reference of the same prompts."""
        label_M = self._labels_of(y_MD)

        def distance(group: int | None) -> float:
            if group is None:
                return frechet_distance(x_ND, y_MD)
            return frechet_distance(x_ND[self.label_N != group], y_MD[label_M != group])

        return self.stratum(distance)

    def kernel_between(self, x_ND: Matrix, y_MD: Matrix) -> Stratum:
        """Kernel distance to a reference of the same prompts."""
        label_M = self._labels_of(y_MD)

        def distance(group: int | None) -> float:
            if group is None:
                return KernelTerms.build(x_ND, y_MD, self.label_N).distance()
            return kernel_distance(x_ND[self.label_N != group], y_MD[label_M != group])

        return self.stratum(distance)

    def _labels_of(self, y_MD: Matrix) -> Groups:
        """Group of each row of a reference that holds all samples' items in order, once a draw.

        Other references are fixed: no row has a group.
        """
        draws, rest = divmod(len(y_MD), len(self.label_N))
        return np.full(len(y_MD), -1) if rest else np.tile(self.label_N, draws)
