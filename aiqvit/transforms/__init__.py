"""Rewritings of a whole model that leave its function as it is, each tested against that."""
