"""What a bundle is made of, how it is made anonymous, and how a stranger's is read."""
