"""Where a FastGen experiment file would stand; hashed with the code."""
