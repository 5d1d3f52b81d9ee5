#!/bin/sh
# A training for an image that has only busybox: `trainer.sh -m trainer .../<job>/<fence>/train.json`. It speaks the wire,
# goes on from the newest checkpoint whose hash is right, obeys SIGTERM unless its seed is 137, and leaves by itself when
# its lease runs out. An epoch takes EPOCH_S; `diary` says, by the machine's clock, when it lived.
EPOCH_S=0.3
here=${3%/*} fence=${3%/train.json} n=0 stop='' why=user_stop
fence=${fence##*/}
cd "$here" || exit 1

at() { busybox date -u +%Y-%m-%dT%H:%M:%SZ; }
up() { IFS=' .' read -r seconds rest _ </proc/uptime; echo "$seconds$rest"; }
emit() {
    n=$((n + 1))
    line="{\"n\":$n,\"at\":\"$(at)\",$1}"
    echo "$line" >>events.jsonl
    printf '\036%s\n' "$line"
}
leave() { # ok reason code
    echo "{\"fence\":$fence,\"ok\":$1,\"reason\":\"$2\",\"events\":$n,\"epoch\":$epoch}" >result.json
    up >>diary
    exit "$3"
}
newest() { # the epoch of the newest good checkpoint in train.json
    busybox sed -n '/"resume"/,/\]/s/.*"\(path\|epoch\|sha256\)": "\{0,1\}\([^",]*\).*/\2/p' train.json | while read -r path; do
        read -r epoch && read -r sha256
        [ "$(busybox sha256sum <"$path" | busybox cut -d' ' -f1)" = "$sha256" ] && echo "$epoch" && break
    done
}

epochs=$(busybox sed -n 's/.*"epochs": \([0-9]*\).*/\1/p' train.json | busybox head -n 1)
epoch=$(newest)
epoch=${epoch:-0}
up >>diary
case $(busybox cat train.json) in *'"seed": 137'*) trap '' TERM ;; *) trap 'stop=1' TERM ;; esac
emit "\"event\":\"started\",\"versions\":{},\"device\":\"cpu\",\"task\":\"detect\",\"batch\":1,\"imgsz\":64,\"epochs\":$epochs,\
\"first_epoch\":$((epoch + 1)),\"train_images\":1,\"val_images\":1,\"classes\":1,\"parameters\":1,\"save_dir\":\"$here\",\
\"fitness_name\":\"x\""
known='' heard=$(up)
while [ $epoch -lt "$epochs" ]; do
    sleep $EPOCH_S
    up >>diary
    if [ -n "$WYOLO_LEASE" ]; then
        said=$(cat "$WYOLO_LEASE")
        [ "$said" != "$known" ] && known=$said && heard=$(up)
        case $said in over*) stop=1 why=interrupted ;; esac
        [ $((($(up) - heard) / 100 * 3)) -ge $((${WYOLO_LEASE_S%.*} * 2)) ] && stop=1 why=interrupted
    fi
    [ -n "$stop" ] && leave false $why 75
    epoch=$((epoch + 1))
    echo "weights $epoch of $fence" >$epoch.pt
    sha=$(busybox sha256sum <$epoch.pt | busybox cut -d' ' -f1)
    emit "\"event\":\"epoch\",\"epoch\":$epoch,\"epochs\":$epochs,\"values\":{\"loss\":$epoch},\"fitness\":$epoch,\"seconds\":1"
    emit "\"event\":\"checkpoint\",\"checkpoint\":{\"path\":\"$here/$epoch.pt\",\"epoch\":$epoch,\"sha256\":\"$sha\",\
\"attempt\":$fence,\"at\":\"$(at)\"}"
done
emit '"event":"finished","values":{"loss":0},"seconds":1'
leave true completed 0
