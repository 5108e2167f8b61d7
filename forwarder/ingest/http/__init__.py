"""HTTP: connections, bodies, answers, and what a web page may do. It knows no target and no event."""
