"""Slack answers a bot with the time of the message it made, which is the name of a thread.

Apprise can post into a thread (`#channel:time`) and does not say what Slack answered, so its plugin
is listened to. A plugin that is built otherwise in another version is left alone: then there are no
threads. Webhooks answer `ok` and nothing else.
"""

import re
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from apprise import Apprise

_CHANNEL = re.compile(r"[#+]?[A-Za-z0-9_-]{1,80}")
_TIME = re.compile(r"[0-9]{1,16}\.[0-9]{1,16}")


def listen(opened: "Apprise", thread: str) -> list[str]:
    """Post into that thread, if it names one. The list gets the time of each message made."""
    plugin: Any = opened[0]
    channels, send = getattr(plugin, "channels", None), getattr(plugin, "_send", None)
    if getattr(plugin, "mode", "") != "bot" or not send or not channels or len(channels) != 1:
        return []
    if not _CHANNEL.fullmatch(str(channels[0])):
        return []
    if _TIME.fullmatch(thread):
        plugin.channels = [f"{channels[0]}:{thread}"]
    times: list[str] = []

    def sent(*arguments: Any, **named: Any) -> Any:
        answer = send(*arguments, **named)
        time = str(answer.get("ts", "")) if isinstance(answer, dict) else ""
        if _TIME.fullmatch(time):
            times.append(time)
        return answer

    plugin._send = sent
    return times
