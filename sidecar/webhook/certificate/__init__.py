"""Manage the webhook's certificate: issue and renew it automatically, or read it from mounted files."""
