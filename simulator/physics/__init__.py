"""How the pretend township's water, air and people behave: pure models, chance from seeded generators only."""
