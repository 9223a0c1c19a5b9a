"""Activation checkpointing that remembers whose adapters a forward used.

A checkpointed block runs again in the backward pass. By then another role may be active, and the
recomputed block would silently use its adapters: a wrong gradient, no exception (tested). So the
role is captured at the forward and set again around the recomputation.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from torch import nn
from torch.utils.checkpoint import checkpoint


class ActiveRole:
    """The adapters in use. A plain attribute, because CUDA runs backward passes in own threads."""

    def __init__(self) -> None:
        self.factors: nn.ModuleDict = nn.ModuleDict()
        """Adapters by layer; empty for the bare base."""

    @contextmanager
    def use(self, factors: nn.ModuleDict) -> Iterator[None]:
        """Make a role's adapters the active ones, and those before it again afterwards."""
        before, self.factors = self.factors, factors
        try:
            yield
        finally:
            self.factors = before

    def checkpointed(self, block: Callable[..., Any], *args: Any) -> Any:
        """Run a block now and again in the backward pass, both times as today's role."""
        factors = self.factors

        def as_now(*inputs: Any) -> Any:
            with self.use(factors):
                return block(*inputs)

        return checkpoint(as_now, *args, use_reentrant=False)


def checkpoint_activations(network: nn.Module, active: ActiveRole | None = None) -> None:
    """Recompute the blocks of a diffusers model; passes without gradient are left alone.

    Raises:
        ValueError: the network knows no activation checkpointing.
    """
    enable = getattr(network, "enable_gradient_checkpointing", None)
    if enable is None:
        raise ValueError(
            f"{type(network).__name__} has no activation checkpointing; "
            "set roles.activation_checkpointing to false"
        )
    enable(None if active is None else active.checkpointed)
