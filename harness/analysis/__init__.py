"""From recorded trials to an answer: verdicts, effects, trade-offs and their words."""
