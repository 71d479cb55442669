# Sends a small datagram to each of COUNT addresses of the IPv6 subnet that starts with PREFIX.
import socket
import sys

prefix, count = sys.argv[1], int(sys.argv[2])
link = socket.socket(socket.AF_INET6, socket.SOCK_DGRAM)
for number in range(count):
    try:
        link.sendto(b"who is there", (f"{prefix}{number // 0xffff + 0x100:x}:{number % 0xffff + 1:x}", 9))
    except OSError:
        # An ICMP error of an earlier one.
        pass
