"""A certificate for 127.0.0.1 and its key, in the folder named."""

import datetime
import ipaddress
import pathlib
import sys

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

folder = pathlib.Path(sys.argv[1])
key = ec.generate_private_key(ec.SECP256R1())
name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "gateway")])
now = datetime.datetime.now(datetime.timezone.utc)
builder = x509.CertificateBuilder().subject_name(name).issuer_name(name).public_key(key.public_key())
builder = builder.serial_number(1).not_valid_before(now - datetime.timedelta(days=1))
builder = builder.not_valid_after(now + datetime.timedelta(days=1))
address = x509.IPAddress(ipaddress.ip_address("127.0.0.1"))
builder = builder.add_extension(x509.SubjectAlternativeName([address]), critical=False)
certificate = builder.sign(key, hashes.SHA256())
pem, plain = serialization.Encoding.PEM, serialization.NoEncryption()
(folder / "cert.pem").write_bytes(certificate.public_bytes(pem))
(folder / "key.pem").write_bytes(key.private_bytes(pem, serialization.PrivateFormat.PKCS8, plain))
