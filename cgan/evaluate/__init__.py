"""How good a generator is: distances, diversity, memory and labels, each on named features."""
