"""The service for other people's agents, by the Model Context Protocol: they look, and that is all.

One server (`server.py`) for streamable HTTP (`endpoint.py`) and for stdio (`redis-oncall mcp`). It
has no data and no right of its own: whatever it is asked becomes a request to the service's HTTP
API with the token of whoever asks, so that roles, limits, redaction and the audit trail are those
of the API. What changes something there has no tool here.
"""
