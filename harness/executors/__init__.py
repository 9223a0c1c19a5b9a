"""Executors: they run jobs, in this process or on Ray; they know nothing of studies."""
