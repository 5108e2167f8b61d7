"""What we know of each AWS API: read by ingest (as its server), targets (as its client) and the sandbox."""
