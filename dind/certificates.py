"""Mutual TLS between the broker and its sandboxes: one certificate authority for each data directory.

Private keys are 0600 and never leave the folder but into the sandbox that they belong to. P-256, ten years.
"""

import datetime
import ipaddress
import os
from collections.abc import Sequence
from pathlib import Path

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

CA, CA_KEY = "ca.pem", "ca-key.pem"
CLIENT, CLIENT_KEY = "cert.pem", "key.pem"  # the names that DOCKER_CERT_PATH expects
SERVER, SERVER_KEY = "server-cert.pem", "server-key.pem"
_LIFE, _SPARE = datetime.timedelta(days=3650), datetime.timedelta(days=365)


def ensure_authority(folder: Path) -> None:
    """The authority and the broker's client certificate in `folder`; what is there already stays."""
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    if not (folder / CA).exists():
        key = ec.generate_private_key(ec.SECP256R1())
        name = _name("wyolo sandboxes")
        certificate = (
            _builder(name, name, key.public_key(), key.public_key())
            .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
            .add_extension(_usage(signs_certificates=True), critical=True)
            .sign(key, hashes.SHA256())
        )
        _write_key(folder / CA_KEY, key)
        _write(folder / CA, certificate.public_bytes(serialization.Encoding.PEM))
        (folder / CLIENT).unlink(missing_ok=True)  # of an authority before this one
    if not (folder / CLIENT).exists():
        files = folder / CLIENT, folder / CLIENT_KEY
        _issue(folder, files, "wyolo broker", ExtendedKeyUsageOID.CLIENT_AUTH, ())


def ensure_server(authority: Path, folder: Path, name: str, hosts: Sequence[str]) -> None:
    """A sandbox's own certificate in `folder`, with the authority's beside it.

    One that is there stays while it is of this authority, names all `hosts` that it answers to and has a year to go.
    """
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    if not _fits(authority / CA, folder / SERVER, folder / SERVER_KEY, hosts):
        files = folder / SERVER, folder / SERVER_KEY
        _issue(authority, files, name, ExtendedKeyUsageOID.SERVER_AUTH, hosts)
    if not (folder / CA).exists() or (folder / CA).read_bytes() != (authority / CA).read_bytes():
        _write(folder / CA, (authority / CA).read_bytes())


def fingerprint(certificate: Path) -> str:
    """SHA-256 of it, in hexadecimal."""
    return x509.load_pem_x509_certificate(certificate.read_bytes()).fingerprint(hashes.SHA256()).hex()


def _fits(authority: Path, certificate: Path, key_file: Path, hosts: Sequence[str]) -> bool:
    if not key_file.exists() or not certificate.exists():
        return False
    try:
        found = x509.load_pem_x509_certificate(certificate.read_bytes())
        found.verify_directly_issued_by(x509.load_pem_x509_certificate(authority.read_bytes()))
        key = serialization.load_pem_private_key(key_file.read_bytes(), None)
        names = found.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except (ValueError, TypeError, InvalidSignature, x509.ExtensionNotFound):
        return False
    lasts = found.not_valid_after_utc - datetime.datetime.now(datetime.UTC) > _SPARE
    return lasts and found.public_key() == key.public_key() and all(_alternative(host) in names for host in hosts)


def _issue(
    authority: Path, files: tuple[Path, Path], name: str, usage: x509.ObjectIdentifier, hosts: Sequence[str]
) -> None:
    """`files`: of the certificate and of its key."""
    issuer = x509.load_pem_x509_certificate((authority / CA).read_bytes())
    issuer_key = serialization.load_pem_private_key((authority / CA_KEY).read_bytes(), None)
    assert isinstance(issuer_key, ec.EllipticCurvePrivateKey)
    key = ec.generate_private_key(ec.SECP256R1())
    builder = (
        _builder(_name(name), issuer.subject, key.public_key(), issuer_key.public_key())
        .add_extension(_usage(signs_certificates=False), critical=True)
        .add_extension(x509.ExtendedKeyUsage([usage]), critical=False)
    )
    if hosts:
        builder = builder.add_extension(x509.SubjectAlternativeName([_alternative(h) for h in hosts]), critical=False)
    certificate, key_file = files
    _write_key(key_file, key)
    _write(certificate, builder.sign(issuer_key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM))


def _builder(
    subject: x509.Name, issuer: x509.Name, key: ec.EllipticCurvePublicKey, issuer_key: ec.EllipticCurvePublicKey
) -> x509.CertificateBuilder:
    now = datetime.datetime.now(datetime.UTC)
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key)
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(hours=1))  # clocks differ
        .not_valid_after(now + _LIFE)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key), critical=False)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(issuer_key), critical=False)
    )


def _usage(*, signs_certificates: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=not signs_certificates,
        key_cert_sign=signs_certificates,
        crl_sign=signs_certificates,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        encipher_only=False,
        decipher_only=False,
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
    with os.fdopen(os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())
    fresh.replace(path)
