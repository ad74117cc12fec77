"""A storage address with its signature among the outputs."""

import pulumi

from infra.sound import group, storage_account

storage_account(group())
signature = "sv=2024-11-04&sp=rwdl&sig=c2lnbmVkIGJ5IG5vYm9keSwgZm9yIG5vYm9keSEhISE%3D"
pulumi.export("workspace", {"blobEndpoint": f"https://small.blob.core.windows.net/?{signature}"})
