"""The console: pages for people, rendered here, of what the API says as well."""

from api.console import deeds, entrance, incidents, pages, runbooks, targets, trail

ROUTERS = (
    pages.router, entrance.router, incidents.router, deeds.router, targets.router,
    runbooks.router, trail.router,
)  # fmt: skip
"""Their paths are beside `/v1`: what is there for programs stays as it is."""
