# Sends and captures raw Ethernet frames on one device (AF_PACKET).
# send DEVICE: frames come as lines of hexadecimal digits on standard input.
# capture DEVICE: prints "ready", then each frame that arrives, as a line of hexadecimal digits.
import socket
import sys

ETH_P_ALL = 0x0003
PACKET_OUTGOING = 4

mode, device = sys.argv[1], sys.argv[2]
link = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(ETH_P_ALL))
link.bind((device, ETH_P_ALL))
if mode == "send":
    for line in sys.stdin:
        link.send(bytes.fromhex(line.strip()))
else:
    print("ready", flush=True)
    while True:
        frame, address = link.recvfrom(1 << 18)
        if address[2] != PACKET_OUTGOING:
            print(frame.hex(), flush=True)
