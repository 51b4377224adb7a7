#!/usr/bin/env python3
"""Throughput of the tunnel between hosta and hostb: run after `lab.sh up X` and initiation.

usage: bench.py [runs] [seconds]     (LAB and LAB_DIR as for lab.sh; prints min/median/max)

Both gateways and both load generators share this machine's cores, so besides the
rate each line gives every gateway's own CPU time per packet, which does not depend
on what else is running: 1e9 / that figure is what one core of that gateway could do.
"""
import json, os, statistics, subprocess, sys

LAB = os.environ.get("LAB", "xswan-lab")
RUNS, SECS = (int(x) for x in (sys.argv[1:] + ["3", "4"][len(sys.argv) - 1:])[:2])
TICK = os.sysconf("SC_CLK_TCK")


def ns(name, *cmd, **kw):
    return subprocess.run(["ip", "netns", "exec", f"{LAB}-{name}", *cmd], text=True, capture_output=True, **kw)


def cpu(gw):  # user + system seconds of every process in the gateway's namespace
    total = 0
    for pid in subprocess.check_output(["ip", "netns", "pids", f"{LAB}-{gw}"], text=True).split():
        f = open(f"/proc/{pid}/stat").read().rsplit(")", 1)[1].split()
        total += int(f[11]) + int(f[12])
    return total / TICK


def rx_packets():  # packets that reached the far host
    return int(ns("hostb", "cat", "/sys/class/net/br0/statistics/rx_packets").stdout)


def run(*args):
    before = cpu("gwa"), cpu("gwb"), rx_packets()
    out = json.loads(ns("hosta", "iperf3", "-J", "-t", str(SECS), *args).stdout)
    if "error" in out:
        sys.exit(out["error"])
    end = out["end"]
    packets = rx_packets() - before[2]
    mbit, lost = end["sum_received"]["bits_per_second"] / 1e6, 0.0
    if "-u" in args:
        sent = end["sum"]["packets"]
        lost = 100 * max(0, sent - packets) / sent
    us = [(cpu(g) - b) / max(packets, 1) * 1e6 for g, b in zip(("gwa", "gwb"), before)]
    return mbit, packets / SECS / 1e3, lost, *us


def row(label, *args):
    cols = [(min(c), statistics.median(c), max(c)) for c in zip(*(run(*args) for _ in range(RUNS)))]
    print(f"{label:22s}" + " ".join(f"{a:7.1f}/{b:7.1f}/{c:7.1f}" for a, b, c in cols), flush=True)


server = subprocess.Popen(["ip", "netns", "exec", f"{LAB}-hostb", "iperf3", "-s"], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
try:
    subprocess.run(["sleep", "0.5"])
    print(f"{'min/median/max':22s}" + " ".join(f"{h:>23s}" for h in
          ("Mbit/s inner", "kpps delivered", "lost %", "gwa CPU us/pkt", "gwb CPU us/pkt")))
    v4, v6 = ("-c", "10.2.0.2"), ("-c", "fd00:2::2")
    row("TCP 1 stream", *v4)
    row("TCP 1 stream, inner v6", *v6)
    row("TCP 4 streams", *v4, "-P", "4")
    row("UDP 1360 B, 150 Mbit/s", *v4, "-u", "-l", "1360", "-b", "150M")
    row("UDP 1360 B, unpaced", *v4, "-u", "-l", "1360", "-b", "0")
    row("UDP 64 B, 20 kpps", *v4, "-u", "-l", "64", "-b", "10.24M")
    row("UDP 64 B, unpaced", *v4, "-u", "-l", "64", "-b", "0")
finally:
    server.terminate()
    server.wait()
