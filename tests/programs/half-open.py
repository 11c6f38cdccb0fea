#!/usr/bin/env python3
"""half-open.py DEVICE ADDRESS PORT COUNT - COUNT connections to ADDRESS:PORT of which only the first
packet comes, through DEVICE, the far end of a veth pair: each from an address in ADDRESS's /16."""
import socket
import struct
import sys

device, address, port, count = sys.argv[1], socket.inet_aton(sys.argv[2]), int(sys.argv[3]), int(sys.argv[4])
NEAR, FAR = bytes.fromhex("020000000001"), bytes.fromhex("020000000002")


def checksum(octets):
    total = sum(struct.unpack(f"!{len(octets) // 2}H", octets))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return ~total & 0xFFFF


def first_packet(number):
    """The frame of connection NUMBER: Ethernet, IPv4, and TCP with SYN alone."""
    source = address[:2] + struct.pack("!H", 256 + number % 60000)
    tcp = struct.pack("!HHIIBBHHH", 1024 + number % 60000, port, number, 0, 5 << 4, 2, 65535, 0, 0)
    pseudo = source + address + struct.pack("!BBH", 0, socket.IPPROTO_TCP, len(tcp))
    tcp = tcp[:16] + struct.pack("!H", checksum(pseudo + tcp)) + tcp[18:]
    ip = struct.pack("!BBHHHBBH4s4s", 0x45, 0, 20 + len(tcp), 0, 0, 64, socket.IPPROTO_TCP, 0, source, address)
    ip = ip[:10] + struct.pack("!H", checksum(ip)) + ip[12:]
    return NEAR + FAR + b"\x08\x00" + ip + tcp


packets = socket.socket(socket.AF_PACKET, socket.SOCK_RAW)
packets.bind((device, 0))
for number in range(count):
    packets.send(first_packet(number))
