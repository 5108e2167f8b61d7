"""The OpenAPI document of what is ours on the data listener, and the operation that serves it."""
