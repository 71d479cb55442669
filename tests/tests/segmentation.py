# Lets the Linux kernel cut super-packets: writes each line of standard input (virtio-net header and frame in
# hexadecimal digits) into a TAP device, from where a bridge hands it to a veth pair without offloads, and prints the
# frames that arrive at its other end, one a line, and an empty line behind them.
import array
import fcntl
import os
import socket
import struct
import subprocess
import sys

TUNSETIFF, TUNSETOFFLOAD, SIOCETHTOOL = 0x400454CA, 0x400454D0, 0x8946
IFF_TAP, IFF_NO_PI, IFF_VNET_HDR = 0x0002, 0x1000, 0x4000
CSUM, TSO4, TSO6, ECN, USO4, USO6 = 0x01, 0x02, 0x04, 0x08, 0x20, 0x40
ETHTOOL_STXCSUM, ETHTOOL_STSO, ETHTOOL_SGSO = 0x17, 0x1F, 0x24
ETH_P_ALL, MARKER = 0x0003, bytes.fromhex("ffffffffffff02000000ee0188b5") + bytes(46)


def ip(line):
    subprocess.run(["ip"] + line.split(), check=True)


def switch_off(device, commands):
    control = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    for command in commands:
        value = array.array("I", [command, 0])
        request = struct.pack("16sP16x", device.encode(), value.buffer_info()[0])
        fcntl.ioctl(control, SIOCETHTOOL, request)


tap = os.open("/dev/net/tun", os.O_RDWR)
fcntl.ioctl(tap, TUNSETIFF, struct.pack("16sH22x", b"cut0", IFF_TAP | IFF_NO_PI | IFF_VNET_HDR))
fcntl.ioctl(tap, TUNSETOFFLOAD, CSUM | TSO4 | TSO6 | ECN | USO4 | USO6)
ip("link add cutbr type bridge mcast_snooping 0")
ip("link add cut1 type veth peer name cut2")
for device in ["cutbr", "cut0", "cut1", "cut2"]:
    with open(f"/proc/sys/net/ipv6/conf/{device}/disable_ipv6", "w") as switch:
        switch.write("1")
for device in ["cut0", "cut1"]:
    ip(f"link set {device} master cutbr")
for device in ["cutbr", "cut0", "cut1", "cut2"]:
    ip(f"link set {device} up")
switch_off("cut1", [ETHTOOL_STSO, ETHTOOL_SGSO, ETHTOOL_STXCSUM])
end = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(ETH_P_ALL))
end.bind(("cut2", ETH_P_ALL))
end.settimeout(10)

for line in sys.stdin:
    os.write(tap, bytes.fromhex(line.strip()))
    # What comes out before this came out of the super-packet.
    os.write(tap, bytes(10) + MARKER)
    while (frame := end.recv(1 << 18)) != MARKER:
        if frame[6:12] == bytes.fromhex("02000000000a"):
            print(frame.hex())
    print(flush=True)
