"""How a unit is reconstructed: capture, objectives, the one loop, rounding, low-rank compensation, curriculum."""
