"""`redis-oncall notify`: a test message to every configured address."""

import asyncio
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from api.addresses import Taken


def notify(
    service: Annotated[
        str, typer.Option(help="Only to services whose name contains this, e.g. slack.")
    ] = "",
) -> None:
    """Send a test message to everybody who is paged or notified; was it accepted?"""
    from api.cli.oneshot import failure, settings_or_exit
    from api.notifications import Notifier
    from api.settings import SettingsError
    from api.wording import Links, Message

    settings = settings_or_exit()
    try:
        notifier = Notifier(settings)
    except SettingsError as error:
        raise failure(str(error), code=2) from None
    chosen = [one for one in notifier.addresses.values() if service.lower() in one.service.lower()]
    if not chosen:
        raise failure("nobody: pages.to and notifications name no such address", code=2)
    more = Links(settings.config.http.url).all
    body = f"A test: what becomes of incidents is told here.\n\n{more}"
    message = Message("redis-oncall: a test", body, "info")

    async def send() -> "list[Taken]":
        return await asyncio.gather(*(one.take(message) for one in chosen))

    answers = asyncio.run(send())
    for one, answer in zip(chosen, answers, strict=True):
        typer.echo(
            f"{'accepted' if answer.accepted else 'NOT ACCEPTED':<12} {one.service:<24} {one.place}"
        )
    if not all(answer.accepted for answer in answers):
        raise typer.Exit(1)
