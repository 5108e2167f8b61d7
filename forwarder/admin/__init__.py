"""The admin listener: metrics, health and status, read-only."""
