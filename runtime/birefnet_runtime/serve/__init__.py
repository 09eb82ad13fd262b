"""The service: cut-outs over HTTP, by ``create_app`` in another program or ``birefnet serve``."""
