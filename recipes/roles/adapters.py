"""Adapters on one frozen base network: a role is a set of low-rank factors.

W_role = W + (alpha / rank) B A (LoRA, arXiv 2106.09685), A random and B zero, so that every role
starts as the base. Switching PEFT adapters flips `requires_grad` and so loses gradients of a graph
built before the switch; here a role is chosen at the forward and plain autograd does the rest.
Legend: R rank, I inputs, O outputs.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from recipes.roles.checkpointing import ActiveRole, checkpoint_activations
from recipes.roles.settings import Roles, Targets

MARKS: dict[Targets, tuple[str, ...]] = {
    "attention": ("attn.",),
    "mlp": ("mlp.",),
    "attention+mlp": ("attn.", "mlp."),
    "all": ("",),
}
"""What the path of a targeted layer holds, one or the other, in diffusers' names of Qwen-Image."""


class LowRank(nn.Module):
    """Factors of one layer: A (R, I) and B (O, R), at least float32."""

    def __init__(self, layer: nn.Linear, rank: int, generator: torch.Generator) -> None:
        super().__init__()
        weight = layer.weight
        kind = {
            "dtype": torch.promote_types(weight.dtype, torch.float32),
            "device": weight.device,
        }
        # Drawn on the CPU whatever the device, so that a role starts alike everywhere.
        drawn = torch.empty(rank, layer.in_features)
        nn.init.kaiming_uniform_(drawn, a=5**0.5, generator=generator)
        self.A_RI = nn.Parameter(drawn.to(**kind))
        self.B_OR = nn.Parameter(torch.zeros(layer.out_features, rank, **kind))

    def forward(self, x: Tensor) -> Tensor:
        """B A x, in the factors' precision."""
        return x.to(self.A_RI.dtype) @ self.A_RI.T @ self.B_OR.T


class RoleLinear(nn.Module):
    """A frozen linear layer plus what the active role adds to it."""

    def __init__(self, base: nn.Linear, name: str, active: ActiveRole, scaling: float) -> None:
        super().__init__()
        self.base = base
        self.name = name
        self.active = active
        self.scaling = scaling

    def forward(self, x: Tensor) -> Tensor:
        """W x + b + scaling B A x."""
        y: Tensor = self.base(x)
        factors = self.active.factors
        if self.name not in factors:
            return y
        return y + (self.scaling * factors[self.name](x)).to(y.dtype)


class SharedBase:
    """One frozen network in eval mode, on which any number of roles stand."""

    def __init__(self, network: nn.Module, settings: Roles) -> None:
        """Put role layers in place of the targeted linear layers.

        Raises:
            ValueError: no layer is targeted, or the rank is above the smaller side of one.
        """
        self.network = network.requires_grad_(False).eval()
        self.rank = settings.rank
        self.scaling = settings.scaling
        self.active = ActiveRole()
        # Linear layers only, and one rank for all of them: biases and norms stay the base's.
        self.layers: dict[str, nn.Linear] = {
            path: module
            for path, module in network.named_modules()
            if isinstance(module, nn.Linear) and any(m in path for m in MARKS[settings.targets])
        }
        if not self.layers:
            raise ValueError(
                f"roles.targets={settings.targets!r} matches no linear layer of "
                f"{type(network).__name__}; choose all, or roles.kind copies"
            )
        smallest = min(min(m.in_features, m.out_features) for m in self.layers.values())
        if settings.rank > smallest:
            raise ValueError(
                f"roles.rank={settings.rank} is above {smallest}, full rank of the smallest "
                "targeted layer; lower it"
            )
        for path, layer in self.layers.items():
            replace(network, path, RoleLinear(layer, _key(path), self.active, self.scaling))
        if settings.activation_checkpointing:
            checkpoint_activations(network, self.active)

    def role(self, seed: int) -> RoleView:
        """A new role that starts as the base; `seed` draws its A."""
        generator = torch.Generator().manual_seed(seed)
        factors = {
            _key(path): LowRank(layer, self.rank, generator) for path, layer in self.layers.items()
        }
        return RoleView(self, nn.ModuleDict(factors))

    def bare(self) -> RoleView:
        """The base itself: a teacher. It has no parameters of its own."""
        return RoleView(self, nn.ModuleDict())


class RoleView(nn.Module):
    """A role as a network of its own: its parameters and its state are its factors only."""

    def __init__(self, shared: SharedBase, factors: nn.ModuleDict) -> None:
        super().__init__()
        self.shared = shared  # no module, so its parameters are not this role's
        self.factors = factors

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        """The base's forward with this role's adapters."""
        with self.shared.active.use(self.factors):
            return self.shared.network(*args, **kwargs)

    def __deepcopy__(self, memo: dict[int, Any]) -> RoleView:
        """Another role with equal factors, on the same base."""
        return RoleView(self.shared, copy.deepcopy(self.factors, memo))

    def merged(self) -> nn.Module:
        """A plain network of the base's class, the adapters added to its weights."""
        # Measured and exported merged: what is exported is then what was measured, bit for bit,
        # where adding the factors' output instead differs in the last digits. The price is one more
        # copy of the network meanwhile; see `recipes/subject/training.py` for networks too large
        # for that.
        network = copy.deepcopy(self.shared.network)
        for path, layer in self.shared.layers.items():
            linear = copy.deepcopy(layer)
            factors = self.factors[_key(path)]
            with torch.no_grad():
                update = self.shared.scaling * (factors.B_OR @ factors.A_RI)
                linear.weight += update.to(linear.weight.dtype)
            replace(network, path, linear)
        if getattr(network, "is_gradient_checkpointing", False):
            network.disable_gradient_checkpointing()
        return network.eval()

    def lora(self) -> dict[str, Tensor]:
        """Factors by PEFT's names, `<layer>.lora_A.weight`; B includes the scaling."""
        found: dict[str, Tensor] = {}
        for path in self.shared.layers:
            factors = self.factors[_key(path)]
            found[f"{path}.lora_A.weight"] = factors.A_RI.detach().clone()
            found[f"{path}.lora_B.weight"] = self.shared.scaling * factors.B_OR.detach()
        return found

    def load_lora(self, factors: Mapping[str, Tensor]) -> None:
        """Take over what `lora` gave.

        Raises:
            ValueError: the names are not those of this role's layers.
        """
        own = {f"{path}.lora_{side}.weight" for path in self.shared.layers for side in "AB"}
        if own != set(factors):
            odd = sorted(own ^ set(factors))[:3]
            raise ValueError(f"the adapters do not fit the targeted layers; {odd} do not match")
        with torch.no_grad():
            for path in self.shared.layers:
                held = self.factors[_key(path)]
                held.A_RI.copy_(factors[f"{path}.lora_A.weight"])
                held.B_OR.copy_(factors[f"{path}.lora_B.weight"] / self.shared.scaling)


def deployed(network: nn.Module) -> nn.Module:
    """The network as it is exported and measured: adapters merged, a full copy itself."""
    return network.merged() if isinstance(network, RoleView) else network


def replace(network: nn.Module, path: str, module: nn.Module) -> None:
    """Put a module where another one was."""
    parent, _, name = path.rpartition(".")
    setattr(network.get_submodule(parent), name, module)


def _key(path: str) -> str:
    """A module's path as a name that torch takes for a child."""
    return path.replace(".", "/")
