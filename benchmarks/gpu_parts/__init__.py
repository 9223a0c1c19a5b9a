"""The parts of `benchmarks/gpu.py`, one module each; each has `measure(setup, log)`."""
