"""Sends a GRE keepalive as Cisco's routers do, and waits for it to come back: an IP packet from the tunnel's far end to
ourselves, with an empty GRE packet inside, which the far end has to take out and route like any other."""

import sys

from scapy.all import GRE, IP, conf, sr1

own, other = sys.argv[1:3]
conf.verb = 0
back = IP(src=other, dst=own, ttl=255) / GRE(proto=0)
answer = sr1(IP(src=own, dst=other) / GRE(proto=0x0800) / back, timeout=10, filter="ip proto 47")
ok = answer is not None and answer[IP].src == other and answer[GRE].proto == 0
print("answered" if ok else "not answered: %r" % answer)
