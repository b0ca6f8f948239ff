"""Whoever takes long, or never ends, keeps no message from anybody else."""

import asyncio
import threading
from datetime import timedelta

import pytest
from sqlalchemy import update

from api import addresses, news, notifications
from api.addresses import Address, Taken
from api.store import incidents, notices
from api.store.notice_table import NoticeRow
from api.wording import Message
from tests.api.pagerhouse import Pagerhouse
from tests.api.paging_room import alert
from tests.api.telling import Tell


async def test_a_receiver_that_never_ends_its_answer_takes_no_thread_from_anybody_else(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(addresses, "TRY_SECONDS", 0.05)
    goes_on, begun = threading.Event(), []

    def hang(self: Address, message: Message, conversation: str) -> Taken:
        begun.append(threading.current_thread())
        goes_on.wait(20)
        return Taken(True)

    monkeypatch.setattr(Address, "_notify", hang)
    address, asked = Address.of("pages.to.0", "json://127.0.0.1:1/"), Message("t", "b", "info")
    for _ in range(addresses.MOST_HANGING + 2):
        assert not (await address.take(asked)).accepted
    assert len(begun) == addresses.MOST_HANGING
    assert all(thread.daemon for thread in begun), "or the worker would not end"
    goes_on.set()
    for thread in begun:
        await asyncio.to_thread(thread.join)
    assert (await address.take(asked)).accepted, "it is tried again"


async def test_whoever_takes_long_is_not_waited_for_by_the_others(
    tell: Tell, house: Pagerhouse, other: Pagerhouse, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(notifications, "LOOK_SECONDS", 0.02)
    monkeypatch.setattr(news, "PATIENCE", {})
    monkeypatch.setattr(news, "LITTLE_PATIENCE", timedelta())
    told = tell({"to": [house.url, other.url]})
    arrived, take = asyncio.Queue[str](), Address.take

    async def slow(address: Address, message: Message, conversation: str = "") -> Taken:
        if address.url == house.url:
            await asyncio.sleep(60)
        taken = await take(address, message, conversation)
        asyncio.get_running_loop().call_later(0.1, arrived.put_nowait, message.thread)
        return taken

    monkeypatch.setattr(Address, "take", slow)
    sending = asyncio.create_task(told.notifier.send_forever(told.database))
    for target in ("single", "alone"):
        one = await told.room.one(alert(target, target))
        assert await asyncio.wait_for(arrived.get(), 10) == one.id
    sending.cancel()
    with pytest.raises(asyncio.CancelledError):
        await sending
    assert len(asyncio.all_tasks()) == 1, "nothing goes on by itself"


async def test_what_goes_along_with_something_newer_has_its_own_tries_before_it(
    tell: Tell, house: Pagerhouse
) -> None:
    told = tell({"to": house.url})
    house.down = True
    one = await told.room.one(alert("f", "single"))
    await told.send()
    async with told.database.writing() as session:
        row = await incidents.lock(session, one.id)
        for because in ("a", "b", "c"):
            await incidents.move(session, row, "needs_human", because)
            await incidents.move(session, row, "queued")
    async with told.database.writing() as session:
        past = incidents.now() - timedelta(seconds=1)
        await session.execute(update(NoticeRow).where(NoticeRow.tries == 0).values(due_at=past))
    await told.send(due=False)
    assert [row.tries for row in await told.kept()] == [1] * 4


async def test_a_try_that_ends_after_another_was_accepted_changes_nothing(
    tell: Tell, house: Pagerhouse
) -> None:
    told = tell({"to": house.url})
    await told.room.one(alert("f", "single"))
    (mark,) = told.notifier.addresses
    now = incidents.now() + timedelta(minutes=1)
    async with told.database.writing() as session:
        late = await notices.claim(session, mark, 60, now)
        again = await notices.claim(session, mark, 60, now + notices.CLAIMED)
        assert late is not None
        assert again is not None
        await notices.settle(session, again, now + notices.CLAIMED)
        await notices.settle(session, late, now + notices.CLAIMED, "not accepted")
    (row,) = await told.kept()
    assert row.sent_at is not None
    assert not row.failure
