"""Makes what deploy/compose/compose.yaml needs and no repository may hold: passwords, keys, Mosquitto's files.

Run once; what is there already is kept, so that a second run neither changes a password nor locks anybody out.
"""

import base64
import hashlib
import secrets
import ssl
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

HERE = Path(__file__).parent
PASSWORDS = (
    *(f"NATS_PASSWORD_{user}" for user in ("INGEST", "ROUTER", "DELIVERY", "CONTROL", "SYS")),
    "POSTGRES_PASSWORD",
    *(f"POSTGRES_PASSWORD_{role}" for role in ("INGEST", "ROUTER", "DELIVERY", "CONTROL")),
    "MQTT_PASSWORD_INGEST",
    "MQTT_PASSWORD_DELIVERY",
    "GRAFANA_PASSWORD",
)
MQTT_USERS = {"pulse.ingest": "MQTT_PASSWORD_INGEST", "pulse.delivery": "MQTT_PASSWORD_DELIVERY"}


def prepare(folder: Path) -> None:
    """Write ``.env`` and ``secrets/`` in *folder*, each unless it is there."""
    environment = folder / ".env"
    if not environment.exists():
        _write(environment, "".join(f"{name}={value}\n" for name, value in _fresh().items()), mode=0o600)
    values = dict(line.split("=", 1) for line in environment.read_text().splitlines() if "=" in line)
    # Nobody else may enter the folder; the files are mounted one by one, and read by another user in the container.
    hidden = folder / "secrets"
    hidden.mkdir(mode=0o700, exist_ok=True)
    if not (hidden / "passwords").exists():
        lines = (f"{user}:{_mosquitto_hash(values[name])}\n" for user, name in MQTT_USERS.items())
        _write(hidden / "passwords", "".join(lines), mode=0o644)
    if not (hidden / "tls.key").exists():
        certificate, key = _certificate("localhost", "mosquitto")
        _write(hidden / "tls.crt", certificate, mode=0o644)
        _write(hidden / "tls.key", key, mode=0o644)


def _fresh() -> dict[str, str]:
    # nats-server reads them like values of its configuration: a letter first, then letters and digits only.
    passwords = {name: f"p{secrets.token_hex(16)}" for name in PASSWORDS}
    return {**passwords, "PULSE_SECRET_KEYS": f"k1:{base64.b64encode(secrets.token_bytes(32)).decode()}"}


def _mosquitto_hash(password: str) -> str:
    """As `mosquitto_passwd` writes it: PBKDF2 with SHA-512."""
    salt, iterations = secrets.token_bytes(12), 101
    made = hashlib.pbkdf2_hmac("sha512", password.encode(), salt, iterations)
    return f"$7${iterations}${base64.b64encode(salt).decode()}${base64.b64encode(made).decode()}"


def _certificate(*hosts: str) -> tuple[str, str]:
    """Return a certificate for *hosts* that is its own authority, and its key."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, hosts[0])])
    now = datetime.now(UTC)
    made = (
        x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number())
        .not_valid_before(now - timedelta(hours=1))
        .not_valid_after(now + timedelta(days=365))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName(host) for host in hosts]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .sign(key, SHA256())
    )
    private = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    return ssl.DER_cert_to_PEM_cert(made.public_bytes(Encoding.DER)), private.decode()


def _write(path: Path, text: str, *, mode: int) -> None:
    path.touch(mode=mode)
    path.chmod(mode)
    path.write_text(text)


if __name__ == "__main__":
    prepare(Path(sys.argv[1]) if sys.argv[1:] else HERE)
