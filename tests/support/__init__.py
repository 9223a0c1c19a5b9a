"""Stand-ins and contract tests that tests share; studies of tests name some as their subject.

A process finds `tests.support` where it starts in the root of the repository, as pytest does, and
its path begins with it: some installed packages bring a `tests` of their own.
"""
