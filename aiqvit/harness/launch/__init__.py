"""From what was typed to a plan of runs, and executing it: one by one, side by side, or on a cluster."""
