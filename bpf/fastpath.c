// SPDX-License-Identifier: Apache-2.0
//
// The kernel fast path: replays what the forwarding stack has decided about packets between two stations, so that they go
// from one container's veth to the other's without leaving the kernel. Whatever it does not know goes to the stack.
//
// A frame that arrives at the stack's end of a veth pair meets two programs, one right behind the other and on the same
// processor:
//
//   weft_listen    the filter of the packet socket by which the stack reads. It decides: a packet that is to be replayed
//                  is hidden from the stack, and what is to be done with it is left in `decision`.
//   weft_forward   at tc ingress. It carries out what was left there, and drops all else, which the stack has by then.
//
// The stack has checked all that it checks for the two stations. What can differ from packet to packet is checked here,
// and what is out of the ordinary goes to the stack, which knows what to do with it: tags, options, extension headers,
// fragments, a used up TTL, a wrong checksum, lengths that contradict each other, what is longer than the MTU, all that
// is neither TCP nor UDP, and DHCP.

#include <linux/bpf.h>

#define SEC(name) __attribute__((section(name), used))
#define INLINE static inline __attribute__((always_inline))
#define COPY __builtin_memcpy

// What a map is, as loaders read it from the types of its members.
#define NUMBER(name, value) int(*name)[value]
#define TYPE(name, value) typeof(value) *name

// The kernel's helper functions that are used here.
static void *(*find)(void *map, const void *key) = (void *)BPF_FUNC_map_lookup_elem;
static __u64 (*now)(void) = (void *)BPF_FUNC_ktime_get_coarse_ns;
static long (*load)(const void *packet, __u32 offset, void *to, __u32 length) = (void *)BPF_FUNC_skb_load_bytes;
static long (*store)(struct __sk_buff *packet, __u32 offset, const void *from, __u32 length, __u64 flags) =
    (void *)BPF_FUNC_skb_store_bytes;
static long (*change_type)(struct __sk_buff *packet, __u32 type) = (void *)BPF_FUNC_skb_change_type;
static long (*redirect_peer)(__u32 ifindex, __u64 flags) = (void *)BPF_FUNC_redirect_peer;

enum {
    // linux/if_packet.h: the packet is for the device that it is at.
    PACKET_HOST = 0,
    // linux/pkt_cls.h
    TC_ACT_SHOT = 2,

    ETHERNET = 14,
    IPV4 = 0x0800,
    IPV4_LENGTH = 20,
    IPV6 = 0x86dd,
    IPV6_LENGTH = 40,
    TCP = 6,
    UDP = 17,
    // Where TCP says how long its header is.
    TCP_OFFSET = 12,

    // Offsets in a frame.
    TTL_V4 = ETHERNET + 8,
    CHECKSUM_V4 = ETHERNET + 10,
    HOP_LIMIT_V6 = ETHERNET + 7,

    DHCP_SERVER = 67,
    DHCP_CLIENT = 68,
    DHCPV6_CLIENT = 546,
    DHCPV6_SERVER = 547,

    // What a packet socket's filter says.
    HEARD = -1,
    NOT_HEARD = 0,
};

// From here on the layout is that of host/src/fastpath/layout.rs.

// Whose packets go to whom: MAC addresses in Ethernet's order, and IP addresses of a family (4 or 6). IPv4 addresses are in
// the first word, and the others are zero.
struct flow {
    __u32 ifindex;
    __u32 family;
    __u32 macs[3];
    __u32 source[4];
    __u32 destination[4];
};

// What is done with them.
struct action {
    // Holds while these are the stack's: that of its picture and, if they are routed, that of its neighbours...
    __u64 stamps[2];
    // ...and until this moment of the kernel's monotonic clock, in nanoseconds; all ones: without end.
    __u64 until;
    // The stack's end of the veth pair by which they leave.
    __u32 ifindex;
    // The longest IP packet in octets; of a super-packet, each of its segments.
    __u32 mtu;
    // Who counts them: where they arrive, and where they leave.
    __u32 counters[2];
    // They are routed: their MAC addresses become these, and TTL or hop limit goes down by one.
    __u32 routed;
    __u32 macs[3];
    // Whose they are.
    struct flow flow;
    __u32 unused;
};

// What has passed by the stack's end of a veth pair, by one processor.
struct totals {
    __u64 rx_packets;
    __u64 rx_octets;
    __u64 tx_packets;
    __u64 tx_octets;
};

// What weft_listen has decided about the packet that weft_forward sees next.
struct decision {
    // Of the packet: where it arrived, and its length; ifindex 0: nothing is to be done.
    __u32 ifindex;
    __u32 length;
    __u32 to;
    __u32 counters[2];
    __u32 routed;
    __u32 macs[3];
    // 4 or 6.
    __u8 family;
    // TTL or hop limit.
    __u8 ttl;
    // The IPv4 checksum with that TTL less by one.
    __u16 checksum;
};

struct {
    NUMBER(type, BPF_MAP_TYPE_LRU_HASH);
    NUMBER(max_entries, 16384);
    TYPE(key, struct flow);
    TYPE(value, struct action);
} flows SEC(".maps");

// The stamps that hold.
struct {
    NUMBER(type, BPF_MAP_TYPE_ARRAY);
    NUMBER(max_entries, 1);
    TYPE(key, __u32);
    TYPE(value, __u64);
} picture_stamp SEC(".maps"), neighbor_stamp SEC(".maps");

// By number of who counts.
struct {
    NUMBER(type, BPF_MAP_TYPE_PERCPU_HASH);
    NUMBER(max_entries, 65536);
    NUMBER(map_flags, BPF_F_NO_PREALLOC);
    TYPE(key, __u32);
    TYPE(value, struct totals);
} ports SEC(".maps");

struct {
    NUMBER(type, BPF_MAP_TYPE_PERCPU_ARRAY);
    NUMBER(max_entries, 1);
    TYPE(key, __u32);
    TYPE(value, struct decision);
} decisions SEC(".maps");

INLINE __u16 number(const __u8 *octets) {
    return octets[0] << 8 | octets[1];
}

INLINE __u16 folded(__u64 sum) {
    sum = (sum & 0xffffffff) + (sum >> 32);
    sum = (sum & 0xffff) + (sum >> 16);
    sum = (sum & 0xffff) + (sum >> 16);
    return (sum & 0xffff) + (sum >> 16);
}

INLINE int is_dhcp(__u16 port) {
    return port == DHCP_SERVER || port == DHCP_CLIENT || port == DHCPV6_SERVER || port == DHCPV6_CLIENT;
}

// Octets of the IP packet, or of the longest of those that a super-packet becomes; 0: it is for the stack to look at.
INLINE __u32 length_of(struct __sk_buff *packet, __u32 transport, __u8 protocol) {
    __u32 headers = transport - ETHERNET, length = packet->len - ETHERNET, size = packet->gso_size;
    __u8 ports[4], offset;

    switch (protocol) {
    case UDP:
        // A super-packet may be one of a tunnel's, whose segments are longer than its size tells.
        if (size || load(packet, transport, ports, sizeof(ports)))
            return 0;
        return is_dhcp(number(ports)) || is_dhcp(number(ports + 2)) ? 0 : length;
    case TCP:
        if (!size)
            return length;
        if (load(packet, transport + TCP_OFFSET, &offset, sizeof(offset)))
            return 0;
        return headers + (offset >> 4) * 4 + size;
    default:
        return 0;
    }
}

// Fills in whose packet it is, and what depends on the packet; false: it is for the stack.
INLINE int read_v4(struct __sk_buff *packet, struct flow *flow, struct decision *decision, __u32 *length) {
    __u32 words[IPV4_LENGTH / 4];
    const __u8 *header = (const __u8 *)words;

    if (load(packet, ETHERNET, words, IPV4_LENGTH))
        return 0;
    // Version 4, no options; neither a fragment nor the reserved bit; as long as the frame.
    if (header[0] != 0x45 || number(header + 6) & ~0x4000 || number(header + 2) != packet->len - ETHERNET)
        return 0;
    flow->source[0] = words[3];
    flow->destination[0] = words[4];
    flow->family = 4;
    decision->ttl = header[8];
    // Summed up with its checksum a header is all ones.
    if (folded((__u64)words[0] + words[1] + words[2] + words[3] + words[4]) != 0xffff)
        return 0;
    // RFC 1624, equation 3: the word of the TTL goes down by 0x100.
    decision->checksum = ~folded((__u16)~number(header + 10) + (__u16)~0x100);
    *length = length_of(packet, ETHERNET + IPV4_LENGTH, header[9]);
    return *length;
}

INLINE int read_v6(struct __sk_buff *packet, struct flow *flow, struct decision *decision, __u32 *length) {
    __u32 words[IPV6_LENGTH / 4];
    const __u8 *header = (const __u8 *)words;

    if (load(packet, ETHERNET, words, IPV6_LENGTH))
        return 0;
    if (header[0] >> 4 != 6 || number(header + 4) != packet->len - ETHERNET - IPV6_LENGTH)
        return 0;
    COPY(flow->source, words + 2, sizeof(flow->source));
    COPY(flow->destination, words + 6, sizeof(flow->destination));
    flow->family = 6;
    decision->ttl = header[7];
    *length = length_of(packet, ETHERNET + IPV6_LENGTH, header[6]);
    return *length;
}

INLINE int same(const struct flow *one, const struct flow *other) {
    const __u32 *left = (const __u32 *)one, *right = (const __u32 *)other;
    __u32 differs = 0;

#pragma unroll
    for (__u32 at = 0; at < sizeof(struct flow) / sizeof(__u32); at++)
        differs |= left[at] ^ right[at];
    return !differs;
}

// Whether the packet is to be replayed; how is left in `decision`.
INLINE int decide(struct __sk_buff *packet, struct decision *decision) {
    __u32 words[4];
    const __u8 *ethernet = (const __u8 *)words;
    struct flow flow = {.ifindex = packet->ifindex};
    __u32 length = 0, zero = 0;

    if (packet->vlan_present || load(packet, 0, words, ETHERNET))
        return 0;
    COPY(flow.macs, words, sizeof(flow.macs));
    switch (number(ethernet + 12)) {
    case IPV4:
        if (!read_v4(packet, &flow, decision, &length))
            return 0;
        break;
    case IPV6:
        if (!read_v6(packet, &flow, decision, &length))
            return 0;
        break;
    default:
        return 0;
    }

    const struct action *found = find(&flows, &flow);
    const __u64 *picture = find(&picture_stamp, &zero), *neighbors = find(&neighbor_stamp, &zero);

    if (!found || !picture || !neighbors)
        return 0;

    struct action action;

    // The kernel may give the entry to another flow while it is read. It takes it from the one that has it first.
    COPY(&action, found, sizeof(action));
    if (find(&flows, &flow) != found || !same(&action.flow, &flow))
        return 0;
    if (action.stamps[0] != *picture || length > action.mtu)
        return 0;
    if (action.routed && (action.stamps[1] != *neighbors || decision->ttl <= 1))
        return 0;
    if (action.until != ~0ULL && now() >= action.until)
        return 0;
    decision->length = packet->len;
    decision->to = action.ifindex;
    decision->routed = action.routed;
    decision->family = flow.family;
    COPY(decision->counters, action.counters, sizeof(decision->counters));
    COPY(decision->macs, action.macs, sizeof(decision->macs));
    decision->ifindex = packet->ifindex;
    return 1;
}

SEC("socket")
int weft_listen(struct __sk_buff *packet) {
    __u32 zero = 0;
    struct decision *decision = find(&decisions, &zero);

    if (!decision)
        return HEARD;
    decision->ifindex = 0;
    return decide(packet, decision) ? NOT_HEARD : HEARD;
}

// What a router changes; false: it could not.
INLINE int rewrite(struct __sk_buff *packet, const struct decision *decision) {
    __u8 ttl = decision->ttl - 1;

    if (store(packet, 0, decision->macs, sizeof(decision->macs), 0))
        return 0;
    if (decision->family == 6)
        return !store(packet, HOP_LIMIT_V6, &ttl, sizeof(ttl), BPF_F_RECOMPUTE_CSUM);

    __u8 checksum[2] = {decision->checksum >> 8, decision->checksum & 0xff};

    return !store(packet, TTL_V4, &ttl, sizeof(ttl), BPF_F_RECOMPUTE_CSUM) &&
           !store(packet, CHECKSUM_V4, checksum, sizeof(checksum), BPF_F_RECOMPUTE_CSUM);
}

SEC("classifier")
int weft_forward(struct __sk_buff *packet) {
    __u32 zero = 0;
    struct decision *decision = find(&decisions, &zero);

    if (!decision)
        return TC_ACT_SHOT;

    int decided = decision->ifindex == packet->ifindex && decision->length == packet->len;

    decision->ifindex = 0;
    if (!decided)
        return TC_ACT_SHOT;
    if (decision->routed && !rewrite(packet, decision))
        return TC_ACT_SHOT;
    // It was for another station than the device that it arrived at; the one behind the next pair is the right one.
    change_type(packet, PACKET_HOST);

    struct totals *totals = find(&ports, &decision->counters[0]);

    if (totals) {
        totals->rx_packets += 1;
        totals->rx_octets += packet->len;
    }
    totals = find(&ports, &decision->counters[1]);
    if (totals) {
        totals->tx_packets += 1;
        totals->tx_octets += packet->len;
    }
    return redirect_peer(decision->to, 0);
}

char weft_license[] SEC("license") = "Apache-2.0";
