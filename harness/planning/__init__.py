"""What a study will run: trials and their order, what is reused, cost, power and amendments."""
