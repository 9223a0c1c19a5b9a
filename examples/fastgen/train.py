"""A stand-in for a trainer of FastGen's shape: Python config, a bare `-`, then Hydra overrides.

python train.py --config=configs/dmd2.py - trainer.seed=1 model.guidance_scale=4.0 log_config.name=x

It trains nothing: it "distils" by copying a teacher and moving its weights a little, as far as the
learning rate and the iterations say, so that there is a student to measure.
"""

import json
import os
import pathlib
import sys

import torch

from recipes.export import export
from recipes.families.toyworld import shared
from recipes.recipe import Recipe

config, dash, *overrides = sys.argv[1:]
if not config.startswith("--config=") or dash != "-":
    sys.exit("usage: train.py --config=FILE - key=value ...")
told = dict(override.split("=", 1) for override in overrides)
root = pathlib.Path(os.environ["FASTGEN_OUTPUT_ROOT"]) / told["log_config.name"]
root.mkdir(parents=True, exist_ok=True)
print("resolved", json.dumps(told))

iterations = int(told["trainer.max_iter"])
generator = torch.Generator().manual_seed(int(told["trainer.seed"]))
network = shared().network("teacher")
with torch.no_grad(), (root / "metrics.jsonl").open("a") as log:
    for iteration in range(1, iterations + 1):
        for weight in network.parameters():
            step = float(told["model.net_optimizer.lr"]) * weight.std(unbiased=False)
            weight += step * torch.randn(weight.shape, generator=generator)
        loss = float(told["model.guidance_scale"]) / iteration
        log.write(json.dumps({"step": iteration, "total": iterations, "vsd_loss": loss}) + "\n")
        log.flush()
recipe = Recipe.model_validate({"guidance": {"scale": float(told["model.guidance_scale"])}})
export(network, recipe, shared(), root, iterations)
