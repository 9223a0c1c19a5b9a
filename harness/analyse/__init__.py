"""From recorded trials to an answer: contrasts, effects, trade-offs, words and tables."""
