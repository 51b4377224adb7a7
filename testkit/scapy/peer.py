#!/usr/bin/python3
"""An independent ESP peer: scapy and python3-cryptography, nothing of xswan.

    peer.py encrypt < jobs > frames    one JSON object a line: an SA and inner packets
    peer.py decrypt < jobs > frames    the same, with ESP packets
    peer.py live PLAN.json             be the other gateway on a device, see below

encrypt and decrypt read {"sa": SA, "sequence": n, "packet": hex} and write
{"packet": hex} or {"error": text}. SA is

    {"algorithm": "aes128gcm16" | "aes192gcm16" | "aes256gcm16" | "chacha20poly1305"
                  | "aes128-sha256" and so on: 128, 192, 256 and 256, 384, 512,
     "key": hex of key and salt, or of the cipher's key and the HMAC's, "spi": n, "esn": bool, "encap": bool,
     "source": address, "destination": address}

live reads a plan:

    {"device": name, "device_mac": mac, "gateway_mac": mac, "client": [v4, v6],
     "port": UDP port of an echo server on the client, "pcap": file or absent,
     "tunnels": [{"seal": SA, "open": SA, "inner": [v4, v6], "mtu": bytes}, ...],
     "packets": how many in all}

It sends sealed UDP datagrams of sizes 1 to what the MTU allows to the client behind the
gateway and opens the answers: every octet of the inner packet, the padding, the trailer,
the sequence numbers and the uniqueness of the IVs are checked. One JSON object is printed
at the end. A datagram whose answer does not come is sent again under a new sequence number.

Sealing is scapy's (SecurityAssociation); opening uses the ciphers of python3-cryptography
directly, because scapy 2.5 does not hand back the padding it has removed.
"""

import hashlib
import hmac
import ipaddress
import json
import os
import select
import socket
import struct
import sys
import time

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
from cryptography.hazmat.primitives.ciphers.aead import AESGCM, ChaCha20Poly1305
from scapy.layers.inet import IP, UDP
from scapy.layers.inet6 import IPv6
from scapy.layers.ipsec import ESP, SecurityAssociation
from scapy.utils import PcapWriter

SCAPY_NAMES = {
    "aes128gcm16": "AES-GCM",
    "aes192gcm16": "AES-GCM",
    "aes256gcm16": "AES-GCM",
    "chacha20poly1305": "CHACHA20-POLY1305",
}
# Octets of the cipher's key.
CBC_KEYS = {"aes128": 16, "aes192": 24, "aes256": 32}
# scapy's name, the hash, octets of the ICV (RFC 4868 section 2.3).
HMACS = {
    "sha256": ("SHA2-256-128", hashlib.sha256, 16),
    "sha384": ("SHA2-384-192", hashlib.sha384, 24),
    "sha512": ("SHA2-512-256", hashlib.sha512, 32),
}
NAT_T_PORT = 4500
ICV_BYTES = 16
IV_BYTES = 8
# Datagrams under way at once: few enough for every socket buffer on the way.
WINDOW = 32
# How often an unanswered datagram is sent again before it counts as lost.
ATTEMPTS = 10
PATIENCE_S = 2.0


class Mismatch(Exception):
    """The peer's packet is not what the RFCs ask for."""


class Sealer:
    """One outbound SA, sealed by scapy."""

    def __init__(self, sa):
        self.sa = sa
        v6 = ":" in sa["source"]
        outer = (IPv6 if v6 else IP)(src=sa["source"], dst=sa["destination"])
        self.v6_in_udp = v6 and sa["encap"]
        secret = bytes.fromhex(sa["key"])
        self.is_cbc = sa["algorithm"] not in SCAPY_NAMES
        if self.is_cbc:
            cipher, mac = sa["algorithm"].split("-")
            ciphers = {
                "crypt_algo": "AES-CBC",
                "crypt_key": secret[: CBC_KEYS[cipher]],
                "auth_algo": HMACS[mac][0],
                "auth_key": secret[CBC_KEYS[cipher] :],
            }
        else:
            ciphers = {"crypt_algo": SCAPY_NAMES[sa["algorithm"]], "crypt_key": secret}
        self.association = SecurityAssociation(
            ESP,
            spi=sa["spi"],
            **ciphers,
            tunnel_header=outer,
            nat_t_header=UDP(sport=NAT_T_PORT, dport=NAT_T_PORT) if sa["encap"] else None,
        )
        self.next = 1

    def seal(self, inner, sequence=None):
        """The outer packet around `inner`, both as bytes; `sequence` has 64 bits."""
        if sequence is None:
            sequence = self.next
            self.next += 1
        packet = (IPv6 if inner[0] >> 4 == 6 else IP)(inner)
        sealed = self.association.encrypt(
            packet,
            seq_num=sequence & 0xFFFFFFFF,
            iv=os.urandom(16) if self.is_cbc else struct.pack("!Q", sequence),
            esn_en=self.sa["esn"],
            esn=sequence >> 32,
        )
        if self.is_cbc and self.sa["esn"]:
            # scapy 2.5 signs with the high half in AH only.
            _, digest, icv_bytes = HMACS[self.sa["algorithm"].split("-")[1]]
            esp = sealed[ESP]
            esp.data = esp.data[:-icv_bytes]
            covered = bytes(esp) + struct.pack("!I", sequence >> 32)
            icv = hmac.new(self.association.auth_key, covered, digest).digest()
            esp.data += icv[:icv_bytes]
        if self.sa["encap"]:
            # scapy 2.5 leaves the length as it was before the ESP was put behind it.
            del sealed[UDP].len
        if self.v6_in_udp:
            # Zero is not a checksum in IPv6 (RFC 8200 section 8.1): scapy fills it in.
            del sealed[UDP].chksum
        return bytes(sealed)


class Opener:
    """One inbound SA, opened and looked at octet by octet."""

    def __init__(self, sa):
        self.sa = sa
        secret = bytes.fromhex(sa["key"])
        if sa["algorithm"] in SCAPY_NAMES:
            self.iv_bytes, self.icv_bytes, self.block = IV_BYTES, ICV_BYTES, 4
            self.salt = secret[-4:]
            aead = ChaCha20Poly1305 if sa["algorithm"] == "chacha20poly1305" else AESGCM
            self.aead = aead(secret[:-4])
        else:
            cipher, mac = sa["algorithm"].split("-")
            _, self.hash, self.icv_bytes = HMACS[mac]
            self.iv_bytes, self.block, self.aead = 16, 16, None
            self.cipher = algorithms.AES(secret[: CBC_KEYS[cipher]])
            self.mac_key = secret[CBC_KEYS[cipher] :]
        self.ivs = set()
        self.top = 0

    def open(self, packet, fresh=True):
        """The inner packet; `fresh` also demands a rising sequence and an unused IV."""
        esp = self.outer(packet)
        text_len = len(esp) - 8 - self.iv_bytes - self.icv_bytes
        # RFC 4303 section 2.4: a multiple of four, and of the cipher's block.
        if text_len < 2 or text_len % self.block != 0:
            raise Mismatch(f"ESP of {len(esp)} bytes")
        spi, low = struct.unpack("!II", esp[:8])
        if spi != self.sa["spi"]:
            raise Mismatch(f"SPI {spi:#x}")
        iv = esp[8 : 8 + self.iv_bytes]
        high = 0
        try:
            if self.aead is None:
                plain = self.cbc(esp, iv, high)
            else:
                aad = struct.pack("!III", spi, high, low) if self.sa["esn"] else esp[:8]
                plain = self.aead.decrypt(self.salt + iv, esp[8 + IV_BYTES :], aad)
        except InvalidTag:
            raise Mismatch("the integrity check value does not match") from None
        if fresh:
            if iv in self.ivs:
                raise Mismatch(f"IV {iv.hex()} used twice")
            self.ivs.add(iv)
            self.top = max(self.top, low)
            if low == 0:
                raise Mismatch("sequence number 0")
        pad_length, next_header = plain[-2], plain[-1]
        if pad_length + 2 > len(plain):
            raise Mismatch(f"pad length {pad_length}")
        padding = plain[len(plain) - 2 - pad_length : -2]
        if padding != bytes(range(1, pad_length + 1)):
            raise Mismatch(f"padding {padding.hex()}")
        inner = plain[: len(plain) - 2 - pad_length]
        if next_header != {4: 4, 6: 41}.get(inner[0] >> 4 if inner else 0):
            raise Mismatch(f"next header {next_header}")
        return inner

    def cbc(self, esp, iv, high):
        """RFC 4303 section 2.2.1: the high half is at the end of what is authenticated."""
        covered = esp[: -self.icv_bytes] + (struct.pack("!I", high) if self.sa["esn"] else b"")
        icv = hmac.new(self.mac_key, covered, self.hash).digest()[: self.icv_bytes]
        if icv != esp[-self.icv_bytes :]:
            raise InvalidTag
        decryptor = Cipher(self.cipher, modes.CBC(iv)).decryptor()
        return decryptor.update(esp[8 + self.iv_bytes : -self.icv_bytes]) + decryptor.finalize()

    def outer(self, packet):
        """Checks the outer headers and returns what is ESP."""
        if packet[0] >> 4 == 4:
            header = IP(packet)
            declared = header.len
            if checksum(packet[: header.ihl * 4]) != 0:
                raise Mismatch("outer header checksum")
            protocol, start = header.proto, header.ihl * 4
        else:
            header = IPv6(packet)
            declared = header.plen + 40
            protocol, start = header.nh, 40
        if declared != len(packet):
            raise Mismatch(f"outer length {declared}, packet {len(packet)}")
        if (header.src, header.dst) != (self.sa["source"], self.sa["destination"]):
            raise Mismatch(f"outer addresses {header.src} {header.dst}")
        if not self.sa["encap"]:
            if protocol != 50:
                raise Mismatch(f"outer protocol {protocol}")
            return packet[start:]
        if protocol != 17:
            raise Mismatch(f"outer protocol {protocol}, not UDP")
        ports, length, sum_field = struct.unpack("!IHH", packet[start : start + 8])
        if ports != NAT_T_PORT << 16 | NAT_T_PORT or length != len(packet) - start:
            raise Mismatch("UDP header")
        if sum_field == 0 and packet[0] >> 4 == 6:
            raise Mismatch("no UDP checksum over IPv6")
        if sum_field != 0 and udp_sum(header, packet[start:]) != 0:
            raise Mismatch("UDP checksum")
        return packet[start + 8 :]


def checksum(data):
    """RFC 1071."""
    if len(data) % 2:
        data += b"\0"
    total = sum(struct.unpack(f"!{len(data) // 2}H", data))
    while total > 0xFFFF:
        total = (total & 0xFFFF) + (total >> 16)
    return ~total & 0xFFFF


def udp_sum(header, segment):
    family = socket.AF_INET if header.version == 4 else socket.AF_INET6
    addresses = socket.inet_pton(family, header.src) + socket.inet_pton(family, header.dst)
    return checksum(addresses + struct.pack("!II", len(segment), 17) + segment)


def convert(mode):
    """The line-by-line modes."""
    cache = {}
    for line in sys.stdin:
        job = json.loads(line)
        name = json.dumps(job["sa"], sort_keys=True)
        if name not in cache:
            cache[name] = (Sealer if mode == "encrypt" else Opener)(job["sa"])
        try:
            packet = bytes.fromhex(job["packet"])
            if mode == "encrypt":
                result = cache[name].seal(packet, job.get("sequence"))
            else:
                result = cache[name].open(packet, fresh=False)
            print(json.dumps({"packet": result.hex()}), flush=True)
        except Mismatch as mismatch:
            print(json.dumps({"error": str(mismatch)}), flush=True)


class Live:
    """The other gateway, and the hosts behind it."""

    def __init__(self, plan):
        self.plan = plan
        self.ethernet = mac(plan["gateway_mac"]) + mac(plan["device_mac"])
        self.link = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(3))
        self.link.setsockopt(socket.SOL_SOCKET, 33, 32 << 20)  # SO_RCVBUFFORCE
        self.link.bind((plan["device"], 0))
        # Somebody has to want ESP and port 4500, or the kernel answers that nobody does.
        self.wanted = [
            socket.socket(socket.AF_INET, socket.SOCK_RAW, 50),
            socket.socket(socket.AF_INET6, socket.SOCK_RAW, 50),
        ]
        for family in (socket.AF_INET, socket.AF_INET6):
            udp = socket.socket(family, socket.SOCK_DGRAM)
            if family == socket.AF_INET6:
                udp.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
            udp.bind(("", NAT_T_PORT))
            self.wanted.append(udp)
        self.pcap = PcapWriter(plan["pcap"], linktype=1) if plan.get("pcap") else None
        self.tunnels = [
            (Sealer(t["seal"]), Opener(t["open"]), t["inner"], t["mtu"]) for t in plan["tunnels"]
        ]
        self.openers = {opener.sa["spi"]: opener for _, opener, _, _ in self.tunnels}
        self.report = {"sent": 0, "answered": 0, "resent": 0, "lost": 0, "mismatches": []}
        self.answers = {}

    def run(self):
        waiting, serial = [], 0
        total = self.plan["packets"]
        while serial < total or waiting:
            while serial < total and len(waiting) < WINDOW:
                waiting.append(self.draw(serial))
                serial += 1
            for job in waiting:
                self.transmit(job)
            self.collect(waiting)
            waiting = self.remaining(waiting)
        if self.pcap:
            self.pcap.close()
        print(json.dumps(self.report))

    def draw(self, serial):
        """Which tunnel, family and size the datagram with this number has."""
        count = len(self.tunnels)
        tunnel = self.tunnels[serial % count]
        family = serial // count % 2
        sealer, _, inner, mtu = tunnel
        headers = 48 if family else 28
        largest = mtu - headers
        step = serial // (2 * count)
        sizes = max(1, -(-self.plan["packets"] // (2 * count)))
        # Evenly from 1 to the largest that fits, both ends included.
        size = 1 if sizes == 1 else 1 + step * (largest - 1) // (sizes - 1)
        size = min(max(size, 1), largest)
        stamp = struct.pack("!I", serial)
        payload = (stamp * (size // 4 + 1))[:size]
        # The port carries the number where the payload is too short to.
        port = 10000 + serial % 50000
        # As scapy writes them: answers are found by their text.
        host = str(ipaddress.ip_address(inner[family]))
        client = str(ipaddress.ip_address(self.plan["client"][family]))
        ip = IPv6(src=host, dst=client, fl=0) if family else IP(src=host, dst=client, id=serial & 0xFFFF)
        packet = bytes(ip / UDP(sport=port, dport=self.plan["port"]) / payload)
        return {"sealer": sealer, "packet": packet, "key": (host, port), "payload": payload,
                "client": client, "tries": 0}

    def transmit(self, job):
        outer = job["sealer"].seal(job["packet"])
        kind = b"\x86\xdd" if outer[0] >> 4 == 6 else b"\x08\x00"
        frame = self.ethernet + kind + outer
        self.link.send(frame)
        self.record(frame)
        job["tries"] += 1
        self.report["sent" if job["tries"] == 1 else "resent"] += 1

    def record(self, frame):
        if self.pcap:
            self.pcap.write(frame)

    def collect(self, waiting):
        """Takes answers until all are there or none comes for a while."""
        missing = {job["key"] for job in waiting}
        deadline = time.monotonic() + PATIENCE_S
        while missing and time.monotonic() < deadline:
            ready, _, _ = select.select([self.link], [], [], deadline - time.monotonic())
            if not ready:
                break
            frame, address = self.link.recvfrom(65536)
            if address[2] == 4:  # PACKET_OUTGOING: our own
                continue
            key = self.answer(frame)
            missing.discard(key)

    def answer(self, frame):
        kind, packet = frame[12:14], frame[14:]
        if kind == b"\x08\x00":
            packet = packet[: struct.unpack("!H", packet[2:4])[0]]
            protocol, start = packet[9], (packet[0] & 15) * 4
        elif kind == b"\x86\xdd":
            packet = packet[: 40 + struct.unpack("!H", packet[4:6])[0]]
            protocol, start = packet[6], 40
        else:
            return None
        if protocol == 17 and packet[start + 2 : start + 4] == struct.pack("!H", NAT_T_PORT):
            start += 8
        elif protocol != 50:
            return None
        self.record(frame)
        spi = struct.unpack("!I", packet[start : start + 4])[0]
        opener = self.openers.get(spi)
        if opener is None:
            return self.object(f"no tunnel has SPI {spi:#x}")
        try:
            inner = opener.open(packet)
        except Mismatch as mismatch:
            return self.object(f"SPI {spi:#x}: {mismatch}")
        return self.inner(inner)

    def inner(self, packet):
        header = (IPv6 if packet[0] >> 4 == 6 else IP)(packet)
        start = 40 if header.version == 6 else header.ihl * 4
        declared = header.plen + 40 if header.version == 6 else header.len
        if declared != len(packet):
            return self.object(f"inner length {declared}, packet {len(packet)}")
        if header.version == 4 and checksum(packet[:start]) != 0:
            return self.object("inner header checksum")
        if (header.nh if header.version == 6 else header.proto) != 17:
            return None  # neighbour discovery and the like
        if udp_sum(header, packet[start:]) != 0:
            return self.object("inner UDP checksum")
        port = struct.unpack("!H", packet[start + 2 : start + 4])[0]
        key = (header.dst, port)
        self.answers[key] = (header.src, packet[start + 8 :])
        return key

    def object(self, what):
        self.report["mismatches"].append(what)
        return None

    def remaining(self, waiting):
        again = []
        for job in waiting:
            answer = self.answers.pop(job["key"], None)
            if answer is not None:
                self.report["answered"] += 1
                if answer != (job["client"], job["payload"]):
                    self.object(f"the answer to {job['key']} is not what was sent")
            elif job["tries"] < ATTEMPTS:
                again.append(job)
            else:
                self.report["lost"] += 1
        return again


def mac(text):
    return bytes.fromhex(text.replace(":", ""))


def main():
    arguments = sys.argv[1:]
    if arguments in (["encrypt"], ["decrypt"]):
        convert(arguments[0])
    elif len(arguments) == 2 and arguments[0] == "live":
        with open(arguments[1], encoding="utf-8") as plan:
            Live(json.load(plan)).run()
    else:
        sys.exit(__doc__)


if __name__ == "__main__":
    main()
