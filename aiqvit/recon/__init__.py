"""How a quantized block is repaired: capture, the one reconstruction loop, low-rank compensation, curriculum."""
