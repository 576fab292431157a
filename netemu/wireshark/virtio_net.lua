-- Wireshark and tshark dissector for netemu's ring captures: Ethernet frames with the virtio_net_hdr they travelled in.
-- SPDX-License-Identifier: GPL-2.0-or-later
--
-- The format (link type USER0, 147): docs/ring-capture-format.md. The header: VIRTIO 1.4, section 5.1.6.
-- For Wireshark 4.0 (Lua 5.2) and later (Lua 5.4). Without installing: tshark -X lua_script:virtio_net.lua -r FILE
--
-- Theory of operation. A record is prefix, header, frame. The dissector reads the prefix into a table `h`;
-- show_header() adds the header's fields to `h` and to the tree; judge_*() compare them with the rules and with the
-- frame's own headers; the frame goes to Wireshark's Ethernet dissector. A broken rule becomes an expert warning
-- whose text starts with the id of its clause, and a field virtio_net.violation with that id: filter on
-- virtio_net.violation == "RX-D-02". The ids are those of netemu's catalogue of VIRTIO 1.4: RX, RXB and HREP are
-- about receive, TX about transmit, LEG about legacy devices; D is a duty of the device, V of the driver, B of both.
-- Rules that depend on negotiation are judged only where the record carries the features (`h.known`). Nothing that
-- is shown depends on other records. Lengths come from the record and are never trusted: each access is checked against
-- the bytes captured.

local netemu = Proto("netemu", "netemu ring capture")
local virtio = Proto("virtio_net", "virtio-net header")

local PREFIX_VERSION = 1
local PREFIX_LEN = 32
local SHORTEST_HEADER = 10
local HEADER_LENGTHS = {[10] = true, [12] = true, [20] = true, [24] = true, [32] = true}
local USER0 = wtap.USER0

-- flags and gso_type, as bit numbers
local NEEDS_CSUM, DATA_VALID, RSC_INFO, UDP_TUNNEL_CSUM = 0, 1, 2, 3
local SECURITY, SECURITY_ERR, SECURITY_SOFT_EXPIRY = 4, 5, 6
local TUNNEL_IPV4, TUNNEL_IPV6, ECN = 5, 6, 7
local UFO = 3

local TCP, UDP, ICMPV6 = 6, 17, 58
local CHECKSUM_AT = {[TCP] = 16, [UDP] = 6, [ICMPV6] = 2} -- offset of the checksum in the transport header

local FEATURES = {
  [0] = "CSUM", [1] = "GUEST_CSUM", [2] = "CTRL_GUEST_OFFLOADS", [3] = "MTU", [5] = "MAC", [6] = "GSO",
  [7] = "GUEST_TSO4", [8] = "GUEST_TSO6", [9] = "GUEST_ECN", [10] = "GUEST_UFO",
  [11] = "HOST_TSO4", [12] = "HOST_TSO6", [13] = "HOST_ECN", [14] = "HOST_UFO",
  [15] = "MRG_RXBUF", [16] = "STATUS", [17] = "CTRL_VQ", [18] = "CTRL_RX", [19] = "CTRL_VLAN", [20] = "CTRL_RX_EXTRA",
  [21] = "GUEST_ANNOUNCE", [22] = "MQ", [23] = "CTRL_MAC_ADDR",
  [24] = "NOTIFY_ON_EMPTY", [27] = "ANY_LAYOUT", [28] = "INDIRECT_DESC", [29] = "EVENT_IDX", [30] = "UNUSED",
  [32] = "VERSION_1", [33] = "ACCESS_PLATFORM", [34] = "RING_PACKED", [35] = "IN_ORDER", [36] = "ORDER_PLATFORM",
  [37] = "SR_IOV", [38] = "NOTIFICATION_DATA", [39] = "NOTIF_CONFIG_DATA", [40] = "RING_RESET", [41] = "ADMIN_VQ",
  [43] = "SUSPEND",
  [50] = "DEVICE_STATS", [51] = "HASH_TUNNEL", [52] = "VQ_NOTF_COAL", [53] = "NOTF_COAL",
  [54] = "GUEST_USO4", [55] = "GUEST_USO6", [56] = "HOST_USO", [57] = "HASH_REPORT", [59] = "GUEST_HDRLEN",
  [60] = "RSS", [61] = "RSC_EXT", [62] = "STANDBY", [63] = "SPEED_DUPLEX", [64] = "RSS_CONTEXT",
  [65] = "GUEST_UDP_TUNNEL_GSO", [66] = "GUEST_UDP_TUNNEL_GSO_CSUM",
  [67] = "HOST_UDP_TUNNEL_GSO", [68] = "HOST_UDP_TUNNEL_GSO_CSUM", [69] = "OUT_NET_HEADER", [70] = "IPSEC",
}
local BIT = {}
for number, name in pairs(FEATURES) do BIT[name] = number end

-- What each gso_type needs (rx: features and clause for the device, tx: for the driver), and what it is cut into.
local GSO = {
  [1] = {name = "TCPV4", words = "TCPv4 super-frame", part = "segment", proto = TCP,
         rx = {"GUEST_TSO4"}, rx_clause = "RX-D-07", tx = {"HOST_TSO4"}, tx_clause = "TX-V-07"},
  [3] = {name = "UDP", words = "UDP datagram over the MTU", part = "fragment", proto = UDP,
         rx = {"GUEST_UFO"}, rx_clause = "RX-D-08", tx = {"HOST_UFO"}, tx_clause = "TX-V-11"},
  [4] = {name = "TCPV6", words = "TCPv6 super-frame", part = "segment", proto = TCP,
         rx = {"GUEST_TSO6"}, rx_clause = "RX-D-09", tx = {"HOST_TSO6"}, tx_clause = "TX-V-09"},
  [5] = {name = "UDP_L4", words = "UDP super-frame", part = "datagram", proto = UDP,
         rx = {"GUEST_USO4", "GUEST_USO6"}, rx_clause = "RX-D-10", tx = {"HOST_USO"}, tx_clause = "TX-V-13"},
}
local GSO_NAMES = {[0] = "NONE", [1] = "TCPV4", [3] = "UDP", [4] = "TCPV6", [5] = "UDP_L4"}
local RX_GSO_FEATURES = {"GUEST_TSO4", "GUEST_TSO6", "GUEST_UFO", "GUEST_USO4", "GUEST_USO6"}
local TX_GSO_FEATURES = {"HOST_TSO4", "HOST_TSO6", "HOST_USO", "HOST_UFO"}

local HASH_REPORTS = {
  [0] = "NONE", [1] = "IPv4", [2] = "TCPv4", [3] = "UDPv4", [4] = "IPv6", [5] = "TCPv6", [6] = "UDPv6",
  [7] = "IPv6_EX", [8] = "TCPv6_EX", [9] = "UDPv6_EX",
}

-- Fields --------------------------------------------------------------------------------------------------------------

local set = {"set", "not set"}
local P = {
  version = ProtoField.uint8("netemu.version", "Version"),
  prefix_len = ProtoField.uint8("netemu.prefix_len", "Prefix length"),
  flags = ProtoField.uint8("netemu.flags", "Flags", base.HEX),
  direction = ProtoField.uint8("netemu.direction", "Direction", base.DEC,
                               {[0] = "receive (device to driver)", [1] = "transmit (driver to device)"}, 0x01),
  big_endian = ProtoField.bool("netemu.flags.big_endian", "Header fields are big-endian", 8, set, 0x02),
  features_valid = ProtoField.bool("netemu.flags.features_valid", "Features are recorded", 8, set, 0x04),
  reserved = ProtoField.uint8("netemu.flags.reserved", "Reserved", base.HEX, nil, 0xf8),
  hdr_len = ProtoField.uint8("netemu.hdr_len", "Length of the virtio-net header"),
  queue = ProtoField.uint16("netemu.queue", "Queue pair"),
  buffers = ProtoField.uint16("netemu.buffers", "Buffers", base.DEC, nil, nil,
                              "Descriptor chains that the frame really occupied"),
  frame_id = ProtoField.uint64("netemu.frame_id", "Frame id", base.DEC, nil, nil, "Number of the frame in the input"),
  features_low = ProtoField.uint64("netemu.features.low", "Negotiated features 0-63", base.HEX),
  features_high = ProtoField.uint64("netemu.features.high", "Negotiated features 64-127", base.HEX),
  feature = ProtoField.string("netemu.feature", "Feature"),
  extension = ProtoField.bytes("netemu.extension", "Fields of a later revision"),
  frame_len = ProtoField.uint32("netemu.frame_len", "Length of the Ethernet frame"),
}
netemu.fields = P

local F = {
  flags = ProtoField.uint8("virtio_net.flags", "flags", base.HEX),
  needs_csum = ProtoField.bool("virtio_net.flags.needs_csum", "NEEDS_CSUM", 8, set, 0x01),
  data_valid = ProtoField.bool("virtio_net.flags.data_valid", "DATA_VALID", 8, set, 0x02),
  rsc_info = ProtoField.bool("virtio_net.flags.rsc_info", "RSC_INFO", 8, set, 0x04),
  udp_tunnel_csum = ProtoField.bool("virtio_net.flags.udp_tunnel_csum", "UDP_TUNNEL_CSUM", 8, set, 0x08),
  security = ProtoField.bool("virtio_net.flags.security", "SECURITY", 8, set, 0x10),
  security_err = ProtoField.bool("virtio_net.flags.security_err", "SECURITY_ERR", 8, set, 0x20),
  security_soft = ProtoField.bool("virtio_net.flags.security_sa_soft_expiry_warn",
                                  "SECURITY_SA_SOFT_EXPIRY_WARN", 8, set, 0x40),
  flags_unknown = ProtoField.bool("virtio_net.flags.unknown", "Unknown", 8, set, 0x80),
  gso_type = ProtoField.uint8("virtio_net.gso_type", "gso_type", base.HEX),
  gso_base = ProtoField.uint8("virtio_net.gso_type.base", "Type", base.DEC, GSO_NAMES, 0x1f),
  tunnel_ipv4 = ProtoField.bool("virtio_net.gso_type.udp_tunnel_ipv4", "UDP_TUNNEL_IPV4", 8, set, 0x20),
  tunnel_ipv6 = ProtoField.bool("virtio_net.gso_type.udp_tunnel_ipv6", "UDP_TUNNEL_IPV6", 8, set, 0x40),
  ecn = ProtoField.bool("virtio_net.gso_type.ecn", "ECN", 8, set, 0x80),
  hdr_len = ProtoField.uint16("virtio_net.hdr_len", "hdr_len"),
  gso_size = ProtoField.uint16("virtio_net.gso_size", "gso_size"),
  csum_start = ProtoField.uint16("virtio_net.csum_start", "csum_start"),
  csum_offset = ProtoField.uint16("virtio_net.csum_offset", "csum_offset"),
  rsc_segments = ProtoField.uint16("virtio_net.rsc.segments", "Coalesced segments (in csum_start)"),
  rsc_dup_acks = ProtoField.uint16("virtio_net.rsc.dup_acks", "Duplicate ACKs (in csum_offset)"),
  num_buffers = ProtoField.uint16("virtio_net.num_buffers", "num_buffers"),
  hash_value = ProtoField.uint32("virtio_net.hash_value", "hash_value", base.HEX),
  hash_report = ProtoField.uint16("virtio_net.hash_report", "hash_report", base.DEC, HASH_REPORTS),
  padding = ProtoField.uint16("virtio_net.padding_reserved", "padding_reserved", base.HEX),
  outer_th_offset = ProtoField.uint16("virtio_net.outer_th_offset", "outer_th_offset"),
  inner_nh_offset = ProtoField.uint16("virtio_net.inner_nh_offset", "inner_nh_offset"),
  outer_nh_offset = ProtoField.uint16("virtio_net.outer_nh_offset", "outer_nh_offset"),
  resource_id = ProtoField.uint32("virtio_net.ipsec.resource_id", "IPsec resource_id"),
  resource_type = ProtoField.uint16("virtio_net.ipsec.resource_type", "IPsec resource_type", base.HEX),
  padding_2 = ProtoField.bytes("virtio_net.padding_reserved_2", "padding_reserved_2"),
  rest = ProtoField.bytes("virtio_net.rest", "Bytes that no layout has"),
  checksum = ProtoField.string("virtio_net.checksum", "Checksum"),
  gso = ProtoField.string("virtio_net.gso", "Segmentation"),
  segments = ProtoField.uint32("virtio_net.segments", "Segments on a wire"),
  violation = ProtoField.string("virtio_net.violation", "Broken clause"),
}
virtio.fields = F

local not_understood = ProtoExpert.new("netemu.not_understood", "Record cut short or not understood",
                                       expert.group.MALFORMED, expert.severity.WARN)
local odd = ProtoExpert.new("netemu.odd", "Record of an unusual kind", expert.group.PROTOCOL, expert.severity.NOTE)
netemu.experts = {not_understood, odd}
local broken = ProtoExpert.new("virtio_net.broken", "The header breaks the specification",
                               expert.group.PROTOCOL, expert.severity.WARN)
local unknown = ProtoExpert.new("virtio_net.unknown", "The header holds what the specification does not know",
                                expert.group.PROTOCOL, expert.severity.NOTE)
virtio.experts = {broken, unknown}

-- Reading -------------------------------------------------------------------------------------------------------------

local function bit_set(value, number) return math.floor(value / 2 ^ number) % 2 == 1 end

-- One byte, or two in network order, of a Tvb; nil where they were not captured.
local function u8(tvb, at)
  if at >= 0 and at + 1 <= tvb:captured_len() then return tvb(at, 1):uint() end
end
local function u16(tvb, at)
  if at >= 0 and at + 2 <= tvb:captured_len() then return tvb(at, 2):uint() end
end

-- The IP header at `at`: version, nh (its offset), proto, th (offset of the transport header, nil in a later fragment),
-- ends (offset behind the packet by its own length field), addresses (offset, length), whole (the pseudo-header can be
-- computed: not a fragment, no routing header). nil where there is none.
local function find_ip(tvb, at)
  local first = u8(tvb, at)
  local version = first and math.floor(first / 16)
  if version == 4 then
    local ihl, total, fragment, proto = first % 16 * 4, u16(tvb, at + 2), u16(tvb, at + 6), u8(tvb, at + 9)
    if ihl < 20 or not proto then return nil end
    local later = fragment % 0x2000 ~= 0
    return {version = 4, nh = at, proto = proto, th = not later and at + ihl or nil,
            ends = total > 0 and at + total or nil,
            addresses = at + 12, addresses_len = 8, whole = fragment % 0x4000 == 0}
  elseif version == 6 then
    local payload, proto = u16(tvb, at + 4), u8(tvb, at + 6)
    if not proto then return nil end
    local ip = {version = 6, nh = at, th = at + 40, ends = payload > 0 and at + 40 + payload or nil,
                addresses = at + 8, addresses_len = 32, whole = true}
    for _ = 1, 8 do -- extension headers: hop-by-hop 0, routing 43, fragment 44, destination 60
      local next_proto, length = u8(tvb, ip.th), u8(tvb, ip.th + 1)
      if proto == 0 or proto == 43 or proto == 60 then
        if not length then return nil end
        ip.whole = ip.whole and proto ~= 43
        ip.th = ip.th + (length + 1) * 8
      elseif proto == 44 then
        local fragment = u16(tvb, ip.th + 2)
        if not fragment then return nil end
        ip.proto, ip.th, ip.whole = next_proto, ip.th + 8, false
        if fragment >= 8 then
          ip.th = nil
          return ip
        end
      else
        break
      end
      proto = next_proto
    end
    ip.proto = proto
    return ip
  end
end

-- The outer IP header of an Ethernet frame, behind any VLAN tags.
local function find_outer_ip(tvb)
  local at = 12
  for _ = 1, 4 do
    local ethertype = u16(tvb, at)
    if ethertype == 0x0800 or ethertype == 0x86dd then return find_ip(tvb, at + 2) end
    if ethertype ~= 0x8100 and ethertype ~= 0x88a8 and ethertype ~= 0x9100 then return nil end
    at = at + 4
  end
end

-- Offset behind the TCP or UDP header at `th`.
local function transport_end(tvb, proto, th)
  if proto == UDP then return th + 8 end
  local offset = proto == TCP and u8(tvb, th + 12)
  return offset and th + math.floor(offset / 16) * 4 or nil
end

-- The folded one's complement sum of the pseudo-header of `ip`, for a transport part up to `ends`.
local function pseudo_header_sum(tvb, ip, ends)
  local length = ends - ip.th
  local sum = ip.proto + length % 0x10000 + math.floor(length / 0x10000)
  for at = ip.addresses, ip.addresses + ip.addresses_len - 2, 2 do
    local word = u16(tvb, at)
    if not word then return nil end
    sum = sum + word
  end
  while sum > 0xffff do sum = sum % 0x10000 + math.floor(sum / 0x10000) end
  return sum
end

-- Judging -------------------------------------------------------------------------------------------------------------

-- Record that the header breaks a clause; nothing happens where the direction has no clause.
local function breaks(h, field, rx_clause, tx_clause, text, ...)
  local clause = h.transmit and tx_clause or not h.transmit and rx_clause
  if not clause then return end
  local item = h.items[field] or h.tree
  item:add_proto_expert_info(broken, clause .. ": " .. string.format(text, ...))
  for id in clause:gmatch("[^, ]+") do
    if not h.seen[id] then
      h.seen[id] = true
      h.tree:add(F.violation, id):set_generated()
      h.violations[#h.violations + 1] = id
    end
  end
end

local function remark(h, field, text, ...)
  local item = h.items[field] or h.tree
  item:add_proto_expert_info(unknown, string.format(text, ...))
end

-- Whether the feature was negotiated; also false where the record does not say (ask h.known first).
local function has(h, name)
  local number = BIT[name]
  return h.known and bit_set(h.features[math.floor(number / 32) + 1], number % 32)
end
local function has_any(h, names)
  for _, name in ipairs(names) do
    if has(h, name) then return true end
  end
  return false
end
local function lacks(h, name) return h.known and not has(h, name) end

-- Bytes of header that the negotiated features give (RXB-V-04, LEG-V-11).
local function header_length(h)
  if has_any(h, {"OUT_NET_HEADER", "IPSEC"}) then return 32 end
  if has_any(h, {"HOST_UDP_TUNNEL_GSO", "GUEST_UDP_TUNNEL_GSO"}) then return 24 end
  if has(h, "HASH_REPORT") then return 20 end
  if has_any(h, {"VERSION_1", "MRG_RXBUF"}) then return 12 end
  return 10
end

local function judge_length(h)
  if not HEADER_LENGTHS[h.len] then
    breaks(h, "len", "RXB-V-04", "TX-V-01", "a header of %d bytes; feature sets give 10, 12, 20, 24 or 32", h.len)
  elseif h.known and h.len ~= header_length(h) then
    local rx = (h.len == 10 or header_length(h) == 10) and "LEG-V-11" or "RXB-V-04"
    breaks(h, "len", rx, "TX-V-01",
           "a header of %d bytes, but the negotiated features give %d", h.len, header_length(h))
  end
  if h.big_endian and has(h, "VERSION_1") then
    breaks(h, "len", "LEG-B-02", "LEG-B-02",
           "big-endian fields, but VERSION_1 is negotiated: only legacy guests use their own order")
  end
end

local function judge_buffers(h)
  if h.num_buffers == nil then
    if not h.transmit and h.len == 10 and h.buffers > 1 then
      breaks(h, "len", "RXB-D-02", nil,
             "%d buffers occupied, but a header without num_buffers means a single one", h.buffers)
    end
    return
  end
  if h.transmit then
    if h.num_buffers ~= 0 then
      breaks(h, "num_buffers", nil, "TX-V-02", "num_buffers is %d; a driver sets it to 0", h.num_buffers)
    end
    return
  end
  if lacks(h, "MRG_RXBUF") then
    if h.num_buffers ~= 1 then
      breaks(h, "num_buffers", "RX-D-01", nil, "num_buffers is %d; without MRG_RXBUF it is 1", h.num_buffers)
    end
    if h.buffers > 1 then
      breaks(h, "num_buffers", "RXB-D-02", nil,
             "%d buffers occupied; without MRG_RXBUF a frame has a single one", h.buffers)
    end
  elseif h.num_buffers == 0 then
    local clause = h.known and "RX-D-02" or "RX-D-01, RX-D-02"
    breaks(h, "num_buffers", clause, nil, "num_buffers is 0, but a frame occupies at least one buffer")
  elseif h.buffers ~= 0 and h.num_buffers ~= h.buffers then
    breaks(h, "num_buffers", "RX-D-02", nil, "num_buffers is %d, but the frame occupies %d", h.num_buffers, h.buffers)
  end
end

local function judge_flags(h)
  local csum = h.transmit and "CSUM" or "GUEST_CSUM"
  if h.flags ~= 0 and lacks(h, csum) then
    breaks(h, "flags", "RX-D-05", "TX-V-03", "flags are 0x%02x; without %s they are 0", h.flags, csum)
  end
  if bit_set(h.flags, DATA_VALID) then
    breaks(h, "flags", nil, "TX-V-39", "DATA_VALID on transmit: only a device sets it")
  end
  if bit_set(h.flags, RSC_INFO) then
    breaks(h, "flags", nil, "TX-V-40", "RSC_INFO on transmit: only a device sets it")
    if lacks(h, "RSC_EXT") then breaks(h, "flags", "RX-D-32", nil, "RSC_INFO without RSC_EXT") end
  elseif has(h, "RSC_EXT") and h.gso ~= 0 then
    breaks(h, "flags", "RX-D-29", nil, "RSC_EXT is negotiated, but a GSO frame has no RSC_INFO")
  end
  local tunnel_csum = h.transmit and "HOST_UDP_TUNNEL_GSO_CSUM" or "GUEST_UDP_TUNNEL_GSO_CSUM"
  if bit_set(h.flags, UDP_TUNNEL_CSUM) and lacks(h, tunnel_csum) then
    breaks(h, "flags", "RX-D-12", "TX-V-22", "UDP_TUNNEL_CSUM without %s", tunnel_csum)
  end
  if lacks(h, "IPSEC") then
    if bit_set(h.flags, SECURITY) then breaks(h, "flags", "RX-D-40", "TX-V-42", "SECURITY without IPSEC") end
    if bit_set(h.flags, SECURITY_ERR) then breaks(h, "flags", "RX-D-41", nil, "SECURITY_ERR without IPSEC") end
    if bit_set(h.flags, SECURITY_SOFT_EXPIRY) then
      breaks(h, "flags", "RX-D-42", nil, "SECURITY_SA_SOFT_EXPIRY_WARN without IPSEC")
    end
  end
  if bit_set(h.flags, 7) then
    remark(h, "flags", "flag bit 0x80 is not known; whoever reads the header ignores it (RX-V-01, TX-D-01)")
  end
end

local function judge_gso(h)
  local gso = GSO[h.gso]
  if h.gso ~= 0 and not gso then remark(h, "gso_type", "gso_type %d is not known", h.gso) end
  if bit_set(h.gso_type, ECN) and h.gso ~= 1 and h.gso ~= 4 then
    remark(h, "gso_type", "the ECN bit has a meaning only with TCPV4 and TCPV6")
  end
  if h.gso == 0 then return end

  local none = h.known and not has_any(h, h.transmit and TX_GSO_FEATURES or RX_GSO_FEATURES)
  local needed = gso and (h.transmit and gso.tx or gso.rx) or {}
  if none and gso then
    breaks(h, "gso_type", gso.rx_clause .. ", RX-D-26", gso.tx_clause .. ", TX-V-30",
           "gso_type is %s, but no segmentation offload is negotiated in this direction", gso.name)
  elseif none then
    breaks(h, "gso_type", "RX-D-26", "TX-V-30",
           "gso_type is %d, but no segmentation offload is negotiated in this direction", h.gso)
  elseif h.known and gso and not has_any(h, needed) then
    breaks(h, "gso_type", gso.rx_clause, gso.tx_clause,
           "gso_type is %s without %s", gso.name, table.concat(needed, " or "))
  end
  local ecn = h.transmit and "HOST_ECN" or "GUEST_ECN"
  if bit_set(h.gso_type, ECN) and lacks(h, ecn) then
    breaks(h, "gso_type", "RX-D-13", "TX-V-14", "the ECN bit without %s", ecn)
  end
  if not bit_set(h.flags, NEEDS_CSUM) then
    breaks(h, "flags", "RX-D-27", "TX-V-31", "a GSO frame without NEEDS_CSUM")
  end
  if h.gso_size == 0 then breaks(h, "gso_size", "RX-D-28", "TX-V-32", "gso_size is 0 in a GSO frame") end
end

-- The pseudo-header's sum belongs into an unfinished checksum field at `at`.
local function judge_pseudo_header(h, field, rx_clause, tx_clause, ip, at)
  local stored = u16(h.frame, at)
  local ends = ip.ends or h.frame_len
  if not (ip.whole and stored and ends > ip.th) then return end
  local sum = pseudo_header_sum(h.frame, ip, ends)
  if sum and stored % 0xffff ~= sum % 0xffff then -- 0 and 0xffff are the same number in one's complement
    breaks(h, field, rx_clause, tx_clause,
           "the checksum field at byte %d holds 0x%04x, but the pseudo-header sums to 0x%04x",
           at, stored, sum)
  end
end

local function judge_tunnel(h)
  local ipv4, ipv6 = bit_set(h.gso_type, TUNNEL_IPV4), bit_set(h.gso_type, TUNNEL_IPV6)
  local outer_csum = bit_set(h.flags, UDP_TUNNEL_CSUM)
  if not h.tunnel then
    if outer_csum then
      if bit_set(h.flags, NEEDS_CSUM) then
        breaks(h, "flags", "RX-V-13", nil, "UDP_TUNNEL_CSUM and NEEDS_CSUM without a tunnel bit")
      end
      breaks(h, "flags", nil, "TX-V-25, TX-D-13", "UDP_TUNNEL_CSUM without a tunnel bit")
    end
    return
  end
  local feature = h.transmit and "HOST_UDP_TUNNEL_GSO" or "GUEST_UDP_TUNNEL_GSO"
  if lacks(h, feature) then breaks(h, "gso_type", "RX-D-11", "TX-V-17", "a tunnel bit without %s", feature) end
  if ipv4 and ipv6 then breaks(h, "gso_type", "RX-V-08", "TX-V-24, TX-D-08", "both tunnel bits are set") end
  if not bit_set(h.flags, NEEDS_CSUM) then
    breaks(h, "flags", "RX-V-10", "TX-D-10", "a tunnel bit without NEEDS_CSUM")
  end
  if bit_set(h.flags, DATA_VALID) then
    breaks(h, "flags", "RX-D-36, RX-V-11", "TX-V-41, TX-D-11", "a tunnel bit together with DATA_VALID")
  end
  if h.gso == 0 then breaks(h, "gso_type", "RX-V-12", "TX-D-12", "a tunnel bit, but gso_type is NONE") end
  if h.gso == UFO then breaks(h, "gso_type", nil, "TX-V-23", "a tunnel bit together with gso_type UDP") end

  local outer, inner = h.ip, h.inner
  if not h.inner_nh_offset then
    breaks(h, "len", "RX-D-23", "TX-V-35",
           "a tunnel bit, but a header of %d bytes has no outer_th_offset and inner_nh_offset", h.len)
    return
  end
  if outer and outer.th and h.outer_th_offset ~= outer.th then
    breaks(h, "outer_th_offset", "RX-D-23", "TX-V-35",
           "outer_th_offset is %d, but the outer transport header is at byte %d",
           h.outer_th_offset, outer.th)
  end
  if h.inner_nh_offset < h.outer_th_offset + 8 or h.inner_nh_offset + 20 > h.frame_len then
    breaks(h, "inner_nh_offset", "RX-D-23", "TX-V-35",
           "inner_nh_offset is %d, which is not between the outer UDP header and the end of the frame",
           h.inner_nh_offset)
  end
  -- The specification names the inner header, Linux sets the bit by the outer one: only what fits neither is wrong.
  if outer and inner and ipv4 ~= ipv6 then
    local version = ipv4 and 4 or 6
    if outer.version ~= version and inner.version ~= version then
      breaks(h, "gso_type", "RX-D-22", version == 4 and "TX-V-19" or "TX-V-18",
             "the tunnel bit says IPv%d, the headers are IPv%d",
             version, inner.version)
    end
  end
  if outer_csum and outer and outer.th and outer.proto == UDP then
    judge_pseudo_header(h, "flags", "RX-D-38", "TX-V-36", outer, outer.th + CHECKSUM_AT[UDP])
  end
end

local function judge_checksum(h)
  if not h.csum_start or not bit_set(h.flags, NEEDS_CSUM) then return end
  local at = h.csum_start + h.csum_offset
  if at + 2 > h.frame_len then
    breaks(h, "csum_start", "RX-D-20", "TX-V-29", "csum_start %d + csum_offset %d + 2 lies beyond the frame's %d bytes",
           h.csum_start, h.csum_offset, h.frame_len)
    return
  end
  local ip = h.offload_ip
  if not ip or not ip.th then return end
  if h.csum_start < ip.th or (h.gso ~= 0 and h.csum_start ~= ip.th) then
    breaks(h, "csum_start", "RX-D-20", "TX-V-29",
           "csum_start is %d, but the transport header is at byte %d", h.csum_start, ip.th)
  elseif h.csum_start == ip.th and CHECKSUM_AT[ip.proto] then -- further in: an inner checksum, which is allowed
    if h.csum_offset ~= CHECKSUM_AT[ip.proto] then
      breaks(h, "csum_offset", "RX-D-20", "TX-V-29",
             "csum_offset is %d, but this transport header has its checksum at %d",
             h.csum_offset, CHECKSUM_AT[ip.proto])
    else
      judge_pseudo_header(h, "csum_start", "RX-D-19", "TX-V-28", ip, at)
    end
  end
end

-- hdr_len of GSO frames only: for others the clause is a SHOULD that no common device keeps.
local function judge_hdr_len(h)
  if h.gso == 0 or not h.headers_len then return end
  if h.transmit and has(h, "GUEST_HDRLEN") then
    if h.hdr_len ~= h.headers_len then
      breaks(h, "hdr_len", nil, "TX-V-33", "hdr_len is %d, but the headers have %d bytes", h.hdr_len, h.headers_len)
    end
  elseif h.hdr_len < h.headers_len then
    breaks(h, "hdr_len", "RX-D-33", "TX-V-34", "hdr_len is %d, but the headers have %d bytes", h.hdr_len, h.headers_len)
  end
end

local function judge_late_fields(h)
  if h.transmit then return end
  if h.hash_report and not HASH_REPORTS[h.hash_report] and not lacks(h, "HASH_REPORT") then
    breaks(h, "hash_report", "HREP-D-01", nil, "hash_report is %d; reports go from 0 to 9", h.hash_report)
  end
  if h.outer_nh_offset and h.outer_nh_offset ~= 0 and lacks(h, "OUT_NET_HEADER") then
    breaks(h, "outer_nh_offset", "RX-D-16", nil, "outer_nh_offset is %d without OUT_NET_HEADER", h.outer_nh_offset)
  end
end

-- Words ---------------------------------------------------------------------------------------------------------------

local function checksum_words(h)
  if bit_set(h.flags, NEEDS_CSUM) then
    if not h.csum_start then return "not finished; where to sum is not said: RSC_INFO took its place" end
    local who = h.transmit and "the device" or "the receiver"
    local words = string.format("not finished: %s sums from byte %d and stores at %d", who, h.csum_start,
                                h.csum_start + h.csum_offset)
    return h.transmit and words or words .. "; whoever forwards to a wire must finish it"
  end
  if h.transmit then return "complete: the driver wrote it, the device leaves it alone" end
  if bit_set(h.flags, DATA_VALID) then
    return bit_set(h.flags, UDP_TUNNEL_CSUM) and "checked by the device, outer and inner" or "checked by the device"
  end
  return "nobody vouches: the guest's stack must verify"
end

local function gso_words(h)
  local gso = GSO[h.gso]
  if not gso then return string.format("unknown type %d", h.gso) end
  local size = h.gso == UFO and h.gso_size - h.gso_size % 8 or h.gso_size -- fragments are cut at multiples of eight
  local payload_at = h.gso == UFO and h.th or h.headers_len
  local words = gso.words .. (h.tunnel and " in a UDP tunnel" or "")
  if size == 0 then return words .. ": gso_size does not say how to cut it" end
  if payload_at and payload_at <= h.frame_len then
    h.segments = math.max(1, math.ceil((h.frame_len - payload_at) / size))
    words = string.format("%s: would be %d %s%s of up to %d bytes", words, h.segments, gso.part,
                          h.segments == 1 and "" or "s", size)
  else
    words = string.format("%s: would be %ss of up to %d bytes", words, gso.part, size)
  end
  return bit_set(h.gso_type, ECN) and words .. ", with ECN" or words
end

local function info_mark(h)
  local marks = {}
  local gso = GSO[h.gso]
  if gso and h.segments then
    marks[#marks + 1] = string.format("%s %dx%d", gso.name, h.segments, h.gso_size)
  elseif h.gso ~= 0 then
    marks[#marks + 1] = "GSO"
  end
  if bit_set(h.flags, NEEDS_CSUM) then marks[#marks + 1] = "checksum unfinished" end
  if #h.violations > 0 then marks[#marks + 1] = "breaks " .. table.concat(h.violations, " ") end
  return #marks > 0 and " [" .. table.concat(marks, ", ") .. "]" or ""
end

-- Showing -------------------------------------------------------------------------------------------------------------

-- Add the header's fields to the tree and to `h`. `bytes` is the Tvb of the header alone.
local function show_header(h, bytes)
  local shown = 0
  local function number(key, at, size)
    if at + size > h.len then return end
    local range = bytes(at, size)
    h[key] = h.big_endian and range:uint() or range:le_uint()
    h.items[key] = h.big_endian and h.tree:add(F[key], range) or h.tree:add_le(F[key], range)
    shown = at + size
  end
  local function bits(key, names)
    for _, name in ipairs(names) do h.items[key]:add(F[name], bytes(key == "flags" and 0 or 1, 1)) end
  end

  number("flags", 0, 1)
  bits("flags", {"flags_unknown", "security_soft", "security_err", "security",
                 "udp_tunnel_csum", "rsc_info", "data_valid", "needs_csum"})
  number("gso_type", 1, 1)
  bits("gso_type", {"ecn", "tunnel_ipv6", "tunnel_ipv4", "gso_base"})
  h.gso = h.gso_type % 32
  h.tunnel = bit_set(h.gso_type, TUNNEL_IPV4) or bit_set(h.gso_type, TUNNEL_IPV6)
  h.items.gso_type:append_text(string.format(" (%s)", GSO_NAMES[h.gso] or "unknown"))
  number("hdr_len", 2, 2)
  number("gso_size", 4, 2)
  if bit_set(h.flags, RSC_INFO) then
    number("rsc_segments", 6, 2)
    number("rsc_dup_acks", 8, 2)
  else
    number("csum_start", 6, 2)
    number("csum_offset", 8, 2)
  end
  number("num_buffers", 10, 2)

  number("hash_value", 12, 4)
  number("hash_report", 16, 2)
  if h.hash_report and lacks(h, "HASH_REPORT") then
    h.items.hash_value:append_text(" (filler: HASH_REPORT is not negotiated)")
    h.items.hash_report:append_text(" (filler)")
  end
  number("padding", 18, 2)
  number("outer_th_offset", 20, 2)
  number("inner_nh_offset", 22, 2)
  number("outer_nh_offset", 24, 2)
  if has(h, "IPSEC") then
    number("resource_id", 26, 4)
    number("resource_type", 30, 2)
  elseif h.len >= 32 then
    h.tree:add(F.padding_2, bytes(26, 6))
    shown = 32
  end
  if h.len > shown then h.tree:add(F.rest, bytes(shown)) end
end

-- Find the frame's own headers: h.ip (outer), h.inner (in a tunnel), h.offload_ip (the one of both that offloads are
-- about), h.th and h.headers_len (of what GSO cuts).
local function find_headers(h)
  h.ip = find_outer_ip(h.frame)
  if h.tunnel and h.inner_nh_offset then h.inner = find_ip(h.frame, h.inner_nh_offset) end
  if h.tunnel then h.offload_ip = h.inner else h.offload_ip = h.ip end
  local ip, gso = h.offload_ip, GSO[h.gso]
  if ip and ip.th and gso and ip.proto == gso.proto then
    h.th = ip.th
    h.headers_len = transport_end(h.frame, ip.proto, ip.th)
  elseif gso and h.csum_start and bit_set(h.flags, NEEDS_CSUM) then
    h.th = h.csum_start
    h.headers_len = transport_end(h.frame, gso.proto, h.csum_start)
  end
end

-- Byte, name and label of each feature in a set of 128 bits. Sets seldom change within a file, so each is listed once.
local feature_lists = {}
local function feature_list(words)
  local key = table.concat(words, " ")
  if not feature_lists[key] then
    local list = {}
    for number = 0, 127 do
      if bit_set(words[math.floor(number / 32) + 1], number % 32) then
        local name = FEATURES[number] or string.format("bit %d", number)
        list[#list + 1] = {byte = math.floor(number / 8), name = name, label = string.format(" (%d)", number)}
      end
    end
    feature_lists[key] = list
  end
  return feature_lists[key]
end

local function show_features(h, tree, tvb)
  local list = feature_list(h.features)
  local item = tree:add(tvb(16, 16), string.format("Negotiated features: %d", #list))
  item:add_le(P.features_low, tvb(16, 8))
  item:add_le(P.features_high, tvb(24, 8))
  for _, feature in ipairs(list) do
    item:add(P.feature, tvb(16 + feature.byte, 1), feature.name):append_text(feature.label)
  end
end

local function show_prefix(h, tree, tvb, prefix_len)
  tree:add(P.version, tvb(0, 1))
  tree:add(P.prefix_len, tvb(1, 1))
  local flags = tree:add(P.flags, tvb(2, 1))
  for _, name in ipairs({"reserved", "features_valid", "big_endian", "direction"}) do flags:add(P[name], tvb(2, 1)) end
  if tvb(2, 1):uint() > 7 then
    flags:add_proto_expert_info(odd, "reserved flag bits are set: written by a later revision of version 1")
  end
  h.items.len = tree:add(P.hdr_len, tvb(3, 1))
  tree:add_le(P.queue, tvb(4, 2))
  tree:add_le(P.buffers, tvb(6, 2))
  tree:add_le(P.frame_id, tvb(8, 8))
  if h.known then
    show_features(h, tree, tvb)
  else
    tree:add(tvb(16, 16), "Negotiated features: not recorded")
  end
  if prefix_len > PREFIX_LEN then tree:add(P.extension, tvb(PREFIX_LEN, prefix_len - PREFIX_LEN)) end
end

-- Dissecting ----------------------------------------------------------------------------------------------------------

local ethernet = Dissector.get("eth_withoutfcs")
local data = Dissector.get("data")

-- Wireshark marks a frame whose dissector failed as malformed and then raises a Lua error on top; the mark is enough.
local function hand_over(dissector, tvb, pinfo, root) pcall(dissector.call, dissector, tvb, pinfo, root) end

-- Why the record cannot be read, in words; nil for one that can.
local function fault(tvb)
  local captured = tvb:captured_len()
  if captured < 4 then return string.format("a record of %d bytes has no room for a prefix", captured) end
  local version, prefix_len, hdr_len = tvb(0, 1):uint(), tvb(1, 1):uint(), tvb(3, 1):uint()
  if version ~= PREFIX_VERSION then
    return string.format("version %d of the prefix is not known (or this is no ring capture at all)", version)
  end
  if prefix_len < PREFIX_LEN then
    return string.format("prefix length %d; version 1 has at least %d bytes", prefix_len, PREFIX_LEN)
  end
  if prefix_len > captured then
    return string.format("the prefix of %d bytes is cut: %d are there", prefix_len, captured)
  end
  if prefix_len + hdr_len > captured then
    return string.format("the virtio-net header of %d bytes is cut: %d are there", hdr_len, captured - prefix_len)
  end
end

function netemu.dissector(tvb, pinfo, root)
  local why = fault(tvb)
  if why then
    pinfo.cols.protocol = "netemu"
    pinfo.cols.info = "Ring capture record not understood: " .. why
    local tree = root:add(netemu, tvb(0, math.min(PREFIX_LEN, tvb:captured_len())))
    if tvb:captured_len() > 0 then tree:add(P.version, tvb(0, 1)) end
    tree:add_proto_expert_info(not_understood, why)
    hand_over(data, tvb, pinfo, root)
    return tvb:captured_len()
  end

  local prefix_len = tvb(1, 1):uint()
  local flags = tvb(2, 1):uint()
  local h = {
    transmit = bit_set(flags, 0),
    big_endian = bit_set(flags, 1),
    known = bit_set(flags, 2),
    len = tvb(3, 1):uint(),
    buffers = tvb(6, 2):le_uint(),
    features = {tvb(16, 4):le_uint(), tvb(20, 4):le_uint(), tvb(24, 4):le_uint(), tvb(28, 4):le_uint()},
    frame_len = tvb:reported_len() - prefix_len - tvb(3, 1):uint(),
    items = {}, violations = {}, seen = {},
  }
  local prefix = root:add(netemu, tvb(0, prefix_len))
  prefix:append_text(string.format(", %s, queue pair %d, %d buffer%s", h.transmit and "transmit" or "receive",
                                   tvb(4, 2):le_uint(), h.buffers, h.buffers == 1 and "" or "s"))
  show_prefix(h, prefix, tvb, prefix_len)
  prefix:add(P.frame_len, h.frame_len):set_generated()
  if tvb:captured_len() < tvb:reported_len() then -- Lua cannot tell the Ethernet dissector the real length
    prefix:add_proto_expert_info(odd, "cut by the snapshot length: complaints about lengths are no fault of the frame")
  end

  h.tree = h.len > 0 and root:add(virtio, tvb(prefix_len, h.len)) or prefix
  judge_length(h)
  local frame_at = prefix_len + h.len
  if tvb:captured_len() == frame_at then
    prefix:add_proto_expert_info(not_understood, "no byte of the frame is there")
    return frame_at
  end
  h.frame = tvb(frame_at):tvb()

  local mark = ""
  if h.len >= SHORTEST_HEADER then
    show_header(h, tvb(prefix_len, h.len):tvb())
    find_headers(h)
    judge_buffers(h)
    judge_flags(h)
    judge_gso(h)
    judge_tunnel(h)
    judge_checksum(h)
    judge_hdr_len(h)
    judge_late_fields(h)
    h.tree:add(F.checksum, checksum_words(h)):set_generated()
    if h.gso ~= 0 then
      h.tree:add(F.gso, gso_words(h)):set_generated()
      if h.segments then h.tree:add(F.segments, h.segments):set_generated() end
    end
    mark = info_mark(h)
    h.tree:append_text(mark)
  end
  hand_over(ethernet, h.frame, pinfo, root)
  if mark ~= "" then pinfo.cols.info:append(mark) end
  return tvb:captured_len()
end

-- Registration --------------------------------------------------------------------------------------------------------

-- On USER0, or by preference on another USERn; the one left behind goes back to its former owner, Wireshark's DLT_USER.

netemu.prefs.user = Pref.uint("Link type USERn", 0, "n (0 to 15) of the link type USERn that carries ring captures")

local encapsulations = DissectorTable.get("wtap_encap")
local registered, replaced -- the n of USERn, and whose it was before

local function register(user)
  if user == registered or user < 0 or user > 15 then return end
  if registered then
    encapsulations:remove(USER0 + registered, netemu)
    if replaced then encapsulations:add(USER0 + registered, replaced) end
  end
  registered, replaced = user, encapsulations:get_dissector(USER0 + user)
  encapsulations:add(USER0 + user, netemu)
end

function netemu.prefs_changed() register(netemu.prefs.user) end

register(0)
