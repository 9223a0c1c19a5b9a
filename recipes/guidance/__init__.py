"""Teacher guidance: which teachers, how strongly guided, mixed how."""
