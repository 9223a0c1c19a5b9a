"""Ledger: network forwards per role, counted in rows by hooks, in units of F.

F is one forward on the micro-batch. The floor of a DMD cycle (reference: rollout with early exit,
guidance in one call, first fake update on the student's sample) is asserted in the tests.
"""

from __future__ import annotations

from collections import Counter

from torch import nn


class Ledger:
    """Counts rows that pass through each role's network, with and without gradient."""

    def __init__(self) -> None:
        self.rows: Counter[str] = Counter()
        self.calls: Counter[str] = Counter()
        self._handles: list[object] = []

    def reset(self) -> None:
        """Forget what was counted so far."""
        self.rows.clear()
        self.calls.clear()

    def watch(self, role: str, module: nn.Module) -> None:
        """Count every forward of `module` under `role`."""

        def count(_module: nn.Module, args: tuple[object, ...], kwargs: dict[str, object]) -> None:
            # Diffusers' transformers are called by keywords.
            first = args[0] if args else kwargs["hidden_states"]
            kind = f"{role}.grad" if _grad_enabled(_module) else role
            self.rows[kind] += int(first.shape[0])
            self.calls[kind] += 1

        self._handles.append(module.register_forward_pre_hook(count, with_kwargs=True))

    def forwards(self, batch_size: int) -> dict[str, float]:
        """Forwards per role in units of F = one forward on `batch_size` rows."""
        return {role: rows / batch_size for role, rows in sorted(self.rows.items())}

    def cost(self, batch_size: int) -> float:
        """Total in F, a backward counted as two forwards."""
        return (
            # A backward pass takes gradients of inputs and of weights, a forward's work each.
            sum(rows * (3.0 if role.endswith(".grad") else 1.0) for role, rows in self.rows.items())
            / batch_size
        )


def _grad_enabled(module: nn.Module) -> bool:
    import torch

    return torch.is_grad_enabled() and any(p.requires_grad for p in module.parameters())
