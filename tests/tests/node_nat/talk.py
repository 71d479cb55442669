"""Both ends of a conversation: `serve PROTOCOL PORT NAME` answers with its name and the sender's address,
and of UDP prints whom it hears;
`ask PROTOCOL ADDRESS PORT [FROM-PORT]` prints the answer. SCTP is spoken by hand: an INIT and an INIT ACK (RFC 9260),
since a kernel may not have it."""
import socket, struct, sys


def family(address):
    return socket.AF_INET6 if ":" in address else socket.AF_INET


def plain(address):
    return address[0].removeprefix("::ffff:")


def crc32c(octets):
    crc = 0xFFFFFFFF
    for octet in octets:
        crc ^= octet
        for _ in range(8):
            crc = (crc >> 1) ^ (0x82F63B78 if crc & 1 else 0)
    return struct.pack("<I", crc ^ 0xFFFFFFFF)


def sctp(source, destination, tag, kind, text=b""):
    text += b"\0" * (-len(text) % 4)
    chunk = struct.pack("!BBHIIHHI", kind, 0, 20 + len(text), 7, 65536, 1, 1, 1) + text
    head = struct.pack("!HHI", source, destination, tag)
    return head + crc32c(head + b"\0\0\0\0" + chunk) + chunk


def serve(protocol, port, name):
    if protocol == "tcp":
        listener = socket.create_server(("::", port), family=socket.AF_INET6, dualstack_ipv6=True)
        print("ready", flush=True)
        while True:
            connection, sender = listener.accept()
            connection.sendall(f"{name} {plain(sender)}\n".encode())
            connection.close()
    if protocol == "udp":
        listener = socket.socket(socket.AF_INET6, socket.SOCK_DGRAM)
        listener.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
        listener.bind(("::", port))
        print("ready", flush=True)
        while True:
            _, sender = listener.recvfrom(2048)
            print(plain(sender), flush=True)
            listener.sendto(f"{name} {plain(sender)}\n".encode(), sender)
    listener = socket.socket(socket.AF_INET, socket.SOCK_RAW, 132)
    print("ready", flush=True)
    while True:
        packet, sender = listener.recvfrom(2048)
        body = packet[(packet[0] & 15) * 4:]
        source, destination = struct.unpack("!HH", body[:4])
        if destination == port and body[12] == 1:
            answer = sctp(port, source, 7, 2, f"{name} {plain(sender)}".encode())
            listener.sendto(answer, (sender[0], 0))


def ask(protocol, address, port, own=0):
    if protocol == "sctp":
        speaker = socket.socket(socket.AF_INET, socket.SOCK_RAW, 132)
        speaker.settimeout(5)
        speaker.sendto(sctp(40000, port, 0, 1), (address, 0))
        while True:
            packet, sender = speaker.recvfrom(2048)
            body = packet[(packet[0] & 15) * 4:]
            if sender[0] == address and struct.unpack("!HH", body[:4]) == (port, 40000) and body[12] == 2:
                return print(body[32:].rstrip(b"\0").decode())
    kind = socket.SOCK_STREAM if protocol == "tcp" else socket.SOCK_DGRAM
    speaker = socket.socket(family(address), kind)
    speaker.settimeout(5)
    if own:
        speaker.bind(("", own))
    speaker.connect((address, port))
    if protocol == "udp":
        speaker.send(b"who is there?")
    print(speaker.recv(2048).decode().strip())


if sys.argv[1] == "serve":
    serve(sys.argv[2], int(sys.argv[3]), sys.argv[4])
else:
    ask(sys.argv[2], sys.argv[3], *map(int, sys.argv[4:]))
