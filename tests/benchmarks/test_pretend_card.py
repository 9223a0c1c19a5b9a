"""The pretended card: it refuses what CUDA refuses, and computes what the CPU computes."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import nn
from torch.utils.checkpoint import checkpoint

from tests.benchmarks.pretend_card import pretended


@pytest.fixture(autouse=True)
def _card():
    with pretended():
        yield


def test_tensors_of_two_devices_do_not_meet():
    on_card, on_cpu = torch.ones(3, device="card"), torch.ones(3)
    with pytest.raises(RuntimeError, match="one device"):
        on_card + on_cpu
    with pytest.raises(RuntimeError, match="one device"):
        torch.cat([on_cpu, on_card])
    with pytest.raises(RuntimeError, match="indices on the card"):
        on_cpu[torch.tensor([0], device="card")]
    with pytest.raises(RuntimeError, match="numpy"):
        on_card.numpy()
    with pytest.raises(RuntimeError, match="generator"):
        torch.randn(3, device="card", generator=torch.Generator())
    # As on CUDA: numbers and indices of the CPU are welcome, copies go both ways.
    assert (on_card * torch.tensor(2.0)).device.type == "card"
    assert on_card[torch.tensor([0, 2])].tolist() == [1.0, 1.0]
    on_cpu.copy_(on_card * 3)
    assert on_cpu.tolist() == [3.0, 3.0, 3.0]


def _network() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(4, 8), nn.GELU(), nn.Linear(8, 4))


def _stepped(network: nn.Module, x: torch.Tensor) -> list[torch.Tensor]:
    optimiser = torch.optim.AdamW(network.parameters(), 0.1, fused=True)
    for _ in range(2):
        y = checkpoint(network, x, use_reentrant=False)
        # Complex numbers, as rotary positions: their conjugates in the backward are lazy.
        turned = torch.view_as_complex(y.reshape(-1, 2)) * torch.polar(
            torch.ones(1, device=x.device), torch.ones(1, device=x.device)
        )
        torch.view_as_real(turned).square().sum().backward()
        nn.utils.clip_grad_norm_(network.parameters(), 1.0, foreach=True)
        optimiser.step()
        optimiser.zero_grad(set_to_none=True)
    return [p.detach().cpu() for p in network.parameters()]


def test_training_is_the_cpus_to_the_bit():
    x, network = torch.randn(5, 4), _network()
    there = copy.deepcopy(network).to("card")
    assert all(p.device.type == "card" for p in there.parameters())
    for ours, theirs in zip(_stepped(there, x.to("card")), _stepped(network, x), strict=True):
        assert torch.equal(ours, theirs)


def test_a_module_changes_its_parameters_in_place_when_it_is_cast():
    network = _network().to("card")
    kept = next(network.parameters())
    network.to(torch.bfloat16)
    assert next(network.parameters()) is kept
    assert network(torch.ones(1, 4, device="card", dtype=torch.bfloat16)).dtype == torch.bfloat16


def test_files_are_read_back_where_there_is_no_card(tmp_path):
    torch.save({"x": torch.ones(2, device="card")}, tmp_path / "x.pt")
    back = torch.load(tmp_path / "x.pt", weights_only=True)["x"]
    assert back.device.type == "cpu"
