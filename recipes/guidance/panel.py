"""TeacherPanel: frozen teachers, guided and mixed by velocity.

    s_real(x_t, t, c) = sum_m lambda_m s_m(x_t, t, c),  sum_m lambda_m = 1,  lambda_m >= 0

(Qwen-Image-Flash, arXiv 2606.03746, Eqs. 5-6), with lambda by the student's exit rung, by training
progress and by condition; see `settings.py`. Scores are affine in velocity with the same
coefficients for every teacher, and a row's weights sum to one, so mixing velocities equals mixing
scores (tested). A teacher judges only the rows where its weight is above zero, and only the rows
that are guided pay an unconditional forward.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from recipes.families.base import Condition, Family
from recipes.guidance.scales import guided_rows, scales_of
from recipes.guidance.settings import Guidance, Panel, Teacher


@dataclass(frozen=True)
class Part:
    """What one teacher does for a batch."""

    network: nn.Module
    rows_N: Tensor
    """Indices of the rows it judges, ascending."""
    weight_N: Tensor
    """Their lambda, float64."""
    scale_N: Tensor
    """Their guidance scale, float64."""

    @property
    def guided(self) -> Tensor:
        """Which of its rows need the unconditional velocity too, (N,) bool."""
        return self.scale_N != 1.0


class TeacherPanel:
    """Guided velocity of a convex mixture of frozen teachers."""

    def __init__(
        self,
        family: Family,
        networks: Mapping[str, nn.Module],
        teachers: Mapping[str, Teacher] | Mapping[str, float],
        guidance: Guidance | float,
        panel: Panel | None = None,
        negative_LD: Tensor | None = None,
    ) -> None:
        """Freeze the networks.

        Args:
            family: how velocities are computed.
            networks: of each teacher, by name.
            teachers: settings by name; a number stands for a plain share.
            guidance: settings; a number stands for a plain scale.
            panel: how teachers are combined; soft if None.
            negative_LD: embedding of the negative prompt (L, D), instead of the empty prompt's.

        Raises:
            ValueError: a share is negative, or none is positive.
        """
        self.family = family
        self.teachers = {
            name: t if isinstance(t, Teacher) else Teacher(share=t)
            for name, t in sorted(teachers.items())
        }
        if not sum(t.share for t in self.teachers.values()) > 0:
            raise ValueError(f"teacher shares of {sorted(teachers)} must sum to more than 0")
        self.guidance = guidance if isinstance(guidance, Guidance) else Guidance(scale=guidance)
        self.panel = panel or Panel()
        self.negative_LD = negative_LD
        used = {name: t for name, t in self.teachers.items() if t.share > 0}
        self.members = [(networks[name], t) for name, t in used.items()]
        """(network, settings) of every teacher of share above 0, by name."""
        for network, _ in self.members:
            network.requires_grad_(False).eval()

    @classmethod
    def load(
        cls,
        family: Family,
        teachers: Mapping[str, Teacher],
        guidance: Guidance,
        panel: Panel,
        network: Callable[[str], nn.Module] | None = None,
    ) -> TeacherPanel:
        """The panel of some settings, with networks and negative prompt of a family.

        `network` gives the network of named weights, where roles share one; else the family does.

        Raises:
            ValueError: the family does not know the weights or cannot encode the negative prompt.
        """
        network = network or family.network
        networks = {name: network(t.weights) for name, t in teachers.items() if t.share > 0}
        # A family whose empty prompt is the negative one already reads it beside each source.
        asked = guidance.negative != getattr(family, "negative", "")
        negative = family.condition([guidance.negative]).text_BLD[0] if asked else None
        return cls(family, networks, teachers, guidance, panel, negative)

    @torch.no_grad()
    def velocity(
        self,
        z_BCHW: Tensor,
        t_B: Tensor,
        condition: Condition,
        rungs_B: Tensor | None = None,
        progress: float = 0.0,
    ) -> Tensor:
        """Guided velocity (B, C, H, W); conditional and empty prompt go through one call.

        Args:
            z_BCHW: states.
            t_B: their noise levels.
            condition: what is asked, with labels where teachers are weighted by condition.
            rungs_B: the student's exit rung of each row (the paper's step index, reading A);
                needed where scale or weights are given by rung.
            progress: share of the cycles done (reading B).
        """
        return self.conditional_and_guided(z_BCHW, t_B, condition, rungs_B, progress)[1]

    @torch.no_grad()
    def conditional(
        self,
        z_BCHW: Tensor,
        t_B: Tensor,
        condition: Condition,
        rungs_B: Tensor | None = None,
        progress: float = 0.0,
    ) -> Tensor:
        """Unguided velocity (B, C, H, W), as `velocity` at scale 1: one forward a teacher."""
        mixed = torch.zeros_like(z_BCHW)
        for part in self._parts(t_B, condition, rungs_B, progress):
            rows = _all_or(part.rows_N, len(t_B))
            asked = condition.rows(rows)
            v = self.family.velocity(
                part.network,
                z_BCHW[rows],
                t_B[rows],
                asked.text_BLD,
                asked.source_BCHW,
                asked.mask_BL,
            )
            mixed[rows] += part.weight_N.to(v).view(-1, 1, 1, 1) * v
        return mixed

    @torch.no_grad()
    def conditional_and_guided(
        self,
        z_BCHW: Tensor,
        t_B: Tensor,
        condition: Condition,
        rungs_B: Tensor | None = None,
        progress: float = 0.0,
    ) -> tuple[Tensor, Tensor]:
        """`conditional` and `velocity` from the same calls."""
        mixed, mixed_guided = torch.zeros_like(z_BCHW), torch.zeros_like(z_BCHW)
        for part in self._parts(t_B, condition, rungs_B, progress):
            rows = _all_or(part.rows_N, len(t_B))
            v_cond, v = self._both(part, z_BCHW[rows], t_B[rows], condition.rows(rows))
            weight = part.weight_N.to(v).view(-1, 1, 1, 1)
            mixed[rows] += weight * v_cond
            mixed_guided[rows] += weight * v
        return mixed, mixed_guided

    def forwards(
        self,
        t_B: Tensor,
        condition: Condition,
        rungs_B: Tensor | None = None,
        progress: float = 0.0,
    ) -> float:
        """Teacher forwards that `velocity` spends on the same arguments, in units of F.

        F is one forward on all B rows. A plain teacher costs 2, at scale 1 it costs 1.
        """
        parts = self._parts(t_B, condition, rungs_B, progress)
        return sum(len(part.rows_N) + int(part.guided.sum()) for part in parts) / len(t_B)

    def weights(
        self, condition: Condition, rungs_B: Tensor | None = None, progress: float = 0.0
    ) -> Tensor:
        """Lambda of each member for each row, (M, B) float64; columns sum to one.

        Raises:
            ValueError: no teacher judges some row.
        """
        count = condition.text_BLD.shape[0]
        task = "t2i" if condition.source_BCHW is None else "edit"
        rungs = [None] * count if rungs_B is None else rungs_B.tolist()
        rows = list(zip(rungs, condition.labels or (None,) * count, strict=True))
        weights_MB = torch.tensor(
            [[t.weight(r, progress, task, c) for r, c in rows] for _, t in self.members],
            dtype=torch.float64,
        )
        total_B = weights_MB.sum(0)
        if not bool((total_B > 0).all()):
            rung, label = rows[int(total_B.argmin())]
            raise ValueError(f"no teacher judges {task} rows of label {label} and rung {rung}")
        if self.panel.mix == "hard":
            # Of equals `argmax` takes the first, and members stand by name: no further randomness
            # is needed. The price: it is no unbiased sample of the mixture.
            return torch.nn.functional.one_hot(weights_MB.argmax(0), len(weights_MB)).T.double()
        return weights_MB / total_B

    def _parts(
        self, t_B: Tensor, condition: Condition, rungs_B: Tensor | None, progress: float
    ) -> list[Part]:
        parts = []
        weights_MB = self.weights(condition, rungs_B, progress)
        for (network, teacher), weight_B in zip(self.members, weights_MB, strict=True):
            rows = weight_B.nonzero()[:, 0]
            if len(rows):
                scale_B = scales_of(self.guidance, t_B, rungs_B, teacher.guidance)
                parts.append(Part(network, rows, weight_B[rows], scale_B[rows]))
        return parts

    def _both(
        self, part: Part, z: Tensor, t: Tensor, condition: Condition
    ) -> tuple[Tensor, Tensor]:
        """Conditional and guided velocity of a teacher's own rows."""
        text, source, mask = condition.text_BLD, condition.source_BCHW, condition.mask_BL
        if not bool(part.guided.any()):
            v = self.family.velocity(part.network, z, t, text, source, mask)
            return v, v
        count = len(t)
        rows = _all_or(part.guided.nonzero()[:, 0], count)
        empty = condition.empty_BLD if self.negative_LD is None else self.negative_LD
        v = self.family.velocity(
            part.network,
            torch.cat([z, z[rows]]),
            torch.cat([t, t[rows]]),
            torch.cat([text, empty.expand_as(text)[rows]]),
            None if source is None else torch.cat([source, source[rows]]),
            None if mask is None else torch.cat([mask, _given(condition.empty_mask_BL)[rows]]),
        )
        v_cond, v_uncond = v[:count], v[count:]
        v_guided = v_cond.clone()
        v_guided[rows] = guided_rows(
            z[rows], t[rows], v_cond[rows], v_uncond, part.scale_N[part.guided],
            self.guidance.rescale,
        )  # fmt: skip
        return v_cond, v_guided


def _given(mask_BL: Tensor | None) -> Tensor:
    assert mask_BL is not None, "a family that masks its text masks the empty prompt too"
    return mask_BL


def _all_or(rows_N: Tensor, count: int) -> Tensor | slice:
    """A slice where the rows are all of them, which copies nothing."""
    return slice(0, count) if len(rows_N) == count else rows_N
