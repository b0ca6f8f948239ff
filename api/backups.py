"""Where this installation keeps what remedies remove."""

from api.keys import subkey
from api.settings import Settings
from tools.backups import BackupFolder


def backup_folder(settings: Settings) -> BackupFolder:
    """As configured. Touches neither disk nor key before a backup is opened or read."""
    told = settings.config.backups
    return BackupFolder(
        settings.backups_folder,
        lambda: subkey(settings, "backups"),
        keep=told.keep,
        most_bytes=told.most_bytes,
    )
