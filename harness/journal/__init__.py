"""What is recorded: trials, records, histories, attempts and the workspace that holds them."""
