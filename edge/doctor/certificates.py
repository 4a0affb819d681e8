"""The files of mutual TLS, of the cloud and of the perception service."""

from __future__ import annotations

import itertools
import os
import stat
from collections.abc import Sequence
from datetime import datetime, timedelta, timezone
from pathlib import Path

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import serialization

from edge.config import EdgeConfig
from edge.doctor.finding import Finding, failure, ok, warning
from edge.fleet.identity import LONGEST_AWAY, renewal_due

_SOON = timedelta(days=30)


def certificates(config: EdgeConfig) -> list[Finding]:
    """Validity, key, mode and chain of each."""
    now = datetime.now(timezone.utc)
    findings: list[Finding] = []
    if config.cloud is not None:
        cloud = config.cloud
        findings += _pair("certificate", cloud.cert, cloud.key, cloud.ca, now, cloud.enrol_address)
    if config.serve.tls is not None:
        tls = config.serve.tls
        findings += _pair("serve.tls", tls.cert, tls.key, None, now)
        if tls.client_ca is not None:
            findings += [judge_validity("serve.tls client_ca", one, now) for one in _read(tls.client_ca)]
    return findings or [ok("certificates", "none are configured")]


def judge_validity(subject: str, certificate: x509.Certificate, now: datetime) -> Finding:
    """Judge a certificate's time."""
    begins, ends = certificate.not_valid_before_utc, certificate.not_valid_after_utc
    name = certificate.subject.rfc4514_string()
    text = f"{name}, valid until {ends:%Y-%m-%d}"
    if now < begins:
        return failure(subject, f"{name}, valid from {begins:%Y-%m-%d %H:%MZ} on", "is the clock wrong?")
    if now >= ends:
        return failure(subject, f"{name}, ended {ends:%Y-%m-%d %H:%MZ}", "enrol the vehicle anew")
    if ends - now < _SOON:
        return warning(subject, text, "it ends within a month: enrol the vehicle anew in time")
    return ok(subject, text)


def judge_chain(chain: Sequence[x509.Certificate], authorities: Sequence[x509.Certificate]) -> Finding:
    """Judge whether a certificate (first, its intermediates after it) comes from one of the authorities."""
    for issued, issuer in itertools.pairwise(chain):
        if not _issued(issued, issuer):
            advice = "put the intermediates below the certificate, each followed by its issuer"
            return failure("chain", f"{_name(issued)} is not from {_name(issuer)}, which follows it", advice)
    if any(_issued(chain[-1], authority) for authority in authorities):
        return ok("chain", f"{len(chain)} to {_name(authorities[0])}")
    # The cloud may trust other authorities than the vehicle does.
    text = f"{_name(chain[-1])} does not come from an authority in cloud.ca"
    return warning("chain", text, "the cloud may refuse it: was the vehicle enrolled with this cloud?")


def judge_mode(subject: str, path: Path, mode: int) -> Finding:
    """Judge who may read a private key."""
    text = f"{path} has mode {stat.S_IMODE(mode):o}"
    if mode & 0o007:
        return failure(subject, f"{text}: everybody may read the private key", f"chmod 600 {path}")
    if mode & 0o030:
        return warning(subject, f"{text}: its group may change it", f"chmod 640 {path}")
    return ok(subject, text)


def judge_renewed(subject: str, certificate: x509.Certificate, now: datetime) -> Finding:
    """Judge the time of a certificate that the daemon renews by itself."""
    begins, ends = certificate.not_valid_before_utc, certificate.not_valid_after_utc
    due = renewal_due(certificate)
    text = f"{certificate.subject.rfc4514_string()}, valid until {ends:%Y-%m-%d}"
    if now < begins:
        return judge_validity(subject, certificate, now)
    if now >= ends + LONGEST_AWAY:
        return failure(subject, f"{text}: ended more than a year ago", "enrol the vehicle anew")
    if now >= ends:
        return warning(subject, f"{text}: it has ended", "the daemon renews it where it reaches its cloud")
    if now >= due + (ends - due) / 2:
        text += f"; it should have been renewed on {due:%Y-%m-%d}"
        return warning(subject, text, "is cloud.enrol_address reached? The daemon's log says why not")
    return ok(subject, f"{text}; renewed from {due:%Y-%m-%d} on")


def judge_folder(subject: str, folder: Path, mode: int, *, is_writable: bool) -> Finding:
    """Judge the folder that a renewed certificate is written into."""
    text = f"{folder} has mode {stat.S_IMODE(mode):o}"
    if not is_writable:
        return failure(
            subject,
            f"{folder} cannot be written to",
            "no renewal can be kept: run this as the service's user",
        )
    if mode & 0o022:
        return failure(subject, f"{text}: others may put a key in its place", f"chmod 700 {folder}")
    return ok(subject, text)


def _pair(
    subject: str, cert: Path, key: Path, ca: Path | None, now: datetime, enrol_address: str | None = None
) -> list[Finding]:
    try:
        chain = _read(cert)
        authorities = [] if ca is None else _read(ca)
        private = serialization.load_pem_private_key(key.read_bytes(), None)
    except OSError as error:
        advice = "run this as the service's user (sudo -u traffic-vision)"
        return [failure(subject, f"{error.filename}: {error.strerror}", advice)]
    except (ValueError, TypeError):  # its text may quote the file
        return [
            failure(subject, f"{cert}, {key} or {ca} is no PEM that can be used", "enrol the vehicle anew")
        ]
    judge = judge_validity if enrol_address is None else judge_renewed
    findings = [judge(subject, chain[0], now)]
    findings += [judge_validity(f"{subject} ca", authority, now) for authority in authorities]
    form = serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo
    if private.public_key().public_bytes(*form) != chain[0].public_key().public_bytes(*form):
        findings.append(failure(subject, f"{key} is not the key of {cert}", "take both of one enrolment"))
    if authorities:
        findings.append(judge_chain(chain, authorities))
    findings.append(judge_mode(f"{subject} key", key, key.stat().st_mode))
    if enrol_address is not None:
        folder = key.parent
        is_writable = os.access(folder, os.W_OK)
        findings.append(
            judge_folder(f"{subject} folder", folder, folder.stat().st_mode, is_writable=is_writable)
        )
    return findings


def _read(path: Path) -> list[x509.Certificate]:
    return x509.load_pem_x509_certificates(path.read_bytes())


def _issued(certificate: x509.Certificate, issuer: x509.Certificate) -> bool:
    try:
        certificate.verify_directly_issued_by(issuer)
    except (ValueError, TypeError, InvalidSignature):
        return False
    return True


def _name(certificate: x509.Certificate) -> str:
    return certificate.subject.rfc4514_string()
