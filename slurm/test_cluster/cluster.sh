#!/usr/bin/env bash
# A real Slurm on this one machine, for tests: a controller and two nodes with eight declared GPUs each, from Debian's
# packages (apt-get install slurm-wlm munge). Needs root, no GPU and no network; touches no other Slurm or munge.
#
#   cluster.sh up FOLDER      start it; `. FOLDER/environment` points sbatch, squeue and perfbench at it
#   cluster.sh down FOLDER    end every job and daemon of it
#   cluster.sh slurmd FOLDER NODE    (re)start one node's daemon
set -euo pipefail

die() {
  printf 'test cluster: %s\n' "$*" >&2
  exit 2
}

check_machine() {
  local program missing=()
  for program in slurmctld slurmd munged sbatch; do
    PATH=$PATH:/usr/sbin command -v "$program" > /dev/null || missing+=("$program")
  done
  [ ${#missing[@]} -eq 0 ] || die "no ${missing[*]} here; apt-get install slurm-wlm munge"
  [ "$(id -u)" = 0 ] || die "only root can start nodes"
}

make_devices() { # copies of /dev/null, for Slurm to count as GPUs
  local index
  for index in 0 1 2 3 4 5 6 7; do
    mknod "$folder/gpu$index" c 1 3 2> /dev/null || die "mknod is not allowed here; the container needs CAP_MKNOD"
  done
}

name_nodes() { # ranks find the first node by its name
  local node
  for node in n1 n2; do
    getent hosts "$node" > /dev/null || echo "127.0.0.1 $node # $folder" >> /etc/hosts
  done
}

forget_nodes() { # only the lines that this cluster has added; in a container the file cannot be replaced, only written
  local kept
  kept=$(awk -v mark=" # $folder" 'substr($0, length($0) - length(mark) + 1) != mark' /etc/hosts)
  printf '%s\n' "$kept" > /etc/hosts
}

free_ports() { # as many free ports as asked for
  "${PYTHON:-python3}" - "$1" << 'PYTHON'
import socket, sys

sockets = [socket.socket() for _ in range(int(sys.argv[1]))]
for one in sockets:
    one.bind(("127.0.0.1", 0))
print(*(one.getsockname()[1] for one in sockets))
PYTHON
}

write_configuration() {
  local ports
  read -r -a ports <<< "$(free_ports 3)"
  cat > "$folder/slurm.conf" << CONF
ClusterName=perfbench_test
SlurmctldHost=localhost
SlurmctldPort=${ports[0]}
SlurmUser=root
SlurmdUser=root
AuthType=auth/munge
AuthInfo=socket=$folder/munge.socket
StateSaveLocation=$folder/state
SlurmdSpoolDir=$folder/spool.%n
SlurmctldPidFile=$folder/slurmctld.pid
SlurmdPidFile=$folder/slurmd.%n.pid
SlurmctldLogFile=$folder/slurmctld.log
SlurmdLogFile=$folder/slurmd.%n.log
# One machine pretends to be two: nothing is measured, bound to cores, or confined.
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
SwitchType=switch/none
MpiDefault=none
JobAcctGatherType=jobacct_gather/none
AccountingStorageType=accounting_storage/none
SlurmdParameters=config_overrides
MailProg=/bin/true
SelectType=select/cons_tres
SelectTypeParameters=CR_Core
GresTypes=gpu
ReturnToService=2
# Short periods, so that tests need not wait; long ones where a busy machine answers late.
SlurmdTimeout=${SLURMD_TIMEOUT_S:-20}
MessageTimeout=60
KillWait=${KILL_WAIT_S:-20}
MinJobAge=300
SchedulerParameters=sched_interval=2,batch_sched_delay=1,bf_interval=2
MaxArraySize=${MAX_ARRAY_SIZE:-1001}
NodeName=n1 NodeHostname=localhost Port=${ports[1]} CPUs=32 RealMemory=65536 Gres=gpu:8 State=UNKNOWN
NodeName=n2 NodeHostname=localhost Port=${ports[2]} CPUs=32 RealMemory=65536 Gres=gpu:8 State=UNKNOWN
PartitionName=main Nodes=n[1-2] Default=YES MaxTime=INFINITE State=UP
PartitionName=short Nodes=n[1-2] MaxTime=10 State=UP
CONF
  echo "NodeName=n[1-2] Name=gpu File=$folder/gpu[0-7]" > "$folder/gres.conf"
  # Only the folder's own configuration counts: no plugin of this machine's.
  echo "CgroupAutomount=no" > "$folder/cgroup.conf"
  echo "export SLURM_CONF=$folder/slurm.conf" > "$folder/environment"
}

start_munge() { # with a key and a socket of its own
  head -c 128 /dev/urandom > "$folder/munge.key"
  chmod 400 "$folder/munge.key"
  munged --force --key-file="$folder/munge.key" --socket="$folder/munge.socket" --pid-file="$folder/munged.pid" \
    --log-file="$folder/munged.log" --seed-file="$folder/munged.seed"
}

wait_for() { # wait_for SECONDS WHAT COMMAND...
  local seconds=$1 what=$2 deadline=$((SECONDS + $1))
  shift 2
  until "$@"; do
    [ "$SECONDS" -lt "$deadline" ] || die "$what not there after $seconds s; see the logs in $folder"
    sleep 0.2
  done
}

both_nodes_are_idle() {
  [ "$(sinfo --noheader --Node --states=idle --partition=main --format=%n 2> /dev/null | wc -l)" = 2 ]
}

up() {
  check_machine
  mkdir -p "$folder/state" "$folder/spool.n1" "$folder/spool.n2"
  [ ! -e "$folder/slurm.conf" ] || die "there is a cluster in $folder already; '$0 down $folder' ends it"
  name_nodes
  make_devices
  write_configuration
  export SLURM_CONF=$folder/slurm.conf
  start_munge
  wait_for 20 munge test -S "$folder/munge.socket"
  slurmctld -c
  slurmd -N n1
  slurmd -N n2
  wait_for 60 "two idle nodes" both_nodes_are_idle
  printf 'test cluster: two nodes, eight GPUs each; use it with\n  . %s/environment\n' "$folder"
}

end_daemon() { # by its own pid file, never by name
  local pid_file=$1 pid
  [ -s "$pid_file" ] || return 0
  pid=$(cat "$pid_file")
  kill "$pid" 2> /dev/null || return 0
  for _ in $(seq 50); do
    kill -0 "$pid" 2> /dev/null || return 0
    sleep 0.1
  done
  kill -9 "$pid" 2> /dev/null || true
}

down() {
  [ -e "$folder/slurm.conf" ] || die "no cluster in $folder"
  export SLURM_CONF=$folder/slurm.conf
  timeout 10 scancel --user=root 2> /dev/null || true
  for _ in $(seq 100); do
    [ -n "$(timeout 5 squeue --noheader 2> /dev/null)" ] || break
    sleep 0.2
  done
  local name
  for name in slurmd.n1 slurmd.n2 slurmctld munged; do
    end_daemon "$folder/$name.pid"
  done
  forget_nodes
  rm -rf "$folder"
}

PATH=$PATH:/usr/sbin
[ $# -ge 2 ] || die "usage: $0 up|down FOLDER, or $0 slurmd FOLDER NODE"
mkdir -p "$2"
folder=$(cd "$2" && pwd)
case $1 in
  up) up ;;
  down) down ;;
  slurmd) SLURM_CONF=$folder/slurm.conf slurmd -N "$3" ;;
  *) die "unknown verb $1; there are up, down and slurmd" ;;
esac
