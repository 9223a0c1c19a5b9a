"""Contract tests and stubs that any executor, tracker or subject can be run against."""
