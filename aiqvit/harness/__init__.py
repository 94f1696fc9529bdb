"""How runs become records: what a run is, running it, storing it, and running a grid of them."""
