"""What both sides of an enrolment must write alike: the ticket as text, and what a renewal signs."""

from __future__ import annotations

import base64
import binascii
import hashlib

from google.protobuf.message import DecodeError

from protos.traffic_vision.v1.enrolment_pb2 import EnrolmentTicket

_PREFIX = "tvticket1."
_LONGEST = 8192  # characters
_RENEWAL = b"traffic-vision renewal 1\0"


class TicketError(ValueError):
    """A text is no ticket."""


def ticket_to_text(ticket: EnrolmentTicket) -> str:
    """One line without blanks, to be pasted or kept in a file."""
    data = ticket.SerializeToString()
    return _PREFIX + base64.urlsafe_b64encode(data + _check(data)).decode()


def ticket_of_text(text: str) -> EnrolmentTicket:
    """The ticket in a text; blanks and line breaks, which mail programs add, are left out.

    Raises:
        TicketError: it is none, or not all of one.
    """
    joined = "".join(text.split())
    if not joined.startswith(_PREFIX) or len(joined) > _LONGEST:
        raise TicketError(f"no ticket: one begins with {_PREFIX}")
    try:
        data = base64.b64decode(joined.removeprefix(_PREFIX), altchars=b"-_", validate=True)
        ticket = EnrolmentTicket.FromString(data[:-4])
    except (binascii.Error, ValueError, DecodeError):
        raise TicketError("the ticket is not whole") from None
    if _check(data[:-4]) != data[-4:]:
        raise TicketError("the ticket is not whole")
    return ticket


def renewal_text(nonce: bytes, certificate_der: bytes, csr_der: bytes) -> bytes:
    """What the old key signs: this nonce, for this certificate's successor, of this request.

    Args:
        nonce: of `BeginRenewalResponse`.
        certificate_der: the old certificate.
        csr_der: the request for the new one.
    """
    parts = (nonce, certificate_der, csr_der)
    return _RENEWAL + b"".join(hashlib.sha256(part).digest() for part in parts)


def _check(data: bytes) -> bytes:
    """Tells a text that was cut or mistyped; who may have written it, the token tells."""
    return hashlib.sha256(data).digest()[:4]
