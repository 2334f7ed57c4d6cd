"""The looking: every file here finds out the facts of one group of checks, and judges nothing."""
