"""Trains a tiny DDPM of coloured blobs with diffusers. Knows nothing of Stillhouse.

python train.py --output out --seed 0 --steps 60 --lr 2e-3 --prediction epsilon
"""

import argparse
import json
import pathlib

import torch
from diffusers import DDPMPipeline, DDPMScheduler, UNet2DModel
from torch.nn.functional import mse_loss

parser = argparse.ArgumentParser()
parser.add_argument("--output", type=pathlib.Path, required=True)
parser.add_argument("--seed", type=int, required=True)
parser.add_argument("--steps", type=int, default=60)
parser.add_argument("--lr", type=float, default=2e-3)
parser.add_argument("--prediction", choices=["epsilon", "v_prediction"], default="epsilon")
parser.add_argument("--resume", type=pathlib.Path)
args = parser.parse_args()

SIZE, BATCH, EVERY = 16, 16, 20
scheduler = DDPMScheduler(prediction_type=args.prediction)
torch.manual_seed(args.seed)
unet = UNet2DModel(
    sample_size=SIZE, block_out_channels=(32, 32), layers_per_block=1, norm_num_groups=8,
    down_block_types=("DownBlock2D", "DownBlock2D"), up_block_types=("UpBlock2D", "UpBlock2D"),
)  # fmt: skip
optimiser = torch.optim.AdamW(unet.parameters(), lr=args.lr)


def blobs(generator):
    """Pictures (BATCH, 3, SIZE, SIZE) in [-1, 1]: one blob each, anywhere, in any colour."""
    place = torch.rand(BATCH, 2, 1, 1, generator=generator) * SIZE
    colour = torch.rand(BATCH, 3, 1, 1, generator=generator) * 2 - 1
    axis = torch.arange(SIZE)
    far = (axis.view(1, -1, 1) - place[:, 0]) ** 2 + (axis.view(1, 1, -1) - place[:, 1]) ** 2
    return colour * torch.exp(-far / 18).unsqueeze(1)


def clean_error(generator):
    """Squared error of the predicted clean picture: comparable across kinds of prediction."""
    clean = blobs(generator)
    noise = torch.randn(clean.shape, generator=generator)
    t = torch.randint(0, 1000, (BATCH,), generator=generator)
    noisy = scheduler.add_noise(clean, noise, t)
    said = unet(noisy, t).sample
    share = scheduler.alphas_cumprod[t].view(-1, 1, 1, 1)
    if args.prediction == "epsilon":
        target = noise
        found = (noisy - (1 - share).sqrt() * said) / share.sqrt()
    else:
        target = scheduler.get_velocity(clean, noise, t)
        found = share.sqrt() * noisy - (1 - share).sqrt() * said
    return mse_loss(said, target), mse_loss(found.clamp(-1, 1), clean)


def log(step, **metrics):
    """Append a line to the progress file."""
    with (args.output / "progress.jsonl").open("a") as stream:
        stream.write(json.dumps({"step": step, "total": args.steps, "metrics": metrics}) + "\n")


args.output.mkdir(parents=True, exist_ok=True)
start = 0
if args.resume:
    state = torch.load(args.resume / "state.pt", weights_only=True)
    unet.load_state_dict(state["unet"])
    optimiser.load_state_dict(state["optimiser"])
    start = state["step"]
for step in range(start + 1, args.steps + 1):
    loss, _ = clean_error(torch.Generator().manual_seed(args.seed + step))
    optimiser.zero_grad()
    loss.backward()
    optimiser.step()
    if step % EVERY == 0:
        log(step, **{"train/loss": loss.item()})
        part = args.output / f"part-{step}"
        part.mkdir(exist_ok=True)
        state = {"step": step, "unet": unet.state_dict(), "optimiser": optimiser.state_dict()}
        torch.save(state, part / "state.pt")
        part.rename(args.output / f"checkpoint-{step}")  # whole, or not there
with torch.no_grad():
    errors = [clean_error(torch.Generator().manual_seed(9_000 + i))[1].item() for i in range(8)]
log(args.steps, **{"val/clean_error": sum(errors) / len(errors)})
DDPMPipeline(unet, scheduler).save_pretrained(args.output / "student")
print("validation error", sum(errors) / len(errors))
