"""Where events wait: forming them into groups (pure), and the queues around it."""
