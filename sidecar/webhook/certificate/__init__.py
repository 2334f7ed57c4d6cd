"""The webhook's certificate: its own, which it renews automatically, or one from mounted files."""
