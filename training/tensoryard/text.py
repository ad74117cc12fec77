"""Text from elsewhere made fit for a terminal, and durations and sizes as people read them."""

import re

# Escape sequences whole, so that nothing of them is left to be read: CSI, then OSC and its kin with their text.
_ESCAPES = re.compile(r"\x1b(?:\[[0-?]*[ -/]*[@-~]?|[\]PX^_][^\x07\x1b]*(?:\x07|\x1b\\)?|[ -/]*[0-~]?)")
_CONTROL = re.compile(r"[\x00-\x08\x0a-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff]")


def printable(line: str) -> str:
    """
    A line of a log as a terminal may be given it: without escape sequences and control characters.

    Of a progress bar, which writes over itself after each carriage return, its last state.
    """
    if line.isascii() and line.isprintable():
        return line
    for part in reversed(line.split("\r")):
        if clean := _CONTROL.sub("", _ESCAPES.sub("", part)):
            return clean
    return ""


def duration(seconds: float) -> str:
    """Such as 1.2 s, 45 s, 3 min 05 s, 2 h 03 min."""
    if seconds < 9.95:
        return f"{max(0.0, seconds):.1f} s"
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60:02} s"
    return f"{whole // 3600} h {whole % 3600 // 60:02} min"


def size(size_bytes: float) -> str:
    """A size as people read it, in powers of 1000."""
    for unit in ("B", "kB", "MB", "GB"):
        if size_bytes < 1000:
            return f"{size_bytes:.0f} {unit}" if unit == "B" else f"{size_bytes:.1f} {unit}"
        size_bytes /= 1000
    return f"{size_bytes:.1f} TB"
