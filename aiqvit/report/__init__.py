"""How records become tables."""
