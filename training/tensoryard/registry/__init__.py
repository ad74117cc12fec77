"""Models: numbered, immutable versions of what runs made, and the aliases that name them."""

from tensoryard.registry.downloads import Problem
from tensoryard.registry.records import Event, FileRecord, ModelVersion, Reference, parse_reference
from tensoryard.registry.registry import Registry

__all__ = ["Event", "FileRecord", "ModelVersion", "Problem", "Reference", "Registry", "parse_reference"]
