"""Stand-ins and contract tests that tests share; studies of tests name some as their subject.

`tests.support` is found in pytest's own process. Others may find the `tests` of an installed
package before it: there a stand-in is a module of the study's project (`tests/faults/stage.py`).
"""
