"""Manage the webhook's certificate: issue and renew one automatically, or read one from mounted files."""
