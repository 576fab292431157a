// The rival of the `lab-...` rows: the same hosts in ns-3. Prints a line of JSON; see docs/performance.md.
//
//     ns3_hosts bulk|flood|pings SIMULATED_SECONDS
#include <chrono>
#include <iostream>
#include "ns3/applications-module.h"
#include "ns3/bridge-module.h"
#include "ns3/core-module.h"
#include "ns3/csma-module.h"
#include "ns3/internet-apps-module.h"
#include "ns3/internet-module.h"
#include "ns3/network-module.h"
#include "ns3/point-to-point-module.h"
#include "ns3/traffic-control-module.h"
using namespace ns3;

static uint64_t g_frames = 0;  // data segments or datagrams that reached their target; requests and replies, for pings
static uint64_t g_bytes = 0;   // of payload

static void Received(Ptr<const Packet> packet, const Address&) { g_bytes += packet->GetSize(); }
static void Replied(Time) { g_frames += 2, g_bytes += 2 * 56; }

// Two hosts and a router between them; each link 1 Gbit/s, 1 ms, with room for 1000 packets at either end.
static void Road(double seconds, bool tcp) {
    NodeContainer nodes(3);  // host, router, host
    InternetStackHelper().Install(nodes);
    PointToPointHelper link;
    link.SetDeviceAttribute("DataRate", StringValue("1Gbps"));
    link.SetChannelAttribute("Delay", StringValue("1ms"));
    link.SetQueue("ns3::DropTailQueue", "MaxSize", StringValue("1000p"));
    Ipv4InterfaceContainer last;
    for (int hop = 0; hop < 2; hop++) {
        NetDeviceContainer ends = link.Install(nodes.Get(hop), nodes.Get(hop + 1));
        last = Ipv4AddressHelper(hop ? "10.0.1.0" : "10.0.0.0", "255.255.255.0").Assign(ends);
        TrafficControlHelper().Uninstall(ends);  // no second queue above the device's
    }
    Ipv4GlobalRoutingHelper::PopulateRoutingTables();
    InetSocketAddress target(last.GetAddress(1), 9);
    std::string factory = tcp ? "ns3::TcpSocketFactory" : "ns3::UdpSocketFactory";
    Ptr<Application> sink = PacketSinkHelper(factory, target).Install(nodes.Get(2)).Get(0);
    sink->TraceConnectWithoutContext("Rx", MakeCallback(&Received));
    if (tcp) {
        BulkSendHelper source(factory, target);
        source.SetAttribute("SendSize", UintegerValue(1448));
        source.Install(nodes.Get(0));
    } else {  // UDP/IP/Ethernet of 1000 bytes take 8.34 us of the link
        UdpClientHelper source(target.GetIpv4(), 9);
        source.SetAttribute("PacketSize", UintegerValue(1000));
        source.SetAttribute("Interval", TimeValue(NanoSeconds(8500)));
        source.SetAttribute("MaxPackets", UintegerValue(0xffffffff));
        source.Install(nodes.Get(0));
    }
    Simulator::Stop(Seconds(seconds));
}

// A hundred hosts on one switch; each pings the one opposite a hundred times a second.
static void Pings(double seconds) {
    NodeContainer hosts(100), middle(1);
    InternetStackHelper().Install(hosts);
    CsmaHelper link;
    link.SetChannelAttribute("DataRate", StringValue("1Gbps"));
    link.SetChannelAttribute("Delay", StringValue("10us"));
    NetDeviceContainer devices, ports;
    for (uint32_t index = 0; index < hosts.GetN(); index++) {
        NetDeviceContainer ends = link.Install(NodeContainer(hosts.Get(index), middle.Get(0)));
        devices.Add(ends.Get(0));
        ports.Add(ends.Get(1));
    }
    BridgeHelper().Install(middle.Get(0), ports);
    Ipv4InterfaceContainer addresses = Ipv4AddressHelper("10.0.0.0", "255.255.255.0").Assign(devices);
    for (uint32_t index = 0; index < hosts.GetN(); index++) {
        V4PingHelper ping(addresses.GetAddress((index + 50) % 100));
        ping.SetAttribute("Interval", TimeValue(MilliSeconds(10)));
        ping.SetAttribute("Size", UintegerValue(56));
        Ptr<Application> application = ping.Install(hosts.Get(index)).Get(0);
        application->SetStartTime(MicroSeconds(100 * index));
        application->TraceConnectWithoutContext("Rtt", MakeCallback(&Replied));
    }
    Simulator::Stop(Seconds(seconds));
}

int main(int argc, char** argv) {
    if (argc != 3) return 2;
    std::string work = argv[1];
    double seconds = std::stod(argv[2]);
    Config::SetDefault("ns3::TcpL4Protocol::SocketType", StringValue("ns3::TcpCubic"));
    Config::SetDefault("ns3::TcpSocket::SegmentSize", UintegerValue(1448));
    Config::SetDefault("ns3::TcpSocket::SndBufSize", UintegerValue(4 << 20));
    Config::SetDefault("ns3::TcpSocket::RcvBufSize", UintegerValue(4 << 20));
    work == "pings" ? Pings(seconds) : Road(seconds, work == "bulk");
    auto start = std::chrono::steady_clock::now();
    Simulator::Run();
    double real = std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
    if (work != "pings") g_frames = g_bytes / (work == "bulk" ? 1448 : 1000);
    std::cout << "{\"simulated\": " << seconds << ", \"real\": " << real << ", \"frames\": " << g_frames
              << ", \"bytes\": " << g_bytes << "}" << std::endl;
    Simulator::Destroy();
    return 0;
}
