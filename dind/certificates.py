"""Mutual TLS between the broker and its sandboxes: one certificate authority for each data directory.

Private keys are 0600 and never leave the folder but into the sandbox that they belong to. P-256, ten years.
"""

import datetime
import ipaddress
import os
from collections.abc import Sequence
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

CA, CA_KEY = "ca.pem", "ca-key.pem"
CLIENT, CLIENT_KEY = "cert.pem", "key.pem"  # the names that DOCKER_CERT_PATH expects
SERVER, SERVER_KEY = "server-cert.pem", "server-key.pem"
_LIFE = datetime.timedelta(days=3650)


def ensure_authority(folder: Path) -> None:
    """The authority and the broker's client certificate in `folder`; what is there already stays."""
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    if not (folder / CA).exists():
        key = ec.generate_private_key(ec.SECP256R1())
        name = _name("wyolo sandboxes")
        certificate = (
            _builder(name, name, key.public_key())
            .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
            .sign(key, hashes.SHA256())
        )
        _write_key(folder / CA_KEY, key)
        _write(folder / CA, certificate.public_bytes(serialization.Encoding.PEM))
    if not (folder / CLIENT).exists():
        _issue(folder, folder / CLIENT, folder / CLIENT_KEY, "wyolo broker", ExtendedKeyUsageOID.CLIENT_AUTH, ())


def ensure_server(authority: Path, folder: Path, name: str, hosts: Sequence[str]) -> None:
    """A sandbox's own certificate in `folder`, with the authority's beside it. `hosts`: names and addresses it answers to."""
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    if not (folder / SERVER).exists():
        _issue(authority, folder / SERVER, folder / SERVER_KEY, name, ExtendedKeyUsageOID.SERVER_AUTH, hosts)
    _write(folder / CA, (authority / CA).read_bytes())


def _issue(
    authority: Path, certificate: Path, key_file: Path, name: str, usage: x509.ObjectIdentifier, hosts: Sequence[str]
) -> None:
    issuer = x509.load_pem_x509_certificate((authority / CA).read_bytes())
    issuer_key = serialization.load_pem_private_key((authority / CA_KEY).read_bytes(), None)
    assert isinstance(issuer_key, ec.EllipticCurvePrivateKey)
    key = ec.generate_private_key(ec.SECP256R1())
    builder = _builder(_name(name), issuer.subject, key.public_key()).add_extension(
        x509.ExtendedKeyUsage([usage]), critical=False
    )
    if hosts:
        builder = builder.add_extension(x509.SubjectAlternativeName([_alternative(h) for h in hosts]), critical=False)
    _write_key(key_file, key)
    _write(certificate, builder.sign(issuer_key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM))


def _builder(subject: x509.Name, issuer: x509.Name, key: ec.EllipticCurvePublicKey) -> x509.CertificateBuilder:
    now = datetime.datetime.now(datetime.UTC)
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key)
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(hours=1))  # clocks differ
        .not_valid_after(now + _LIFE)
    )


def _name(common: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, common)])


def _alternative(host: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(host))
    except ValueError:
        return x509.DNSName(host)


def _write_key(path: Path, key: ec.EllipticCurvePrivateKey) -> None:
    encoding, form = serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8
    _write(path, key.private_bytes(encoding, form, serialization.NoEncryption()))


def _write(path: Path, data: bytes) -> None:
    """Whole or not at all, and private from its first byte."""
    fresh = path.with_name(f".{path.name}.{os.getpid()}")
    with open(os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "wb") as file:
        file.write(data)
        os.fsync(file.fileno())
    fresh.replace(path)
