"""The thing under study: a module, a command, or checkpoints from elsewhere."""
