"""The control socket: everything that changes a running daemon, for the owner of its storage directory."""
