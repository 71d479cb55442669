# send: waits for one connection on TCP port 7000, sends 16 MiB of noise and prints its SHA-256 digest.
# receive ADDRESS: connects there, receives until the end and prints the digest.
import hashlib
import random
import socket
import sys

CHUNK = 1 << 20
digest = hashlib.sha256()
if sys.argv[1] == "send":
    listener = socket.create_server(("::", 7000), family=socket.AF_INET6, dualstack_ipv6=True)
    connection, _ = listener.accept()
    noise = random.Random(7)
    for _ in range(16):
        chunk = noise.randbytes(CHUNK)
        digest.update(chunk)
        connection.sendall(chunk)
    connection.close()
else:
    connection = socket.create_connection((sys.argv[2], 7000), timeout=30)
    while chunk := connection.recv(CHUNK):
        digest.update(chunk)
print(digest.hexdigest())
