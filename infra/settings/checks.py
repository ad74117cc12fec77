"""What a stack may ask for beside network and machines: names, region, storage, access. One check a concern."""

from __future__ import annotations

import base64
import binascii
import json
import re
import struct
import uuid
from typing import TYPE_CHECKING

from infra.regions import REGIONS, Region, find_region
from infra.settings.error import LOCATION, SettingsError, full_key, nearest, remove_with, set_with, shown

if TYPE_CHECKING:
    from infra.settings.model import Settings

KEY_TYPES = ("ssh-ed25519", "ssh-rsa")
# https://learn.microsoft.com/azure/azure-resource-manager/management/tag-resources, and storage's shorter names.
TAGS_MOST, TAG_NAME_MOST, TAG_VALUE_MOST = 40, 128, 256
PROGRAM_TAGS = ("workspace", "stack", "managed-by", "data", "share")
"""What infra/names.py sets and the policy reads. Azure does not tell names apart by letters' case."""
TAG_PREFIXES = ("azure", "microsoft", "windows", "hidden-")


def check_workspace_name(settings: Settings) -> None:
    """Whether the name can start every resource's name: the vault's rules are the strictest."""
    name = settings.workspace_name
    if not (3 <= len(name) <= 17 and re.fullmatch(r"[a-z](-?[a-z0-9])*", name)):
        allowed = (
            "It starts every resource's name, so it has 3 to 17 small letters a-z, digits and single hyphens between "
            "them, and starts with a letter."
        )
        raise SettingsError(
            full_key("workspaceName"), shown(name), allowed, set_with("workspaceName", _as_name(name, 17))
        )


def _as_name(text: str, most: int) -> str:
    """A name like the text that keeps the rules, or the default."""
    name = re.sub(r"[^a-z0-9]+", "-", text.lower()).strip("-")[:most].rstrip("-")
    return name if re.fullmatch(r"[a-z].{2,}", name) else "tensoryard"


def check_region(location: str) -> Region:
    """The region of that name. Raises SettingsError for one that Azure's public list lacks, with the nearest."""
    region = find_region(location)
    if region is not None:
        return region
    near = nearest(location, REGIONS) or nearest(location, [each.title for each in REGIONS.values()])
    found = find_region(near) if near else None
    hint = f"; the nearest is `{found.name}` ({found.title})" if found else ""
    allowed = (
        f"Azure's list of public regions has none of that name{hint}. See "
        "`az account list-locations -o table`; a region newer than that list needs one line in infra/regions.py."
    )
    raise SettingsError(LOCATION, shown(location), allowed, set_with(LOCATION, found.name if found else "eastus"))


def check_zones(settings: Settings, region: Region) -> tuple[str, ...]:
    """The zones, sorted. Raises SettingsError for what is no zone, comes twice, or is not in the region."""
    for index, zone in enumerate(settings.zones):
        if zone not in ("1", "2", "3"):
            key = f"zones[{index}]"
            raise SettingsError(full_key(key), shown(zone), "A zone is `1`, `2` or `3`.", set_with(key, "1"))
        if zone in settings.zones[:index]:
            key = f"zones[{index}]"
            raise SettingsError(full_key(key), shown(zone), "Each zone is named once.", remove_with(key))
    if settings.zones and not region.zones:
        allowed = f"{region.title} has no availability zones, says Azure's list of regions."
        move = set_with(LOCATION, "eastus")
        how = f"Remove them with `pulumi config rm tensoryard:zones`, or take a region with zones: {move}"
        raise SettingsError(full_key("zones"), shown(", ".join(settings.zones)), allowed, how)
    return tuple(sorted(settings.zones))


def check_storage(settings: Settings, region: Region) -> None:
    """Whether the region can store the data as redundantly as asked."""
    given = settings.storage_redundancy
    key = full_key("storageRedundancy")
    if given in ("ZRS", "GZRS") and not region.zones:
        best = "GRS" if given == "GZRS" and region.pair else "LRS"
        allowed = f"{given} keeps copies in three zones, and {region.title} has no availability zones."
        raise SettingsError(key, shown(given), allowed, set_with("storageRedundancy", best))
    if given in ("GRS", "GZRS") and region.pair is None:
        best = "ZRS" if region.zones else "LRS"
        allowed = f"{given} keeps copies in the paired region, and {region.title} has none."
        raise SettingsError(key, shown(given), allowed, set_with("storageRedundancy", best))


def check_registry(settings: Settings) -> None:
    """Whether the registry can do what the rest of the settings ask of it."""
    if settings.image_builder == "acr-tasks" and (settings.private_endpoints or settings.client_sources):
        allowed = "ACR Tasks builds on machines of Azure's, from which a closed registry is not reached."
        raise SettingsError(
            full_key("imageBuilder"), shown(settings.image_builder), allowed, set_with("imageBuilder", "buildah")
        )
    if settings.registry_sku == "Premium":
        return
    for asked, key in ((settings.private_endpoints, "privateEndpoints"), (settings.client_sources, "clientSources")):
        if asked:
            allowed = f"Only a Premium registry can be closed to other networks, and `{full_key(key)}` asks for that."
            raise SettingsError(
                full_key("registrySku"), shown(settings.registry_sku), allowed, set_with("registrySku", "Premium")
            )


def check_reach(settings: Settings) -> None:
    """Whether who may come in fits together: private endpoints or public sources; SSH with a key to log in with."""
    if settings.private_endpoints and settings.client_sources:
        allowed = "With `tensoryard:privateEndpoints` nobody comes in from public addresses."
        how = (
            "Remove it with `pulumi config rm tensoryard:clientSources`, or keep it and set "
            "`pulumi config set tensoryard:privateEndpoints false`."
        )
        raise SettingsError(full_key("clientSources"), shown(", ".join(settings.client_sources)), allowed, how)
    if settings.ssh_sources and settings.ssh_public_key is None:
        allowed = "With `tensoryard:sshSources` the head gets a public address; nobody could log in without a key."
        how = 'Set it with `pulumi config set tensoryard:sshPublicKey "$(cat ~/.ssh/id_ed25519.pub)"`.'
        raise SettingsError(full_key("sshPublicKey"), "not set", allowed, how)


def check_share(settings: Settings) -> None:
    """Whether the share is one that `mount` takes, and that can be a tag of the head."""
    share = settings.share
    form = r"[A-Za-z0-9]([A-Za-z0-9.-]*[A-Za-z0-9])?:(/[A-Za-z0-9_.-]+)+"
    if share is None or (len(share) <= TAG_VALUE_MOST and re.fullmatch(form, share)):
        return
    allowed = "It is an NFS share as `mount` takes it: a host's name or IPv4 address, a colon, and the path there."
    raise SettingsError(full_key("share"), shown(share), allowed, set_with("share", "10.50.0.4:/export/runs"))


def check_ssh_key(settings: Settings) -> None:
    """Whether the key is one line of a public key that Azure takes: ed25519, or RSA of 2048 bits and more."""
    key = settings.ssh_public_key
    if key is None:
        return
    allowed = "Allowed is one line of a public key, `ssh-ed25519 AAAA... name`, or `ssh-rsa` of 2048 bits and more."
    how = 'Set it with `pulumi config set tensoryard:sshPublicKey "$(cat ~/.ssh/id_ed25519.pub)"`.'
    if "PRIVATE KEY" in key.upper():
        # Never shown, not even in part: what is printed ends in logs.
        allowed += " A private key stays on its owner's machine: it is in this stack's file now, so make a new pair."
        raise SettingsError(full_key("sshPublicKey"), "a private key", allowed, how)
    fault = _fault_of_key(key)
    if fault:
        raise SettingsError(full_key("sshPublicKey"), shown(key), f"{fault} {allowed}", how)


def _fault_of_key(key: str) -> str:
    """What is wrong with a line of a public key, a sentence, or nothing."""
    words = key.split(" ")
    if any(not c.isprintable() for c in key) or len(words) < 2 or len(key) > 4000:
        return "It is not one line of a public key."
    if words[0] not in KEY_TYPES:
        return f"Its kind is {shown(words[0])}."
    try:
        blob = base64.b64decode(words[1].encode("ascii"), validate=True)
        parts = _ssh_parts(blob)
    except (binascii.Error, UnicodeEncodeError, ValueError, struct.error):
        return "Its second word is no key."
    if parts[0] != words[0].encode() or len(parts) != (2 if words[0] == "ssh-ed25519" else 3):
        return "Its second word is a key of another kind."
    if words[0] == "ssh-ed25519" and len(parts[1]) != 32:
        return "Its second word is cut short."
    bits = int.from_bytes(parts[-1], "big").bit_length()
    return f"It has {bits} bits." if words[0] == "ssh-rsa" and bits < 2048 else ""


def _ssh_parts(blob: bytes) -> list[bytes]:
    """The strings that a key's bytes hold, each after its length. Source: RFC 4251, section 5."""
    parts = []
    while blob:
        (length,) = struct.unpack(">I", blob[:4])
        if length > len(blob) - 4:
            raise ValueError
        parts.append(blob[4 : 4 + length])
        blob = blob[4 + length :]
    if not parts:
        raise ValueError
    return parts


def check_users(settings: Settings) -> None:
    """Whether each user is an object id of Entra, given once."""
    seen: list[uuid.UUID] = []
    for index, user in enumerate(settings.users):
        key = f"users[{index}].objectId"
        how = f"Find it with `az ad signed-in-user show --query id --output tsv`. {set_with(key, '<object id>')}"
        if not re.fullmatch(r"[0-9a-fA-F]{8}(-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}", user.object_id):
            allowed = (
                "It is the object id of a person, a group or a service in Entra ID, a GUID: no name, no address."
            )
            raise SettingsError(full_key(key), shown(user.object_id), allowed, how)
        value = uuid.UUID(user.object_id)
        if value.int == 0:
            raise SettingsError(full_key(key), shown(user.object_id), "That is nobody's object id.", how)
        if value in seen:
            how = remove_with(f"users[{index}]")
            raise SettingsError(full_key(key), shown(user.object_id), "Each user is named once.", how)
        seen.append(value)


def check_tags(settings: Settings) -> None:
    """Whether Azure takes the tags on every kind of resource here."""
    if len(settings.tags) > TAGS_MOST:
        allowed = f"Azure takes 50 on a resource, and the program needs some: {TAGS_MOST} is the most."
        raise SettingsError(
            full_key("tags"), f"{len(settings.tags)} tags", allowed, _remove_tag(list(settings.tags)[-1])
        )
    seen: set[str] = set()
    for name, value in settings.tags.items():
        fault = _fault_of_tag(name, value, seen)
        if fault:
            raise SettingsError(full_key("tags"), f"{shown(name)}: {shown(value)}", fault, _remove_tag(name))
        seen.add(name.lower())


def _remove_tag(name: str) -> str:
    """How to take a tag away, whatever its name."""
    return remove_with(f"tags[{json.dumps(name)}]") + " Then choose another."


def _fault_of_tag(name: str, value: str, seen: set[str]) -> str:
    """What Azure would not take about a tag, a sentence, or nothing."""
    if not name.strip() or len(name) > TAG_NAME_MOST or re.search(r"[<>%&\\?/]", name):
        return f"A tag's name has 1 to {TAG_NAME_MOST} characters, none of < > % & \\ ? /."
    if len(value) > TAG_VALUE_MOST:
        return f"A tag's value has up to {TAG_VALUE_MOST} characters."
    if not (name + value).isprintable():
        return "A tag is printable text on one line."
    if name.lower().startswith(TAG_PREFIXES):
        return f"Names that start with {', '.join(TAG_PREFIXES)} are Azure's own."
    if name.lower() in PROGRAM_TAGS:
        return f"The program sets {', '.join(f'`{tag}`' for tag in PROGRAM_TAGS)} itself."
    return "Azure does not tell names apart by letters' case, and it is there twice." if name.lower() in seen else ""
