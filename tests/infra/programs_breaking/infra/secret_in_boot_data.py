"""A head node with a private key in its cloud-init."""

import base64

from infra.sound import group, machine

CLOUD_INIT = """#cloud-config
write_files:
- path: /root/.ssh/id_ed25519
  content: |
    -----BEGIN OPENSSH PRIVATE KEY-----
    and so on
    -----END OPENSSH PRIVATE KEY-----
"""

machine(
    group(),
    os_profile={
        "custom_data": base64.b64encode(CLOUD_INIT.encode()).decode(),
        "linux_configuration": {"disable_password_authentication": True},
    },
)
