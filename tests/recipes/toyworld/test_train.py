"""The retrain command, end to end at a tiny scale."""

import pytest
import torch
from safetensors.torch import save_file

from recipes.toyworld import train, weights
from recipes.toyworld.fit_specialist import add_low_rank
from recipes.toyworld.fit_teacher import flat_gradients, flow_loss
from recipes.toyworld.models import transformer, velocity
from recipes.toyworld.text_encoder import ToyTextEncoder


@pytest.mark.slow
def test_every_weight_can_be_retrained_and_loaded(tmp_path) -> None:
    train.main(["all", "--out", str(tmp_path), "--steps-scale", "0.0005"])
    for name in weights.NAMES:
        model = weights.load(name, folder=tmp_path)
        assert not model.training
        assert all(torch.isfinite(v).all() for v in model.state_dict().values())
    assert sum(f.stat().st_size for f in tmp_path.glob("*.safetensors")) < 12e6
    base, special = (
        weights.load(n, folder=tmp_path).state_dict() for n in ("teacher", "specialist")
    )
    moved = [key for key in base if not torch.equal(base[key], special[key])]
    assert moved
    assert all(key.startswith("transformer_blocks") for key in moved)


def test_a_bad_scale_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit, match="2"):
        train.main(["oracle", "--steps-scale", "0"])
    assert "must be positive" in capsys.readouterr().err


def test_flat_gradients_are_what_backward_fills() -> None:
    torch.manual_seed(0)
    model, encoder = transformer({"num_layers": 1}), ToyTextEncoder()
    both = torch.nn.ModuleList([model, encoder])
    flat = flat_gradients(both)
    batch = (["turn it grey", ""], torch.randn(2, 48, 3, 3), torch.randn(2, 48, 3, 3))
    loss = flow_loss(
        model, encoder, batch, torch.Generator().manual_seed(0), dropout=0.0, t_mean=0.0
    )
    loss.backward()
    again = torch.cat([p.grad.flatten() for p in both.parameters()])
    assert torch.equal(flat, again)
    assert flat.abs().sum() > 0


def test_the_loss_is_zero_for_the_true_velocity() -> None:
    """A model that answers noise - data exactly has no loss: the sign and scale conventions."""
    x, source = torch.randn(2, 3, 48, 3, 3, generator=torch.Generator().manual_seed(1))

    class Truth(torch.nn.Module):
        def forward(self, hidden_states, timestep, **_):
            z, data = hidden_states[:, :9], x.flatten(2).transpose(1, 2)
            return (torch.cat([(z - data) / timestep.view(-1, 1, 1), z], dim=1),)

    loss = flow_loss(
        Truth(),
        ToyTextEncoder(),
        (["", "turn it grey", "make it night"], x, source),
        torch.Generator().manual_seed(2),
        dropout=0.5,
        t_mean=0.2,
    )
    assert loss < 1e-9


def test_merged_low_rank_weights_equal_the_adapted_model() -> None:
    torch.manual_seed(0)
    model = transformer({"num_layers": 1})
    base = {key: value.clone() for key, value in model.state_dict().items()}
    adapters = add_low_rank(model, rank=3)
    state = {}
    for key, adapter in adapters.items():
        torch.nn.init.normal_(adapter.up, std=0.1)
        state |= {f"{key}.up": adapter.up.detach(), f"{key}.down": adapter.down.detach()}
    other = transformer({"num_layers": 1})
    other.load_state_dict(weights.merge_low_rank(base, state))
    z, t, text = torch.randn(2, 48, 3, 3), torch.rand(2), torch.randn(2, 6, 96)
    with torch.no_grad():
        assert torch.allclose(velocity(model, z, t, text), velocity(other, z, t, text), atol=1e-5)
        assert not torch.equal(
            base["transformer_blocks.0.attn.to_q.weight"],
            other.state_dict()["transformer_blocks.0.attn.to_q.weight"],
        )


def test_weights_of_another_renderer_are_refused(tmp_path) -> None:
    save_file(
        ToyTextEncoder().state_dict(),
        tmp_path / "text_encoder.safetensors",
        metadata={"renderer": "0" * 64},
    )
    with pytest.raises(ValueError, match=r"retrain with `/.* -m recipes.toyworld.train teacher`"):
        weights.load("text_encoder", folder=tmp_path)
    assert weights.load("text_encoder", check=False, folder=tmp_path) is not None


def test_unknown_or_missing_weights_say_what_to_do(tmp_path) -> None:
    with pytest.raises(ValueError, match="choose one of autoencoder, teacher"):
        weights.load("teachers")
    with pytest.raises(ValueError, match=r"train it with `/.* -m recipes\.toyworld\.train oracle`"):
        weights.load("oracle", folder=tmp_path)
