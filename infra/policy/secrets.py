"""
The rule that nothing secret stands in custom data, user data or the program's outputs.

Whoever may read a machine's description reads its custom data, and whoever may read the stack reads its outputs;
neither is encrypted for them. Texts are read as they are and decoded (base64, gzip), as cloud-init takes both.
"""

import base64
import binascii
import math
import re
import zlib
from collections import Counter
from collections.abc import Iterator, Mapping

from infra.policy.rules import Problem, Resources, Rule, at

STACK = "pulumi:pulumi:Stack"
DECODED_LAYERS_MOST = 3
DECODED_BYTES_MOST = 1 << 20

_KNOWN = (
    ("a private key", re.compile(r"-----BEGIN (?:[A-Z0-9]+ )*PRIVATE KEY-----")),
    ("a storage account key", re.compile(r"(?<![A-Za-z0-9+/])[A-Za-z0-9+/]{86}==(?![A-Za-z0-9+/=])")),
    ("an account key", re.compile(r"(?:Account|SharedAccess)Key=[A-Za-z0-9+/]{20,}=*")),
    ("a shared access signature", re.compile(r"[?&]?\bsig=[A-Za-z0-9%+/]{30,}(?:%3D|=)*", re.IGNORECASE)),
    ("a token", re.compile(r"\beyJ[A-Za-z0-9_-]{8,}\.[A-Za-z0-9_-]{8,}\.[A-Za-z0-9_-]{8,}")),
    (
        "a token",
        re.compile(r"\b(?:gh[pousr]_[A-Za-z0-9]{30,}|github_pat_\w{30,}|AKIA[0-9A-Z]{16}|hf_[A-Za-z0-9]{30,})\b"),
    ),
    ("a password in an address", re.compile(r"\b[a-z][a-z0-9+.-]*://[^/\s:@'\"$]+:[^/\s:@'\"$]{3,}@")),
    ("a password's hash", re.compile(r"(?<![\w$])\$(?:1|2[aby]|5|6|y)\$[./A-Za-z0-9$=,]{20,}")),
)

# `name: value`, `name=value` and `--name value`, as in YAML, shell and command lines.
_ASSIGNED = re.compile(
    r"(?<![A-Za-z0-9])"
    r"(?P<name>(?:[\w-]*[_-])?(?:password|passwd|passphrase|plain_text_passwd|pwd|secret|token|api[_-]?key|access[_-]?key))"
    r"(?:\"|')?\s*(?::|=|(?<=[a-z]) )\s*(?P<quote>[\"']?)(?P<value>[^\s\"'#,;)}]{6,})",
    re.IGNORECASE,
)
_NOT_A_VALUE = re.compile(
    r"[$<>{}()*`/\\]|^(?:true|false|null|none|yes|no|lock(?:ed)?|disabled|required|\[secret\])$", re.I
)
_LONG_WORD = re.compile(r"(?<![A-Za-z0-9+/_=-])[A-Za-z0-9+/_-]{32,}={0,2}(?![A-Za-z0-9+/_=-])")
_PUBLIC_KEY = re.compile(
    r"\b(?:ssh-(?:rsa|ed25519|dss)|(?:sk-)?ecdsa-sha2-\w+|sk-ssh-ed25519@\S+)\s+AAAA[A-Za-z0-9+/]+=*"
)
_PUBLIC_BLOCK = re.compile(
    r"-----BEGIN (CERTIFICATE|(?:[A-Z]+ )?PUBLIC KEY|PGP PUBLIC KEY BLOCK)-----.*?-----END \1-----", re.S
)
_HEX = re.compile(r"[0-9a-fA-F-]+")
RANDOM_BITS_PER_CHARACTER = 4.6
"""
Above it a long word of letters, digits and signs is taken for random. A word of 32 random base64 characters has about
4.7, hexadecimal (digests, commits) at most 4, English and paths 3 to 4.4.
"""


def secret_in(text: str, layers: int = DECODED_LAYERS_MOST) -> str | None:
    """What kind of secret a text holds, as "a private key", or None. The secret itself is never returned."""
    text = _PUBLIC_BLOCK.sub(" ", _PUBLIC_KEY.sub(" ", text))
    for kind, pattern in _KNOWN:
        if pattern.search(text):
            return kind
    for match in _ASSIGNED.finditer(text):
        if _looks_given(match["name"], match["value"], quoted=bool(match["quote"])):
            return f"a value for `{match['name']}`"
    for word in _LONG_WORD.findall(text):
        inner = _decoded(word) if layers else None
        if inner is not None:
            kind_inside = secret_in(inner, layers - 1)
            if kind_inside:
                return f"{kind_inside}, encoded"
        elif not _HEX.fullmatch(word) and bits_per_character(word) > RANDOM_BITS_PER_CHARACTER and _mixed(word):
            return "a long random word"
    return None


def bits_per_character(word: str) -> float:
    """Shannon entropy of a word's characters, bits."""
    counts = Counter(word)
    return -sum(count / len(word) * math.log2(count / len(word)) for count in counts.values())


def _looks_given(name: str, value: str, *, quoted: bool) -> bool:
    """Whether a value is written out, and not taken from a variable, a command, a file or a place to fill in."""
    if _NOT_A_VALUE.search(value):
        return False
    # Prose after a colon ("token: expires after an hour") and the name of a secret ("secret: munge-key") are neither.
    if re.fullmatch(r"[a-z]+|[A-Z_]+", value):
        return quoted
    return "pass" in name.lower() or not re.fullmatch(r"[a-z]+(?:-[a-z]+)+", value)


def _mixed(word: str) -> bool:
    """Whether a word has digits, small and capital letters: names and paths seldom have all three."""
    return all(re.search(kind, word) for kind in ("[0-9]", "[a-z]", "[A-Z]"))


def _decoded(word: str) -> str | None:
    """The text that a base64 word holds, gzipped or not, or None if it holds none."""
    try:
        data = base64.b64decode(word + "=" * (-len(word) % 4), altchars=b"-_" if re.search("[-_]", word) else None)
    except (binascii.Error, ValueError):
        return None
    if data[:2] == b"\x1f\x8b":
        try:
            data = zlib.decompressobj(zlib.MAX_WBITS | 16).decompress(data, DECODED_BYTES_MOST)
        except zlib.error:
            return None
    try:
        text = data.decode()
    except UnicodeDecodeError:
        return None
    return text if all(character.isprintable() or character in "\n\r\t" for character in text) else None


def _texts_in(value: object, path: str) -> Iterator[tuple[str, str]]:
    """Every text in nested values, with the path to it."""
    if isinstance(value, str):
        yield path, value
    elif isinstance(value, Mapping):
        for key, inner in value.items():
            yield from _texts_in(inner, f"{path}.{key}" if path else str(key))
    elif isinstance(value, list | tuple):
        for index, inner in enumerate(value):
            yield from _texts_in(inner, f"{path}[{index}]")


def _data(resources: Resources) -> Iterator[Problem]:
    profile = ("virtualMachineProfile",)
    places = (
        ("compute:VirtualMachine", ("osProfile", "customData")),
        ("compute:VirtualMachine", ("userData",)),
        ("compute:VirtualMachineScaleSet", (*profile, "osProfile", "customData")),
        ("compute:VirtualMachineScaleSet", (*profile, "userData")),
    )
    for type_, path in places:
        for resource in resources.of(type_):
            given = at(resource.inputs, *path)
            kind = secret_in(given) if isinstance(given, str) else None
            if kind:
                yield resource, f"`{path[-1]}` holds {kind.removesuffix(', encoded')}"


def _outputs(resources: Resources) -> Iterator[Problem]:
    for resource in resources.all:
        if resource.type == STACK:
            for path, text in _texts_in(resource.outputs, ""):
                kind = secret_in(text)
                if kind:
                    yield resource, f"output `{path}` holds {kind}"


RULES = (
    Rule(
        id="secret-in-boot-data",
        severity="high",
        title="Custom data or user data holds a secret",
        why="Every process on the machine, and whoever may read the machine's description, can read it.",
        fix="Put it into the Key Vault and let the machine read it at boot by its identity.",
        look=_data,
    ),
    Rule(
        id="secret-in-output",
        severity="high",
        title="An output of the program holds a secret",
        why="Outputs are shown on the screen, in reviews and to other stacks.",
        fix="Export the name of the Key Vault secret, not its value.",
        look=_outputs,
    ),
)
