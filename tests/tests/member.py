# join GROUP: becomes a member of a multicast group, prints "joined", and "heard" for each datagram to port 6969.
# send GROUP SOURCE: sends one datagram there from the address SOURCE.
import socket
import struct
import sys

mode, group = sys.argv[1], sys.argv[2]
six = ":" in group
link = socket.socket(socket.AF_INET6 if six else socket.AF_INET, socket.SOCK_DGRAM)
index = socket.if_nametoindex("eth0")
if mode == "join":
    link.bind(("", 6969))
    if six:
        link.setsockopt(
            socket.IPPROTO_IPV6, socket.IPV6_JOIN_GROUP, socket.inet_pton(socket.AF_INET6, group) + struct.pack("@I", index)
        )
    else:
        request = struct.pack("=4s4si", socket.inet_aton(group), bytes(4), index)
        link.setsockopt(socket.IPPROTO_IP, socket.IP_ADD_MEMBERSHIP, request)
    print("joined", flush=True)
    while True:
        link.recv(100)
        print("heard", flush=True)
else:
    link.bind((sys.argv[3], 0))
    if six:
        link.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_MULTICAST_IF, index)
        link.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_MULTICAST_HOPS, 4)
    else:
        request = struct.pack("=4s4si", bytes(4), bytes(4), index)
        link.setsockopt(socket.IPPROTO_IP, socket.IP_MULTICAST_IF, request)
    link.sendto(b"to the group", (group, 6969))
