"""The newest value of each metric of a run, read without reading all of them."""

import json
from typing import Any

from tensoryard.run import RunRecord

TAIL_BYTES = 16 << 10


class LastMetrics:
    """values: the newest of each metric, by name; a metric logged by several tasks shows one of them."""

    def __init__(self, run: RunRecord) -> None:
        self.values: dict[str, Any] = {}
        self._run = run
        self._read: dict[str, int] = {}

    def refresh(self) -> dict[str, Any]:
        """The values, after reading what was added since the last time: of each file no more than its last 16 KiB."""
        for entry in self._run.store.list(self._run.key("metrics/")):
            start = max(self._read.get(entry.key, 0), entry.size_bytes - TAIL_BYTES)
            if entry.size_bytes <= start:
                continue
            data = self._run.store.read(entry.key, start, entry.size_bytes - start)
            whole = data.rfind(b"\n") + 1
            self._read[entry.key] = start + whole
            for line in data[:whole].splitlines():
                try:
                    record = json.loads(line)
                    name, value = record["name"], record["value"]
                except (ValueError, KeyError, TypeError):
                    continue  # the first line of the tail is seldom whole
                if isinstance(name, str) and isinstance(value, (int, float, str)):
                    self.values[name] = value
        return self.values
