# Datagrams that come together, each of which is to arrive by itself.
# answer PORT: receives bursts, answers each with the SHA-256 digest of its datagrams in order, until an empty one comes.
# send ADDRESS PORT: sends bursts of datagrams of one size and a shorter last, and compares the digests.
import hashlib
import random
import socket
import sys

SOL_UDP, UDP_SEGMENT = 17, 103
SIZES = [1, 18, 100, 512, 1024, 1400]
BURSTS, MOST = 60, 40


def digest(datagrams):
    total = hashlib.sha256()
    for datagram in datagrams:
        total.update(len(datagram).to_bytes(2, "big") + datagram)
    return total.digest()


def family(address):
    return socket.AF_INET6 if ":" in address else socket.AF_INET


if sys.argv[1] == "answer":
    end = socket.socket(socket.AF_INET6, socket.SOCK_DGRAM)
    end.bind(("::", int(sys.argv[2])))
    print("bound", flush=True)
    while True:
        first, sender = end.recvfrom(65536)
        if not first:
            break
        datagrams = [end.recv(65536) for _ in range(int.from_bytes(first, "big"))]
        end.sendto(digest(datagrams), sender)
else:
    noise = random.Random(7)
    address = sys.argv[2]
    end = socket.socket(family(address), socket.SOCK_DGRAM)
    end.connect((address, int(sys.argv[3])))
    end.settimeout(10)
    for number in range(BURSTS):
        size, count = SIZES[number % len(SIZES)], noise.randint(2, MOST)
        payload = noise.randbytes(size * (count - 1) + noise.randint(1, size))
        datagrams = [payload[at : at + size] for at in range(0, len(payload), size)]
        end.setsockopt(SOL_UDP, UDP_SEGMENT, 0)
        end.send(len(datagrams).to_bytes(2, "big"))
        end.setsockopt(SOL_UDP, UDP_SEGMENT, size)
        end.send(payload)
        answer = end.recv(64)
        if answer != digest(datagrams):
            sys.exit(f"burst {number}, {count} datagrams of {size}: other octets arrived")
    end.setsockopt(SOL_UDP, UDP_SEGMENT, 0)
    end.send(b"")
