"""Delivery: workers take batches from a queue, send them when the gate allows it, and settle each event."""
