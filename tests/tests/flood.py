# Sends COUNT small datagrams to ADDRESS port 9 as fast as it can, from SOURCES source ports in turn.
import socket
import sys

address, count, sources = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
sockets = [socket.socket(socket.AF_INET, socket.SOCK_DGRAM) for _ in range(sources)]
for sender in sockets:
    sender.connect((address, 9))
for number in range(count):
    try:
        sockets[number % sources].send(b"x" * 64)
    except OSError:
        # Nobody listens there, or a queue on the way is full: that is what floods do.
        pass
