"""Freezes that people declare: all that are in force are shown, and there is an end to them."""

import pytest
from httpx2 import AsyncClient

from api.store import freezes


async def test_no_more_are_in_force_than_are_shown(
    client: AsyncClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(freezes, "MOST", 2)
    made = [
        await client.post("/v1/freezes", json={"reason": f"reason {number}"}) for number in range(3)
    ]
    assert [one.status_code for one in made] == [201, 201, 409]
    assert "2 freezes are in force already: thaw one" in made[2].json()["detail"]
    shown = (await client.get("/v1/freezes")).json()["items"]
    assert [one["reason"] for one in shown] == ["reason 0", "reason 1"]
    assert (await client.post(f"/v1/freezes/{shown[0]['id']}/thaw", json={})).status_code == 200
    again = await client.post("/v1/freezes", json={"reason": "reason 3"})
    assert again.status_code == 201
