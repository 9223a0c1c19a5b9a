"""What a student is trained on: composition, task mixture, sources."""
