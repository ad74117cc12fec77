"""What a stack may set, checked before the first resource is declared."""

from infra.settings.error import SettingsError
from infra.settings.model import Cluster, Settings, User, setting_names, settings_from
from infra.settings.stack_files import stack_values

__all__ = ["Cluster", "Settings", "SettingsError", "User", "setting_names", "settings_from", "stack_values"]
