"""The load bench of the service: servers, the client beside them, and what they say."""
