"""The stand-alone verifier in parts, joined into a bundle's `verify.py`: standard library only."""
