# Scapy's view of frames, as the tests want it: one JSON object a line.
# dissect: frames come as hexadecimal lines on standard input.
# explain: the same, but with every field of every layer that scapy finds, as "layer.field".
# build SEED COUNT: frames are made up by scapy; the object has them under "hex".
#
# Each object maps field names to text. "sum.ip" and "sum.transport" tell whether scapy computes the same checksums.
import json
import logging
import random
import sys

logging.getLogger("scapy").setLevel(logging.ERROR)

from scapy.config import conf  # noqa: E402
from scapy.contrib.igmpv3 import IGMPv3  # noqa: E402, F401 (so that IGMP is dissected)
from scapy.layers.dhcp import DHCP  # noqa: E402, F401 (so that DHCP is dissected)
from scapy.layers.inet import ICMP, IP, TCP, UDP, IPOption_NOP, IPOption_Router_Alert, in4_chksum  # noqa: E402
from scapy.layers.inet6 import (  # noqa: E402
    ICMPv6EchoRequest,
    ICMPv6ND_NA,
    ICMPv6ND_NS,
    ICMPv6NDOptDstLLAddr,
    ICMPv6NDOptSrcLLAddr,
    IPv6,
    IPv6ExtHdrDestOpt,
    IPv6ExtHdrFragment,
    IPv6ExtHdrHopByHop,
    IPv6ExtHdrRouting,
    IPv6ExtHdrSegmentRouting,
    PadN,
    in6_chksum,
)
from scapy.layers.l2 import ARP, Dot1Q, Ether  # noqa: E402
from scapy.packet import Raw, fuzz  # noqa: E402
from scapy.utils import checksum  # noqa: E402
from scapy.volatile import RandIP, RandIP6, RandMAC  # noqa: E402

conf.verb = 0
# Every field is read from the bytes, also those of packets that scapy made itself.
EXTENSIONS = (
    IPv6ExtHdrHopByHop,
    IPv6ExtHdrRouting,
    IPv6ExtHdrSegmentRouting,
    IPv6ExtHdrFragment,
    IPv6ExtHdrDestOpt,
)


def mac(text):
    return text.lower()


def layers_of(ip):
    """The extension headers of an IPv6 packet and what is behind them; not those of a quoted packet."""
    found = [ip.payload]
    while isinstance(found[-1], EXTENSIONS):
        found.append(found[-1].payload)
    return found


def network_of(frame):
    """What is behind the Ethernet header and its tags; packets that it quotes or tunnels are not looked for."""
    layer = frame.payload
    while isinstance(layer, Dot1Q):
        layer = layer.payload
    return layer


def is_fragment(network):
    """Whether what is behind the headers need not be whole."""
    if isinstance(network, IP):
        return network.frag != 0 or network.flags.MF
    return isinstance(network, IPv6) and any(isinstance(layer, IPv6ExtHdrFragment) for layer in layers_of(network))


def recomputed(data, layer, field):
    """Whether scapy writes the same bytes when it computes this checksum itself."""
    frame = Ether(data)
    setattr(frame[layer], field, None)
    return "right" if bytes(frame) == data else "wrong"


def message_of(data, network):
    """The octets behind the IP header and its extensions, padding left out."""
    start = len(data) - len(network)
    if isinstance(network, IP):
        return data[start + network.ihl * 4 : start + network.len]
    headers = sum(len(layer) - len(layer.payload) for layer in layers_of(network)[:-1])
    return data[start + 40 + headers : start + 40 + network.plen]


def transport_sum(data, network):
    if is_fragment(network) or not isinstance(network, (IP, IPv6)):
        return {}
    protocol = network.proto if isinstance(network, IP) else ([network] + layers_of(network)[:-1])[-1].nh
    message = message_of(data, network)
    icmp = 1 if isinstance(network, IP) else 58
    if len(message) < {icmp: 8, 17: 8, 6: 20}.get(protocol, 1 << 16):
        return {}
    # A sum over what includes its own checksum comes out as nothing.
    if isinstance(network, IP):
        left = checksum(message) if protocol == 1 else in4_chksum(protocol, network, message)
    else:
        left = in6_chksum(protocol, network, message)
    return {"sum.transport": "wrong" if left else "right"}


def arp_fields(arp):
    return {
        "arp.operation": arp.op,
        "arp.sender mac": mac(arp.hwsrc),
        "arp.sender": arp.psrc,
        "arp.target mac": mac(arp.hwdst),
        "arp.target": arp.pdst,
    }


def ip_fields(ip, data):
    found = {
        "ip.header length": ip.ihl * 4,
        "ip.length": ip.len,
        "ip.tos": ip.tos,
        "ip.id": ip.id,
        "ip.df": int(ip.flags.DF),
        "ip.mf": int(ip.flags.MF),
        "ip.offset": ip.frag * 8,
        "ip.ttl": ip.ttl,
        "ip.protocol": ip.proto,
        "ip.source": ip.src,
        "ip.destination": ip.dst,
        "sum.ip": recomputed(data, IP, "chksum"),
    }
    return found


def ip6_fields(ip):
    protocol, fragment, offset = ip.nh, 0, 0
    for layer in layers_of(ip)[:-1]:
        protocol = layer.nh
        if isinstance(layer, IPv6ExtHdrFragment):
            fragment, offset = 1, layer.offset * 8
            if offset:
                break
    return {
        "ip6.length": ip.plen + 40,
        "ip6.class": ip.tc,
        "ip6.hops": ip.hlim,
        "ip6.source": ip.src,
        "ip6.destination": ip.dst,
        "ip6.protocol": protocol,
        "ip6.fragment": fragment,
        "ip6.offset": offset,
    }


def discovery_fields(message):
    if not isinstance(message, (ICMPv6ND_NS, ICMPv6ND_NA)):
        return {}
    is_answer = isinstance(message, ICMPv6ND_NA)
    option = ICMPv6NDOptDstLLAddr if is_answer else ICMPv6NDOptSrcLLAddr
    flags = (message.R, message.S, message.O) if is_answer else (0, 0, 0)
    return {
        "nd.target": message.tgt,
        "nd.flags": "%d%d%d" % flags,
        "nd.mac": mac(message[option].lladdr) if option in message else "",
    }


def message_fields(message):
    if isinstance(message, TCP):
        return {"tcp.header length": message.dataofs * 4}
    if isinstance(message, ICMP):
        return {"icmp.type": message.type, "icmp.code": message.code}
    return {}


def fields(data):
    frame = Ether(data)
    found = {"eth.destination": mac(frame.dst), "eth.source": mac(frame.src), "eth.type": frame.type}
    if Dot1Q in frame:
        tag = frame[Dot1Q]
        found["vlan.tag"] = tag.prio << 13 | getattr(tag, "id", getattr(tag, "dei", 0)) << 12 | tag.vlan
        found["eth.type"] = tag.type
    network = network_of(frame)
    if isinstance(network, ARP):
        found.update(arp_fields(network))
    elif isinstance(network, IP):
        found.update(ip_fields(network, data))
        found.update({} if is_fragment(network) else message_fields(network.payload))
    elif isinstance(network, IPv6):
        found.update(ip6_fields(network))
        found.update({} if is_fragment(network) else discovery_fields(layers_of(network)[-1]))
    found.update(transport_sum(data, network))
    return {name: str(value) for name, value in found.items()}


def explained(data):
    """Every field of every layer; a second layer of one kind has its number behind its name."""
    found, layer = {}, Ether(data)
    while layer:
        name, count = type(layer).__name__, 1
        while any(key.startswith(name + ".") for key in found):
            count += 1
            name = "%s %d" % (type(layer).__name__, count)
        for field in layer.fields_desc:
            found["%s.%s" % (name, field.name)] = str(layer.getfieldval(field.name))
        layer = layer.payload
    network = network_of(Ether(data))
    found.update(transport_sum(data, network))
    if isinstance(network, IP):
        found["sum.ip"] = recomputed(data, IP, "chksum")
        if network.proto == 2:
            found["sum.transport"] = "wrong" if checksum(message_of(data, network)) else "right"
    return found


def some_bytes():
    return Raw(random.randbytes(random.randrange(1, 64)))


def transport(version):
    kind = random.randrange(4)
    if kind == 0:
        return UDP(sport=random.randrange(65536), dport=40000 + random.randrange(1000)) / some_bytes()
    if kind == 1:
        tcp = fuzz(TCP(dataofs=None, chksum=None, options=[]))
        tcp.sport, tcp.dport = random.randrange(40000, 65536), 40001
        return tcp / some_bytes()
    if kind == 2:
        if version == 4:
            return ICMP(type=random.choice((0, 8)), code=0, id=random.randrange(65536)) / some_bytes()
        return ICMPv6EchoRequest(id=random.randrange(65536), data=random.randbytes(20))
    return some_bytes()


def random_ipv4():
    ip = IP(src=str(RandIP()), dst=str(RandIP()), id=random.randrange(65536), ttl=random.randrange(256))
    ip.tos = random.randrange(256)
    ip.flags = random.choice(("", "DF", "MF"))
    ip.frag = random.choice((0, 0, 0, random.randrange(7000)))
    ip.options = random.choice(([], [IPOption_NOP()] * 4, [IPOption_Router_Alert()]))
    payload = transport(4)
    if isinstance(payload, Raw):
        ip.proto = random.choice((41, 47, 89, 253))
    return ip / payload


def random_ipv6():
    packet = IPv6(src=str(RandIP6()), dst=str(RandIP6()), hlim=random.randrange(256))
    packet.tc, packet.fl = random.randrange(256), random.randrange(1 << 20)
    for _ in range(random.randrange(3)):
        extension = random.choice((IPv6ExtHdrDestOpt, IPv6ExtHdrHopByHop, IPv6ExtHdrRouting))
        packet /= IPv6ExtHdrRouting(type=253) if extension is IPv6ExtHdrRouting else extension(options=[PadN()])
    if random.randrange(4) == 0:
        packet /= IPv6ExtHdrFragment(offset=random.choice((0, 0, 100)), m=random.randrange(2), id=7)
    payload = transport(6)
    if isinstance(payload, Raw):
        packet.lastlayer().nh = random.choice((47, 89, 253))
    return packet / payload


def random_discovery():
    source, target, own = str(RandIP6()), str(RandIP6("2001:db8::*:*")), str(RandMAC())
    header = IPv6(src=source, dst="ff02::1:ff00:1", hlim=255)
    if random.randrange(2):
        return header / ICMPv6ND_NS(tgt=target) / ICMPv6NDOptSrcLLAddr(lladdr=own)
    flags = {name: random.randrange(2) for name in "RSO"}
    return header / ICMPv6ND_NA(tgt=target, **flags) / ICMPv6NDOptDstLLAddr(lladdr=own)


def random_arp():
    arp = fuzz(ARP(hwtype=1, ptype=0x0800, hwlen=6, plen=4, op=random.choice((1, 2))))
    arp.hwsrc, arp.hwdst = str(RandMAC()), str(RandMAC())
    arp.psrc, arp.pdst = str(RandIP()), str(RandIP())
    return arp


def random_frame():
    frame = Ether(src=str(RandMAC("02:*:*:*:*:*")), dst=str(RandMAC()))
    if random.randrange(5) == 0:
        frame /= Dot1Q(vlan=random.randrange(4096), prio=random.randrange(8))
    return bytes(frame / random.choice((random_ipv4, random_ipv4, random_ipv6, random_ipv6, random_discovery, random_arp))())


def main():
    readings = {"dissect": fields, "explain": explained}
    if sys.argv[1] in readings:
        for line in sys.stdin:
            print(json.dumps(readings[sys.argv[1]](bytes.fromhex(line))))
        return
    random.seed(int(sys.argv[2]))
    for _ in range(int(sys.argv[3])):
        data = random_frame()
        print(json.dumps({"hex": data.hex(), **fields(data)}))


main()
