"""The catalogue of remedies. What is not listed here cannot be done: unknown means no."""

from typing import Any

from tools.remedies.acl_preview import PreviewAclChange
from tools.remedies.advice import AdviseApplication
from tools.remedies.background_save import BackgroundSave
from tools.remedies.clear_pending import ClearPending
from tools.remedies.clients import KillClient
from tools.remedies.config import SetConfig
from tools.remedies.defragment import Defragment
from tools.remedies.delete_function import DeleteFunction
from tools.remedies.expiry import ExpirePrefix
from tools.remedies.idle_clients import KillIdleClients
from tools.remedies.kill_script import KillScript
from tools.remedies.memory import MemoryPurge
from tools.remedies.pending_gone import ClearGone
from tools.remedies.pending_idle import ClearIdle
from tools.remedies.remedy import Remedy
from tools.remedies.removal import RemovePrefix
from tools.remedies.resizing import ResizeInstance
from tools.remedies.rewrite_config import RewriteConfig
from tools.remedies.script_cache import ScriptFlush
from tools.remedies.sizing import ProposeResize
from tools.remedies.trim_collection import TrimCollection
from tools.remedies.trim_stream import TrimStream

_ALL: tuple[Remedy[Any], ...] = (
    SetConfig(),
    KillClient(),
    KillIdleClients(),
    ScriptFlush(),
    ExpirePrefix(),
    RemovePrefix(),
    TrimStream(),
    ClearPending(ClearGone(), ClearIdle()),
    TrimCollection(),
    MemoryPurge(),
    RewriteConfig(),
    KillScript(),
    DeleteFunction(),
    Defragment(),
    BackgroundSave(),
    ProposeResize(),
    ResizeInstance(),
    PreviewAclChange(),
    AdviseApplication(),
)
REMEDIES: dict[str, Remedy[Any]] = {remedy.kind: remedy for remedy in _ALL}
