"""What a browser is told: by every answer, of every kind; and a real one obeys."""

import asyncio
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from fastapi.responses import HTMLResponse

from agent.report_html import content_security_policy, render_page
from api.app import create_app
from api.problems import HEADERS
from api.settings import Settings
from tests.api.report_samples import events, sample
from tests.api.serving import listening, serving
from tests.api.test_incidents_api import opened

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")


async def test_every_answer_carries_them(settings: Callable[..., Settings]) -> None:
    """JSON, a problem, a page, a stream, a fault of the service."""
    app = create_app(settings(), worker=False)

    @app.get("/fault")
    async def fault() -> None:
        raise ZeroDivisionError

    async with serving(app) as client:
        one = f"/v1/incidents/{(await opened(client, 'cache-eu'))['id']}"
        await client.post(f"{one}/close")
        for path, code in (
            ("/healthz", 200), ("/metrics", 200), ("/openapi.json", 200), ("/nowhere", 404),
            (one, 200), (f"{one}/report", 200), (f"{one}/report?format=html", 200),
            (f"{one}/events", 200), ("/v1/incidents?limit=0", 422), ("/fault", 500),
            (f"/v1/incidents?target={'x' * 5_000}", 414),
        ):  # fmt: skip
            response = await client.get(path)
            assert response.status_code == code, path
            page = path.endswith("html")
            policy = content_security_policy() if page else HEADERS["Content-Security-Policy"]
            expected = HEADERS | {"Content-Security-Policy": policy}
            told = {name: response.headers.get_list(name) for name in expected}
            assert told == {name: [value] for name, value in expected.items()}, path
            assert "strict-transport-security" not in response.headers
        unknown = await client.get(one, headers={"Authorization": "Bearer x"})
        assert unknown.headers["cache-control"] == "no-store"


async def test_https_is_insisted_on_only_where_the_file_says_so(
    settings: Callable[..., Settings],
) -> None:
    async with serving(create_app(settings(http={"hsts": True}), worker=False)) as client:
        response = await client.get("/healthz")
    assert "max-age=31536000" in response.headers["strict-transport-security"]


async def test_only_its_own_names_are_answered_if_it_has_names(
    settings: Callable[..., Settings],
) -> None:
    configured = settings(http={"hosts": ["oncall.example", "10.0.0.7"]})
    async with serving(create_app(configured, worker=False)) as client:
        for host, code in (
            ("oncall.example", 200), ("ONCALL.example:8321", 200), ("10.0.0.7:80", 200),
            ("localhost:8321", 200), ("[::1]:8321", 200), ("evil.example", 421), ("", 421),
            ("[", 421), ("oncall.example.evil.example", 421), ("evil.example@10.0.0.8", 421),
        ):  # fmt: skip
            response = await client.get("/v1/incidents", headers={"Host": host})
            assert response.status_code == code, host
            assert (await client.get("/healthz", headers={"Host": host})).status_code == 200


async def browsed(url: str, folder: Path) -> tuple[str, list[str]]:
    """The page as a browser has it, and everything its console says."""
    assert CHROMIUM is not None
    process = await asyncio.create_subprocess_exec(
        CHROMIUM, "--headless", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage",
        f"--user-data-dir={folder / 'browser'}", "--enable-logging=stderr", "--v=0",
        f"--screenshot={folder / 'page.png'}", "--dump-dom", url,
        stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE, cwd=folder,
    )  # fmt: skip
    out, said = await asyncio.wait_for(process.communicate(), 60)
    return out.decode(), re.findall(r"CONSOLE.*", said.decode(errors="replace"))


@pytest.mark.skipif(CHROMIUM is None, reason="no browser here (Debian package chromium)")
async def test_the_report_renders_in_a_browser_under_its_own_policy(
    settings: Callable[..., Settings], tmp_path: Path
) -> None:
    """Nothing of it is stopped; what is injected is, and the console says so."""
    app = create_app(configured := settings(tokens=[]), worker=False)
    script = "<script>document.title = 'injected'</script><p style='color: red'>x</p>"
    page = render_page(sample("word"), [], events("word"))

    @app.get("/{name}.html")
    async def shown(name: str) -> Any:
        content = page if name == "report" else page.replace("</body>", f"{script}</body>")
        headers = {"Content-Security-Policy": content_security_policy()}
        return HTMLResponse(content, headers=headers)

    async with listening(app, configured) as url:
        dom, console = await browsed(f"{url}/report.html", tmp_path)
        assert console == []
        assert dom.count("<svg") == 3
        assert (tmp_path / "page.png").stat().st_size > 20_000
        dom, console = await browsed(f"{url}/injected.html", tmp_path)
        assert "<title>injected" not in dom
        assert len([line for line in console if "Content Security Policy" in line]) == 2
