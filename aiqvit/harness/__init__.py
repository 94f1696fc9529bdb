"""How runs become records, in four rooms that import one way: identity <- store <- run <- launch."""
