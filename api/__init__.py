"""The service: HTTP, alert intake, storage, queue, command line."""
