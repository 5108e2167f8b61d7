"""How senders speak to us: pure modules that parse one dialect and render its answers."""
