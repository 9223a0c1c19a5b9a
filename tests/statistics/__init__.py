"""Every rule of the verdicts, simulated: how often it is wrong, and how much it finds.

`worlds.py` draws worlds whose truth is known, `twins.py` does to thousands of them at once what the
product does to one (and `test_twins.py` sees to it that it is the same), `rates.py` counts.
`python -m tests.statistics.table` records the wide grid; the tests hold a part of it to its bounds.
`recorded/` holds what R says of the same formulas, with the scripts.
"""
