#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
#
# A real Kubernetes API: etcd and kube-apiserver (tools/setup.sh kube) on
# loopback ports, with no kubelet, so that nodes are what a story says they are.
# Sourced after lib.sh; both end with the story.
#
#	kube_start                 sets KUBE_URL, KUBE_CA (its CA's file),
#	                           KUBE_TOKEN (a file with a token that may do
#	                           anything; that in $KUBE_TOKEN.nobody may do
#	                           nothing), KUBE_BIN (kube-scheduler is there)
#	kube_ask METHOD PATH [JSON]    prints the answer; fails if it is none of
#	                           success
#	kube_node NAME [WORD...]   makes a Node, Ready, where a WORD is
#	                             label KEY=VALUE as KEY=VALUE
#	                             annotation KEY=VALUE as @KEY=VALUE
#	                             address TYPE=ADDRESS as %TYPE=ADDRESS
#	                             -Ready: it is not
#	kube_stop                  the API alone

KUBE_BIN=${QL_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/quicklayer}/kube/1.20.2
# shellcheck disable=SC2034
KUBE_TOKEN=$TMP/kube/token KUBE_CA=$TMP/kube/ca.pem
KUBE_ARGS=()

kube_there()
{
	command -v etcd >/dev/null && [ -x "$KUBE_BIN/kube-apiserver" ] &&
		[ -x "$KUBE_BIN/kube-scheduler" ]
}

# Installs and builds what is missing; that takes minutes, once.
kube_need()
{
	kube_there && return
	note "no kube-apiserver yet: tools/setup.sh kube"
	ok "tools/setup.sh kube" "$LAB/../../tools/setup.sh" kube ||
		done_testing
	kube_there || {
		skip "no kube-apiserver is built here"
		done_testing
	}
}

# A CA, and a certificate of it for the API.
kube_certs()
{
	local dir=$TMP/kube
	openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes \
		-subj /CN=lab-ca -days 2 -keyout "$dir/ca.key" \
		-out "$KUBE_CA" 2>/dev/null &&
		openssl req -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes \
			-subj /CN=kube-apiserver -keyout "$dir/api.key" \
			-out "$dir/api.csr" 2>/dev/null &&
		printf 'subjectAltName=IP:127.0.0.1,DNS:localhost\n' \
			>"$dir/san" &&
		openssl x509 -req -in "$dir/api.csr" -CA "$KUBE_CA" \
			-CAkey "$dir/ca.key" -CAcreateserial -days 2 \
			-extfile "$dir/san" -out "$dir/api.pem" 2>/dev/null &&
		openssl genrsa -out "$dir/sa.key" 2048 2>/dev/null &&
		openssl rsa -in "$dir/sa.key" -pubout -out "$dir/sa.pub" \
			2>/dev/null || bail "openssl"
	head -c 24 /dev/urandom | xxd -p | tr -d '\n' >"$KUBE_TOKEN"
	head -c 24 /dev/urandom | xxd -p | tr -d '\n' >"$KUBE_TOKEN.nobody"
	{
		printf '%s,lab,lab,system:masters\n' "$(cat "$KUBE_TOKEN")"
		printf '%s,nobody,nobody\n' "$(cat "$KUBE_TOKEN.nobody")"
	} >"$dir/tokens.csv"
	chmod 600 "$KUBE_TOKEN"* "$dir/tokens.csv"
}

kube_etcd()
{
	local try client peer
	for try in 1 2 3; do
		client=http://127.0.0.1:$(free_port)
		peer=http://127.0.0.1:$(free_port)
		# An etcd before 3.5 wants to be told of some processors.
		ETCD_UNSUPPORTED_ARCH=$(uname -m | sed 's/aarch64/arm64/') \
			lab_start etcd etcd --name lab \
			--data-dir "$TMP/kube/etcd$try" \
			--listen-client-urls "$client" \
			--advertise-client-urls "$client" \
			--listen-peer-urls "$peer" \
			--initial-advertise-peer-urls "$peer" \
			--initial-cluster "lab=$peer"
		KUBE_ETCD=$client
		wait_for 15 curl -sf "$client/health" && return 0
		lab_end "$LAB_PID"
	done
	bail "etcd"
}

kube_healthy()
{
	kill -0 "$KUBE_PID" && [ "$(kube_ask GET /readyz)" = ok ]
}

# kube_api SECONDS
kube_api()
{
	lab_start kube-apiserver "$KUBE_BIN/kube-apiserver" "${KUBE_ARGS[@]}"
	KUBE_PID=$LAB_PID
	wait_for "$1" kube_healthy
}

kube_start()
{
	local dir=$TMP/kube try port
	kube_need
	mkdir -p "$dir"
	kube_certs
	kube_etcd
	for try in 1 2 3; do
		port=$(free_port)
		KUBE_URL=https://127.0.0.1:$port
		# --advertise-address: nobody is told of it, but without one, a
		# machine without a default route has none.
		KUBE_ARGS=("--etcd-servers=$KUBE_ETCD"
			--bind-address=127.0.0.1 "--secure-port=$port"
			--advertise-address=192.0.2.1
			--endpoint-reconciler-type=none
			"--cert-dir=$dir/certs"
			"--tls-cert-file=$dir/api.pem"
			"--tls-private-key-file=$dir/api.key"
			"--token-auth-file=$dir/tokens.csv"
			--authorization-mode=RBAC --anonymous-auth=false
			--service-account-issuer=https://kubernetes.default.svc
			"--service-account-signing-key-file=$dir/sa.key"
			"--service-account-key-file=$dir/sa.pub"
			--service-cluster-ip-range=10.96.0.0/16
			"--disable-admission-plugins=ServiceAccount,TaintNodesByCondition")
		kube_api 60 && return 0
		lab_end "$KUBE_PID"
		note "kube-apiserver did not start (try $try)"
	done
	bail "kube-apiserver"
}

kube_stop()
{
	lab_end "$KUBE_PID"
}

# Its header in a file of the story's, as arguments are anybody's to read.
kube_ask()
{
	printf 'Authorization: Bearer %s\n' "$(cat "$KUBE_TOKEN")" \
		>"$TMP/kube/header"
	curl -sf --max-time 20 --cacert "$KUBE_CA" -X "$1" \
		-H "@$TMP/kube/header" -H 'Content-Type: application/json' \
		${3:+--data-binary "$3"} "$KUBE_URL$2"
}

kube_node()
{
	kube_ask POST /api/v1/nodes "$(python3 - "$@" <<-'PY'
		import json, sys
		labels, notes, addresses, ready = {}, {}, [], "True"
		for word in sys.argv[2:]:
		    key, _, value = word.lstrip("@%").partition("=")
		    if word == "-Ready":
		        ready = "False"
		    elif word[0] == "@":
		        notes[key] = value
		    elif word[0] == "%":
		        addresses.append({"type": key, "address": value})
		    else:
		        labels[key] = value
		print(json.dumps({
		    "apiVersion": "v1", "kind": "Node",
		    "metadata": {"name": sys.argv[1], "labels": labels,
		                 "annotations": notes},
		    "status": {"addresses": addresses,
		               "capacity": {"cpu": "4", "memory": "8Gi",
		                            "pods": "110"},
		               "conditions": [
		                   {"type": "MemoryPressure", "status": "False"},
		                   {"type": "Ready", "status": ready}]}}))
	PY
	)" >/dev/null || bail "node $1"
}
