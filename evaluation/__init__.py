"""How to measure pictures: distances, text-image agreement, edit fidelity, protocols, intervals.

Knows nothing of training. Importing this package, or `evaluation.protocol`, loads no torch, scipy
or pandas; the modules that need them are imported where they are used.
"""
