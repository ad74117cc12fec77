"""The one error of a stack's settings: which key, what was given, what is allowed, how to set it."""

from __future__ import annotations


class SettingsError(Exception):
    """
    A setting that cannot become a workspace, told in one paragraph.

    key: the config key as Pulumi writes it, such as `tensoryard:clusters[0].vmSize`; given: the value, as text;
    allowed: what may stand there, a whole sentence or more; how: the command or step that puts it right.
    """

    def __init__(self, key: str, given: str, allowed: str, how: str) -> None:
        self.key = key
        self.given = given
        self.allowed = allowed
        self.how = how
        super().__init__(" ".join(f"`{key}` is {given}: {allowed} {how}".split()))
