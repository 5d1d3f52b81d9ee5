#!/bin/sh
# `ssh`: sshd that takes keys alone. `web-terminal`: a shell in the browser, behind a password.
set -eu
umask 077
mkdir -p /root/.docker
cat >/etc/profile.d/wyolo.sh <<END
export DOCKER_HOST=$DOCKER_HOST DOCKER_TLS_VERIFY=1 DOCKER_CERT_PATH=/certs
END
chmod 644 /etc/profile.d/wyolo.sh

case ${1:-} in
ssh)
    mkdir -p /root/.ssh /run/sshd /keys
    cp /run/secrets/authorized_keys /root/.ssh/authorized_keys
    [ -s /keys/host ] || ssh-keygen -q -t ed25519 -N '' -f /keys/host
    # A locked password (Alpine's root) would keep out keys too: one that no password fits does not.
    sed -i 's/^root:![^:]*:/root:*:/' /etc/shadow
    exec "$(command -v sshd)" -D -e -p 2222 -h /keys/host \
        -o PasswordAuthentication=no -o KbdInteractiveAuthentication=no -o PermitRootLogin=prohibit-password \
        -o AllowTcpForwarding=no -o AllowAgentForwarding=no -o X11Forwarding=no
    ;;
web-terminal)
    export DOCKER_TLS_VERIFY=1 DOCKER_CERT_PATH=/certs
    exec ttyd --port 7681 --writable --check-origin --credential "wyolo:$(cat /run/secrets/web-password)" bash -l
    ;;
*)
    echo "wyolo console: ssh or web-terminal, not ${1:-nothing}" >&2
    exit 2
    ;;
esac
