"""One file per study for reviewers: written here, and read here without trusting it."""
