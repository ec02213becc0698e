#!/usr/bin/env bash
# ranks_test.sh with ranks on two hosts, which are network namespaces joined by a pair of virtual cables: two_hosts.sh PROGRAM
# [DELAY, such as 5ms]. Needs root, iproute2 and openmpi-bin; no part of CI.
set -euo pipefail
here=$(dirname "$(realpath "$0")")
program=$(realpath "$1")
name=tessera$$
folder=$(mktemp -d)
trap 'ip netns del $name-a; ip netns del $name-b; rm -rf "$folder"' EXIT
for side in a b; do ip netns add $name-$side; ip -n $name-$side link set lo up; done
ip link add t${$}a netns $name-a type veth peer name t${$}b netns $name-b
address=1
for side in a b; do
  ip -n $name-$side addr add 10.77.0.$address/24 dev t${$}$side
  ip -n $name-$side link set t${$}$side up
  [ -z "${2:-}" ] || ip netns exec $name-$side tc qdisc add dev t${$}$side root netem delay "$2"
  address=$((address + 1))
done
# What mpirun takes for ssh: its first word is the host.
cat >"$folder/agent" <<AGENT
#!/bin/sh
host=\$1; shift
case \$host in 10.77.0.1) side=a ;; *) side=b ;; esac
exec ip netns exec $name-\$side sh -c "\$*"
AGENT
chmod +x "$folder/agent"
net="10.77.0.0/24"
ip netns exec $name-a "$here/ranks_test.sh" "$program" \
  "--host 10.77.0.1:4,10.77.0.2:4 --map-by node --mca plm_rsh_agent $folder/agent --mca btl tcp,self --mca btl_tcp_if_include $net --mca oob_tcp_if_include $net"
