# Sends TCP and UDP packets behind virtio-net headers that contradict them (PACKET_VNET_HDR), and prints how many
# the kernel took. Arguments: device, source MAC, destination MAC, source and destination IPv4 address.
import itertools
import socket
import struct
import sys

SOL_PACKET, PACKET_VNET_HDR = 263, 15
NEEDS_CSUM, DATA_VALID = 1, 2
NONE, TCPV4, UDP, TCPV6, UDP_L4, ECN = 0, 1, 3, 4, 5, 0x80

device, source_mac, destination_mac, source, destination = sys.argv[1:]
link = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, 0)
link.setsockopt(SOL_PACKET, PACKET_VNET_HDR, 1)
link.bind((device, 0))
ethernet = bytes.fromhex((destination_mac + source_mac).replace(":", "")) + b"\x08\x00"


def packet(protocol, length, claimed):
    addresses = socket.inet_aton(source) + socket.inet_aton(destination)
    ip = struct.pack("!BBHHHBBH", 0x45, 0, claimed, 1, 0x4000, 64, protocol, 0) + addresses
    total = sum(struct.unpack("!10H", ip))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    ip = ip[:10] + struct.pack("!H", 0xFFFF ^ total) + ip[12:]
    tcp = struct.pack("!HHIIBBHHH", 4000, 4001, 1, 0, 0x50, 0x10, 1000, 0, 0)
    udp = struct.pack("!HHHH", 4000, 4001, 8 + length, 0)
    return ethernet + ip + (tcp if protocol == 6 else udp) + bytes(length)


taken = 0
frames = [packet(p, n, c) for p in (6, 17) for n in (0, 10, 1000, 4000) for c in (28 + n, 40 + n, 20, 60000)]
headers = itertools.product(
    (0, NEEDS_CSUM, DATA_VALID),
    (NONE, TCPV4, UDP, TCPV6, UDP_L4, TCPV4 | ECN),
    (0, 14, 54, 65535),
    (0, 1, 500, 65535),
    (0, 13, 34, 54, 1000),
    (0, 6, 16, 60000),
)
for number, header in enumerate(headers):
    frame = frames[number % len(frames)]
    try:
        link.send(struct.pack("=BBHHHH", *header) + frame)
        taken += 1
    except OSError:
        pass
print(taken)
