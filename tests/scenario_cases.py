"""A sound scenario, and mistakes to make in it, each with what is told then."""
# ruff: noqa: E501 - a case a line

from __future__ import annotations

SOUND = """\
[lab]
seed = 3
duration = "20s"

[guest.a]
ip = "10.0.0.1/24"
gateway = "10.0.0.254"
ipv6 = "fd00::1/64"

[guest.b]
ip = "10.0.1.2/24"
gateway = "10.0.1.254"
services = ["http:www", "echo", "dns"]

[router.r]
ip = ["10.0.0.254/24", "10.0.1.254/24"]

[[link]]
between = ["a", "r"]

[[link]]
name = "wan"
between = ["r", "b"]
netem = "delay 10ms"
rate = "10mbit"
at = [{ time = "5s", set = "loss 10%" }]

[[traffic]]
name = "download"
kind = "http"
from = "a"
to = "b"
size = "1mb"

[[traffic]]
kind = "ping"
from = "a"
to = "b"

[[capture]]
at = "wan"
file = "wan.pcapng"

[[expect]]
of = "download"
that = [
    "goodput > 1 Mbit/s",
    "never seen at wan: tcp.flags.reset == 1",
]
"""

# What stands in the sound scenario, what takes its place, and what is told then.
CASES: dict[str, tuple[str, str, str]] = {
    "part": ("[[traffic]]\nkind", "[[trafic]]\nkind", "35: no part of a scenario is called 'trafic'; did you mean traffic?"),
    "key of lab": ("seed = 3", "sead = 3", "2: lab has no key 'sead'; did you mean seed?"),
    "key of guest": ('gateway = "10.0.0', 'gatewy = "10.0.0', "7: guest.a has no key 'gatewy'; did you mean gateway?"),
    "key of link": ("rate =", "rat =", "25: link has no key 'rat'; did you mean rate?"),
    "key of change": ('set = "loss', 'ste = "loss', "26: link.at has no key 'ste'; did you mean set?"),
    "key of traffic": ("size =", "siz =", "33: traffic has no key 'siz'; did you mean size?"),
    "key of capture": ("file =", "fiel =", "42: capture has no key 'fiel'; did you mean file?"),
    "key of expect": ("of =", "off =", "45: expect has no key 'off'; did you mean of?"),
    "text for number": ("seed = 3", 'seed = "3"', '2: lab.seed: expected a whole number, not "3"'),
    "fraction": ("seed = 3", "seed = 3.5", "2: lab.seed: expected a whole number, not 3.5"),
    "negative": ("seed = 3", "seed = -3", "2: lab.seed: expected at least 0, not -3"),
    "number for text": ('name = "wan"', "name = 7", "22: link.name: expected a name of letters, digits, _ and -, not 7"),
    "truth for text": ('netem = "delay 10ms"', "netem = true", '24: link.netem: expected a text in "quotes", not true'),
    "text for truth": ('set = "loss 10%"', 'down = "yes"', '26: link.at.down: expected true or false, not "yes"'),
    "array of tables": ("[lab]", "[[lab]]", "1: [[lab]] is written [lab]"),
    "table": ("[[capture]]", "[capture]", "40: expected an array of tables: [[capture]]"),
    "nameless guest": ("[guest.a]\n", "[guest]\nip = 1\n[guest.a]\n", "6: a guest needs a name: [guest.NAME]"),
    "name of guest": ("[guest.a]", '[guest."x y"]\n[guest.a]', "5: a name has letters, digits, _ and -, unlike 'x y'"),
    "time without unit": ('"20s"', '"20"', "3: lab.duration: '20' needs a unit of time, as in \"20ms\""),
    "time as number": ('"20s"', "20", '3: lab.duration: expected a time with its unit, as in "20ms", not 20'),
    "unit of time": ('"20s"', '"20ss"', "3: lab.duration: '20ss' is no time, such as \"10ms\": no unit 'ss'"),
    "size": ('"1mb"', '"1mbb"', "33: traffic.size: '1mbb' is no size, such as \"64kb\": no unit 'mbb'"),
    "rate": ('"10mbit"', '"10mbits"', "25: link.rate: '10mbits' is no rate, such as \"10mbit\": no unit 'mbits'"),
    "netem word": ('"delay 10ms"', '"dely 10ms"', "24: link.netem: 'dely' is no word of a link; did you mean 'delay'?"),
    "netem value": ('"delay 10ms"', '"loss 110%"', "24: link.netem: loss: "),
    "netem later": ('"loss 10%"', '"los 10%"', "26: link.at.set: 'los' is no word of a link; did you mean 'loss'?"),
    "no address": ("10.0.0.1/24", "10.0.0.300/24", "6: guest.a.ip: '10.0.0.300/24' is no address with the length of its network, as in 10.0.0.1/24"),
    "no length": ("10.0.0.1/24", "10.0.0.1", "6: guest.a.ip: '10.0.0.1' needs the length of its network, as in 10.0.0.1/24"),
    "version": ("10.0.0.1/24", "fd00::1/64", "6: guest.a.ip: expected an IPv4 address, as in 10.0.0.1/24, not 'fd00::1/64'"),
    "network": ("10.0.0.1/24", "10.0.0.0/24", "6: 10.0.0.0/24 is the network's own address, and no host's"),
    "same address": ("10.0.1.2/24", "10.0.0.1/24", "11: b has the address 10.0.0.1, which a has already"),
    "gateway far": ('"10.0.0.254"\n', '"10.0.9.254"\n', "7: the gateway 10.0.9.254 is no neighbour of a, which is in 10.0.0.0/24"),
    "gateway none": ('"10.0.0.254"\n', '"10.0.0.253"\n', "7: nobody has the address of the gateway 10.0.0.253; did you mean 10.0.0.254?"),
    "gateway itself": ('"10.0.0.254"\n', '"10.0.0.1"\n', "7: a is its own gateway"),
    "gateway with length": ('"10.0.0.254"\n', '"10.0.0.254/24"\n', '7: guest.a.gateway: expected an address without a length, as in 10.0.0.254, not "10.0.0.254/24"'),
    "mode": ("[guest.a]", '[guest.a]\nmode = "smal"', '6: guest.a.mode: expected mergeable, small or big, not "smal"; did you mean small?'),
    "driver": ("[guest.a]", '[guest.a]\ndriver = "linux-2.4"', '6: guest.a.driver: expected linux-4.19, linux-6.1 or linux-7.0, not "linux-2.4"; did you mean linux-7.0?'),
    "queues": ("[guest.a]", "[guest.a]\nqueues = 65", "6: guest.a.queues: expected at most 64, not 65"),
    "queue size": ("[guest.a]", "[guest.a]\nqueue_size = 100", "6: guest.a: a split ring's size is a power of two from 1 to 32768, not 100"),
    "feature": ("[guest.a]", '[guest.a]\nfeatures = "+GUEST_TSO"', "6: guest.a: "),
    "quirk": ("[guest.a]", '[guest.a]\nquirks = ["chain-lop"]', "6: guest.a.quirks: "),
    "pressure": ("[guest.a]", '[guest.a]\npressure = "pages:q=1"', "6: guest.a.pressure: "),
    "mac": ("[guest.a]", '[guest.a]\nmac = "01:00:00:00:00:01"', "6: guest.a.mac: 01:00:00:00:00:01 is an address of a group: the first byte of a station's is even"),
    "service": ('"echo"', '"ehco"', "13: guest.b.services: no service is called 'ehco'; did you mean echo?"),
    "service argument": ('"echo"', '"echo:7"', "13: guest.b.services: echo takes no argument, and has '7'"),
    "dns record": ('"dns"', '"dns:www=10.0.0"', "13: guest.b.services: expected NAME=ADDRESS, as in www.example=10.0.0.2, not 'www=10.0.0'"),
    "dhcp range": ('"dns"', '"dhcp"', "13: guest.b.services: dhcp needs a range of addresses, as in 10.0.0.100-10.0.0.199, not nothing"),
    "dhcp network": ('"dns"', '"dhcp:10.0.0.5-10.0.0.9"', "13: guest.b.services: 10.0.0.5-10.0.0.9 is no range of addresses of 10.0.1.0/24"),
    "dhcp nobody": ("[guest.a]", "[guest.a]\ndhcp = true", "6: no guest runs dhcp, which could give a an address"),
    "resolver": ("[guest.a]", '[guest.a]\ndns = "b"', '6: guest.a.dns: expected an address without a length, as in 10.0.0.53, not "b"'),
    "service folder": ('"http:www"', '"http:wwww"', "13: guest.b.services: there is no folder wwww"),
    "end of link": ('["a", "r"]', '["a", "rr"]', "19: nothing in the lab is called 'rr'; did you mean r?"),
    "one end": ('["a", "r"]', '["a"]', '19: link.between: expected two different ends, as in ["a", "b"]'),
    "same ends": ('["a", "r"]', '["r", "r"]', '19: link.between: expected two different ends, as in ["a", "b"]'),
    "no end": ('between = ["a", "r"]', "", "18: link needs a key 'between'"),
    "second link": ('["r", "b"]', '["a", "b"]', "23: guest a has a link already: join a switch"),
    "third link": ("[[traffic]]\nname", '[guest.c]\n[[link]]\nbetween = ["r", "c"]\n[[traffic]]\nname', "30: router r has more links than addresses, of which each is for one"),
    "no link": ("[router.r]", "[switch.s]\n[router.r]", "15: switch s is joined to nothing: a [[link]] is missing"),
    "mtus": ("[router.r]", "[router.r]\nmtu = [1500, 1400, 1300]", "16: router.r.mtu: expected one, or 2 as there are addresses, not 3"),
    "route": ("[router.r]", '[router.r]\nroutes = "10.0.2.0/24 10.0.1.253"', '16: router.r.routes: expected a route, as in "10.0.2.0/24 via 10.0.1.253", not "10.0.2.0/24 10.0.1.253"'),
    "same link": ('between = ["a", "r"]', 'between = ["a", "r"]\nname = "wan"', "23: link 'wan' is there already, in line 18: give it a name"),
    "same name": ("[router.r]", "[router.b]\nip = []\n[router.r]", "15: router b has the name of a guest"),
    "change nothing": (', set = "loss 10%" ', "", "26: link.at: nothing changes: expected set, forward, backward, up or down"),
    "change both": ('set = "loss 10%"', "up = true, down = true", "26: link.at: a link goes up or down, not both at a time"),
    "kind": ('"http"', '"htp"', "30: no kind of traffic is called 'htp'; did you mean http?"),
    "no kind": ('kind = "http"\n', "", "28: traffic needs a kind: ping, udp, tcp, http, dns, scapy or replay"),
    "from": ('from = "a"\nto = "b"\nsize', 'from = "c"\nto = "b"\nsize', "31: no guest is called 'c'"),
    "from router": ('from = "a"\nto = "b"\nsize', 'from = "r"\nto = "b"\nsize', "31: 'r' is a router, and no guest"),
    "to": ('to = "b"\nsize', 'to = "bb"\nsize', "32: no guest is called 'bb'; did you mean b?"),
    "to itself": ('to = "b"\nsize', 'to = "a"\nsize', "32: a cannot talk to itself: nothing would leave it"),
    "to address": ('to = "b"\nsize', 'to = "10.0.1.2"\nsize', "32: http needs a guest at its other end, not an address"),
    "no service": ('"http:www", ', "", '32: guest b runs no http: add "http" to its services'),
    "path and size": ('size = "1mb"', 'size = 5\npath = "/x"', "34: traffic download: expected path or size, not both"),
    "no size": ('size = "1mb"\n', "", "28: traffic download: needs path or size"),
    "stop": ('size = "1mb"', 'size = 5\nstart = "2s"\nstop = "1s"', "35: traffic download stops before it starts"),
    "start": ('size = "1mb"', 'size = 5\nstart = "21s"', "34: traffic download starts when the run is over (lab.duration)"),
    "same traffic": ('kind = "ping"', 'kind = "ping"\nname = "download"', "37: traffic 'download' is there already, in line 28: give it a name"),
    "udp": ('kind = "ping"', 'kind = "udp"\ncount = 5', "35: traffic udp: needs rate or pps"),
    "udp size": ('kind = "ping"', 'kind = "udp"\ncount = 5\npps = 3\nsize = "unifrm 1 2"', "39: traffic.size: 'unifrm 1 2' is no size: 1000, \"uniform 64 1400\", \"exponential 500\" and \"imix\" are some"),
    "udp sizes": ('kind = "ping"', 'kind = "udp"\ncount = 5\npps = 3\nsize = "uniform 99 20"', "39: traffic.size: 'uniform 99 20' is no size"),
    "udp large": ('kind = "ping"', 'kind = "udp"\ncount = 5\npps = 3\nsize = 65508', "39: traffic.size: sizes here are from 16 to 65507 bytes, which '65508' exceeds"),
    "scapy layer": ('kind = "ping"\nfrom = "a"\nto = "b"', 'kind = "scapy"\nfrom = "a"\npackets = "Eter()/IP()"', "38: traffic.packets: no layer is called 'Eter'; did you mean Ether?"),
    "scapy without Ethernet": ('kind = "ping"\nfrom = "a"\nto = "b"', 'kind = "scapy"\nfrom = "a"\npackets = ["Ether()/ARP()", "IP()/UDP()"]', "38: traffic.packets: a frame begins with Ether(), as in Ether()/IP(...)"),
    "scapy nothing": ('kind = "ping"\nfrom = "a"\nto = "b"', 'kind = "scapy"\nfrom = "a"\npackets = ""', "38: traffic.packets: not an expression: invalid syntax"),
    "scapy field": ('kind = "ping"\nfrom = "a"\nto = "b"', 'kind = "scapy"\nfrom = "a"\npackets = "Ether()/UDP(dprot=5)"', "38: traffic.packets: UDP has no field 'dprot'; did you mean dport?"),
    "replay": ('kind = "ping"\nfrom = "a"\nto = "b"', 'kind = "replay"\nfrom = "a"\nfile = "x.pcap"', "38: traffic.file: there is no file x.pcap"),
    "place": ('at = "wan"', 'at = "wn"', "41: no guest and no link is called 'wn'; did you mean wan?"),
    "file": ('"wan.pcapng"', '"wan.txt"', "42: capture.file: expected a name in .pcap or .pcapng, not 'wan.txt'"),
    "same file": ("[[expect]]", '[[capture]]\nat = "a"\nfile = "wan.pcapng"\n[[expect]]', "46: capture.file: wan.pcapng is written by a capture already"),
    "expectation": ("goodput > 1 Mbit/s", "goodput > 1", "47: goodput is a rate: 1 needs a unit, one of bit/s, kbit/s, Mbit/s or Gbit/s"),
    "predicate": ("tcp.flags.reset", "tcp.flag.reset", "48: no field is called 'tcp.flag.reset'; did you mean tcp.flags.reset?"),
    "expected of": ('of = "download"', 'of = "downlaod"', "47: nothing to look at is called 'downlaod'; did you mean download?"),
    "expected at": ("at wan:", "at r:", "48: nothing to look at is called 'r'; there is a, b, a-r and wan"),
    "metric of kind": ("goodput > 1 Mbit/s", "loss < 1 %", "47: traffic download (http) has no 'loss'; there is sent, received, completed, errors, bytes, goodput, rtt and duration"),
    "metric of none": ('of = "download"\nthat = [', 'that = ["jitter < 1 ms",', "45: there is no traffic that has 'jitter': udp"),
    "metric misspelt": ('of = "download"\nthat = [', 'that = ["gooodput > 1",', "45: nothing is called 'gooodput'; did you mean goodput?"),
}  # fmt: skip

WITH_CONSEQUENCES = {
    "part",
    "end of link",
    "second link",
    "one end",
    "same ends",
    "no end",
    "nameless guest",
    "array of tables",
    "name of guest",
    "number for text",
    "same traffic",
    "table",
    "same name",
    "same address",
    "no address",
    "third link",
    "same link",
    "kind",
    "no kind",
    "mac",
}
"""Mistakes from which others follow."""
