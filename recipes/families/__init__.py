"""Model families, one file each: the only model-specific code."""
