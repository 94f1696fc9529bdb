"""Objectives that keep a state: what they gather of a unit before and while it is trained."""
