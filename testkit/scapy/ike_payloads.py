#!/usr/bin/python3
"""What scapy reads in IKEv2 messages that are not encrypted.

    ike_payloads.py < messages > lists

One message in hex a line. For each comes one line, with what each payload has (see PAYLOADS)
behind its type:

    exchange flags message-ID | type:contents | type:contents ...
"""

import socket
import sys

from scapy.contrib import ikev2
from scapy.packet import NoPayload


def octets(value):
    return value.hex() if isinstance(value, bytes) else bytes(value).hex()


def transforms(proposal):
    listed, transform = [], proposal.trans
    while proposal.trans_nb and not isinstance(transform, NoPayload):
        # The only attribute that scapy knows.
        key = transform.key_length & 0xFFFF if transform.length > 8 else "-"
        listed.append(f"{transform.transform_type},{transform.transform_id},{key}")
        transform = transform.payload
    return ";".join(listed)


def proposals(sa):
    listed, proposal = [], sa.prop
    while sa.length > 4 and not isinstance(proposal, NoPayload):
        fields = f"{proposal.proposal},{proposal.proto},{octets(proposal.SPI)}"
        listed.append(f"{fields}[{transforms(proposal)}]")
        proposal = proposal.payload
    return "".join(listed)


def selectors(payload):
    listed = []
    for selector in payload.traffic_selector:
        if selector.TS_type == 7:
            family = socket.AF_INET
            ends = selector.starting_address_v4, selector.ending_address_v4
        else:
            family = socket.AF_INET6
            ends = selector.starting_address_v6, selector.ending_address_v6
        first, last = (socket.inet_pton(family, end).hex() for end in ends)
        ports = f"{selector.start_port},{selector.end_port}"
        listed.append(f"{selector.IP_protocol_ID},{ports},{first},{last}")
    return ";".join(listed)


def attributes(payload):
    listed = []
    for attribute in payload.attributes:
        # The octets, not the address that scapy makes of some of them.
        listed.append(f"{attribute.type},{bytes(attribute)[4:].hex()}")
    return ";".join(listed)


PAYLOADS = {
    33: proposals,
    34: lambda p: f"{p.group},{octets(p.load)}",
    35: lambda p: f"{p.IDtype},{bytes(p)[8 : p.length].hex()}",
    36: lambda p: f"{p.IDtype},{bytes(p)[8 : p.length].hex()}",
    37: lambda p: f"{p.cert_type},{bytes(p)[5 : p.length].hex()}",
    38: lambda p: f"{p.cert_type},{octets(p.cert_data)}",
    39: lambda p: f"{p.auth_type},{octets(p.load)}",
    40: lambda p: octets(p.load),
    41: lambda p: f"{p.proto},{octets(p.SPI)},{p.type},{octets(p.load)}",
    42: lambda p: octets(p.vendorID),
    43: lambda p: octets(p.vendorID),
    44: selectors,
    45: selectors,
    47: lambda p: f"{p.CFGType},{attributes(p)}",
    48: lambda p: octets(p.load),
}


def read(line):
    message = ikev2.IKEv2(bytes.fromhex(line))
    listed = [f"{message.exch_type} {int(message.flags)} {message.id}"]
    kind, payload = message.next_payload, message.payload
    while kind != 0:
        describe = PAYLOADS.get(kind, lambda p: octets(p.load))
        listed.append(f"{kind}:{describe(payload)}")
        kind, payload = payload.next_payload, payload.payload
    return " | ".join(listed)


for line in sys.stdin:
    print(read(line.strip()), flush=True)
