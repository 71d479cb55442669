# Sends WireGuard initiations whose first MAC is right for the public key KEY to ADDRESS port PORT, until it is killed:
# BURST of them fifty times a second, from eight ports in turn. Says "loaded" when a cookie comes back.
import base64
import hashlib
import os
import socket
import struct
import sys
import time

key, address, port, burst = base64.b64decode(sys.argv[1]), sys.argv[2], int(sys.argv[3]), int(sys.argv[4])
label = hashlib.blake2s(b"mac1----" + key).digest()
family = socket.AF_INET6 if ":" in address else socket.AF_INET
sockets = [socket.socket(family, socket.SOCK_DGRAM) for _ in range(8)]
for sender in sockets:
    sender.setblocking(False)
    sender.connect((address, port))


def initiation():
    # Type, index of the sender, a key; what should be encrypted is not.
    octets = struct.pack("<II", 1, 7) + os.urandom(32 + 48 + 28)
    return octets + hashlib.blake2s(octets, key=label, digest_size=16).digest() + bytes(16)


messages = [initiation() for _ in range(64)]
said = False
while True:
    for number in range(burst):
        try:
            sockets[number % 8].send(messages[number % 64])
        except OSError:
            # A queue on the way is full.
            pass
    for sender in sockets:
        try:
            while True:
                if sender.recv(2048)[0] == 3 and not said:
                    said = True
                    print("loaded", flush=True)
        except OSError:
            pass
    time.sleep(0.02)
