"""Design, plan, run, record and analyse ablation studies. Knows nothing about diffusion."""
