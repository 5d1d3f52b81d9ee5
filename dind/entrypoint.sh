#!/bin/sh
# Starts a sandbox's dockerd: certificates, cgroups, then dockerd as the main process. Never listens without TLS.
#
#   /certs              ca.pem, server-cert.pem, server-key.pem; made here, with a client's, when the folder has none
#   WYOLO_SAN           extra names of this daemon in a certificate that is made here: DNS:host,IP:10.0.0.7
#   WYOLO_DOCKERD_ARGS  extra arguments for dockerd, such as --registry-mirror=...
set -eu
CERTS=${WYOLO_CERTS:-/certs}

make_certificates() {
    umask 077
    work=$(mktemp -d)
    names="DNS:localhost,DNS:$(hostname),IP:127.0.0.1${WYOLO_SAN:+,$WYOLO_SAN}"
    openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 3650 -subj "/CN=wyolo sandbox CA" \
        -keyout "$work/ca-key.pem" -out "$work/ca.pem" 2>/dev/null
    for side in server client; do
        if [ $side = server ]; then
            printf 'subjectAltName=%s\nextendedKeyUsage=serverAuth\n' "$names" >"$work/ext"
        else
            printf 'extendedKeyUsage=clientAuth\n' >"$work/ext"
        fi
        openssl req -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -subj "/CN=$side" \
            -keyout "$work/$side-key.pem" -out "$work/$side.csr" 2>/dev/null
        openssl x509 -req -in "$work/$side.csr" -CA "$work/ca.pem" -CAkey "$work/ca-key.pem" -CAcreateserial \
            -days 3650 -extfile "$work/ext" -out "$work/$side-cert.pem" 2>/dev/null
    done
    mkdir -p "$CERTS"
    # ca.pem last: its presence means that the rest is complete
    mv "$work/server-key.pem" "$work/server-cert.pem" "$work/client-key.pem" "$work/client-cert.pem" "$CERTS/"
    mv "$work/ca.pem" "$CERTS/"
    rm -r "$work"
    echo "wyolo sandbox: made certificates in $CERTS"
}

writable_cgroups() {
    # Without --privileged, Docker mounts cgroup v1 read-only; a daemon inside must make folders there.
    [ -e /sys/fs/cgroup/cgroup.controllers ] && mount -o remount,rw /sys/fs/cgroup 2>/dev/null && return 0
    mount -o remount,bind,rw /sys/fs/cgroup 2>/dev/null || true
    for controller in /sys/fs/cgroup/*/; do
        mount -o remount,bind,rw "$controller" 2>/dev/null || true
    done
}

writable_sysctls() {
    # Docker mounts /proc/sys read-only; a daemon inside must switch forwarding on, in its own network namespace.
    mount -o remount,bind,rw /proc/sys 2>/dev/null || true
}

nest_cgroup_v2() {
    # With cgroup v2, a group that has processes cannot hand controllers down: move ours into a leaf.
    [ -e /sys/fs/cgroup/cgroup.controllers ] || return 0
    mkdir -p /sys/fs/cgroup/init
    xargs -rn1 </sys/fs/cgroup/cgroup.procs >/sys/fs/cgroup/init/cgroup.procs 2>/dev/null || true
    sed -e 's/ / +/g' -e 's/^/+/' </sys/fs/cgroup/cgroup.controllers >/sys/fs/cgroup/cgroup.subtree_control
}

[ -s "$CERTS/ca.pem" ] || make_certificates
writable_cgroups
writable_sysctls
nest_cgroup_v2
rm -f /var/run/docker.pid /var/run/docker/containerd/containerd.pid # of a life before this one

# shellcheck disable=SC2086 # the arguments are meant to be split
exec dockerd \
    --host=unix:///var/run/docker.sock --host=tcp://0.0.0.0:2376 \
    --tlsverify --tlscacert="$CERTS/ca.pem" --tlscert="$CERTS/server-cert.pem" --tlskey="$CERTS/server-key.pem" \
    ${WYOLO_DOCKERD_ARGS:-}
