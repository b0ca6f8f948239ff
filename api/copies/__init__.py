"""Copies of the service's own database: `redis-oncall database`."""
