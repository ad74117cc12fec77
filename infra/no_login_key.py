"""
An SSH public key whose private half nobody holds, for machines that nobody is to log in to.

Azure makes no Linux machine without a key or a password. A key pair made and thrown away would have to be believed;
this public key is a point of the curve found by hashing a sentence, and to find its private half is to solve the
discrete logarithm that Ed25519 rests on. Whoever gets in uses `az vm run-command`, that is an identity with a role.
Source of the curve and its encoding: RFC 8032, section 5.1; of the key's format: RFC 8709, section 4.
"""

from __future__ import annotations

import base64
import hashlib
import struct

P = 2**255 - 19
D = -121665 * pow(121666, -1, P) % P
SENTENCE = "tensoryard: nobody holds the private half of this key, attempt %d"


def x_of(y: int) -> int | None:
    """An x for which (x, y) is on the curve -x² + y² = 1 + d x² y² over the integers modulo P; None without one."""
    square = (y * y - 1) * pow(D * y * y + 1, -1, P) % P
    x = pow(square, (P + 3) // 8, P)
    if x * x % P != square:
        x = x * pow(2, (P - 1) // 4, P) % P
    return x if x * x % P == square else None


def point() -> bytes:
    """The first digest of the sentence, attempts counted from 0, that encodes a point of the curve: 32 bytes."""
    attempt = 0
    while True:
        encoded = hashlib.sha256((SENTENCE % attempt).encode()).digest()
        y = int.from_bytes(encoded, "little") & ~(1 << 255)
        if y < P and x_of(y):
            return encoded
        attempt += 1


def no_login_key() -> str:
    """The key as a line of `authorized_keys`, always the same."""
    kind = b"ssh-ed25519"
    blob = b"".join(struct.pack(">I", len(part)) + part for part in (kind, point()))
    return f"ssh-ed25519 {base64.b64encode(blob).decode()} nobody@tensoryard"
