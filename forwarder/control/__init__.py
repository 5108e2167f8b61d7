"""The control socket: everything that changes a running daemon, for who may use its storage directory."""
