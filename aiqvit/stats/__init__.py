"""How sure a metric, and a difference of two, is: intervals over samples and seeds. See `docs/statistics.md`."""
