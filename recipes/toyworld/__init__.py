"""The toy world: a rendered picture world with its own tiny models, the embedded default."""
