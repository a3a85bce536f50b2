#!/usr/bin/env bash
# A throwaway Ceph (mon, osd in memory, RADOS gateway) on 127.0.0.1, as any user.
#
#   rgw.sh start DIR PORT MONPORT PARENT   starts all three and stays; stops them
#                                          when told (TERM) or when PARENT is gone
#   rgw.sh gateway DIR                     starts the gateway again after a kill
#
# Environment: AK, SK (the user's keys), RGW_EXTRA (further lines of the
# gateway's configuration). DIR/ready appears when a bucket can be made.
set -eu
export PATH="$PATH:/usr/sbin:/usr/bin"
command=$1
D=$2

gateway() {
  radosgw --conf "$D/ceph.conf" -n client.rgw -f >>"$D/log/rgw.out" 2>&1 </dev/null &
  echo $! >"$D/rgw.pid"
}

if [ "$command" = gateway ]; then
  gateway
  exit 0
fi

PORT=$3
MONPORT=$4
PARENT=$5
mkdir -p "$D"/{mon,osd,rgw,run,log}
FSID=$(cat /proc/sys/kernel/random/uuid)
OSDID=$(cat /proc/sys/kernel/random/uuid)
cat >"$D/ceph.conf" <<C
[global]
fsid = $FSID
mon_host = v1:127.0.0.1:$MONPORT
public_addr = 127.0.0.1
cluster_addr = 127.0.0.1
ms_bind_ipv6 = false
auth_cluster_required = none
auth_service_required = none
auth_client_required = none
mon_allow_pool_size_one = true
osd_pool_default_size = 1
osd_pool_default_min_size = 1
osd_pool_default_pg_num = 8
osd_pool_default_pgp_num = 8
osd_pool_default_pg_autoscale_mode = off
osd_crush_chooseleaf_type = 0
mon_max_pg_per_osd = 1000
paxos_propose_interval = 0.05
paxos_min_wait = 0.01
run_dir = $D/run
crash_dir = $D/run
log_file = $D/log/\$name.log
admin_socket = $D/run/\$name.\$pid.asok
pid_file = $D/run/\$name.pid
[mon.a]
mon_data = $D/mon
mon_data_avail_crit = 1
mon_data_avail_warn = 2
[osd.0]
osd_data = $D/osd
osd_objectstore = memstore
memstore_device_bytes = 4294967296
osd_memory_target = 939524096
osd_class_update_on_start = false
osd_crush_update_on_start = false
osd_class_load_list = *
osd_class_default_list = *
[client.rgw]
rgw_frontends = beast endpoint=127.0.0.1:$PORT
rgw_data = $D/rgw
rgw_thread_pool_size = 32
rgw_cache_enabled = false
${RGW_EXTRA:-}
C

# kill -9: a clean stop takes five seconds, and nothing here is to be kept.
stop() {
  trap - EXIT TERM INT
  for name in rgw osd mon; do
    kill -9 "$(cat "$D/$name.pid" 2>/dev/null)" 2>/dev/null || true
  done
  rm -rf "$D"
  exit 0
}
trap stop EXIT TERM INT

export CEPH_ARGS="--conf $D/ceph.conf"
monmaptool --create --fsid "$FSID" --addv a "v1:127.0.0.1:$MONPORT" "$D/monmap" >/dev/null
ceph-authtool --create-keyring "$D/keyring" --gen-key -n mon. --cap mon 'allow *' >/dev/null
ceph-mon -i a --mkfs --monmap "$D/monmap" --keyring "$D/keyring"
ceph-mon -i a -f >"$D/log/mon.out" 2>&1 &
echo $! >"$D/mon.pid"
ceph osd new "$OSDID" >/dev/null
ceph-osd -i 0 --mkfs --osd-uuid "$OSDID" >"$D/log/osd-mkfs.out" 2>&1
ceph osd crush add osd.0 1.0 root=default host=localhost >/dev/null 2>&1
ceph-osd -i 0 -f >"$D/log/osd.out" 2>&1 &
echo $! >"$D/osd.pid"
gateway
for _ in $(seq 1 900); do
  curl -s --noproxy '*' -o /dev/null "http://127.0.0.1:$PORT/" && break
  kill -0 "$(cat "$D/rgw.pid")" 2>/dev/null || exit 1
  sleep 0.1
done
radosgw-admin user create --uid=test --display-name=test --access-key="$AK" --secret-key="$SK" \
  >"$D/user.json" 2>"$D/log/admin.out"
touch "$D/ready"

while kill -0 "$PARENT" 2>/dev/null; do sleep 0.3; done
