"""Nodes that get their driver by an extension."""

from infra.sound import group, scale_set

driver = {"name": "driver", "publisher": "Microsoft.HpcCompute", "type": "NvidiaGpuDriverLinux"}
scale_set(group(), profile={"extension_profile": {"extensions": [driver]}})
