"""Embedded mini data sets and small trained models: everything a task needs to run without a download."""
