# Sends and captures raw Ethernet frames on one device (AF_PACKET).
# send DEVICE: frames come as lines of hexadecimal digits on standard input. One that finds the device's queue full is lost,
# and sent again.
# capture DEVICE: prints "ready", then each frame that arrives, as a line of hexadecimal digits. The kernel takes
# VLAN tags off before it hands a frame over, and says what they were beside it: they are put back here.
import errno
import os
import socket
import struct
import sys

ETH_P_ALL = 0x0003
PACKET_OUTGOING = 4
SOL_PACKET = 263
PACKET_AUXDATA = 8
TP_STATUS_VLAN_VALID = 0x10
TP_STATUS_VLAN_TPID_VALID = 0x40

mode, device = sys.argv[1], sys.argv[2]
link = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(ETH_P_ALL))
link.bind((device, ETH_P_ALL))


def tagged(frame, ancillary):
    for level, kind, data in ancillary:
        if (level, kind) == (SOL_PACKET, PACKET_AUXDATA):
            status, _, _, _, _, tci, tpid = struct.unpack("=IIIHHHH", data[:20])
            if status & TP_STATUS_VLAN_VALID:
                tpid = tpid if status & TP_STATUS_VLAN_TPID_VALID else 0x8100
                return frame[:12] + struct.pack("!HH", tpid, tci) + frame[12:]
    return frame


def send(frame):
    while True:
        try:
            return link.send(frame)
        except OSError as error:
            if error.errno != errno.ENOBUFS:
                raise
            os.sched_yield()


if mode == "send":
    for line in sys.stdin:
        send(bytes.fromhex(line.strip()))
else:
    link.setsockopt(SOL_PACKET, PACKET_AUXDATA, 1)
    print("ready", flush=True)
    while True:
        frame, ancillary, _, address = link.recvmsg(1 << 18, 64)
        if address[2] != PACKET_OUTGOING:
            print(tagged(frame, ancillary).hex(), flush=True)
