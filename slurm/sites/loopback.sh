# The test cluster: two nodes that are one machine, without GPUs.
export GLOO_SOCKET_IFNAME=lo OMP_NUM_THREADS=1
