"""Evicted Spot nodes that are to keep a disk that they do not have."""

from infra.sound import group, scale_set

disk = {"create_option": "FromImage", "caching": "ReadOnly", "diff_disk_settings": {"option": "Local"}}
scale_set(
    group(),
    profile={"priority": "Spot", "eviction_policy": "Deallocate", "storage_profile": {"os_disk": disk}},
)
