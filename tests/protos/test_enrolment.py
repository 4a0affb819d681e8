from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from protos.enrolment import TicketError, renewal_text, ticket_of_text, ticket_to_text
from protos.traffic_vision.v1.enrolment_pb2 import EnrolmentTicket

tickets = st.builds(
    EnrolmentTicket,
    vehicle=st.text(max_size=63),
    enrol_address=st.text(max_size=80),
    authority_der=st.binary(max_size=600),
    token=st.text(max_size=64),
    expires_wall_ns=st.integers(0, 2**62),
    release_floor=st.integers(0, 2**64 - 1),
    issued_wall_ns=st.integers(-(2**63), 2**63 - 1),
)


@given(tickets, st.integers(1, 100))
def test_a_ticket_comes_back_whole_however_a_mail_breaks_it(ticket: EnrolmentTicket, width: int) -> None:
    text = ticket_to_text(ticket)
    assert text.isascii() and not any(char.isspace() for char in text)
    broken = "\r\n ".join(text[at : at + width] for at in range(0, len(text), width))
    assert ticket_of_text(f" {broken}\n") == ticket


@given(tickets, st.data())
def test_a_ticket_that_was_cut_or_mistyped_is_none(ticket: EnrolmentTicket, data: st.DataObject) -> None:
    text = ticket_to_text(ticket)
    at = data.draw(st.integers(0, len(text) - 1))
    with pytest.raises(TicketError):
        ticket_of_text(text[:at])
    typed = data.draw(st.sampled_from("AZaz09-_.!"))
    changed = text[:at] + typed + text[at + 1 :]
    try:
        found = ticket_of_text(changed)
    except TicketError:
        return
    # Of the last character before the padding, some bits say nothing.
    assert changed == text or found == ticket


@given(st.text(max_size=200))
def test_no_text_breaks_it(text: str) -> None:
    with pytest.raises(TicketError):
        ticket_of_text(text)


parts = st.tuples(*[st.binary(max_size=4)] * 3)


@given(parts, parts)
def test_what_is_signed_differs_wherever_a_part_does(
    one: tuple[bytes, bytes, bytes], other: tuple[bytes, bytes, bytes]
) -> None:
    assert (renewal_text(*one) == renewal_text(*other)) == (one == other)
