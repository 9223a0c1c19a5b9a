"""How a student is distilled: recipes, objectives, families. Knows nothing of studies."""
