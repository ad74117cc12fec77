"""Certificates of a day, each its own authority: for servers of this machine that speak TLS or sign."""

import datetime
import ipaddress
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

Certified = tuple[ec.EllipticCurvePrivateKey, x509.Certificate]


def signed_by_itself(common_name: str, address: str | None = None) -> Certified:
    """A key and its certificate; address: that it is for, None where nobody connects to it."""
    return signed(common_name, address, None)


def signed(common_name: str, address: str | None, by: Certified | None) -> Certified:
    """As `signed_by_itself`; by: another that vouches for it, and then it vouches for none."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, common_name)])
    signer, issuer = (by[0], by[1].subject) if by else (key, name)
    now = datetime.datetime.now(datetime.UTC)
    made = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(issuer)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(hours=1))
        .not_valid_after(now + datetime.timedelta(days=1))
        .add_extension(x509.BasicConstraints(ca=by is None, path_length=None), True)
    )
    if address:
        addresses = x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address(address))])
        made = made.add_extension(addresses, False)
    return key, made.sign(signer, hashes.SHA256())


def certificate_files(folder: Path, address: str = "127.0.0.1") -> tuple[Path, Path]:
    """Files of a certificate for an address, this machine's own, and of its key."""
    return _written(signed_by_itself("Tests of Tensoryard", address), folder / "certificate.pem", folder / "key.pem")


def authority_files(folder: Path, address: str = "127.0.0.1") -> tuple[Path, Path, Path]:
    """Files of an authority, of a certificate for an address that it signed, and of that one's key."""
    authority = signed_by_itself("Authority of the tests")
    file, _ = _written(authority, folder / "ca.pem", folder / "ca.key")
    return file, *_written(signed("Tests", address, authority), folder / "server.pem", folder / "server.key")


def _written(made: Certified, certificate: Path, private: Path) -> tuple[Path, Path]:
    key, signed_one = made
    certificate.write_bytes(signed_one.public_bytes(serialization.Encoding.PEM))
    private.write_bytes(
        key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    )
    return certificate, private
