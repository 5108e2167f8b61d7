"""What a sender can ask for: one operation for each kind of request."""
