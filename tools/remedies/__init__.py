"""Typed remedies: the only way anything is written to a server, after approval."""
